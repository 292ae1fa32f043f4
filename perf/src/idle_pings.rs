//! Scenario `idle-pings`: what it costs to ping a crowd that is silent.
//!
//! In: how many connections, how often they are pinged. Out: CPU of the server, per ping and per
//! connection and second; how evenly pings are spread, from the clients' sight; whether all who are silent
//! are pinged and those who speak are spared; allocations; and how late a quiet channel is meanwhile.
//! Clients answer every ping. Who was to speak and could not, because the machine held this program up, is
//! silent like others.
//!
//! With `--peers`, other servers beside it, each in its own manner; nobody speaks there.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::beside::{self, Bench, Beside};
use crate::claims::{self, Claim, Verdict};
use crate::headwater::{self, Headwater, Setup};
use crate::held::{Crowd, Said};
use crate::http::{self, Upgrade};
use crate::load::{Expected, Load, Pattern, Plan, UNLIMITED};
use crate::measure::{Costs, Latency};
use crate::peers::Role;
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Job, Message, Program};
use crate::{frames, quiet};

/// Pings of many silent connections
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Connections, those that speak included.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10..=2_000_000))]
    count: u32,
    /// Between two pings of a silent connection.
    #[arg(long, default_value_t = 25.0)]
    ping_seconds: f64,
    /// Of a hundred connections, how many speak.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    speaking_percent: u32,
    /// How often they do.
    #[arg(long, default_value_t = 10.0)]
    speak_seconds: f64,
    /// Rounds of pings that are watched, after a first one; longer, until all who are silent were pinged.
    #[arg(long, default_value_t = 2.0)]
    rounds: f64,
    /// How many are on their way at one time while they connect.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    in_flight: u32,
    /// Shards of the server; with more than one it is not pinned.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    #[command(flatten)]
    beside: beside::Others,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IdlePings {
    options: serde_json::Value,
    pub(crate) count: u32,
    connect_seconds: f64,
    seconds: f64,
    pings: u64,
    /// Who never speaks, and who of them was pinged.
    silent: u64,
    pinged: u64,
    /// Of those who had just spoken, and of those who were late to.
    pings_of_speakers: u64,
    pings_of_late_speakers: u64,
    spoken: u64,
    lost: u64,
    server_cores: f64,
    /// Of the busiest 100 ms, and of the mean ones.
    busiest: u64,
    mean: f64,
    allocations: Option<f64>,
    pub(crate) quiet_us: Latency,
    /// CPU of each ping and its answer, where nobody speaks.
    pub(crate) beside: Option<Beside>,
    pub(crate) claims: Vec<Claim>,
}

