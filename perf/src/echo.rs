//! Scenario `echo`: what a small message costs Headwater, and how that compares with the raw ring.
//!
//! In: options. Out: costs per run, and for pairs the ratio Headwater / raw ring with its spread.
//! Each run has a fresh server; the two of a pair run one directly after the other, in an order that
//! alternates, so that slow drifts of a shared machine meet both.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::headwater::Headwater;
use crate::load::{Expected, Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{RawRing, RawRingOptions, Server};
use crate::statistics::Summary;
use crate::{distance, frames};

/// Closed-loop echo over WebSocket, against the raw ring with the same bytes on the wire.
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    raw_ring: RawRingOptions,
    /// Connections, each with one message under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    payload: u32,
    /// Pairs of runs, Headwater and raw ring interleaved; 0: one run of one server.
    #[arg(long, default_value_t = 0)]
    pairs: u32,
    /// With --pairs 0: run against the raw ring, without a protocol.
    #[arg(long, conflicts_with = "pairs")]
    raw: bool,
    /// Binary of the limit peer.
    #[arg(long, default_value = "perf/peers/target/release/raw-ring")]
    raw_ring_binary: PathBuf,
    /// Keep pairs during which the distance between the two cores changed.
    #[arg(long, requires = "pairs")]
    any_distance: bool,
    /// Compare a second raw ring instead of Headwater: shows the noise of the method.
    #[arg(long, requires = "pairs")]
    null: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Headwater,
    RawRing,
}

#[derive(Debug, Serialize)]
struct Pair {
    headwater: Costs,
    raw_ring: Costs,
}

impl Pair {
    /// Whether the cores were near, or far, at all four readings. The readings say nothing about
    /// the costs, so leaving out the other pairs favours nobody.
    fn at_one_distance(&self) -> bool {
        let (Some(a), Some(b)) = (self.headwater.core_distance_ns, self.raw_ring.core_distance_ns)
        else {
            return true;
        };
        let (min, max) = [a, b]
            .as_flattened()
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(min, max), &ns| (min.min(ns), max.max(ns)));
        max < min * DISTANCE_FACTOR_MAX
    }
}

/// Near and far differ by a factor of eight or so, readings of one kind by a third.
const DISTANCE_FACTOR_MAX: f64 = 2.0;
const ATTEMPTS_PER_PAIR: u32 = 3;

#[derive(Debug, Serialize)]
struct Report<'a> {
    options: &'a Options,
    single: Option<Costs>,
    pairs: Vec<Pair>,
    pairs_left_out: Vec<Pair>,
    ratio_server_cpu: Option<Summary>,
    ratio_enters: Option<Summary>,
    ratio_system_calls: Option<Summary>,
    ratio_judged_system_calls: Option<Summary>,
}

/// A cost that a server may not count.
type Field = fn(&Costs) -> Option<f64>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let surroundings = Surroundings::look();
    let mut report = Report {
        options,
        single: None,
        pairs: Vec::new(),
        pairs_left_out: Vec::new(),
        ratio_server_cpu: None,
        ratio_enters: None,
        ratio_system_calls: None,
        ratio_judged_system_calls: None,
    };
    if options.pairs == 0 {
        let side = if options.raw { Side::RawRing } else { Side::Headwater };
        let costs = run_once(options, side)?;
        println!("{side}: {costs}");
        report.single = Some(costs);
    } else {
        run_pairs(options, &mut report)?;
        summarise(&mut report);
    }
    let path = record::write(&options.places.results, "echo", &surroundings, &report)?;
    println!("recorded in {}", path.display());
    Ok(())
}

/// Repeats a pair whose cores moved, within bounds.
fn run_pairs(options: &Options, report: &mut Report<'_>) -> Result<()> {
    for number in 0..options.pairs * ATTEMPTS_PER_PAIR {
        if report.pairs.len() >= options.pairs as usize {
            break;
        }
        let pair = run_pair(options, number)?;
        if options.any_distance || pair.at_one_distance() {
            report.pairs.push(pair);
        } else {
            println!("         left out: the cores moved");
            report.pairs_left_out.push(pair);
        }
    }
    ensure!(!report.pairs.is_empty(), "the cores moved in every pair; try --any-distance");
    let (kept, left_out) = (report.pairs.len(), report.pairs_left_out.len());
    println!("{kept} pairs of {} asked for, {left_out} left out", options.pairs);
    Ok(())
}

