//! Lines of the log for what may come as often as peers like.
//!
//! In: each time it happens. Out: now and then how often it did. What was not said is part of the next line.

/// How often one of them is worth a line.
const EVERY_MS: u64 = 5_000;

/// A line that is written seldom.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    untold: u64,
    tell_at_ms: u64,
}

impl Seldom {
    /// It happened; says how often since it was last said, if it may be said now.
    pub(super) fn note(&mut self, now_ms: u64) -> Option<u64> {
        self.untold += 1;
        if now_ms < self.tell_at_ms {
            return None;
        }
        self.tell_at_ms = now_ms + EVERY_MS;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_often_is_said_seldom_and_none_of_it_is_lost() {
        let mut line = Seldom::default();
        let said: Vec<_> = (0..3 * EVERY_MS).filter_map(|now_ms| line.note(now_ms)).collect();
        assert_eq!(said, [1, EVERY_MS, EVERY_MS]);
    }
}