/// Who was pinged when.
struct Pinged {
    since: Instant,
    /// By 100 ms.
    slices: Vec<u64>,
    /// Of the clients, by number.
    who: Vec<bool>,
    silent: u64,
    of_speakers: u64,
    of_late_speakers: u64,
    lost: u64,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let places = &options.places;
    let cpu = (options.shards == 1).then(|| places.server_cpu()).flatten();
    let ping_interval_ms = (options.ping_seconds * 1000.0).round();
    ensure!((100.0..=600_000.0).contains(&ping_interval_ms), "--ping-seconds is 0.1 to 600");
    // In that range.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let ping_interval_ms = ping_interval_ms as u32;
    let setup = Setup::with_pings(options.shards, ping_interval_ms);
    let server = Headwater::start_as(&places.headwater, setup, &Launch::on(cpu))?;
    let address = server.address;
    let (events, heard) = mpsc::channel();
    let owned = options.clone();
    let thread = std::thread::spawn(move || -> Result<Watched> {
        owned.places.join_crowd()?;
        clients(&owned, address, &events)
    });
    let started = Instant::now();
    let mut connected = None;
    while heard.recv().is_ok() {
        let seconds = started.elapsed().as_secs_f64();
        if connected.replace(seconds).is_some() {
            break;
        }
        println!("{} connections in {seconds:.1} s", options.count);
    }
    // From the second word on it is measured; if there was none, the thread says why.
    let counters = server.counters()?;
    let (cpu_time, began) = (server.child.family()?.cpu_time()?, Instant::now());
    // Its subscribers are silent, and end before they are pinged themselves.
    let mut load = quiet_load(options, &server)?;
    load.begin_window();
    let window = options.ping_seconds * options.rounds.min(QUIET_ROUNDS);
    load.run_for(Duration::from_secs_f64(window))?;
    load.end_window();
    let quiet_us = Latency::of(&load.stop()?);
    let watched = thread.join().map_err(|_| anyhow::anyhow!("the clients panicked"))??;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_time = server.child.family()?.cpu_time()?.saturating_sub(cpu_time);
    let allocations = server.counters()?.allocations;
    let grown = allocations.zip(counters.allocations).map(|(after, before)| after - before);
    // A drain would say good-bye to each.
    drop(server);
    let Watched { pinged, spoken, connect_seconds } = watched;
    let pings: u64 = pinged.slices.iter().sum();
    ensure!(pings > 0, "nobody was pinged");
    // The last slice is not whole.
    let whole = &pinged.slices[..pinged.slices.len().saturating_sub(1).max(1)];
    let mut result = IdlePings {
        options: serde_json::to_value(options)?,
        count: options.count,
        connect_seconds,
        seconds,
        pings,
        silent: u64::from(options.silent()),
        pinged: pinged.silent,
        pings_of_speakers: pinged.of_speakers,
        pings_of_late_speakers: pinged.of_late_speakers,
        spoken,
        lost: pinged.lost,
        server_cores: cpu_time.as_secs_f64() / seconds,
        busiest: whole.iter().copied().max().unwrap_or_default(),
        mean: whole.iter().sum::<u64>() as f64 / whole.len() as f64,
        allocations: grown.map(|grown| grown as f64 / pings as f64),
        quiet_us,
        beside: None,
        claims: Vec::new(),
    };
    result.claims = result.judge();
    result.print();
    claims::print(&result.claims);
    result.beside = beside(options, ping_interval_ms)?;
    record::finish(&places.results, "idle-pings", &surroundings, &result)?;
    Ok(!options.gate || claims::hold(&result.claims))
}

fn beside(options: &Options, ping_ms: u32) -> Result<Option<Beside>> {
    let Options { places, count, in_flight, .. } = options;
    let message = Message::new(frames::payload(64));
    let round = Duration::from_millis(ping_ms.into());
    let once = |program: &Program, count: u32| -> Result<Costs> {
        let job = Job { ping_ms, ..message.job(Role::Pings, count) };
        let mut bench = Bench::open(places, program, &job, *in_flight)?;
        bench.turn_for(round)?;
        let (pings, since) = (bench.crowd.pings, bench.since()?);
        bench.turn_for(round.mul_f64(options.rounds))?;
        bench.costs(&since, bench.crowd.pings - pings)
    };
    let beside = Beside::measure(&options.beside, places, Role::Pings, *count, once)?;
    if let Some(beside) = &beside {
        beside.print("a ping and its answer");
    }
    Ok(beside)
}

/// What the clients' thread saw.
struct Watched {
    pinged: Pinged,
    spoken: u64,
    connect_seconds: f64,
}

/// Connects, says so, lets a round of pings pass, says so, and watches.
fn clients(options: &Options, server: SocketAddr, events: &mpsc::Sender<()>) -> Result<Watched> {
    let mut crowd = Crowd::new(server, options.in_flight, move |client| {
        let path = headwater::channel_path(&format!("idle-{}", client / PER_CHANNEL));
        http::upgrade_request(server, Upgrade::to(&path))
    })?;
    let mut pinged = Pinged::of(options.count);
    let mut talk = Talk::new(options);
    let mut watch = |crowd: &mut Crowd, pinged: &mut Pinged| -> Result<u32> {
        let speaks = |client: u32| options.speaks(client);
        crowd.turn(TURN, |client, said| {
            pinged.hear(client, &said, speaks(client).then(|| talk.is_late(client)));
        })?;
        talk.go(crowd, speaks)
    };
    let started = Instant::now();
    crowd.want(FIRST_CLIENT..FIRST_CLIENT + options.count);
    while !crowd.is_complete() {
        ensure!(started.elapsed() < PATIENCE, "{:?}: {:?}", crowd.openings, crowd.trouble);
        watch(&mut crowd, &mut pinged)?;
    }
    let connect_seconds = started.elapsed().as_secs_f64();
    events.send(()).context("nobody listens")?;
    let round = Duration::from_secs_f64(options.ping_seconds);
    let until = Instant::now() + round;
    while Instant::now() < until {
        watch(&mut crowd, &mut pinged)?;
    }
    events.send(()).context("nobody listens")?;
    let mut pinged = Pinged { lost: pinged.lost, ..Pinged::of(options.count) };
    let mut spoken = 0;
    let until = Instant::now() + round.mul_f64(options.rounds);
    let is_due = |pinged: &Pinged| pinged.silent < options.silent().into() && pinged.lost == 0;
    while Instant::now() < until || is_due(&pinged) && until.elapsed() < round + LATE {
        spoken += u64::from(watch(&mut crowd, &mut pinged)?);
    }
    Ok(Watched { pinged, spoken, connect_seconds })
}

