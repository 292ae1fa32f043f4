//! The lab: loads for a whole running server, from a pinned process of its own.
//!
//! ```text
//! echo | broadcast | fan-out | coalescing | cross-shard | idle | connections | handshake | storm | idle-pings | quiet |
//! together | instructions | compare   the scenarios; run: one from a file
//! pairs                 who runs when, and which runs can be compared (distance)
//! measure               CPU, system calls (judge), latency of a window
//! http -> load -> ring  connections, then closed and open loops on io_uring
//! attackers             what is done to a server beside the load
//! beside                a crowd's scenario with other servers in Headwater's place
//! servers | headwater | peers   start and stop what is measured (process: children and /proc)
//! statistics, claims    medians with their spread, and what is promised of them
//! record -> report      JSON with machine, kernel, commit, flags; a page to look at
//! ```
//!
//! In: a command line. Out: a table for people, a file for later. What each number can and cannot
//! tell is in `perf/README.md`. Deliberately absent: the server's own crates. The client frames its
//! own messages, so that a bug in the server's codec cannot hide behind itself.

#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod attackers;
mod beside;
mod broadcast;
mod claims;
mod compare;
mod connections;
mod cross_shard;
mod distance;
mod echo;
mod fan_out;
mod frames;
mod handshake;
mod headwater;
mod held;
mod http;
mod idle;
mod idle_pings;
mod inflate;
mod instructions;
mod judge;
mod load;
mod measure;
mod pairs;
mod peers;
mod process;
mod quiet;
mod record;
mod report;
#[allow(unsafe_code, reason = "SQEs carry addresses; the module's interface is safe")]
mod ring;
mod scenario;
mod servers;
mod statistics;
mod storm;
mod together;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Load generators and measurements for Headwater.
#[derive(Debug, Parser)]
#[command(version, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    #[command(args_override_self = true)]
    Echo(echo::Options),
    #[command(args_override_self = true)]
    Broadcast(broadcast::Options),
    #[command(args_override_self = true)]
    FanOut(fan_out::Options),
    #[command(args_override_self = true)]
    Coalescing(fan_out::curve::Options),
    #[command(args_override_self = true)]
    CrossShard(cross_shard::Options),
    #[command(args_override_self = true)]
    Idle(idle::Options),
    #[command(args_override_self = true)]
    Connections(connections::Options),
    #[command(args_override_self = true)]
    Quiet(quiet::Options),
    #[command(args_override_self = true)]
    Handshake(handshake::Options),
    #[command(args_override_self = true)]
    Storm(storm::Options),
    #[command(args_override_self = true)]
    IdlePings(idle_pings::Options),
    #[command(args_override_self = true)]
    Together(together::Options),
    #[command(args_override_self = true)]
    Instructions(instructions::Options),
    #[command(args_override_self = true)]
    Compare(compare::Options),
    /// A scenario from a file; options after it win over the file's.
    Run {
        file: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// A page from a record, to look at.
    Report {
        /// A JSON file that a scenario wrote.
        record: PathBuf,
        /// Where the page goes; otherwise beside the record.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

/// Where things are and run.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Places {
    /// Binary of the server; by default the one beside this program, or else target/release.
    #[arg(long, default_value_os_t = default_binary())]
    pub(crate) headwater: PathBuf,
    /// Directory for result files.
    #[arg(long, default_value = "perf/results")]
    pub(crate) results: PathBuf,
    /// Core of the server. On a machine with one core nothing is pinned.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// Core of the load client.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Nobody has a core of his own, and crowds yield to nobody: what is counted comes out also beside
    /// programs that keep those cores busy. Times then say nothing.
    #[arg(long)]
    anywhere: bool,
}

impl Places {
    pub(crate) fn server_cpu(&self) -> Option<usize> {
        self.has_cores().then_some(self.server_cpu)
    }

    pub(crate) fn client_cpu(&self) -> Option<usize> {
        self.has_cores().then_some(self.client_cpu)
    }

    /// Makes the calling thread one of a crowd's: on the client's core, and only when nobody else wants
    /// that, so that what is watched beside the crowd is not late because of the client.
    pub(crate) fn join_crowd(&self) -> Result<()> {
        process::pin(self.client_cpu())?;
        if self.anywhere { Ok(()) } else { process::yield_to_everybody() }
    }

    fn has_cores(&self) -> bool {
        !self.anywhere && several_cores()
    }
}

/// What one `cargo build --release` makes lies in one directory.
fn default_binary() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("headwater"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| "target/release/headwater".into())
}

#[cfg(test)]
impl Places {
    pub(crate) fn example() -> Self {
        let (headwater, results) = ("headwater".into(), "results".into());
        Self { headwater, results, server_cpu: 0, client_cpu: 1, anywhere: false }
    }
}

fn several_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("headwater-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether a gate held, where there is one.
fn run(arguments: &Arguments) -> Result<bool> {
    process::install_reaper()?;
    process::raise_descriptor_limit();
    start(&arguments.scenario)
}

fn start(scenario: &Scenario) -> Result<bool> {
    match scenario {
        Scenario::Echo(options) => echo::run(options),
        Scenario::Broadcast(options) => broadcast::run(options),
        Scenario::FanOut(options) => fan_out::run(options),
        Scenario::Coalescing(options) => fan_out::curve::run(options),
        Scenario::CrossShard(options) => cross_shard::run(options),
        Scenario::Idle(options) => idle::run(options),
        Scenario::Connections(options) => connections::run(options),
        Scenario::Quiet(options) => quiet::run(options),
        Scenario::Handshake(options) => handshake::run(options),
        Scenario::Storm(options) => storm::run(options),
        Scenario::IdlePings(options) => idle_pings::run(options),
        Scenario::Together(options) => together::run(options),
        Scenario::Instructions(options) => instructions::run(options),
        Scenario::Compare(options) => compare::run(options).map(|()| true),
        Scenario::Run { file, more } => {
            let (arguments, about) = scenario::arguments(file, more)?;
            println!("{about}\nheadwater-perf {}", arguments.join(" "));
            let parsed = Arguments::try_parse_from([vec![String::new()], arguments].concat())
                .with_context(|| file.display().to_string())?;
            start(&parsed.scenario)
        }
        Scenario::Report { record, output } => {
            let output = output.clone().unwrap_or_else(|| record.with_extension("html"));
            report::write(record, &output)?;
            println!("report in {}", output.display());
            Ok(true)
        }
    }
}
