//! `compare A B`: two builds of Headwater in interleaved pairs of one scenario.
//!
//! In: two binaries. Out: the ratio A / B of server CPU per message with its 95 % interval.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::frames;
use crate::load::Pattern;
use crate::measure::Times;
use crate::pairs::{CPU, Pairs, Setting, Which, once};
use crate::peers::Role;
use crate::record::{self, Surroundings};
use crate::servers::{Message, Program};
use crate::statistics::Summary;

/// Two binaries of Headwater against each other.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    /// One binary.
    a: PathBuf,
    /// The other; the ratio is A / B.
    b: PathBuf,
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// What both do.
    #[arg(long, value_enum, default_value_t = What::Echo)]
    scenario: What,
    /// Connections; for a broadcast, subscribers.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    payload: u32,
    #[arg(long, default_value_t = 20)]
    pairs: u32,
    /// Keep pairs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Echo,
    Broadcast,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) options: serde_json::Value,
    pub(crate) title: String,
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) pairs: Pairs,
    pub(crate) ratio: Option<Summary>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let surroundings = Surroundings::look();
    let Options { places, times, connections, payload, .. } = options;
    let program = |name: &str, binary: &PathBuf| Program::Headwater {
        name: format!("{name}: {}", binary.display()),
        binary: binary.clone(),
        shards: 1,
    };
    let (a, b) = (program("A", &options.a), program("B", &options.b));
    let setting = Setting { places, times, any_distance: options.any_distance };
    let message = Message::new(frames::payload(*payload as usize));
    let (role, pattern) = match options.scenario {
        What::Echo => (Role::Echo, Pattern::Echo),
        What::Broadcast => (Role::Broadcast, Pattern::Broadcast { rate: None }),
    };
    let job = message.job(role, *connections);
    let pairs = Pairs::run(options.pairs, &setting, |which, times| {
        let program = if which == Which::A { &a } else { &b };
        let costs = once(&Setting { times, ..setting }, program, &job, pattern)?;
        eprintln!("  {which:?} {costs}");
        Ok(costs)
    })?;
    ensure!(!pairs.kept.is_empty(), "the cores moved in every pair; try --any-distance");
    println!("A {}\nB {}", options.a.display(), options.b.display());
    for (name, which) in [("A", Which::A), ("B", Which::B)] {
        let cpu = pairs.side(which).into_iter().map(|costs| costs.server_cpu_ns);
        if let Some(cpu) = Summary::of(cpu) {
            println!("  {name} server CPU ns per message: {cpu}");
        }
    }
    let ratio = pairs.ratio(CPU);
    if let Some(ratio) = &ratio {
        println!("  ratio A / B: {ratio}");
    }
    let comparison = Comparison {
        options: serde_json::to_value(options)?,
        title: format!("{:?}, {connections} connections, {payload} B", options.scenario),
        a: a.name().to_owned(),
        b: b.name().to_owned(),
        pairs,
        ratio,
    };
    record::finish(&places.results, "compare", &surroundings, &comparison)
}
