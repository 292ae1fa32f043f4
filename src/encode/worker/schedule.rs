//! Which picture is due when, in exact arithmetic: no drift however long it runs.
//!
//! The time is handed in; pictures are numbered from the first call on.

use std::time::Duration;

use crate::encode::TIMESCALE;
use crate::time::Monotonic;

/// The pictures of one run.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Option<Monotonic>,
    pictures_per_second: u64,
    next: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before then.
    At(Monotonic),
    /// This picture, the `late` ones in front of it being past.
    Now { number: u64, late: u64 },
}

impl Schedule {
    pub(super) fn new(pictures_per_second: u32) -> Self {
        Self { start: None, pictures_per_second: u64::from(pictures_per_second.max(1)), next: 0 }
    }

    /// What to do now. The first call starts the schedule.
    pub(super) fn poll(&mut self, now: Monotonic) -> Due {
        let start = *self.start.get_or_insert(now);
        let elapsed = now.since(start).as_nanos() * u128::from(self.pictures_per_second);
        let newest = u64::try_from(elapsed / NANOSECONDS_PER_SECOND).unwrap_or(u64::MAX);
        if newest < self.next {
            return Due::At(start + self.at(self.next));
        }
        let late = newest - self.next;
        self.next = newest + 1;
        Due::Now { number: newest, late }
    }

    /// When a picture is due, from the start; rounded up, so that waiting until then is enough.
    fn at(&self, number: u64) -> Duration {
        let nanoseconds = u128::from(number) * NANOSECONDS_PER_SECOND;
        let nanoseconds = nanoseconds.div_ceil(u128::from(self.pictures_per_second));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// When it is shown, in ticks.
    pub(super) fn pts(&self, number: u64) -> i64 {
        let ticks = u128::from(number) * u128::from(TIMESCALE);
        i64::try_from(ticks / u128::from(self.pictures_per_second)).unwrap_or(i64::MAX)
    }
}

const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;
