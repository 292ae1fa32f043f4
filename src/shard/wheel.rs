//! A timer wheel: one deadline per connection, sixteen bytes each.
//!
//! Deadlines are ticks; a bucket is a list through the connections' own links. Activity does not
//! touch the wheel: a connection looks at its clock when its deadline comes and asks for another.

use crate::limits::{TIMER_BUCKETS, TIMER_TICK_MS};
use crate::memory::Key;
use crate::time::Monotonic;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Link {
    generation: u32,
    next: u32,
    previous: u32,
    deadline: u32,
}

/// What a connection's deadline takes.
pub(super) const LINK_BYTES: usize = size_of::<Link>();

const _: () = assert!(LINK_BYTES <= 16, "a deadline is paid a million times");

const END: u32 = u32::MAX;
/// The deadline of a connection without one.
const NEVER: u32 = u32::MAX;

const FREE: Link = Link { generation: 0, next: END, previous: END, deadline: NEVER };

/// Links by slab index, in chunks, so that growing copies none and leaves none unused.
#[derive(Debug, Default)]
struct Links {
    chunks: Vec<Box<[Link; CHUNK_LINKS]>>,
}

/// As many as a page holds.
const CHUNK_LINKS: usize = 256;

impl Links {
    fn get(&self, index: u32) -> Option<&Link> {
        Some(&self.chunks.get(index as usize / CHUNK_LINKS)?[index as usize % CHUNK_LINKS])
    }

    /// The link of a connection, as far as there is one.
    fn at(&mut self, index: u32) -> &mut Link {
        let (number, within) = (index as usize / CHUNK_LINKS, index as usize % CHUNK_LINKS);
        while number >= self.chunks.len() {
            self.chunks.push(Box::new([FREE; CHUNK_LINKS]));
        }
        &mut self.chunks[number][within]
    }
}

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    links: Links,
    /// The first of each bucket's list.
    buckets: Vec<u32>,
    /// The tick whose bucket is looked at next.
    tick: u32,
}

impl Wheel {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { links: Links::default(), buckets: vec![END; TIMER_BUCKETS], tick: tick_of(now) }
    }

    /// Sets a connection's deadline.
    pub(super) fn schedule(&mut self, key: Key, after_ms: u64, now: Monotonic) {
        self.unlink(key.index);
        let ticks = after_ms.div_ceil(TIMER_TICK_MS).clamp(1, TIMER_BUCKETS as u64 - 1) as u32;
        let deadline = (tick_of(now) + ticks).max(self.tick);
        let bucket = deadline as usize % TIMER_BUCKETS;
        let first = self.buckets[bucket];
        *self.links.at(key.index) =
            Link { generation: key.generation, next: first, previous: END, deadline };
        if first != END {
            self.links.at(first).previous = key.index;
        }
        self.buckets[bucket] = key.index;
    }

    /// Sets a connection's deadline if it is earlier than the one it has.
    pub(super) fn bring_forward(&mut self, key: Key, after_ms: u64, now: Monotonic) {
        let deadline = tick_of(now) + after_ms.div_ceil(TIMER_TICK_MS).max(1) as u32;
        let present = self.links.get(key.index).filter(|link| link.generation == key.generation);
        if present.is_none_or(|link| link.deadline > deadline) {
            self.schedule(key, after_ms, now);
        }
    }

    /// Takes a connection's deadline away.
    pub(super) fn cancel(&mut self, key: Key) {
        if self.links.get(key.index).is_some_and(|link| link.generation == key.generation) {
            self.unlink(key.index);
        }
    }

    /// The next connection whose deadline has come.
    pub(super) fn expire(&mut self, now: Monotonic) -> Option<Key> {
        let present = tick_of(now);
        loop {
            let mut index = self.buckets[self.tick as usize % TIMER_BUCKETS];
            while index != END {
                let link = *self.links.at(index);
                if link.deadline <= present {
                    self.unlink(index);
                    return Some(Key { index, generation: link.generation });
                }
                index = link.next;
            }
            if self.tick >= present {
                return None;
            }
            self.tick += 1;
        }
    }

    /// How long until the next deadline, at most a second.
    pub(super) fn next_after(&self, now: Monotonic) -> Duration {
        let second = 1000 / TIMER_TICK_MS as u32;
        let ahead = (1..second)
            .find(|ahead| self.buckets[(self.tick + ahead) as usize % TIMER_BUCKETS] != END)
            .unwrap_or(second);
        let due_ms = u64::from(self.tick + ahead) * TIMER_TICK_MS;
        Duration::from_millis(due_ms.saturating_sub(now.as_millis()).max(1))
    }

    /// Gives back the links behind the last connection with a deadline.
    pub(super) fn give_back(&mut self) {
        let is_free = |chunk: &[Link; CHUNK_LINKS]| chunk.iter().all(|link| link.deadline == NEVER);
        while self.links.chunks.last().is_some_and(|chunk| is_free(chunk)) {
            self.links.chunks.pop();
        }
    }

    pub(super) fn resident_bytes(&self) -> usize {
        let links = self.links.chunks.len() * CHUNK_LINKS * size_of::<Link>();
        links + self.links.chunks.capacity() * 8 + self.buckets.capacity() * 4
    }

    fn unlink(&mut self, index: u32) {
        let link = std::mem::replace(self.links.at(index), FREE);
        if link.deadline == NEVER {
            return;
        }
        if link.previous == END {
            self.buckets[link.deadline as usize % TIMER_BUCKETS] = link.next;
        } else {
            self.links.at(link.previous).next = link.next;
        }
        if link.next != END {
            self.links.at(link.next).previous = link.previous;
        }
    }
}