fn run_pair(options: &Options, number: u32) -> Result<Pair> {
    let first = if options.null { Side::RawRing } else { Side::Headwater };
    // A B, B A, A B ...: neither is always the one that runs in the other's wake.
    let (headwater, raw_ring) = if number.is_multiple_of(2) {
        let headwater = run_once(options, first)?;
        (headwater, run_once(options, Side::RawRing)?)
    } else {
        let raw_ring = run_once(options, Side::RawRing)?;
        (run_once(options, first)?, raw_ring)
    };
    let ratio = headwater.server_cpu_ns / raw_ring.server_cpu_ns;
    println!("pair {:2}  {first}: {headwater}", number + 1);
    println!("         {}: {raw_ring}", Side::RawRing);
    println!("         server CPU ratio {ratio:.3}");
    Ok(Pair { headwater, raw_ring })
}

fn run_once(options: &Options, side: Side) -> Result<Costs> {
    let payload = frames::payload(options.payload as usize);
    let request = frames::client_text(&payload);
    let reply = frames::server_text(&payload);
    let places = &options.places;
    let before = distance::between(places.server_cpu(), places.client_cpu())?;
    let launch = Launch::on(places.server_cpu());
    let server = match side {
        Side::Headwater => Server::Headwater(Headwater::start(&places.headwater, 1, &launch)?),
        Side::RawRing => Server::RawRing(RawRing::start(
            &options.raw_ring_binary,
            &options.raw_ring,
            request.len(),
            reply.len(),
            &launch,
        )?),
    };
    let sockets = server
        .connect(options.connections as usize)
        .with_context(|| format!("connecting to the {side}"))?;
    let expected = match side {
        Side::Headwater => Expected::Bytes(reply),
        Side::RawRing => Expected::Count(reply.len()),
    };
    let cpu = places.client_cpu();
    let load = Load::start(Plan {
        sockets,
        pattern: Pattern::Echo,
        request,
        expected,
        cpu,
        allowed: UNLIMITED,
    });
    let mut costs = measure::costs(server.child(), || server.counters(), load, &options.times)
        .with_context(|| format!("measuring the {side}"))?;
    server.stop()?;
    let after = distance::between(places.server_cpu(), places.client_cpu())?;
    costs.core_distance_ns = before.zip(after).map(|(before, after)| [before, after]);
    Ok(costs)
}

fn summarise(report: &mut Report<'_>) {
    let ratio = |field: Field| {
        let pairs = report.pairs.iter();
        Summary::of(pairs.filter_map(|pair| Some(field(&pair.headwater)? / field(&pair.raw_ring)?)))
    };
    let cpu = ratio(|costs| Some(costs.server_cpu_ns));
    let enters = ratio(|costs| costs.enters);
    let system_calls = ratio(|costs| costs.system_calls);
    let judged = ratio(|costs| costs.judged_system_calls);
    let compared = if report.options.null { Side::RawRing } else { Side::Headwater };
    let pairs = &report.pairs;
    for (side, costs) in [
        (compared, pairs.iter().map(|pair| &pair.headwater).collect::<Vec<_>>()),
        (Side::RawRing, pairs.iter().map(|pair| &pair.raw_ring).collect()),
    ] {
        println!("{side}");
        let lines: [(&str, Field); 7] = [
            ("server CPU ns per message", |costs| Some(costs.server_cpu_ns)),
            ("enters per message", |costs| costs.enters),
            ("system calls per message, own count", |costs| costs.system_calls),
            ("system calls per message, judged", |costs| costs.judged_system_calls),
            ("allocations per message", |costs| costs.allocations),
            ("p99 us", |costs| Some(costs.latency_us.p99)),
            ("cores used by others", |costs| Some(costs.foreign_cores)),
        ];
        for (name, field) in lines {
            print_summary(
                name,
                Summary::of(costs.iter().filter_map(|costs| field(costs))).as_ref(),
            );
        }
    }
    println!("ratio {compared} / {}", Side::RawRing);
    print_summary("server CPU per message", cpu.as_ref());
    print_summary("enters per message", enters.as_ref());
    print_summary("system calls per message, own count", system_calls.as_ref());
    print_summary("system calls per message, judged", judged.as_ref());
    report.ratio_server_cpu = cpu;
    report.ratio_enters = enters;
    report.ratio_system_calls = system_calls;
    report.ratio_judged_system_calls = judged;
}

fn print_summary(name: &str, summary: Option<&Summary>) {
    match summary {
        Some(summary) => println!("  {name}: {summary}"),
        None => println!("  {name}: not counted by this server"),
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Headwater => "headwater",
            Self::RawRing => "raw ring",
        })
    }
}