impl Options {
    fn speaks(&self, client: u32) -> bool {
        client % 100 < self.speaking_percent
    }

    /// How many never speak.
    fn silent(&self) -> u32 {
        let rest = self.count % 100;
        self.count - self.count / 100 * self.speaking_percent - rest.min(self.speaking_percent)
    }
}

impl Pinged {
    /// Nobody yet.
    fn of(count: u32) -> Self {
        Self {
            since: Instant::now(),
            slices: Vec::new(),
            who: vec![false; count as usize],
            silent: 0,
            of_speakers: 0,
            of_late_speakers: 0,
            lost: 0,
        }
    }

    /// `late`: of one who speaks, whether he was late to.
    fn hear(&mut self, client: u32, said: &Said<'_>, late: Option<bool>) {
        match said {
            Said::Frame(frame) if frame.opcode == frames::PING => {
                let slice = self.since.elapsed().as_millis() / 100;
                let slice = usize::try_from(slice).unwrap_or(0);
                if self.slices.len() <= slice {
                    self.slices.resize(slice + 1, 0);
                }
                self.slices[slice] += 1;
                let who = &mut self.who[(client - FIRST_CLIENT) as usize];
                match late {
                    Some(true) => self.of_late_speakers += 1,
                    Some(false) => self.of_speakers += 1,
                    None => self.silent += u64::from(!*who),
                }
                *who = true;
            }
            Said::Frame(_) => {}
            Said::Lost(_) => self.lost += 1,
        }
    }
}

/// Lets some clients speak, a part of them at a time.
struct Talk {
    every: Duration,
    next: Instant,
    part: u32,
    /// Of each part, when it spoke last, and how long it had been silent then.
    spoke: Vec<(Instant, Duration)>,
    /// Who is silent for so long is late.
    late: Duration,
}

impl Talk {
    fn new(options: &Options) -> Self {
        let every = Duration::from_secs_f64(options.speak_seconds / f64::from(PARTS));
        let now = Instant::now();
        let spoke = vec![(now, Duration::ZERO); PARTS as usize];
        let late = Duration::from_secs_f64(options.ping_seconds / 2.0);
        Self { every, next: now, part: 0, spoke, late }
    }

    /// Whether a client was so long silent, now or before it spoke last, that a ping is no wonder.
    fn is_late(&self, client: u32) -> bool {
        let (spoke, silence) = self.spoke[(client / 100 % PARTS) as usize];
        spoke.elapsed().max(silence) > self.late
    }

    /// Says how many spoke now.
    fn go(&mut self, crowd: &mut Crowd, speaks: impl Fn(u32) -> bool) -> Result<u32> {
        if self.next > Instant::now() {
            return Ok(0);
        }
        self.next += self.every;
        let part = self.part;
        self.part = (part + 1) % PARTS;
        let spoke = &mut self.spoke[part as usize];
        *spoke = (Instant::now(), spoke.0.elapsed());
        // A pong that nobody asked for (RFC 6455 5.5.3): a sign of life that is no publication.
        let sign = frames::client_pong(b"");
        crowd.say(&sign, |client| speaks(client) && client / 100 % PARTS == part)
    }
}

