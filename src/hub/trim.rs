//! Giving up history before its time, of some channels in each turn: a shard may have a million.
//!
//! In: what part of it may stay. Out: how many publications were dropped. Two laps over the channels at home, in the
//! order in which they are looked at anyway: the first finds how old the oldest publication is, the second drops what
//! is older than that part of its age. Then what replicas of this shard keep for who comes back. Not here: when, and
//! how much.

use super::{Channel, Hub};
use crate::time::Monotonic;
use std::time::Duration;

/// How far it came.
#[derive(Debug, Default)]
pub(super) struct Trim {
    step: Step,
    /// Channels that the lap has not come to.
    left: usize,
    /// The oldest publication that the first lap found.
    oldest: Option<Monotonic>,
    /// What is older goes in the second.
    age: Duration,
    dropped: usize,
    /// The slot of the replica that is next.
    replica: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Nothing,
    Survey,
    Drop,
    Windows,
}

impl Trim {
    /// A lap comes to a channel, with this or because it was due.
    pub(super) fn visit(&mut self, channel: &mut Channel, now: Monotonic) {
        match self.step {
            Step::Survey => {
                let (known, found) = (self.oldest, channel.oldest());
                self.oldest = known.into_iter().chain(found).min();
            }
            Step::Drop => self.dropped += channel.forget_older(self.age, now),
            Step::Nothing | Step::Windows => {}
        }
        self.left = self.left.saturating_sub(1);
    }
}

impl Hub {
    /// Begins to drop the oldest publications of all channels at home here before their time;
    /// [`Self::trim_some`] does it.
    pub fn begin_trim(&mut self) {
        if !self.is_trimming() {
            self.trim = Trim { step: Step::Survey, left: self.looks.len(), ..Trim::default() };
        }
    }

    /// Whether that goes on.
    #[must_use]
    pub fn is_trimming(&self) -> bool {
        self.trim.step != Step::Nothing
    }

    /// Goes on with at most `count` channels and replicas, until about `part_of` of the bytes of all histories is
    /// left, and as much of what replicas here keep. When it is done, says how many publications were dropped.
    pub fn trim_some(
        &mut self,
        mut count: usize,
        part_of: impl Fn(u64) -> u64,
        now: Monotonic,
    ) -> Option<usize> {
        while count > 0 {
            match self.trim.step {
                Step::Nothing => return None,
                Step::Survey | Step::Drop => {
                    let some = count.min(self.trim.left);
                    count -= some;
                    for _ in 0..some {
                        self.look_at_next(now);
                    }
                    if self.trim.left == 0 {
                        self.end_lap(&part_of, now);
                    }
                }
                Step::Windows => {
                    let next = self.fanout.trim_windows(self.trim.replica, count as u32, &part_of);
                    let Some(next) = next else {
                        self.ingest_pool.give_back(1);
                        return Some(std::mem::take(&mut self.trim).dropped);
                    };
                    self.trim.replica = next;
                    return None;
                }
            }
        }
        None
    }

    fn end_lap(&mut self, part_of: impl Fn(u64) -> u64, now: Monotonic) {
        let trim = &mut self.trim;
        if trim.step == Step::Drop {
            trim.step = Step::Windows;
            return;
        }
        // As if publications came evenly; where they did not, the next time comes nearer.
        let age_ms = trim.oldest.map_or(0, |oldest| now.since(oldest).as_millis() as u64);
        trim.age = Duration::from_millis(part_of(age_ms));
        trim.left = self.looks.len();
        trim.step = Step::Drop;
    }
}
