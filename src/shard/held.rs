//! Connections that are not read because what they publish cannot be passed on.
//!
//! In: their keys. Out: the same, oldest first, so many in each turn, until each was tried once; then the shard may sleep
//! a little before the next round.

use crate::limits::HELD_PER_TURN;
use crate::memory::Key;
use std::collections::VecDeque;

/// Those who are held, the one that is tried next first.
#[derive(Debug, Default)]
pub(super) struct Held {
    keys: VecDeque<Key>,
    /// How many of them the present round has not tried.
    untried: usize,
}

impl Held {
    pub(super) fn push(&mut self, key: Key) {
        self.keys.push_back(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a round goes on in the next turn.
    pub(super) const fn goes_on(&self) -> bool {
        self.untried > 0
    }

    /// A turn begins, and with it a round if the last one is over. Says how many are tried in it.
    pub(super) fn begin_turn(&mut self) -> usize {
        if self.untried == 0 {
            self.untried = self.keys.len();
        }
        let count = self.untried.min(HELD_PER_TURN);
        self.untried -= count;
        count
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Key> {
        self.keys.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of them are held again each time, and others come.
    #[test]
    fn each_is_tried_once_in_a_round_and_a_bounded_number_in_a_turn() {
        for count in [1, HELD_PER_TURN, HELD_PER_TURN + 1, 5 * HELD_PER_TURN + 7] {
            let mut held = Held::default();
            let key = |index: usize| Key { index: index as u32, generation: 1 };
            (0..count).for_each(|index| held.push(key(index)));
            for round in 0..3 {
                let mut tried = Vec::new();
                for turn in 0.. {
                    assert_eq!(held.goes_on(), turn > 0, "nobody sleeps before all were tried");
                    let some = held.begin_turn();
                    assert!((1..=HELD_PER_TURN).contains(&some));
                    for _ in 0..some {
                        let key = held.pop().expect("one that is held");
                        tried.push(key.index as usize);
                        held.push(key);
                    }
                    if !held.goes_on() {
                        break;
                    }
                }
                let all: Vec<_> = (0..count + round).collect();
                tried.sort_unstable();
                assert_eq!(tried, all);
                held.push(key(count + round));
            }
        }
    }
}
