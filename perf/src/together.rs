//! Scenario `together`: a broadcast storm, a reconnect storm and readers that stall, at one time, beside a
//! quiet channel.
//!
//! In: how many of each. Out: p99.9 of the quiet channel without and under them, in pairs made one after
//! the other, each with a fresh server; connections that were lost although they kept their side; memory
//! of the server. Promised: the median of p99.9 is at most three times that without, or ten turn budgets
//! (`quiet`), nobody is lost who read and answered, and memory stays within its bound. The crowds run only
//! when the quiet channel's clients do not; publications go out as fast as the readers take them.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claim, Verdict};
use crate::held::{Crowd, Openings, Said};
use crate::http::{self, Upgrade};
use crate::load::{Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::pairs::{Pairs, Setting, Which};
use crate::peers::Role;
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Message, Program};
use crate::statistics::Summary;
use crate::{distance, frames, headwater, quiet};

/// A broadcast storm, a reconnect storm and stalled readers beside a quiet channel
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// Pairs of runs, one alone and one under the storms.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Subscribers of the broadcast.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(10..=8_000))]
    readers: u32,
    /// Of a hundred of them, how many read nothing.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=90))]
    stalled_percent: u32,
    /// Clients that connect, are cut off at once, and connect again.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    reconnecting: u32,
    /// Bytes of a publication of the broadcast.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    payload: u32,
    /// Subscribers of the quiet channel.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    subscribers: u32,
    /// Publications of the quiet channel, a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Most resident memory of the server, in MiB.
    #[arg(long, default_value_t = 96)]
    memory_mebibytes: u64,
    /// Keep pairs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Together {
    options: serde_json::Value,
    /// Under the storms, and alone.
    pub(crate) pairs: Pairs,
    pub(crate) storms: Vec<Storms>,
    pub(crate) claims: Vec<Claim>,
}

/// What the storms did in one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Storms {
    publications: u64,
    deliveries: u64,
    reconnects: u64,
    refused: u64,
    failed: u64,
    /// Readers that kept reading and lost their connection all the same.
    lost: u64,
    why: Option<String>,
    peak_bytes: u64,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let program = Program::Headwater {
        name: "headwater".to_owned(),
        binary: options.places.headwater.clone(),
        shards: 1,
    };
    let times = Times { judge: 0.0, ..options.times.clone() };
    let setting =
        Setting { places: &options.places, times: &times, any_distance: options.any_distance };
    let mut storms = Vec::new();
    let pairs = Pairs::run(options.pairs, &setting, |which, times| {
        let stormy = which == Which::A;
        let (costs, seen) = once(options, &program, times, stormy)?;
        let name = if stormy { "together" } else { "alone" };
        eprintln!(
            "  {name:12} p50 {:6.0} p99.9 {:7.0} us  {:4.2} cores  {seen:?}",
            costs.latency_us.p50, costs.latency_us.p999, costs.server_cores
        );
        storms.extend(seen);
        Ok(costs)
    })?;
    ensure!(!pairs.kept.is_empty(), "the cores moved in every pair; try --any-distance");
    let mut together =
        Together { options: serde_json::to_value(options)?, pairs, storms, claims: Vec::new() };
    together.claims = together.judge(options.memory_mebibytes << 20);
    together.print();
    claims::print(&together.claims);
    record::finish(&options.places.results, "together", &surroundings, &together)?;
    Ok(!options.gate || claims::hold(&together.claims))
}

/// One run of a fresh server.
fn once(
    options: &Options,
    program: &Program,
    times: &Times,
    stormy: bool,
) -> Result<(Costs, Option<Storms>)> {
    let places = &options.places;
    let message = Message::new(frames::payload(64));
    let job = message.job(Role::Broadcast, options.subscribers);
    let before = distance::between(places.server_cpu(), places.client_cpu())?;
    let server = program.start(&job, &Launch::on(places.server_cpu()))?;
    let sockets = server.connect(&job).context("connecting")?;
    let running = stormy.then(|| Running::start(options, server.address())).transpose()?;
    let load = Load::start(Plan {
        sockets,
        pattern: Pattern::Broadcast { rate: Some(options.rate) },
        request: server.outgoing(&job),
        expected: server.expected(&job),
        cpu: places.client_cpu(),
        allowed: UNLIMITED,
    });
    let mut costs = measure::costs(server.child(), || server.counters(), load, times)?;
    let peak_bytes = server.child().memory()?.total();
    let storms = running.map(Running::stop).transpose().context("the storms")?;
    if let Some(Storms { publications, reconnects, .. }) = &storms {
        ensure!(*publications > 0 && *reconnects > 0, "the storms were calm: {storms:?}");
    }
    server.kill();
    let after = distance::between(places.server_cpu(), places.client_cpu())?;
    costs.core_distance_ns = before.zip(after).map(|(before, after)| [before, after]);
    Ok((costs, storms.map(|storms| Storms { peak_bytes, ..storms })))
}

/// The storms, until [`stop`](Self::stop) or drop.
struct Running {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Storms>>>,
}

impl Running {
    /// Comes back when they blow.
    fn start(options: &Options, server: SocketAddr) -> Result<Self> {
        let (ready, blows) = mpsc::channel();
        let stopped = Arc::<AtomicBool>::default();
        let (for_thread, options) = (Arc::clone(&stopped), options.clone());
        let thread = std::thread::spawn(move || {
            options.places.join_crowd()?;
            storms(&options, server, &for_thread, &ready)
        });
        let this = Self { stopped, thread: Some(thread) };
        // Two crowds come.
        if blows.recv_timeout(PATIENCE * 3).is_err() {
            this.stop()?;
            bail!("the storms do not begin");
        }
        Ok(this)
    }

