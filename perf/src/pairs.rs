//! Runs that can be compared: one after the other, in an order that alternates, at one distance of
//! the two cores.
//!
//! In: programs, a job, a pattern. Out: costs of every run, those that count and those left out.
//! Each run has a fresh server. Pairs go A B, B A, A B ...: neither is always the one that runs in
//! the other's wake, and slow drifts of a shared machine meet both.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::load::{Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::peers::Missing;
use crate::process::Launch;
use crate::servers::{Job, Program};
use crate::statistics::Summary;
use crate::{Places, distance};

/// What every run of a comparison has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) places: &'a Places,
    pub(crate) times: &'a Times,
    /// Keep runs during which the distance between the two cores changed.
    pub(crate) any_distance: bool,
}

/// Two runs, one directly after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) a: Costs,
    pub(crate) b: Costs,
}

/// All pairs of a comparison.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pairs {
    pub(crate) kept: Vec<Pair>,
    /// Those whose cores moved.
    pub(crate) left_out: Vec<Pair>,
}

/// One program's runs, one per round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) runs: Vec<Costs>,
}

/// One run of a fresh server.
pub(crate) fn once(
    setting: &Setting<'_>,
    program: &Program,
    job: &Job<'_>,
    pattern: Pattern,
) -> Result<Costs> {
    let Setting { places, times, .. } = setting;
    let measured = distance::around(places, || {
        let server = program.start(job, &Launch::on(places.server_cpu()))?;
        let load = Load::start(Plan {
            sockets: server.connect(job).context("connecting")?,
            pattern,
            request: server.outgoing(job),
            expected: server.expected(job),
            cpu: places.client_cpu(),
            allowed: UNLIMITED,
        });
        let costs = measure::costs(server.child(), || server.counters(), load, times)?;
        server.stop()?;
        Ok(costs)
    });
    measured.with_context(|| format!("measuring {}", program.name()))
}

impl Pairs {
    /// Runs `count` pairs, and again those whose cores moved, within bounds.
    pub(crate) fn run(
        count: u32,
        setting: &Setting<'_>,
        mut one: impl FnMut(Which, &Times) -> Result<Costs>,
    ) -> Result<Self> {
        let mut this = Self::default();
        for number in 0..count * ATTEMPTS_PER_PAIR {
            if this.kept.len() >= count as usize {
                break;
            }
            // A judge takes time of its own, and a few of its readings say enough.
            let judge = if number < PAIRS_JUDGED { setting.times.judge } else { 0.0 };
            let times = Times { judge, ..setting.times.clone() };
            let pair = if number.is_multiple_of(2) {
                let a = one(Which::A, &times)?;
                Pair { a, b: one(Which::B, &times)? }
            } else {
                let b = one(Which::B, &times)?;
                Pair { a: one(Which::A, &times)?, b }
            };
            if setting.any_distance || at_one_distance(&pair.a, &pair.b) {
                this.kept.push(pair);
            } else {
                this.left_out.push(pair);
            }
        }
        Ok(this)
    }

    /// The ratio A / B of a cost.
    pub(crate) fn ratio(&self, field: Field) -> Option<Summary> {
        Summary::of(self.ratios(field))
    }

    pub(crate) fn ratios(&self, field: Field) -> Vec<f64> {
        let ratio = |pair: &Pair| Some(field(&pair.a)? / field(&pair.b)?);
        self.kept.iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
    }

    pub(crate) fn side(&self, which: Which) -> Vec<&Costs> {
        let kept = self.kept.iter();
        match which {
            Which::A => kept.map(|pair| &pair.a).collect(),
            Which::B => kept.map(|pair| &pair.b).collect(),
        }
    }
}

/// One of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    A,
    B,
}

/// A cost that a server may not count.
pub(crate) type Field = fn(&Costs) -> Option<f64>;

/// Runs all programs once per round, each round beginning with another one. Rounds in which the
/// cores moved are kept: [`ratios`] takes the runs of them that go together. Up to half as many
/// rounds are added while some program has fewer of those than rounds were asked for. A program that
/// fails is named in `failed` and takes no further part: one peer's trouble does not end a matrix.
pub(crate) fn rounds(
    count: u32,
    setting: &Setting<'_>,
    programs: &[&Program],
    failed: &mut Vec<Missing>,
    mut one: impl FnMut(&Program) -> Result<Costs>,
) -> Result<Vec<Series>> {
    let mut field: Vec<(&Program, Series)> = programs
        .iter()
        .map(|program| (*program, Series { name: program.name().to_owned(), runs: Vec::new() }))
        .collect();
    for round in 0..count + count / 2 {
        let base = &field.first().context("every server failed")?.1;
        let compared = |other: &Series| ratios(setting, other, base, CPU).len();
        if round >= count && field.iter().all(|(_, other)| compared(other) >= count as usize) {
            break;
        }
        let mut troubled = Vec::new();
        for turn in 0..field.len() {
            let index = (turn + round as usize) % field.len();
            let (program, series) = &mut field[index];
            match one(program) {
                Ok(costs) => series.runs.push(costs),
                Err(error) => {
                    let why = format!("{error:#}");
                    eprintln!("    {} takes no further part: {why}", series.name);
                    failed.push(Missing { name: series.name.clone(), why });
                    troubled.push(series.name.clone());
                }
            }
        }
        field.retain(|(_, series)| !troubled.contains(&series.name));
    }
    Ok(field.into_iter().map(|(_, series)| series).collect())
}

