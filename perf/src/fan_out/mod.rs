//! Scenario `fan-out`: server CPU of a delivery against a raw ring's send of the same bytes.
//!
//! In: numbers of subscribers, in one channel or many. Out: for each, the ratio over interleaved pairs.
//! Both servers hold all their connections throughout; in turn one of them brings some publications to
//! every subscriber, each publication (a burst of them, where there are many channels) following when
//! the one before has arrived everywhere, so that nothing coalesces. With `--peers`, other WebSocket servers in
//! the raw ring's place, one after the other.

mod audience;
pub(crate) mod curve;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claim, Verdict};
use crate::headwater::Headwater;
use crate::peers::{Missing, Peers, Role, RunningPeer};
use crate::process::{self, Child, Family, Launch};
use crate::record::{self, Surroundings};
use crate::servers::{Job, Message, Program, Server};
use crate::statistics::Summary;
use crate::{beside, distance, frames};
use audience::{Audience, BURST, FIRST, OTHER, Place, Size};

/// Deliveries against raw sends, at any number of subscribers
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Numbers of subscribers, with commas between them.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    subscribers: Vec<u32>,
    /// Channels that they are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    channels: u32,
    /// Bytes of a publication, JSON.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=1_400))]
    payload: u32,
    /// Pairs of every number.
    #[arg(long, default_value_t = 24)]
    pairs: u32,
    /// Deliveries of one half of a pair, at least; all subscribers have the same number.
    #[arg(long, default_value_t = 200_000)]
    deliveries: u32,
    #[command(flatten)]
    limit: Limit,
    /// Another build of Headwater to compare with, instead of the raw ring.
    #[arg(long)]
    against: Option<PathBuf>,
    /// WebSocket peers to measure too, of at most 18,000 subscribers: all, none, or names with commas between
    /// them.
    #[arg(long, default_value = "none")]
    peers: String,
    /// Pairs with each peer.
    #[arg(long, default_value_t = 8)]
    peer_pairs: u32,
    /// Keep pairs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// The raw ring that deliveries are compared with.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Limit {
    /// Sends that the raw ring submits with one enter, with commas between them: the cheapest, of two
    /// rounds each, is what is compared with.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256, 1024, 4096], value_parser = clap::value_parser!(u32).range(1..=4096))]
    send_batch: Vec<u32>,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: PathBuf,
    /// Build the raw ring first.
    #[arg(long)]
    build: bool,
}

impl Limit {
    fn start(&self, job: &Job<'_>, launch: &Launch<'_>) -> Result<RunningPeer> {
        let mut peers = Peers::read(&self.peers_directory)?;
        peers.select(Role::FanOut, "none")?;
        if let Some(missing) = peers.prepare(self.build).pop() {
            bail!("{}: {}", missing.name, missing.why);
        }
        let raw = peers.list.first().context("no peer does fan-outs")?;
        peers.start(raw, job, launch)
    }
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FanOut {
    options: serde_json::Value,
    pub(crate) channels: u32,
    pub(crate) payload: u32,
    pub(crate) sizes: Vec<Sized>,
    /// The same with peers.
    pub(crate) beside: Vec<Sized>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) claims: Vec<Claim>,
}

/// One number of subscribers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sized {
    pub(crate) subscribers: u32,
    /// What it is compared with.
    pub(crate) other: String,
    /// Server CPU of a delivery, nanoseconds: Headwater and the other.
    pub(crate) pairs: Vec<[f64; 2]>,
    /// Pairs whose cores moved.
    pub(crate) left_out: Vec<[f64; 2]>,
    pub(crate) ratio: Option<Summary>,
    /// Sends per enter of the raw ring, and the CPU of one in nanoseconds, before the pairs.
    pub(crate) send_batches: Vec<(u32, f64)>,
    /// Who had the first publication, byte for byte.
    pub(crate) checked: u64,
    /// Of both, the part in the program itself.
    pub(crate) user_ns: [f64; 2],
    /// Enters of the server, per delivery.
    pub(crate) enters: Option<f64>,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let Options { limit, peers, .. } = options;
    let mut missing = Vec::new();
    let (directory, build) = (&limit.peers_directory, limit.build);
    let programs = beside::programs(peers, directory, build, Role::Channels, &mut missing)?;
    let most = options.subscribers.iter().max().copied().unwrap_or_default();
    ensure!(peers == "none" || most <= PEERS_MAX, "--peers is for at most {PEERS_MAX} subscribers");
    let mut result = FanOut {
        options: serde_json::to_value(options)?,
        channels: options.channels,
        payload: options.payload,
        sizes: Vec::new(),
        beside: Vec::new(),
        missing,
        claims: Vec::new(),
    };
    for &subscribers in &options.subscribers {
        ensure!(subscribers >= options.channels, "more channels than subscribers");
        let size = Size { subscribers, channels: options.channels };
        let against = options.against.as_deref().map_or(Against::Raw, Against::Build);
        let sized = measure(options, size, against)?;
        let cell = match options.channels {
            1 => format!("{subscribers}"),
            channels => format!("{channels} x {}", subscribers / channels),
        };
        sized.print(&cell);
        result.claims.push(sized.claim(&cell));
        result.sizes.push(sized);
        for program in &programs {
            match measure(options, size, Against::Peer(program)) {
                Ok(sized) => {
                    sized.print(&cell);
                    result.claims.push(sized.claim(&cell));
                    result.beside.push(sized);
                }
                Err(error) => {
                    let (name, why) = (program.name().to_owned(), format!("{error:#}"));
                    result.missing.push(Missing { name, why });
                }
            }
        }
    }
    for Missing { name, why } in &result.missing {
        println!("  missing: {name}: {why}");
    }
    claims::print(&result.claims);
    record::finish(&options.places.results, "fan-out", &surroundings, &result)?;
    Ok(!options.gate || claims::hold(&result.claims))
}

