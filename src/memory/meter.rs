//! How much memory the blocks of one purpose take.
//!
//! In: blocks that are made and freed, on any thread. Out: a sum. It counts what exists, whoever still
//! refers to it, and not what was meant to be kept: a history of one short publication that holds a
//! whole block counts as that block. It is touched once per block, so a payload in one costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of all blocks of one purpose that exist. In a cache line of its own, because threads
/// beside the one that made a block may free it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Meter(AtomicU64);

impl Meter {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{BlockPool, Payload, Span};
    use std::sync::Arc;

    #[test]
    fn a_meter_counts_blocks_as_long_as_anybody_refers_to_them() {
        let meter = Arc::new(Meter::default());
        let mut pool = BlockPool::metered(100, 8, Arc::clone(&meter));
        let large = Payload::copied_metered(&[7; 1000], &meter);
        let mut writers: Vec<_> = (0..4).map(|_| pool.take()).collect();
        writers[0].push(b"kept");
        let kept = writers[0].finish();
        assert_eq!(meter.bytes(), 1400);
        drop(writers);
        assert_eq!(meter.bytes(), 1400, "the pool keeps them for use again");
        pool.give_back(1);
        assert_eq!((meter.bytes(), pool.resident_bytes()), (1200, 200));
        std::thread::spawn(move || drop((kept, large))).join().expect("no panic");
        assert_eq!(meter.bytes(), 200);
        drop(pool);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn shares_of_a_block_sum_to_it() {
        let span = Span::from_payload(Payload::copied_from(&[7; 6400]));
        assert_eq!(span.pinned_share(), 6400);
        let all: Vec<Span> =
            (0..64).map(|at| span.slice(at..at + 1)).chain([span.clone()]).collect();
        drop(span);
        let sum: usize = all.iter().map(Span::pinned_share).sum();
        assert!((6300..=6400).contains(&sum), "{sum}");
    }
}
