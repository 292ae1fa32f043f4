//! Scenario `echo`: what a small message costs Headwater, against the raw ring and other servers.
//!
//! In: connections and sizes. Out: for each cell of the matrix a table, the ratio Headwater / limit
//! with its spread, the peers, latencies at a rate, and which promises held. The limit of a cell is
//! the cheapest of the raw ring's variants there, found by a short comparison of all of them.

mod cell;
mod results;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::claims;
use crate::measure::Times;
use crate::pairs::Setting;
use crate::peers::{Missing, Peers, Role};
use crate::record::{self, Surroundings};
use crate::servers::Program;
pub(crate) use results::{Cell, Matrix, Open, ServerInfo};

/// Echo over WebSocket: closed loop, against the raw ring and the peers; then open loop.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) places: crate::Places,
    #[command(flatten)]
    pub(crate) times: Times,
    /// Connections, each with one message under way; one or more counts.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1_000, 10_000],
          value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) connections: Vec<u32>,
    /// Bytes of a message, one or more sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 512, 16_384],
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) payload: Vec<u32>,
    /// Pairs of runs Headwater / limit where their ratio is promised.
    #[arg(long, default_value_t = 20)]
    pub(crate) pairs: u32,
    /// Pairs in the other cells; at most as many as --pairs.
    #[arg(long, default_value_t = 6)]
    pub(crate) other_pairs: u32,
    /// Peers beside the variants of the raw ring: all, none, or names with commas between them.
    #[arg(long, default_value = "all")]
    pub(crate) peers: String,
    /// Rounds of Headwater and all peers; 0: no peers.
    #[arg(long, default_value_t = 5)]
    pub(crate) peer_rounds: u32,
    /// Rounds of the raw ring's variants that choose the limit.
    #[arg(long, default_value_t = 3)]
    pub(crate) qualifying_rounds: u32,
    /// Take this variant of the raw ring as the limit, without qualifying.
    #[arg(long)]
    pub(crate) limit: Option<String>,
    /// No runs at a given rate.
    #[arg(long)]
    pub(crate) no_open_loop: bool,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    pub(crate) peers_directory: PathBuf,
    /// Build the peers first.
    #[arg(long)]
    pub(crate) build: bool,
    /// Keep runs during which the distance between the two cores changed.
    #[arg(long)]
    pub(crate) any_distance: bool,
    /// Compare the limit with itself: shows the noise of the method.
    #[arg(long)]
    pub(crate) null: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    pub(crate) gate: bool,
}

/// What takes part.
struct Field {
    headwater: Program,
    limits: Vec<Program>,
    others: Vec<Program>,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let (field, mut matrix) = prepare(options)?;
    let cells = sizes(options).len();
    println!("{cells} cells, about {:.0} minutes", minutes(options, &field));
    let setting = Setting {
        places: &options.places,
        times: &options.times,
        any_distance: options.any_distance,
    };
    for (number, (connections, payload)) in sizes(options).into_iter().enumerate() {
        let started = Instant::now();
        let cell = match cell::run(options, &setting, &field, connections, payload) {
            Ok(cell) => cell,
            // The other cells are worth having.
            Err(error) => {
                let (name, why) = (format!("{connections} x {payload} B"), format!("{error:#}"));
                println!("failed: {name}: {why}\n");
                matrix.failed.push(Missing { name, why });
                continue;
            }
        };
        let claims = cell::claims(&setting, &cell, options.null);
        table::print(&matrix.servers, &cell);
        claims::print(&claims);
        let seconds = started.elapsed().as_secs();
        println!("cell {} of {cells} took {seconds} s\n", number + 1);
        matrix.claims.extend(claims);
        matrix.cells.push(cell);
        // What was measured is not lost if a later cell fails or somebody interrupts.
        record::write(&options.places.results, "echo", &surroundings, &matrix)?;
    }
    table::print_ratios(&matrix);
    claims::print(&matrix.claims);
    for missing in &matrix.missing {
        println!("missing: {}: {}", missing.name, missing.why);
    }
    for failed in &matrix.failed {
        println!("failed: {}: {}", failed.name, failed.why);
    }
    record::finish(&options.places.results, "echo", &surroundings, &matrix)?;
    ensure!(matrix.failed.is_empty(), "{} cells could not be measured", matrix.failed.len());
    Ok(!options.gate || claims::hold(&matrix.claims))
}

fn sizes(options: &Options) -> Vec<(u32, u32)> {
    let of =
        |&connections: &u32| options.payload.iter().map(move |&payload| (connections, payload));
    options.connections.iter().flat_map(of).collect()
}

fn prepare(options: &Options) -> Result<(Field, Matrix)> {
    let mut peers = Peers::read(&options.peers_directory)?;
    peers.select(Role::Echo, &options.peers)?;
    let missing = peers.prepare(options.build);
    for missing in &missing {
        println!("missing: {}: {}", missing.name, missing.why);
    }
    let headwater = Program::Headwater {
        name: "headwater".to_owned(),
        binary: options.places.headwater.clone(),
        shards: 1,
    };
    let programs = peers.list.iter().map(|peer| Program::new_peer(&peers, peer));
    let (mut limits, others): (Vec<Program>, Vec<Program>) =
        programs.partition(|program| matches!(program, Program::Peer(_, peer) if peer.limit));
    if let Some(name) = &options.limit {
        limits.retain(|program| program.name() == name);
    }
    ensure!(!limits.is_empty(), "no variant of the raw ring is there to compare with");
    let mut servers = vec![ServerInfo {
        name: "headwater".to_owned(),
        kind: crate::peers::Kind::Websocket,
        limit: false,
        version: record::commit(),
        note: String::new(),
    }];
    servers.extend(peers.list.iter().map(|peer| ServerInfo {
        name: peer.name.clone(),
        kind: peer.kind,
        limit: peer.limit,
        version: peers.version(peer),
        note: peer.note.clone(),
    }));
    let matrix = Matrix {
        options: serde_json::to_value(options)?,
        servers,
        missing,
        cells: Vec::new(),
        failed: Vec::new(),
        claims: Vec::new(),
    };
    Ok((Field { headwater, limits, others }, matrix))
}

/// Pairs of a cell: all of them where something is promised of their ratio.
fn pairs(options: &Options, connections: u32, payload: u32) -> u32 {
    match cell::is_promised(connections, payload) {
        true => options.pairs,
        false => options.pairs.min(options.other_pairs),
    }
}

/// About how long all runs take; connecting is most of what a run with many connections takes.
fn minutes(options: &Options, field: &Field) -> f64 {
    let Times { seconds, warmup, judge } = options.times;
    let seconds = |(connections, payload): (u32, u32)| {
        let run = seconds + warmup + 0.35 + f64::from(connections) * 150e-6;
        let limits = field.limits.len() as f64;
        let qualifying = if limits > 1.0 { f64::from(options.qualifying_rounds) } else { 0.0 };
        let rounds = f64::from(options.peer_rounds) * (field.others.len() as f64 + 2.0);
        let open = if options.no_open_loop { 0.0 } else { rounds };
        let rounds =
            if field.others.is_empty() { 0.0 } else { rounds * (run + judge) + open * run };
        let pairs = f64::from(2 * pairs(options, connections, payload));
        (pairs + limits * qualifying) * run + rounds
    };
    sizes(options).into_iter().map(seconds).sum::<f64>() / 60.0
}