/// What Headwater is to be compared with.
#[derive(Debug, Clone, Copy)]
enum Against<'a> {
    Raw,
    Build(&'a Path),
    Peer(&'a Program),
}

impl Against<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Raw => RAW,
            Self::Build(_) => "the other build",
            Self::Peer(program) => program.name(),
        }
    }
}

/// Both servers at work on one number of subscribers.
struct Bench {
    audience: Audience,
    families: [Family; 2],
    /// The channels of one round, in bursts.
    bursts: Vec<Vec<u32>>,
    rounds: u32,
}

impl Bench {
    /// Nanoseconds of server CPU per delivery.
    fn half(&mut self, server: usize) -> Result<f64> {
        let before = self.families[server].cpu_time()?;
        let mut deliveries = 0;
        for _ in 0..self.rounds {
            for burst in &self.bursts {
                deliveries += self.audience.publish(server, burst)?;
            }
        }
        let used = self.families[server].cpu_time()?.saturating_sub(before);
        Ok(used.as_nanos() as f64 / deliveries as f64)
    }
}

impl Bench {
    /// Until what compiles while it runs has.
    fn warm_up(&mut self) -> Result<()> {
        for _ in 0..WARM_UPS {
            self.half(OTHER)?;
        }
        Ok(())
    }

    /// Tries them all and leaves the raw ring with the cheapest.
    fn choose_send_batch(&mut self, batches: &[u32]) -> Result<Vec<(u32, f64)>> {
        let mut tried: Vec<(u32, f64)> = Vec::new();
        for round in 0..2 {
            for (index, &batch) in batches.iter().enumerate() {
                self.audience.set_send_batch(OTHER, batch)?;
                let cost = self.half(OTHER)?;
                match tried.get_mut(index) {
                    Some(best) if round > 0 => best.1 = best.1.min(cost),
                    _ => tried.push((batch, cost)),
                }
            }
        }
        let cheapest = tried.iter().min_by(|one, other| one.1.total_cmp(&other.1));
        let (batch, _) = *cheapest.context("no number of sends per enter")?;
        self.audience.set_send_batch(OTHER, batch)?;
        Ok(tried)
    }
}

