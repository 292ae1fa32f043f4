//! The readers of one shard for which something waits, and who of them goes first.
//!
//! In: readers as they become slow ([`SlowReaders::note`]) and, a few per tick, how much waits for each
//! ([`SlowReaders::look`]). Out: the sum, and the largest. A reader is looked at again and again until
//! nothing waits for it, so the sum is as old as one round.
//!
//! Invariants (tested): the sum is that of the entries; each reader is in the list once; who was told
//! to go is not chosen again.

use crate::limits::SLOW_READER_GRACE_MS;
use crate::memory::Key;
use hashbrown::HashMap;

/// What waits for one reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowReader {
    /// Memory that would be free without it.
    pub bytes: u64,
    /// What it has not been sent yet, also of what others have not either.
    pub backlog: u64,
}

/// Slow readers of one shard.
#[derive(Debug, Default)]
pub struct SlowReaders {
    entries: Vec<Entry>,
    /// Where each is in `entries`. Keys are ours: nobody chooses them.
    places: HashMap<Key, u32, foldhash::fast::FixedState>,
    bytes: u64,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    found: SlowReader,
    /// When it was told to go, in milliseconds of the monotonic clock.
    told_ms: Option<u64>,
}

impl SlowReaders {
    /// Something waits for this reader, or more than before.
    pub fn note(&mut self, key: Key, found: SlowReader) {
        if let Some(place) = self.places.get(&key) {
            self.set(*place as usize, found);
            return;
        }
        self.places.insert(key, self.entries.len() as u32);
        self.entries.push(Entry { key, found, told_ms: None });
        self.bytes += found.bytes;
    }

    /// Looks at the next `count` readers; `find` says what waits for one, if anything does.
    pub fn look(&mut self, count: usize, mut find: impl FnMut(Key) -> Option<SlowReader>) {
        for _ in 0..count.min(self.entries.len()) {
            if self.next >= self.entries.len() {
                self.next = 0;
            }
            match find(self.entries[self.next].key) {
                Some(found) => {
                    self.set(self.next, found);
                    self.next += 1;
                }
                None => self.forget(self.next),
            }
            if self.entries.is_empty() {
                break;
            }
        }
    }

    /// Chooses readers whose memory is `bytes` together, with `queued_each` in the kernel, the largest
    /// backlogs first, at most `count`. They count as told; what they hold is not free before they are
    /// gone.
    pub fn choose(&mut self, bytes: u64, queued_each: u64, count: usize, now_ms: u64) -> Vec<Key> {
        if bytes == 0 {
            return Vec::new();
        }
        let told = self.entries.iter().filter(|entry| entry.told_ms.is_some());
        let going: u64 = told.map(|entry| entry.found.bytes + queued_each).sum();
        let Some(mut left) = bytes.checked_sub(going).filter(|left| *left > 0) else {
            return Vec::new();
        };
        let mut places: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].told_ms.is_none()).collect();
        let size = |at: &usize| (self.entries[*at].found.backlog, self.entries[*at].found.bytes);
        if places.len() > count {
            places.select_nth_unstable_by_key(count, |at| std::cmp::Reverse(size(at)));
            places.truncate(count);
        }
        places.sort_unstable_by_key(|at| std::cmp::Reverse(size(at)));
        let mut chosen = Vec::new();
        for at in places {
            if left == 0 {
                break;
            }
            let entry = &mut self.entries[at];
            entry.told_ms = Some(now_ms);
            // One that holds nothing of its own is still a step nearer.
            left = left.saturating_sub((entry.found.bytes + queued_each).max(1));
            chosen.push(entry.key);
        }
        chosen
    }

    /// Who was told to go, had its time and is still there.
    #[must_use]
    pub fn overdue(&self, now_ms: u64) -> Vec<Key> {
        let late = |entry: &&Entry| {
            entry.told_ms.is_some_and(|told| now_ms.saturating_sub(told) >= SLOW_READER_GRACE_MS)
        };
        self.entries.iter().filter(late).map(|entry| entry.key).collect()
    }

    /// Memory that would be free without them, as of the last looks.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory of the list itself.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.places.capacity() * size_of::<(Key, u32)>()
    }

    fn set(&mut self, place: usize, found: SlowReader) {
        let entry = &mut self.entries[place];
        self.bytes = self.bytes - entry.found.bytes + found.bytes;
        entry.found = found;
    }

    fn forget(&mut self, place: usize) {
        let gone = self.entries.swap_remove(place);
        self.bytes -= gone.found.bytes;
        self.places.remove(&gone.key);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key, place as u32);
        }
        if self.entries.is_empty() {
            *self = Self::default();
        }
    }
}
