//! Scenario `quiet`: what attacks do to the latency of a channel that has nothing to do with them.
//!
//! In: attacks. Out: for each, p99.9 of a quiet channel (a publication every 10 ms to 50 subscribers, latency from when
//! it was due to when a subscriber has it) without and under the attack, in pairs made one after the other, each with a
//! fresh server. Promised: the median under an attack is at most three times that without it, or ten turn budgets,
//! whichever is larger.
//!
//! **Turn budget**: nobody waits longer than the turn that is under way takes, and the largest of a turn's budgets is
//! `SINKS_PER_TURN` = 1,024 deliveries of 1.7 us each (`broadcast`, in ARCHITECTURE.md): 1.74 ms.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::attackers::{self, Attack, Attackers};
use crate::claims::{self, Claim, Verdict};
use crate::load::{Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::pairs::{Pairs, Setting, Which};
use crate::peers::Role;
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Job, Message, Program};
use crate::statistics::Summary;
use crate::{distance, frames};

/// A quiet channel beside attackers.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// Attacks, with commas between them.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Attack::ALL)]
    attacks: Vec<Attack>,
    /// Pairs of runs, one alone and one under the attack.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Subscribers of the quiet channel.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    subscribers: u32,
    /// Bytes of a publication.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    payload: u32,
    /// Publications per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Shards of the server; with more than one it is not pinned.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Keep pairs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Quiet {
    pub(crate) options: serde_json::Value,
    pub(crate) subscribers: u32,
    pub(crate) rate: f64,
    pub(crate) turn_budget_us: f64,
    pub(crate) attacks: Vec<Attacked>,
    pub(crate) claims: Vec<Claim>,
}

/// One attack's part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attacked {
    pub(crate) attack: Attack,
    /// Under the attack, and alone.
    pub(crate) pairs: Pairs,
    /// What the attackers did, in each of the attacked runs, those left out included.
    pub(crate) acts_per_second: Vec<f64>,
}

impl Attacked {
    /// p99.9 in microseconds of one side.
    pub(crate) fn p999(&self, which: Which) -> Vec<f64> {
        self.pairs.side(which).iter().map(|costs| costs.latency_us.p999).collect()
    }
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let program = Program::Headwater {
        name: "headwater".to_owned(),
        binary: options.places.headwater.clone(),
        shards: options.shards,
    };
    let message = Message::new(frames::payload(options.payload as usize));
    let job = message.job(Role::Broadcast, options.subscribers);
    let Options { subscribers, rate, .. } = *options;
    println!("{rate} publications a second to {subscribers} subscribers beside attackers");
    let mut quiet = Quiet {
        options: serde_json::to_value(options)?,
        subscribers,
        rate,
        turn_budget_us: TURN_BUDGET_US,
        attacks: Vec::new(),
        claims: Vec::new(),
    };
    let compresses = compresses(options, &program, &job)?;
    for &attack in &options.attacks {
        if attack == Attack::Bombs && !compresses {
            let why = "the server does not inflate anything".to_owned();
            quiet.claims.push(Claim::new(WHAT, attack.name(), Verdict::NotAsked, why));
            continue;
        }
        let attacked = compare(options, &program, &job, attack)?;
        quiet.claims.push(claim(&attacked));
        quiet.attacks.push(attacked);
    }
    print(&quiet.attacks);
    claims::print(&quiet.claims);
    record::finish(&options.places.results, "quiet", &surroundings, &quiet)?;
    Ok(!options.gate || claims::hold(&quiet.claims))
}

fn compresses(options: &Options, program: &Program, job: &Job<'_>) -> Result<bool> {
    let server = program.start(job, &Launch::on(options.places.server_cpu()))?;
    let compresses = attackers::compresses(server.address());
    server.stop()?;
    Ok(compresses)
}

fn compare(
    options: &Options,
    program: &Program,
    job: &Job<'_>,
    attack: Attack,
) -> Result<Attacked> {
    // Attackers would be counted with the messages.
    let times = Times { judge: 0.0, ..options.times.clone() };
    let setting =
        Setting { places: &options.places, times: &times, any_distance: options.any_distance };
    let mut acts_per_second = Vec::new();
    let pairs = Pairs::run(options.pairs, &setting, |which, times| {
        let under = (which == Which::A).then_some(attack);
        let (costs, acts) = once(options, program, job, times, under)
            .with_context(|| format!("a run with {}", under.map_or("nobody", Attack::name)))?;
        let name = under.map_or("alone", Attack::name);
        let (p50, p999) = (costs.latency_us.p50, costs.latency_us.p999);
        let (own, others) = (costs.server_cores, costs.foreign_cores);
        eprintln!(
            "  {name:12} p50 {p50:6.0} p99.9 {p999:7.0} us  {own:4.2} cores, others {others:4.2}  \
             {:8.0} acts/s",
            acts.unwrap_or_default()
        );
        acts_per_second.extend(acts);
        Ok(costs)
    })?;
    ensure!(!pairs.kept.is_empty(), "the cores moved in every pair; try --any-distance");
    Ok(Attacked { attack, pairs, acts_per_second })
}