fn measure(options: &Options, size: Size, against: Against<'_>) -> Result<Sized> {
    let places = &options.places;
    let launch = Launch::on(places.server_cpu());
    let message = Message::new(frames::json(options.payload as usize));
    let headwater = Headwater::start(&places.headwater, 1, &launch)?;
    let job = message.job(Role::FanOut, size.subscribers);
    let other = match against {
        Against::Build(binary) => Other::Headwater(Headwater::start(binary, 1, &launch)?),
        Against::Raw => Other::Raw(options.limit.start(&job, &launch)?),
        Against::Peer(program) => {
            Other::Peer(program.start(&message.job(Role::Channels, size.subscribers), &launch)?)
        }
    };
    process::pin(places.client_cpu())?;
    let servers = [Place::Headwater(headwater.address), other.place()];
    let audience = Audience::open(servers, size, &message.payload, &message.reply)?;
    let channels: Vec<u32> = (0..size.channels).collect();
    let mut bench = Bench {
        audience,
        families: [headwater.child.family()?, other.child().family()?],
        bursts: channels.chunks(BURST).map(<[u32]>::to_vec).collect(),
        rounds: options.deliveries.div_ceil(size.subscribers),
    };
    let checked = bench.audience.check(FIRST)?;
    let others = bench.audience.check(OTHER)?;
    let is_peer = matches!(against, Against::Peer(_));
    ensure!(!is_peer || others == checked, "only {others} had it byte for byte");
    ensure!(checked == u64::from(size.subscribers), "only {checked} had it byte for byte");

    let mut sized = Sized {
        subscribers: size.subscribers,
        other: against.name().to_owned(),
        pairs: Vec::new(),
        left_out: Vec::new(),
        ratio: None,
        send_batches: Vec::new(),
        checked,
        user_ns: [0.0; 2],
        enters: None,
    };
    match against {
        Against::Raw => sized.send_batches = bench.choose_send_batch(&options.limit.send_batch)?,
        Against::Peer(_) => bench.warm_up()?,
        Against::Build(_) => {}
    }
    let pairs = if is_peer { options.peer_pairs } else { options.pairs };
    let enters = headwater.counters()?.enters;
    let user = [bench.families[FIRST].user_time()?, bench.families[OTHER].user_time()?];
    let mut halves = 0;
    for number in 0..pairs * 2 {
        if sized.pairs.len() >= pairs as usize {
            break;
        }
        let before = distance::between(places.server_cpu(), places.client_cpu())?;
        let order = if number % 2 == 0 { [FIRST, OTHER] } else { [OTHER, FIRST] };
        let mut pair = [0.0; 2];
        for server in order {
            pair[server] = bench.half(server)?;
        }
        halves += 1;
        let after = distance::between(places.server_cpu(), places.client_cpu())?;
        if options.any_distance || distance::is_steady(before, after) {
            sized.pairs.push(pair);
        } else {
            sized.left_out.push(pair);
        }
    }
    let deliveries = f64::from(halves * bench.rounds) * f64::from(size.subscribers);
    sized.enters = enters
        .zip(headwater.counters()?.enters)
        .map(|(before, after)| (after - before) as f64 / deliveries);
    for server in [FIRST, OTHER] {
        let used = bench.families[server].user_time()?.saturating_sub(user[server]);
        sized.user_ns[server] = used.as_nanos() as f64 / deliveries;
    }
    sized.ratio = Summary::of(sized.pairs.iter().map(|[ours, raw]| ours / raw));
    // First, so that no server hears of the end of its connections.
    drop((headwater, other));
    drop(bench);
    Ok(sized)
}

/// What Headwater is compared with.
enum Other {
    Raw(RunningPeer),
    Headwater(Headwater),
    Peer(Server),
}

impl Other {
    fn place(&self) -> Place {
        match self {
            Self::Raw(peer) => Place::Raw(peer.address),
            Self::Headwater(headwater) => Place::Headwater(headwater.address),
            Self::Peer(server) => Place::Peer(server.address()),
        }
    }

    fn child(&self) -> &Child {
        match self {
            Self::Raw(peer) => &peer.child,
            Self::Headwater(headwater) => &headwater.child,
            Self::Peer(server) => server.child(),
        }
    }
}

impl Sized {
    /// Only of raw sends anything is promised.
    fn claim(&self, cell: &str) -> Claim {
        let what = format!("CPU of a delivery / of {}", self.other);
        match &self.ratio {
            Some(ratio) if self.other != RAW => {
                Claim::new(&what, cell, Verdict::NotAsked, ratio.short())
            }
            ratio => Claim::bounded(&what, cell, ratio.as_ref(), PROMISED),
        }
    }

    fn print(&self, cell: &str) {
        let median = |server: usize| {
            let summary = Summary::of(self.pairs.iter().map(|pair| pair[server]));
            summary.map_or(f64::NAN, |summary| summary.median)
        };
        let tried: Vec<String> =
            self.send_batches.iter().map(|(batch, cost)| format!("{batch}: {cost:.0}")).collect();
        if !tried.is_empty() {
            println!("{cell:>16}  ns of a raw send, by sends per enter: {}", tried.join(", "));
        }
        let [ours, others] = self.user_ns;
        println!(
            "{cell:>16}  {:6.0} ns a delivery ({ours:.0} in the program), {:6.0} ns of {} ({others:.0}); \
             {} enters a delivery; {} of {} pairs left out",
            median(FIRST),
            median(OTHER),
            self.other,
            self.enters.map_or_else(|| "?".into(), |enters| format!("{enters:.4}")),
            self.left_out.len(),
            self.left_out.len() + self.pairs.len(),
        );
    }
}

const RAW: &str = "a raw send";
/// What a process may have on small machines is 20,000 descriptors.
const PEERS_MAX: u32 = 18_000;
const WARM_UPS: u32 = 3;
/// Median, and the upper end of its interval.
const PROMISED: (f64, f64) = (1.08, 1.15);
