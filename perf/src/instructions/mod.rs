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
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claim, Verdict};
use crate::frames;
use crate::load::{Load, Pattern, Plan};
use crate::peers::{Peers, Role};
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Counters, Message, Program};
use callgrind::Callgrind;
pub(crate) use callgrind::Function;

/// User-space instructions per echo under callgrind, against the raw ring.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
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
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: PathBuf,
    /// Do not run the raw ring.
    #[arg(long)]
    no_raw: bool,
}

/// What Headwater may spend on an echo above the raw ring: its part of the promise "near zero on top
/// of the kernel's".
const INSTRUCTIONS_ABOVE_RAW_MAX: f64 = 400.0;

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub(crate) options: serde_json::Value,
    pub(crate) sizes: Vec<Size>,
    pub(crate) claims: Vec<Claim>,
}

/// One size of messages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) payload: u32,
    pub(crate) headwater: Counted,
    /// The variants of the raw ring; the cheapest is the limit.
    pub(crate) raw: Vec<Counted>,
    pub(crate) above_raw: Option<f64>,
}

/// Instructions of one server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) name: String,
    /// Of n messages.
    pub(crate) single: u64,
    /// Of 2n messages.
    pub(crate) double: u64,
    pub(crate) per_message: f64,
    /// Enters per message of both runs, where the server can be asked.
    pub(crate) enters: Option<f64>,
    /// Instructions per message by function, most first.
    pub(crate) functions: Vec<Function>,
}

/// Says whether every size holds the bound.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let headwater = Program::Headwater {
        name: "headwater".to_owned(),
        binary: options.places.headwater.clone(),
        shards: 1,
    };
    let mut limits = Vec::new();
    if !options.no_raw {
        let mut peers = Peers::read(&options.peers_directory)?;
        peers.select(Role::Echo, "none")?;
        for missing in peers.prepare(false) {
            println!("missing: {}: {}", missing.name, missing.why);
        }
        let list = peers.list.iter().map(|peer| Program::new_peer(&peers, peer));
        limits.extend(list);
    }
    let mut report = Instructions {
        options: serde_json::to_value(options)?,
        sizes: Vec::new(),
        claims: Vec::new(),
    };
    for &payload in &options.payload {
        let headwater = count(options, payload, &headwater)?;
        let raw: Result<Vec<Counted>> =
            limits.iter().map(|limit| count(options, payload, limit)).collect();
        let raw = raw?;
        let limit = raw.iter().min_by(|a, b| a.per_message.total_cmp(&b.per_message));
        let above_raw = limit.map(|raw| headwater.per_message - raw.per_message);
        let what = format!("instructions above the raw ring's, at most {}", options.bound);
        let cell = format!("{} x {payload} B", options.connections);
        report.claims.push(match above_raw {
            Some(above) => {
                let verdict = Verdict::of(above <= options.bound);
                Claim::new(&what, &cell, verdict, format!("{above:.1}"))
            }
            None => Claim::new(&what, &cell, Verdict::NotAsked, "no raw ring".to_owned()),
        });
        let size = Size { payload, headwater, raw, above_raw };
        print(options, &size);
        report.sizes.push(size);
    }
    claims::print(&report.claims);
    record::finish(&options.places.results, "instructions", &surroundings, &report)?;
    Ok(claims::hold(&report.claims))
}

fn print(options: &Options, size: &Size) {
    let Options { connections, messages, .. } = options;
    println!(
        "{} B at {connections} connections, instructions of {messages} and {} messages",
        size.payload,
        2 * messages
    );
    for counted in std::iter::once(&size.headwater).chain(&size.raw) {
        let Counted { name, single, double, per_message, enters, .. } = counted;
        let enters = crate::measure::Known(*enters);
        println!("  {name:20} {per_message:8.1} per message  ({single} {double}; {enters} enters)");
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

fn count(options: &Options, payload: u32, program: &Program) -> Result<Counted> {
    counted(options, payload, program).with_context(|| format!("counting {}", program.name()))
}

fn counted(options: &Options, payload: u32, program: &Program) -> Result<Counted> {
    let message = Message::new(frames::payload(payload as usize));
    let job = message.job(Role::Echo, options.connections);
    let places = &options.places;
    let callgrind = Callgrind::new()?;
    let launch = Launch { cpu: places.server_cpu(), under: callgrind.command() };
    let server = program.start(&job, &launch)?;
    let mut load = Load::start(Plan {
        sockets: server.connect(&job)?,
        pattern: Pattern::Echo,
        request: server.outgoing(&job),
        expected: server.expected(&job),
        cpu: places.client_cpu(),
        allowed: 0,
    });
    // Callgrind delivers no signal to a server that waits in the ring, so the raw ring cannot say.
    let enters = || match program {
        Program::Headwater { .. } => server.counters().map(|Counters { enters, .. }| enters),
        Program::Peer(..) => Ok(None),
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
        name: program.name().to_owned(),
        single: single_total,
        double: double_total,
        per_message: (double_total as f64 - single_total as f64) / messages,
        enters,
        functions: callgrind::difference(&single, &double, messages)?,
    })
}