    fn stop(mut self) -> Result<Storms> {
        self.stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the storms have ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("the storms panicked"))?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // An error is already on its way to the caller.
            let _ = thread.join();
        }
    }
}

fn storms(
    options: &Options,
    server: SocketAddr,
    stopped: &AtomicBool,
    ready: &mpsc::Sender<()>,
) -> Result<Storms> {
    let Options { readers, reconnecting, .. } = *options;
    let stalled = readers * options.stalled_percent / 100;
    let upgrade = move |path: &str| http::upgrade_request(server, Upgrade::to(path));
    let path = headwater::channel_path(BROADCAST);
    let first = FIRST_CLIENT as usize;
    // They stay as they are: nothing is read from them.
    let _stalled: Vec<TcpStream> =
        http::open_websockets(server, Upgrade::to(&path), first, stalled as usize)?;
    let mut reading = Crowd::new(server, IN_FLIGHT, move |_| upgrade(&path))?;
    reading.want(FIRST_CLIENT + stalled..FIRST_CLIENT + readers);
    reading.complete(PATIENCE, |_, _| {})?;
    let publisher = headwater::publisher_path(BROADCAST);
    let mut publisher =
        http::open_websockets(server, Upgrade::to(&publisher), first - 1, 1)?.remove(0);
    let frame = frames::client_text(&frames::payload(options.payload as usize));
    let mut coming = Crowd::new(server, IN_FLIGHT, move |client| {
        let channel = headwater::channel_path(&format!("back-{}", client / PER_CHANNEL));
        http::upgrade_request(server, Upgrade::to(&channel))
    })?;
    let mut seen = Storms::default();
    let good = u64::from(readers - stalled);
    coming.want(LAST_CLIENTS..LAST_CLIENTS + reconnecting);
    coming.complete(PATIENCE, |_, _| {})?;
    // From now on they come back.
    coming.openings = Openings::default();
    ready.send(()).context("nobody waits for it")?;
    let started = Instant::now();
    // However slow the machine is, all readers get something and somebody comes back.
    let is_calm = |seen: &Storms, coming: &Crowd| {
        (seen.deliveries < good || coming.openings.opened == 0) && started.elapsed() < PATIENCE
    };
    while !stopped.load(Ordering::Relaxed) || is_calm(&seen, &coming) {
        if coming.is_complete() {
            coming.cut()?;
            coming.want(LAST_CLIENTS..LAST_CLIENTS + reconnecting);
        }
        // As fast as those who read take them: more would be for nobody to keep up with.
        if seen.publications * good < seen.deliveries + AHEAD * good {
            publisher.write_all(&frame).context("publishing")?;
            seen.publications += 1;
        }
        reading.turn(Duration::ZERO, |_, said| match said {
            Said::Frame(frame) => match frame.opcode {
                frames::TEXT => seen.deliveries += 1,
                frames::CLOSE => {
                    seen.lost += 1;
                    seen.why.get_or_insert_with(|| String::from_utf8_lossy(frame.payload).into());
                }
                _ => {}
            },
            Said::Lost(error) => {
                seen.lost += 1;
                seen.why.get_or_insert_with(|| format!("{error:?}"));
            }
        })?;
        coming.turn(Duration::ZERO, |_, said| {
            if let Said::Lost(error) = said {
                seen.lost += 1;
                seen.why.get_or_insert_with(|| format!("of those who came back: {error:?}"));
            }
        })?;
    }
    seen.reconnects = coming.openings.opened;
    seen.refused = coming.openings.refused;
    seen.failed = coming.openings.failed;
    Ok(seen)
}

impl Together {
    fn p999(&self, which: Which) -> Vec<f64> {
        self.pairs.side(which).iter().map(|costs| costs.latency_us.p999).collect()
    }

    fn judge(&self, bytes_max: u64) -> Vec<Claim> {
        let median = |which| Summary::of(self.p999(which)).map_or(0.0, |summary| summary.median);
        let (under, alone) = (median(Which::A), median(Which::B));
        let late = quiet::bound(alone);
        let lost: u64 = self.storms.iter().map(|storms| storms.lost).sum();
        let peak = self.storms.iter().map(|storms| storms.peak_bytes).max().unwrap_or_default();
        let claim = |what: &str, holds: bool, measured: String| {
            Claim::new(what, "together", Verdict::of(holds), measured)
        };
        vec![
            claim("p99.9 of a quiet channel", under <= late, {
                format!("{under:.0} us, {alone:.0} alone, at most {late:.0}")
            }),
            claim("nobody is lost who kept his side", lost == 0, format!("{lost} lost")),
            claim("memory of the server", peak <= bytes_max, {
                format!("{} MiB, at most {}", peak >> 20, bytes_max >> 20)
            }),
        ]
    }

    fn print(&self) {
        for (name, which) in [("alone", Which::B), ("together", Which::A)] {
            let Some(summary) = Summary::of(self.p999(which)) else { continue };
            println!(
                "  {name:12} p99.9 {:.0} us ({:.0} to {:.0})",
                summary.median, summary.min, summary.max
            );
        }
    }

    /// For the report.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |storms: &Storms| {
            let Storms { publications, deliveries, reconnects, refused, failed, lost, .. } = storms;
            [publications, deliveries, reconnects, refused, failed, lost].map(u64::to_string).into()
        };
        self.storms.iter().map(row).collect()
    }
}

const BROADCAST: &str = "storm";
const IN_FLIGHT: u32 = 128;
/// How many publications the readers may be behind, in the mean.
const AHEAD: u64 = 16;
/// Beyond the source addresses of the quiet channel's connections.
const FIRST_CLIENT: u32 = 4_000;
const LAST_CLIENTS: u32 = 20_000;
const PER_CHANNEL: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(120);
