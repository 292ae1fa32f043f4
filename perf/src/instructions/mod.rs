//! Scenario `instructions`: how many instructions of its own a server spends on one echo.
//!
//! In: payload sizes. Out: user-space instructions per message of Headwater and of the raw ring,
//! where those of Headwater are, and whether the difference is below the committed bound.
//!
//! A server runs under callgrind, answers n messages to warm up, then n and then 2n that are counted
//! apart; (2n run - n run) / n is what one more message costs, start-up and connections cancelled.
//! The kernel's instructions are not counted, and a server this slow has full turns: what a turn
//! costs by itself is divided among as many messages as there are connections.

mod callgrind;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::frames;
use crate::headwater::Headwater;
use crate::load::{Expected, Load, Pattern, Plan};
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Counters, RawRing, RawRingOptions, Server};
use callgrind::{Callgrind, Function};

/// User-space instructions per echo under callgrind, against the raw ring.
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    raw_ring: RawRingOptions,
    /// Connections, each with one message under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Bytes of a message, one or more sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 512])]
    payload: Vec<u32>,
    /// Messages of the first counted run; the second has twice as many.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
    /// Most instructions per message above the raw ring; more is exit code 1.
    #[arg(long, default_value_t = INSTRUCTIONS_ABOVE_RAW_MAX)]
    bound: f64,
    /// Functions that are listed.
    #[arg(long, default_value_t = 25)]
    top: usize,
    /// Binary of the limit peer.
    #[arg(long, default_value = "perf/peers/target/release/raw-ring")]
    raw_ring_binary: PathBuf,
    /// Do not run the raw ring.
    #[arg(long)]
    no_raw: bool,
}

/// What Headwater may spend on an echo above the raw ring: its part of the promise "near zero on top
/// of the kernel's".
const INSTRUCTIONS_ABOVE_RAW_MAX: f64 = 400.0;

#[derive(Debug, Serialize)]
struct Report<'a> {
    options: &'a Options,
    sizes: Vec<Size>,
}

#[derive(Debug, Serialize)]
struct Size {
    payload: u32,
    headwater: Counted,
    raw_ring: Option<Counted>,
    above_raw: Option<f64>,
    holds: Option<bool>,
}

/// Instructions of one server.
#[derive(Debug, Serialize)]
struct Counted {
    /// Of n messages.
    single: u64,
    /// Of 2n messages.
    double: u64,
    per_message: f64,
    /// Enters per message of both runs, where the server can be asked.
    enters: Option<f64>,
    /// Instructions per message by function, most first.
    functions: Vec<Function>,
}

/// Says whether every size holds the bound.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let mut sizes = Vec::new();
    for &payload in &options.payload {
        let headwater = count(options, payload, Side::Headwater).context("counting Headwater")?;
        let raw_ring = match options.no_raw {
            true => None,
            false => Some(count(options, payload, Side::RawRing).context("counting the raw ring")?),
        };
        let above_raw = raw_ring.as_ref().map(|raw| headwater.per_message - raw.per_message);
        let holds = above_raw.map(|above| above <= options.bound);
        let size = Size { payload, headwater, raw_ring, above_raw, holds };
        print(options, &size);
        sizes.push(size);
    }
    let hold = sizes.iter().all(|size| size.holds != Some(false));
    let report = Report { options, sizes };
    let path = record::write(&options.places.results, "instructions", &surroundings, &report)?;
    println!("recorded in {}", path.display());
    Ok(hold)
}

fn print(options: &Options, size: &Size) {
    let Options { connections, messages, bound, .. } = options;
    println!(
        "{} B at {connections} connections, instructions of {messages} and {} messages",
        size.payload,
        2 * messages
    );
    for (name, counted) in
        [("headwater", Some(&size.headwater)), ("raw ring", size.raw_ring.as_ref())]
    {
        let Some(Counted { single, double, per_message, enters, .. }) = counted else { continue };
        let enters = crate::measure::Known(*enters);
        println!("  {name:9} {per_message:8.1} per message  ({single} {double}; {enters} enters)");
    }
    if let (Some(above), Some(holds)) = (size.above_raw, size.holds) {
        let verdict = if holds { "held" } else { "missed" };
        println!("  above raw {above:8.1}, bound {bound:.0}: {verdict}");
    }
    let functions = &size.headwater.functions;
    println!("  where Headwater's are, by the file they were written in:");
    for (file, own) in callgrind::by(functions, |function| &function.file).iter().take(options.top)
    {
        println!("  {own:9.1}  {file}");
    }
    println!("  by function, with what was inlined into it:");
    for (name, own) in callgrind::by(functions, |function| &function.name).iter().take(options.top)
    {
        println!("  {own:9.1}  {name}");
    }
    println!("  by both:");
    for Function { own, file, name } in functions.iter().take(options.top) {
        println!("  {own:9.1}  {file}: {name}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Headwater,
    RawRing,
}

fn count(options: &Options, payload: u32, side: Side) -> Result<Counted> {
    let payload = frames::payload(payload as usize);
    let (request, reply) = (frames::client_text(&payload), frames::server_text(&payload));
    let places = &options.places;
    let callgrind = Callgrind::new()?;
    let launch = Launch { cpu: places.server_cpu(), under: callgrind.command() };
    let (server, expected) = match side {
        Side::Headwater => (
            Server::Headwater(Headwater::start(&places.headwater, 1, &launch)?),
            Expected::Bytes(reply),
        ),
        Side::RawRing => {
            let (binary, options) = (&options.raw_ring_binary, &options.raw_ring);
            let raw = RawRing::start(binary, options, request.len(), reply.len(), &launch)?;
            (Server::RawRing(raw), Expected::Count(reply.len()))
        }
    };
    let mut load = Load::start(Plan {
        sockets: server.connect(options.connections as usize)?,
        pattern: Pattern::Echo,
        request,
        expected,
        cpu: places.client_cpu(),
        allowed: 0,
    });
    // Callgrind delivers no signal to a server that waits in the ring, so the raw ring cannot say.
    let enters = || match side {
        Side::Headwater => server.counters().map(|Counters { enters, .. }| enters),
        Side::RawRing => Ok(None),
    };
    let child = server.child().id();
    load.allow(options.messages, callgrind::PATIENCE)?;
    let before = enters()?;
    callgrind.dump(child)?;
    load.allow(options.messages, callgrind::PATIENCE)?;
    let single = callgrind.dump(child)?;
    load.allow(2 * options.messages, callgrind::PATIENCE)?;
    let double = callgrind.dump(child)?;
    let after = enters()?;
    load.stop()?;
    server.kill();

    let (single_total, double_total) = (single.total()?, double.total()?);
    let messages = options.messages as f64;
    let enters = before.zip(after).map(|(before, after)| (after - before) as f64 / messages / 3.0);
    Ok(Counted {
        single: single_total,
        double: double_total,
        per_message: (double_total as f64 - single_total as f64) / messages,
        enters,
        functions: callgrind::difference(&single, &double, messages)?,
    })
}