/// One run of a fresh server; what attackers did a second, if there were any.
fn once(
    options: &Options,
    program: &Program,
    job: &Job<'_>,
    times: &Times,
    attack: Option<Attack>,
) -> Result<(Costs, Option<f64>)> {
    let places = &options.places;
    let before = distance::between(places.server_cpu(), places.client_cpu())?;
    let server = program.start(job, &Launch::on(places.server_cpu()))?;
    let sockets = server.connect(job).context("connecting")?;
    let attackers =
        attack.map(|attack| Attackers::start(attack, server.address(), places.client_cpu()));
    let load = Load::start(Plan {
        sockets,
        pattern: Pattern::Broadcast { rate: Some(options.rate) },
        request: server.outgoing(job),
        expected: server.expected(job),
        cpu: places.client_cpu(),
        allowed: UNLIMITED,
    });
    let mut costs = measure::costs(server.child(), || server.counters(), load, times)?;
    let acts = attackers.map(Attackers::stop).transpose().context("attacking")?;
    server.stop()?;
    let after = distance::between(places.server_cpu(), places.client_cpu())?;
    costs.core_distance_ns = before.zip(after).map(|(before, after)| [before, after]);
    Ok((costs, acts))
}

fn claim(attacked: &Attacked) -> Claim {
    let cell = attacked.attack.name();
    let side = |which| Summary::of(attacked.p999(which)).map(|summary| summary.median);
    let (Some(under), Some(alone)) = (side(Which::A), side(Which::B)) else {
        return Claim::new(WHAT, cell, Verdict::NotAsked, "nothing was measured".into());
    };
    let most = bound(alone);
    let measured = format!("{under:.0} us, {alone:.0} alone, at most {most:.0}");
    Claim::new(WHAT, cell, Verdict::of(under <= most), measured)
}

/// Microseconds that p99.9 may be under an attack when it is `alone` without it.
pub(crate) fn bound(alone: f64) -> f64 {
    (FACTOR_MAX * alone).max(TURN_BUDGETS_MAX * TURN_BUDGET_US)
}

fn print(attacks: &[Attacked]) {
    println!(
        "  {:12} {:>9} {:>17} {:>9} {:>17} {:>6} {:>10}",
        "p99.9 in us", "alone", "min to max", "under it", "min to max", "ratio", "acts/s"
    );
    for attacked in attacks {
        let side = |which| Summary::of(attacked.p999(which));
        let (Some(under), Some(alone)) = (side(Which::A), side(Which::B)) else { continue };
        let span = |summary: &Summary| format!("{:.0} to {:.0}", summary.min, summary.max);
        let acts = Summary::of(attacked.acts_per_second.iter().copied());
        println!(
            "  {:12} {:9.0} {:>17} {:9.0} {:>17} {:6.2} {:10.0}",
            attacked.attack.name(),
            alone.median,
            span(&alone),
            under.median,
            span(&under),
            under.median / alone.median,
            acts.map_or(0.0, |acts| acts.median),
        );
    }
}

const WHAT: &str = "p99.9 of a quiet channel under it";
/// 1,024 deliveries of 1.7 us: see above.
const TURN_BUDGET_US: f64 = 1_741.0;
const TURN_BUDGETS_MAX: f64 = 10.0;
const FACTOR_MAX: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::{Attacked, bound, claim};
    use crate::attackers::Attack;
    use crate::claims::Verdict;
    use crate::measure::{Costs, Latency};
    use crate::pairs::{Pair, Pairs};

    fn costs(p999: f64) -> Costs {
        let costs = Costs::example();
        Costs { latency_us: Latency { p999, ..costs.latency_us.clone() }, ..costs }
    }

    #[test]
    fn the_median_counts_and_a_few_turns_are_allowed() {
        assert!((bound(100.0) - 17_410.0).abs() < 1e-6);
        assert!((bound(10_000.0) - 30_000.0).abs() < 1e-6);
        let verdict = |under: [f64; 3]| {
            let kept = under.map(|under| Pair { a: costs(under), b: costs(300.0) }).to_vec();
            let pairs = Pairs { kept, left_out: Vec::new() };
            claim(&Attacked { attack: Attack::Pings, pairs, acts_per_second: vec![1.0] }).verdict
        };
        assert_eq!(verdict([900.0, 17_000.0, 90_000.0]), Verdict::Held);
        assert_eq!(verdict([900.0, 18_000.0, 90_000.0]), Verdict::Missed);
        let pairs = Pairs::default();
        let none = Attacked { attack: Attack::Pings, pairs, acts_per_second: Vec::new() };
        assert_eq!(claim(&none).verdict, Verdict::NotAsked);
    }
}
