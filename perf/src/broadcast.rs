//! Scenario `broadcast`: what it costs to bring one publication to one more subscriber.
//!
//! In: counts. Out: server CPU, system calls and latency per delivery, of Headwater, of the raw
//! ring's variants and of peers. One publisher, N subscribers of one channel; the next publication
//! follows when all have the last, so that nothing coalesces, or at a rate.
//!
//! With `--deflate`, pairs of Headwater compressed and uncompressed: a publication is compressed
//! once however many subscribers it has, which its counter shows and the ratio proves.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claim, Verdict};
use crate::frames;
use crate::load::Pattern;
use crate::measure::{Known, Times};
use crate::pairs::{CPU, Pairs, Series, Setting, Which, once, rounds};
use crate::peers::{Missing, Peers, Role};
use crate::record::{self, Surroundings};
use crate::servers::{Job, Message, Program};
use crate::statistics::Summary;

/// One publisher, many subscribers.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    subscribers: u32,
    /// Bytes of a publication, JSON.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    payload: u32,
    /// Publications per second; without it, each follows when all subscribers have the last.
    #[arg(long)]
    rate: Option<f64>,
    /// Compare permessage-deflate with no compression instead of Headwater with peers.
    #[arg(long)]
    deflate: bool,
    /// With --deflate: pairs of compressed and uncompressed.
    #[arg(long, default_value_t = 10)]
    pairs: u32,
    /// Rounds of Headwater and all peers.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Peers: all, none (the raw ring's variants only), or names with commas between them.
    #[arg(long, default_value = "all")]
    peers: String,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: PathBuf,
    /// Build the peers first.
    #[arg(long)]
    build: bool,
    /// Shards of the server; with more than one it is not pinned.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Keep runs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out; costs are per delivery.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Broadcast {
    pub(crate) options: serde_json::Value,
    pub(crate) subscribers: u32,
    pub(crate) payload: u32,
    pub(crate) rate: Option<f64>,
    pub(crate) missing: Vec<Missing>,
    /// Headwater first.
    pub(crate) rounds: Vec<Series>,
    /// Compressed and uncompressed.
    pub(crate) deflate: Option<Pairs>,
    pub(crate) claims: Vec<Claim>,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let Options { subscribers, payload, rate, .. } = *options;
    let headwater = Program::Headwater {
        name: "headwater".to_owned(),
        binary: options.places.headwater.clone(),
        shards: options.shards,
    };
    let message = Message::new(match payload {
        ..JSON_BYTES_MIN => frames::payload(payload as usize),
        _ => frames::json(payload as usize),
    });
    let job = message.job(Role::Broadcast, subscribers);
    let mut broadcast = Broadcast {
        options: serde_json::to_value(options)?,
        subscribers,
        payload,
        rate,
        missing: Vec::new(),
        rounds: Vec::new(),
        deflate: None,
        claims: Vec::new(),
    };
    println!("{subscribers} subscribers, {payload} B; costs are per delivery");
    if options.deflate {
        compare_deflate(options, &headwater, &job, &mut broadcast)?;
    } else {
        compare_peers(options, headwater, &job, &mut broadcast)?;
    }
    claims::print(&broadcast.claims);
    record::finish(&options.places.results, "broadcast", &surroundings, &broadcast)?;
    Ok(!options.gate || claims::hold(&broadcast.claims))
}

fn setting(options: &Options) -> Setting<'_> {
    let Options { places, times, any_distance, .. } = options;
    Setting { places, times, any_distance: *any_distance }
}