const fn tick_of(now: Monotonic) -> u32 {
    (now.as_millis() / TIMER_TICK_MS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    #[test]
    fn a_deadline_fires_once_and_not_before_its_time() {
        let mut wheel = Wheel::new(Monotonic::from_millis(0));
        wheel.schedule(key(0), 1000, Monotonic::from_millis(0));
        assert_eq!(wheel.expire(Monotonic::from_millis(900)), None);
        assert_eq!(wheel.expire(Monotonic::from_millis(1100)), Some(key(0)));
        assert_eq!(wheel.expire(Monotonic::from_millis(100_000)), None);
    }

    #[test]
    fn memory_goes_back_with_those_who_leave() {
        let mut wheel = Wheel::new(Monotonic::from_millis(0));
        let now = Monotonic::from_millis(0);
        let empty = wheel.resident_bytes();
        (0..10_000).for_each(|index| wheel.schedule(key(index), 5000, now));
        (1000..10_000).for_each(|index| wheel.cancel(key(index)));
        wheel.give_back();
        assert!(wheel.resident_bytes() - empty <= 1024 * size_of::<Link>() + 1024);
        // Those who stay have their deadlines, who comes later gets one.
        wheel.cancel(key(9_999));
        wheel.bring_forward(key(5_000), 1000, now);
        let mut fired = 0;
        while wheel.expire(Monotonic::from_millis(6000)).is_some() {
            fired += 1;
        }
        assert_eq!(fired, 1001);
    }

    #[test]
    fn a_deadline_can_come_forward_but_not_go_back_that_way() {
        let mut wheel = Wheel::new(Monotonic::from_millis(0));
        let now = Monotonic::from_millis(0);
        wheel.schedule(key(3), 5000, now);
        wheel.bring_forward(key(3), 60_000, now);
        wheel.bring_forward(key(3), 500, now);
        assert_eq!(wheel.expire(Monotonic::from_millis(600)), Some(key(3)));
    }

    proptest! {
        #[test]
        fn a_wheel_agrees_with_a_list(
            ops in proptest::collection::vec((0..40_u32, 0..100_000_u64, 0..3_000_u64, 0..4_u8), 1..300),
        ) {
            let mut wheel = Wheel::new(Monotonic::from_millis(0));
            let mut model: Vec<Option<u64>> = vec![None; 40];
            let mut now_ms = 0;
            for (index, after_ms, pass_ms, op) in ops {
                let now = Monotonic::from_millis(now_ms);
                let tick = |ms: u64| now_ms / TIMER_TICK_MS + ms.div_ceil(TIMER_TICK_MS).max(1);
                match op {
                    0 => {
                        wheel.cancel(key(index));
                        model[index as usize] = None;
                    }
                    1 => {
                        wheel.bring_forward(key(index), after_ms, now);
                        let at = tick(after_ms);
                        let known = &mut model[index as usize];
                        *known = Some(known.map_or(at, |known| known.min(at)));
                    }
                    _ => {
                        wheel.schedule(key(index), after_ms, now);
                        model[index as usize] = Some(tick(after_ms));
                    }
                }
                now_ms += pass_ms;
                let mut fired = Vec::new();
                while let Some(key) = wheel.expire(Monotonic::from_millis(now_ms)) {
                    fired.push(key.index);
                }
                fired.sort_unstable();
                let mut due = Vec::new();
                for (index, deadline) in model.iter_mut().enumerate() {
                    if deadline.is_some_and(|deadline| deadline <= now_ms / TIMER_TICK_MS) {
                        *deadline = None;
                        due.push(index as u32);
                    }
                }
                prop_assert_eq!(fired, due);
            }
        }
    }
}
