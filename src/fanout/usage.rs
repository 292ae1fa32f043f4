//! What fan-out takes of memory, and giving some of it up.
//!
//! Pure looks at tables: they walk all replicas, so they are for once a second.

use super::{Fanout, Subscription};
use crate::memory::Slab;

/// Memory of one shard's fan-out, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanoutUsage {
    /// The newest block of each log, and lists of recent publications.
    pub logs: usize,
    /// Blocks that logs keep for readers that lag, as far as the logs alone keep them.
    pub lagging: usize,
    /// Tables: replicas, subscriptions, lists of subscribers.
    pub tables: usize,
    /// Blocks that wait for use, and compressors.
    pub pools: usize,
}

/// What one subscription takes of tables.
pub const SUBSCRIPTION_BYTES: usize = Slab::<Subscription>::SLOT_BYTES + size_of::<u32>();

impl Fanout {
    /// What there is.
    #[must_use]
    pub fn usage(&self) -> FanoutUsage {
        let mut usage = FanoutUsage {
            tables: self.subscriptions.resident_bytes() + self.replicas.resident_bytes(),
            pools: self.pool.idle_bytes() + self.compressors.resident_bytes(),
            ..FanoutUsage::default()
        };
        for (_, replica) in self.replicas.iter() {
            for log in replica.logs() {
                usage.logs += log.newest_bytes();
                usage.lagging += log.lagging_bytes();
            }
            let (publications, subscribers) = replica.list_bytes();
            usage.logs += publications;
            usage.tables += subscribers;
        }
        usage
    }

    /// Drops the oldest of what replicas keep for who comes back, until about `part_of` is left.
    pub fn trim_windows(&mut self, part_of: impl Fn(u64) -> u64) {
        for replica in self.replicas.iter_mut() {
            replica.trim_window(&part_of);
        }
    }

    /// Gives blocks that wait for use back.
    pub fn give_back(&mut self) {
        self.pool.give_back(1);
    }

    /// Encoded bytes that the subscriptions of the list that begins at `head` have not been sent.
    #[must_use]
    pub fn backlog(&self, head: u32) -> u64 {
        let (mut bytes, mut index) = (0, head);
        while let Some(key) = self.subscriptions.key_at(index) {
            let Some(subscription) = self.subscriptions.get(key) else { break };
            index = subscription.next;
            if subscription.resolved
                && let Some(replica) = self.replicas.get(subscription.replica)
            {
                bytes += replica.bytes_after(subscription.readers, subscription.cursor);
            }
        }
        bytes
    }
}
