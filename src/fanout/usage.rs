//! What fan-out takes of memory, and giving some of it up.
//!
//! Replicas are looked at some at a time, because a shard may have a million: what is said of their logs is
//! what the last whole lap found.

use super::{Fanout, Replica, Subscription};
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

impl FanoutUsage {
    fn add(&mut self, replica: &Replica) {
        for log in replica.logs() {
            self.logs += log.newest_bytes();
            self.lagging += log.lagging_bytes();
        }
        let (publications, subscribers) = replica.list_bytes();
        self.logs += publications;
        self.tables += subscribers;
    }
}

/// A lap over all replicas.
#[derive(Debug, Default)]
pub(super) struct Lap {
    /// The slot that is looked at next.
    at: u32,
    so_far: FanoutUsage,
    /// Of the lap before.
    found: FanoutUsage,
}

/// What one subscription takes of tables.
pub const SUBSCRIPTION_BYTES: usize = Slab::<Subscription>::SLOT_BYTES + size_of::<u32>();

impl Fanout {
    /// Looks at the next `count` slots of the table of replicas for [`Self::usage`].
    pub fn look_at_logs(&mut self, count: u32) {
        let Self { lap, replicas, .. } = self;
        let end = lap.at.saturating_add(count).min(replicas.slot_count());
        for index in lap.at..end {
            if let Some((_, replica)) = replicas.entry_at(index) {
                lap.so_far.add(replica);
            }
        }
        lap.at = end;
        if end == replicas.slot_count() {
            lap.found = std::mem::take(&mut lap.so_far);
            lap.at = 0;
        }
    }

    /// What there is.
    #[must_use]
    pub fn usage(&self) -> FanoutUsage {
        let FanoutUsage { logs, lagging, tables, .. } = self.lap.found;
        FanoutUsage {
            logs,
            lagging,
            tables: tables + self.subscriptions.resident_bytes() + self.replicas.resident_bytes(),
            pools: self.pool.idle_bytes() + self.compressors.resident_bytes(),
        }
    }

    /// Drops the oldest of what replicas keep for who comes back, until about `part_of` is left: of `count` slots of
    /// their table from `first` on. Says which is next; none behind the last.
    pub fn trim_windows(
        &mut self,
        first: u32,
        count: u32,
        part_of: impl Fn(u64) -> u64,
    ) -> Option<u32> {
        let all = self.replicas.slot_count();
        let end = first.saturating_add(count).min(all);
        for index in first..end {
            if let Some(key) = self.replicas.key_at(index)
                && let Some(replica) = self.replicas.get_mut(key)
            {
                replica.trim_window(&part_of);
            }
        }
        (end < all).then_some(end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::{Format, NO_SUBSCRIPTION, Sink, SubscribeOptions};
    use crate::memory::Key;

    #[test]
    fn a_lap_of_any_step_finds_what_there_is() {
        let seed = foldhash::quality::RandomState::default();
        let mut fanout = Fanout::new(0, seed, websocket::deflate::Settings::default());
        for index in 0..700 {
            let sink = Sink { connection: Key { index, generation: 1 }, stream: 0 };
            let options =
                SubscribeOptions { format: Format::WebSocket, after: None, skips_own: false };
            let mut head = NO_SUBSCRIPTION;
            fanout.subscribe(&format!("c{index}"), sink, &mut head, options).expect("room");
        }
        let own = fanout.usage().tables;
        fanout.look_at_logs(u32::MAX);
        let whole = fanout.usage();
        assert!(whole.tables > own, "lists of subscribers");
        for step in [1, 7, 256, 699, 700, 5000] {
            fanout.look_at_logs(u32::MAX);
            fanout.lap = Lap::default();
            let mut looks = 0;
            while fanout.usage() != whole {
                fanout.look_at_logs(step);
                looks += 1;
                assert!(looks <= fanout.replicas.slot_count().div_ceil(step), "{step}");
            }
            assert!(looks > 0);
        }
    }
}
