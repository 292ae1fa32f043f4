//! The lab: loads for a whole running server, from a pinned process of its own.
//!
//! ```text
//! headwater | servers   start and stop what is measured (process: children and /proc)
//! http -> load -> ring  connections, then the closed loop on io_uring
//! measure               CPU, system calls (judge), latency (histogram) of a window
//! echo | idle | fanout  the scenarios
//! distance              how far apart the two cores are at the moment
//! statistics, record    medians with their spread; JSON with machine, kernel, commit, flags
//! ```
//!
//! In: a command line. Out: a table for people, a file for later. What each number can and cannot
//! tell is in `perf/README.md`. Deliberately absent: the server's own crates. The client frames its
//! own messages, so that a bug in the server's codec cannot hide behind itself.

#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod distance;
mod echo;
mod fanout;
mod frames;
mod headwater;
mod histogram;
mod http;
mod idle;
mod instructions;
mod judge;
mod load;
mod measure;
mod process;
mod record;
#[allow(unsafe_code, reason = "SQEs carry addresses; the module's interface is safe")]
mod ring;
mod servers;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Load generators and measurements for Headwater.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    Echo(echo::Options),
    Idle(idle::Options),
    Fanout(fanout::Options),
    Instructions(instructions::Options),
}

/// Where things are and run.
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Places {
    /// Binary of the server.
    #[arg(long, default_value = "target/release/headwater")]
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
}

impl Places {
    pub(crate) fn server_cpu(&self) -> Option<usize> {
        several_cores().then_some(self.server_cpu)
    }

    pub(crate) fn client_cpu(&self) -> Option<usize> {
        several_cores().then_some(self.client_cpu)
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
    match &arguments.scenario {
        Scenario::Echo(options) => echo::run(options).map(|()| true),
        Scenario::Idle(options) => idle::run(options),
        Scenario::Fanout(options) => fanout::run(options).map(|()| true),
        Scenario::Instructions(options) => instructions::run(options),
    }
}
