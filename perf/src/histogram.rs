//! Latencies in buckets whose width grows with the value, so that a percentile of any size is right
//! to within one per cent and recording costs a few instructions.
//!
//! In: nanoseconds. Out: percentiles, as the upper edge of their bucket.

/// Counts by value, 128 buckets to each power of two.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `per_mille` of 1000 samples do not exceed; 0 without samples.
    pub(crate) fn percentile(&self, per_mille: u64) -> u64 {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(index).min(self.max);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    let exponent = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    // At most 57 * 128 + 255.
    let mantissa = usize::try_from(value >> exponent).unwrap_or(0);
    exponent as usize * SUB_BUCKETS + mantissa
}

fn upper_edge(index: usize) -> u64 {
    let exponent = (index / SUB_BUCKETS).saturating_sub(1);
    let mantissa = (index - exponent * SUB_BUCKETS) as u64;
    // The edge of the last bucket is 2^64 - 1: the shift gives 0.
    ((mantissa + 1) << exponent).wrapping_sub(1)
}

const PRECISION: u32 = 7;
const SUB_BUCKETS: usize = 1 << PRECISION;
const BUCKETS: usize = 59 * SUB_BUCKETS;

#[cfg(test)]
mod tests {
    use super::{Histogram, bucket, upper_edge};

    #[test]
    fn every_value_lies_under_its_edge_by_less_than_one_per_cent() {
        for shift in 0..62 {
            for step in 0..7 {
                let value = (1_u64 << shift) + (step << shift) / 8;
                let edge = upper_edge(bucket(value));
                assert!(edge >= value, "{value}: {edge}");
                assert!(edge - value <= value / 100, "{value}: {edge}");
                assert!(bucket(edge) == bucket(value) && bucket(edge + 1) == bucket(value) + 1);
            }
        }
        let _ = bucket(u64::MAX);
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(500), 0);
        for value in 1..=100_000 {
            histogram.record(value);
        }
        for (per_mille, exact) in [(500, 50_000_u64), (990, 99_000), (999, 99_900)] {
            let found = histogram.percentile(per_mille);
            assert!(found >= exact && found - exact <= exact / 100, "{per_mille}: {found}");
        }
        assert_eq!(histogram.percentile(1000), 100_000);
        histogram.clear();
        assert_eq!(histogram.max(), 0);
    }
}
