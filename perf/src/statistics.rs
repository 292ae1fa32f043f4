//! Order statistics of a few dozen measurements, and how sure one can be of their median.
//!
//! In: values. Out: quartiles and a bootstrap interval, the same for the same input.

use serde::{Deserialize, Serialize};

/// Median, spread and the 95 % interval of the median.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) min: f64,
    pub(crate) quartile_1: f64,
    pub(crate) median: f64,
    pub(crate) quartile_3: f64,
    pub(crate) max: f64,
    /// Percentile bootstrap, 10,000 resamples.
    pub(crate) interval_95: [f64; 2],
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Self {
            count: values.len(),
            min,
            quartile_1: quantile(&values, 1, 4),
            median: quantile(&values, 1, 2),
            quartile_3: quantile(&values, 3, 4),
            max,
            interval_95: bootstrap(&values),
        })
    }
}

impl Summary {
    /// Median and interval.
    pub(crate) fn short(&self) -> String {
        let Self { count, median, interval_95: [low, high], .. } = self;
        format!("{median:.3} (95 % {low:.3} to {high:.3}, n {count})")
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, min, quartile_1, median, quartile_3, max, interval_95: [low, high] } =
            self;
        write!(
            f,
            "median {median:.3} (95 % {low:.3} to {high:.3}), min {min:.3}, quartiles \
             {quartile_1:.3} {quartile_3:.3}, max {max:.3}, n {count}"
        )
    }
}

/// The `part / whole` quantile of sorted values, interpolated.
fn quantile(sorted: &[f64], part: usize, whole: usize) -> f64 {
    let scaled = (sorted.len() - 1) * part;
    let (index, rest) = (scaled / whole, scaled % whole);
    let below = sorted[index];
    let above = sorted[(index + 1).min(sorted.len() - 1)];
    below + (above - below) * rest as f64 / whole as f64
}

fn bootstrap(values: &[f64]) -> [f64; 2] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sample: Vec<f64> = values
                .iter()
                .map(|_| {
                    // xorshift64*: small, seeded, good enough to pick an index.
                    state ^= state >> 12;
                    state ^= state << 25;
                    state ^= state >> 27;
                    let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
                    let index = (random * values.len() as u64) >> 32;
                    values[usize::try_from(index).unwrap_or(0)]
                })
                .collect();
            sample.sort_by(f64::total_cmp);
            quantile(&sample, 1, 2)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    [quantile(&medians, 25, 1000), quantile(&medians, 975, 1000)]
}

const RESAMPLES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn quartiles_interpolate() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((summary.min, summary.max, summary.median), (1.0, 4.0, 2.5));
        assert_eq!((summary.quartile_1, summary.quartile_3), (1.75, 3.25));
        assert!(Summary::of([]).is_none());
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows() {
        let wide = Summary::of((0..10).map(f64::from)).unwrap();
        let narrow = Summary::of((0..1000).map(|value| f64::from(value) / 100.0)).unwrap();
        for summary in [&wide, &narrow] {
            let [low, high] = summary.interval_95;
            assert!(low < summary.median && summary.median < high);
        }
        let width = |summary: &Summary| summary.interval_95[1] - summary.interval_95[0];
        assert!(width(&narrow) < width(&wide) / 3.0);
    }
}