fn compare_deflate(
    options: &Options,
    headwater: &Program,
    plain: &Job<'_>,
    broadcast: &mut Broadcast,
) -> Result<()> {
    let setting = setting(options);
    let deflated = Job { deflate: true, ..*plain };
    let pairs = Pairs::run(options.pairs, &setting, |which, times| {
        let (name, job) =
            if which == Which::A { ("compressed", &deflated) } else { ("uncompressed", plain) };
        let setting = Setting { times, ..setting };
        let costs = once(&setting, headwater, job, Pattern::Broadcast { rate: options.rate })?;
        eprintln!("  {name:12} {costs}");
        Ok(costs)
    })?;
    ensure!(!pairs.kept.is_empty(), "the cores moved in every pair; try --any-distance");
    let cell = format!("{} x {} B", options.subscribers, options.payload);
    let ratio = pairs.ratio(CPU);
    let what = "CPU compressed / uncompressed";
    broadcast.claims.push(match &ratio {
        Some(summary) => {
            let verdict = Verdict::of(summary.median <= DEFLATE_RATIO_MAX);
            Claim::new(what, &cell, verdict, summary.short())
        }
        None => Claim::new(what, &cell, Verdict::NotAsked, "nothing was measured".into()),
    });
    let subscribers = f64::from(options.subscribers);
    let compressions = pairs.side(Which::A).into_iter().filter_map(|costs| costs.compressions);
    let per_publication = Summary::of(compressions.map(|each| each * subscribers));
    let what = "compressions per publication";
    broadcast.claims.push(match per_publication {
        // The counter is read a little before and after the deliveries that it is divided by.
        Some(each) => {
            let verdict = Verdict::of(each.median > 0.5 && each.median < 1.5);
            Claim::new(what, &cell, verdict, each.short())
        }
        None => Claim::new(what, &cell, Verdict::NotAsked, "the server counts none".into()),
    });
    broadcast.deflate = Some(pairs);
    Ok(())
}

fn compare_peers(
    options: &Options,
    headwater: Program,
    job: &Job<'_>,
    broadcast: &mut Broadcast,
) -> Result<()> {
    let mut peers = Peers::read(&options.peers_directory)?;
    peers.select(Role::Broadcast, &options.peers)?;
    broadcast.missing = peers.prepare(options.build);
    let mut programs = vec![headwater];
    let others = peers.list.iter().map(|peer| Program::new_peer(&peers, peer));
    programs.extend(others);
    let setting = setting(options);
    let programs: Vec<&Program> = programs.iter().collect();
    broadcast.rounds =
        rounds(options.rounds, &setting, &programs, &mut broadcast.missing, |program| {
            let costs = once(&setting, program, job, Pattern::Broadcast { rate: options.rate })?;
            eprintln!("  {:24} {costs}", program.name());
            Ok(costs)
        })?;
    println!(
        "  {:24} {:>8} {:>17} {:>12} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "server",
        "CPU ns",
        "quartiles",
        "deliveries/s",
        "publ/s",
        "enters",
        "calls",
        "p50 us",
        "p99 us"
    );
    for series in &broadcast.rounds {
        print(series, options.subscribers);
    }
    for missing in &broadcast.missing {
        println!("  missing: {}: {}", missing.name, missing.why);
    }
    Ok(())
}

fn print(series: &Series, subscribers: u32) {
    let of = |field: crate::pairs::Field| Summary::of(series.runs.iter().filter_map(field));
    let median = |field| of(field).map(|summary| summary.median);
    let Some(cpu) = of(CPU) else { return };
    let rate = median(|costs| Some(costs.messages_per_second)).unwrap_or_default();
    println!(
        "  {:24} {:8.0} {:>17} {rate:12.0} {:10.1} {:>8} {:>8} {:8.0} {:8.0}",
        series.name,
        cpu.median,
        format!("{:.0} to {:.0}", cpu.quartile_1, cpu.quartile_3),
        rate / f64::from(subscribers),
        Known(median(|costs| costs.enters)).to_string(),
        Known(median(|costs| costs.judged_system_calls)).to_string(),
        median(|costs| Some(costs.latency_us.p50)).unwrap_or_default(),
        median(|costs| Some(costs.latency_us.p99)).unwrap_or_default(),
    );
}

/// Below this a publication has no room for a JSON object like a chat's.
const JSON_BYTES_MIN: u32 = 128;
/// Compressing once per publication must disappear among the deliveries.
const DEFLATE_RATIO_MAX: f64 = 1.15;