/// A cost of `other` / that of `base`, of the rounds in which both ran at one distance.
pub(crate) fn ratios(
    setting: &Setting<'_>,
    other: &Series,
    base: &Series,
    field: Field,
) -> Vec<f64> {
    other
        .runs
        .iter()
        .zip(&base.runs)
        .filter(|(other, base)| setting.any_distance || at_one_distance(other, base))
        .filter_map(|(other, base)| Some(field(other)? / field(base)?))
        .filter(|ratio| ratio.is_finite())
        .collect()
}

pub(crate) const CPU: Field = |costs| Some(costs.server_cpu_ns);

/// Whether the cores were near, or far, at all four readings. The readings say nothing about the
/// costs, so leaving out the other pairs favours nobody.
pub(crate) fn at_one_distance(a: &Costs, b: &Costs) -> bool {
    let (Some(a), Some(b)) = (a.core_distance_ns, b.core_distance_ns) else {
        return true;
    };
    let (min, max) = [a, b]
        .as_flattened()
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(min, max), &ns| (min.min(ns), max.max(ns)));
    max < min * distance::FACTOR_MAX
}

const ATTEMPTS_PER_PAIR: u32 = 3;
const PAIRS_JUDGED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::{Pairs, Series, Setting, Which, ratios, rounds};
    use crate::Places;
    use crate::measure::{Costs, Times};
    use crate::servers::Program;

    fn costs(cpu: f64, distance: f64) -> Costs {
        Costs {
            server_cpu_ns: cpu,
            core_distance_ns: Some([distance, distance]),
            ..Costs::example()
        }
    }

    #[test]
    fn pairs_alternate_and_those_whose_cores_moved_are_run_again() {
        let (places, times) = (Places::example(), Times::example());
        let setting = Setting { places: &places, times: &times, any_distance: false };
        let mut order = String::new();
        let mut number = 0;
        let pairs = Pairs::run(3, &setting, |which, _| {
            order.push(if which == Which::A { 'a' } else { 'b' });
            number += 1;
            let distance = if number == 4 { 350.0 } else { 40.0 };
            Ok(if which == Which::A { costs(110.0, distance) } else { costs(100.0, distance) })
        });
        let pairs = pairs.unwrap();
        assert_eq!(order, "abbaabba");
        assert_eq!((pairs.kept.len(), pairs.left_out.len()), (3, 1));
        assert!(pairs.ratios(super::CPU).iter().all(|ratio| (ratio - 1.1).abs() < 1e-9));
        assert!(pairs.ratio(|costs| costs.allocations).is_none());
    }

    #[test]
    fn whoever_fails_is_named_and_the_others_go_on() {
        let (places, times) = (Places::example(), Times::example());
        let setting = Setting { places: &places, times: &times, any_distance: false };
        let program =
            |name: &str| Program::Headwater { name: name.into(), binary: "x".into(), shards: 1 };
        let (a, b) = (program("a"), program("b"));
        let mut order = String::new();
        let mut failed = Vec::new();
        let series = rounds(3, &setting, &[&a, &b], &mut failed, |program| {
            order.push_str(program.name());
            match (program.name(), order.len()) {
                ("b", 3) => anyhow::bail!("trouble"),
                _ => Ok(costs(100.0, 40.0)),
            }
        });
        let series = series.unwrap();
        assert_eq!(order, "abbaa", "a round each begins with, and no third for b");
        assert_eq!((series.len(), series[0].runs.len()), (1, 3));
        assert_eq!((failed[0].name.as_str(), failed[0].why.as_str()), ("b", "trouble"));
        assert!(rounds(1, &setting, &[&a], &mut failed, |_| anyhow::bail!("no")).is_ok());
        assert!(rounds(2, &setting, &[&a], &mut failed, |_| anyhow::bail!("no")).is_err());
    }

    #[test]
    fn rounds_are_compared_where_the_distance_was_the_same() {
        let (places, times) = (Places::example(), Times::example());
        let setting = Setting { places: &places, times: &times, any_distance: false };
        let series = |runs: &[Costs]| Series { name: "x".into(), runs: runs.to_vec() };
        let base = series(&[costs(100.0, 40.0), costs(300.0, 350.0)]);
        let other = series(&[costs(200.0, 40.0), costs(300.0, 40.0)]);
        assert_eq!(ratios(&setting, &other, &base, super::CPU), [2.0]);
        let setting = Setting { any_distance: true, ..setting };
        assert_eq!(ratios(&setting, &other, &base, super::CPU), [2.0, 1.0]);
    }
}