fn quiet_load(options: &Options, server: &Headwater) -> Result<Load> {
    let message = Message::new(frames::payload(64));
    let (publisher, channel) = (headwater::publisher_path(QUIET), headwater::channel_path(QUIET));
    let mut sockets = http::open_websockets(server.address, Upgrade::to(&publisher), 0, 1)?;
    sockets.extend(
        http::open_websockets(server.address, Upgrade::to(&channel), 1, SUBSCRIBERS)
            .context("the quiet channel")?,
    );
    Ok(Load::start(Plan {
        sockets,
        pattern: Pattern::Broadcast { rate: Some(RATE) },
        request: message.request,
        expected: Expected::Bytes(message.reply),
        cpu: options.places.client_cpu(),
        allowed: UNLIMITED,
    }))
}

impl IdlePings {
    /// Nanoseconds of CPU for each.
    fn each(&self) -> f64 {
        self.server_cores * self.seconds * 1e9 / self.pings as f64
    }

    fn judge(&self) -> Vec<Claim> {
        let cell = format!("{} connections", self.count);
        let claim = |what: &str, holds: bool, measured: String| {
            Claim::new(what, &cell, Verdict::of(holds), measured)
        };
        let Self { silent, pinged, pings_of_speakers, spoken, lost, busiest, mean, .. } = self;
        let late_speakers = self.pings_of_late_speakers;
        let late = quiet::bound(0.0);
        let p999 = self.quiet_us.p999;
        vec![
            claim("who speaks is not pinged", *pings_of_speakers == 0, {
                format!(
                    "{pings_of_speakers} pings of those who spoke {spoken} times, {late_speakers} of those late to"
                )
            }),
            claim("who is silent is pinged", pinged == silent, format!("{pinged} of {silent}")),
            claim("everybody stays", *lost == 0, format!("{lost} lost")),
            claim(
                "pings are spread",
                *busiest as f64 <= SPREAD_MAX * mean.max(SPREAD_MEAN_MIN),
                format!("{busiest} in the busiest 100 ms, {mean:.0} in the mean"),
            ),
            match self.allocations {
                Some(each) => claim(
                    "no allocation per ping",
                    each < ALLOCATIONS_MAX,
                    format!("{each:.4} each"),
                ),
                None => {
                    let why = "the server counts none".into();
                    Claim::new("no allocation per ping", &cell, Verdict::NotAsked, why)
                }
            },
            claim(
                "p99.9 of a quiet channel",
                p999 <= late,
                format!("{p999:.0} us, at most {late:.0}"),
            ),
        ]
    }

    fn print(&self) {
        println!(
            "  {} pings in {:.0} s: the server used {:.3} cores, {:.0} ns of CPU for a ping and its \
             answer, {:.0} ns per connection and second; those who speak included",
            self.pings,
            self.seconds,
            self.server_cores,
            self.each(),
            self.server_cores * 1e9 / f64::from(self.count),
        );
        let us = &self.quiet_us;
        println!(
            "  a quiet channel: p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us",
            us.p50, us.p99, us.p999, us.max
        );
    }

    /// For the report.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |what: &str, value: String| vec![what.to_owned(), value];
        vec![
            row("connections", self.count.to_string()),
            row("connected in, s", format!("{:.1}", self.connect_seconds)),
            row("watched, s", format!("{:.0}", self.seconds)),
            row("pings", self.pings.to_string()),
            row("signs of life of those who speak", self.spoken.to_string()),
            row("cores of the server", format!("{:.3}", self.server_cores)),
            row("CPU of a ping, ns", format!("{:.0}", self.each())),
        ]
    }
}

const QUIET: &str = "quiet";
const SUBSCRIBERS: usize = 200;
const RATE: f64 = 100.0;
/// Of the quiet channel: its subscribers are silent too, and who is pinged earliest is after three quarters.
const QUIET_ROUNDS: f64 = 0.5;
/// Beyond the source addresses of the quiet channel's connections; a multiple of a hundred.
const FIRST_CLIENT: u32 = 4_000;
const PER_CHANNEL: u32 = 1_000;
const PARTS: u32 = 100;
const TURN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(600);
/// A machine that is busy with others brings pings later than they are due.
const LATE: Duration = Duration::from_secs(30);
/// Fewer are those of turns and of questions, not of pings.
const ALLOCATIONS_MAX: f64 = 0.1;
/// They are as evenly spread as the connections came.
const SPREAD_MAX: f64 = 4.0;
/// Fewer are no burden, however they come.
const SPREAD_MEAN_MIN: f64 = 100.0;
