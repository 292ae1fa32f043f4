//! A channel at its home: order, history and the shards that read it.

use crate::fanout::{Answer, Position, Publication};
use crate::limits::{CHANNEL_IDLE_MS, IDEMPOTENCY_KEYS_PER_CHANNEL};
use crate::mailbox::ShardId;
use crate::time::Monotonic;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How much of a channel's past is kept.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Publications.
    pub publications: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// Age.
    pub age: Duration,
}

/// What a reading shard is told next.
pub(super) enum Told {
    Publication { offset: u64, publication: Publication },
    Skipped { next: u64, count: u64 },
}

/// A channel at its home.
#[derive(Debug)]
pub(super) struct Channel {
    epoch: u64,
    /// The offset that is given next; offsets begin at 1.
    next: u64,
    history: VecDeque<(Monotonic, Publication)>,
    history_bytes: usize,
    /// The shards that read, and the offset each is told next.
    readers: SmallVec<[(ShardId, u64); 2]>,
    idempotency: VecDeque<(Arc<str>, u64)>,
    used: Monotonic,
    /// Whether it is in the hub's list of channels with a shard that could not be told.
    pub(super) is_behind: bool,
}

impl Channel {
    pub(super) fn new(epoch: u64, now: Monotonic) -> Self {
        Self {
            epoch,
            next: 1,
            history: VecDeque::new(),
            history_bytes: 0,
            readers: SmallVec::new(),
            idempotency: VecDeque::new(),
            used: now,
            is_behind: false,
        }
    }

    /// Gives the next offset; says whether it is a new one, or that of the first publication with
    /// the same idempotency key.
    pub(super) fn publish(
        &mut self,
        publication: Publication,
        idempotency_key: Option<&Arc<str>>,
        now: Monotonic,
    ) -> (Position, bool) {
        if let Some(key) = idempotency_key {
            if let Some((_, offset)) = self.idempotency.iter().find(|(known, _)| known == key) {
                return (Position { epoch: self.epoch, offset: *offset }, false);
            }
            if self.idempotency.len() == IDEMPOTENCY_KEYS_PER_CHANNEL {
                self.idempotency.pop_front();
            }
            self.idempotency.push_back((Arc::clone(key), self.next));
        }
        let offset = self.next;
        self.next += 1;
        self.used = now;
        self.history_bytes += publication.payload.len();
        self.history.push_back((now, publication));
        (Position { epoch: self.epoch, offset }, true)
    }

    /// Drops what is beyond the limits; the newest stays until every reader was told of it.
    pub(super) fn expire(&mut self, limits: &HistoryLimits, now: Monotonic) {
        while let Some((published, publication)) = self.history.front() {
            let within = self.history.len() <= limits.publications
                && self.history_bytes <= limits.bytes
                && now.since(*published) <= limits.age;
            let untold = self.history.len() == 1
                && self.readers.iter().any(|(_, told_next)| *told_next < self.next);
            if within || untold {
                break;
            }
            self.history_bytes -= publication.payload.len();
            self.history.pop_front();
        }
    }

    pub(super) fn is_forgettable(&self, now: Monotonic) -> bool {
        self.readers.is_empty()
            && self.history.is_empty()
            && now.since(self.used) > Duration::from_millis(CHANNEL_IDLE_MS)
    }

    pub(super) const fn published(&self) -> u64 {
        self.next - 1
    }

    /// Memory of the list of publications, without their payloads.
    pub(super) fn list_bytes(&self) -> usize {
        self.history.capacity() * size_of::<(Monotonic, Publication)>()
    }

    /// When the oldest publication that is kept was published.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        self.history.front().map(|(published, _)| *published)
    }

    /// Drops publications older than `age` before their time, and the memory of their list; the newest
    /// stays until every reader was told of it. Says how many.
    pub(super) fn forget_older(&mut self, age: Duration, now: Monotonic) -> usize {
        let before = self.history.len();
        self.expire(&HistoryLimits { publications: usize::MAX, bytes: usize::MAX, age }, now);
        if self.history.len() < before {
            self.history.shrink_to(2 * self.history.len());
        }
        before - self.history.len()
    }

    /// A shard begins to read: from here on it is told every publication.
    pub(super) fn subscribe(&mut self, shard: ShardId) -> Answer {
        self.readers.retain(|(reader, _)| *reader != shard);
        self.readers.push((shard, self.next));
        Answer {
            epoch: self.epoch,
            next: self.next,
            history: self.history.iter().map(|(_, publication)| publication.clone()).collect(),
        }
    }

    pub(super) fn unsubscribe(&mut self, shard: ShardId, now: Monotonic) {
        self.readers.retain(|(reader, _)| *reader != shard);
        self.used = now;
    }

    /// The shards that read.
    pub(super) fn readers(&self) -> SmallVec<[ShardId; 8]> {
        self.readers.iter().map(|(shard, _)| *shard).collect()
    }

    /// What `shard` is to be told next; it counts as told.
    pub(super) fn tell_next(&mut self, shard: ShardId) -> Option<Told> {
        let oldest = self.next - self.history.len() as u64;
        let (_, told_next) = self.readers.iter_mut().find(|(reader, _)| *reader == shard)?;
        if *told_next >= self.next {
            return None;
        }
        if *told_next < oldest {
            let count = oldest - *told_next;
            *told_next = oldest;
            return Some(Told::Skipped { next: oldest, count });
        }
        let offset = *told_next;
        *told_next += 1;
        let publication = self.history[(offset - oldest) as usize].1.clone();
        Some(Told::Publication { offset, publication })
    }
}
