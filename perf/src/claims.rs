//! What is promised, and whether a measurement holds it.
//!
//! In: summaries. Out: verdicts with the numbers they rest on. A claim that nothing was measured for
//! is neither held nor missed, and says so.

use serde::{Deserialize, Serialize};

use crate::statistics::Summary;

/// One promise at one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) what: String,
    /// The cell, such as `64 x 20 B`.
    pub(crate) cell: String,
    pub(crate) verdict: Verdict,
    /// The numbers, for people.
    pub(crate) measured: String,
}

/// Whether a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Held,
    Missed,
    /// Nothing is promised here, or what it needs was not measured.
    NotAsked,
}

impl Verdict {
    pub(crate) fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::Missed }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::NotAsked => "not asked",
        }
    }
}

impl Claim {
    pub(crate) fn new(what: &str, cell: &str, verdict: Verdict, measured: String) -> Self {
        Self { what: what.to_owned(), cell: cell.to_owned(), verdict, measured }
    }

    /// The median, and the upper end of its interval, are bounded.
    pub(crate) fn bounded(
        what: &str,
        cell: &str,
        summary: Option<&Summary>,
        (median, upper): (f64, f64),
    ) -> Self {
        let Some(summary) = summary else {
            return Self::new(what, cell, Verdict::NotAsked, "nothing was measured".into());
        };
        let holds = summary.median <= median && summary.interval_95[1] <= upper;
        Self::new(what, cell, Verdict::of(holds), summary.short())
    }

    /// Below the other's beyond the spread: the whole interval of the ratio is below 1.
    pub(crate) fn below(what: &str, cell: &str, ratio: &Summary) -> Self {
        Self::new(what, cell, Verdict::of(ratio.interval_95[1] < 1.0), ratio.short())
    }

    /// Not above the other's beyond the spread: the interval of the ratio reaches 1 or lies below.
    pub(crate) fn not_above(what: &str, cell: &str, ratio: &Summary) -> Self {
        Self::new(what, cell, Verdict::of(ratio.interval_95[0] <= 1.0), ratio.short())
    }
}

/// Whether no claim was missed.
pub(crate) fn hold(claims: &[Claim]) -> bool {
    claims.iter().all(|claim| claim.verdict != Verdict::Missed)
}

pub(crate) fn print(claims: &[Claim]) {
    println!("claims");
    for Claim { what, cell, verdict, measured } in claims {
        println!("  {:9} {cell:>16}  {what}: {measured}", verdict.name());
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Verdict, hold};
    use crate::statistics::Summary;

    fn around(median: f64, spread: f64) -> Summary {
        Summary::of((0..21).map(|step| median + spread * (f64::from(step) / 10.0 - 1.0))).unwrap()
    }

    #[test]
    fn a_ratio_is_bounded_in_its_median_and_in_its_interval() {
        let claim =
            |summary: &Summary| Claim::bounded("x", "y", Some(summary), (1.05, 1.10)).verdict;
        assert_eq!(claim(&around(1.0, 0.05)), Verdict::Held);
        assert_eq!(claim(&around(1.06, 0.001)), Verdict::Missed, "the median");
        assert_eq!(claim(&around(1.04, 0.5)), Verdict::Missed, "the interval");
        let none = Claim::bounded("x", "y", None, (1.05, 1.10));
        assert_eq!(none.verdict, Verdict::NotAsked);
        assert!(hold(std::slice::from_ref(&none)));
        assert!(!hold(&[none, Claim::new("x", "y", Verdict::Missed, String::new())]));
    }

    #[test]
    fn beyond_the_spread() {
        assert_eq!(Claim::below("x", "y", &around(0.9, 0.05)).verdict, Verdict::Held);
        assert_eq!(Claim::below("x", "y", &around(0.99, 0.5)).verdict, Verdict::Missed);
        assert_eq!(Claim::not_above("x", "y", &around(1.01, 0.5)).verdict, Verdict::Held);
        assert_eq!(Claim::not_above("x", "y", &around(1.2, 0.05)).verdict, Verdict::Missed);
    }
}
