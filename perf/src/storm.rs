//! Scenario `storm`: everybody is cut off at once and comes back at once, to where he was.
//!
//! In: how many. Out: how long it takes until all are back, how many were told to come later, what they
//! lost, how much memory it took, and how late a quiet channel was meanwhile, beside how late it is when
//! nothing happens. Each client has had a publication of its channel and comes back behind it (`?after=`);
//! some are published while nobody is there, the last while about half are back. Clients run on one core
//! and only when the quiet channel's do not, so what is late there is late because of the server, or
//! because of what the kernel does for the storm's packets.
//!
//! With `--peers`, other servers beside it: cut off and back, with neither the one nor the other.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::beside::{self, Bench, Beside};
use crate::claims::{self, Claim, Verdict};
use crate::headwater::{self, Headwater, Setup};
use crate::held::{Crowd, Openings, Said};
use crate::http::{self, Upgrade};
use crate::load::{Expected, Load, Pattern, Plan, UNLIMITED};
use crate::measure::{Costs, Latency};
use crate::peers::Role;
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::{Message, Program};
use crate::{frames, quiet};

/// A crowd that is cut off at once and reconnects at once
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Clients that are cut off.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    count: u32,
    /// Clients of a channel.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    per_channel: u32,
    /// Publications of each channel that they are not there for.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    missed: u32,
    /// How many are on their way at one time.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    in_flight: u32,
    /// Subscribers of the quiet channel.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    subscribers: u32,
    /// Publications of the quiet channel, a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds of the quiet channel before it.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Shards of the server; with more than one it is not pinned.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Seconds until all must be back.
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    #[command(flatten)]
    beside: beside::Others,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Storm {
    options: serde_json::Value,
    pub(crate) count: u32,
    connect_seconds: f64,
    pub(crate) back_seconds: f64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    /// What they were to get since they were cut off, what they got, and who was told of a gap.
    due: u64,
    received: u64,
    told: u64,
    opened: u64,
    lost: u64,
    /// Resident memory of the server with all there, and the most of it until all were back.
    held_bytes: u64,
    peak_bytes: u64,
    /// Seconds of CPU of the server, from the cut until all were back.
    server_seconds: f64,
    pub(crate) before_us: Latency,
    pub(crate) during_us: Latency,
    /// CPU of each connection that came back, with nothing beside it.
    pub(crate) beside: Option<Beside>,
    pub(crate) claims: Vec<Claim>,
}

/// What the clients' thread found.
struct Back {
    seconds: f64,
    openings: Openings,
    received: u64,
    told: u64,
    lost: u64,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let places = &options.places;
    let cpu = (options.shards == 1).then(|| places.server_cpu()).flatten();
    let setup = Setup::without_pings(options.shards);
    let server = Headwater::start_as(&places.headwater, setup, &Launch::on(cpu))?;
    let (events, heard) = mpsc::channel();
    let (go, told_to_go) = mpsc::channel();
    let address = server.address;
    let owned = options.clone();
    let thread = std::thread::spawn(move || -> Result<Back> {
        owned.places.join_crowd()?;
        clients(&owned, address, &events, &told_to_go)
    });
    let started = Instant::now();
    let held = heard.recv();
    let Ok(()) = held else {
        thread.join().map_err(|_| anyhow::anyhow!("the clients panicked"))??;
        anyhow::bail!("the clients ended early");
    };
    let connect_seconds = started.elapsed().as_secs_f64();
    println!("{} connections in {connect_seconds:.1} s", options.count);

    let mut load = quiet_load(options, &server)?;
    load.run_for(WARM_UP)?;
    load.begin_window();
    load.run_for(Duration::from_secs_f64(options.seconds))?;
    load.end_window();
    let before_us = Latency::of(&load.stop()?);

    let mut load = quiet_load(options, &server)?;
    load.run_for(WARM_UP)?;
    let held_bytes = server.child.memory()?.total();
    let cpu_time = server.child.family()?.cpu_time()?;
    let mut peak_bytes = held_bytes;
    load.begin_window();
    go.send(()).context("the clients ended early")?;
    while !thread.is_finished() && heard.try_recv().is_err() {
        load.run_for(LOOK)?;
        peak_bytes = peak_bytes.max(server.child.memory()?.total());
    }
    load.end_window();
    let server_seconds = server.child.family()?.cpu_time()?.saturating_sub(cpu_time);
    drop(go);
    let back = thread.join().map_err(|_| anyhow::anyhow!("the clients panicked"))??;
    let during_us = Latency::of(&load.stop()?);
    // A drain would say good-bye to each.
    drop(server);

    let mut storm = Storm {
        options: serde_json::to_value(options)?,
        count: options.count,
        connect_seconds,
        back_seconds: back.seconds,
        refused: back.openings.refused,
        failed: back.openings.failed,
        due: u64::from(options.count) * u64::from(options.missed + 1),
        received: back.received,
        told: back.told,
        opened: back.openings.opened,
        lost: back.lost,
        held_bytes,
        peak_bytes,
        server_seconds: server_seconds.as_secs_f64(),
        before_us,
        during_us,
        beside: None,
        claims: Vec::new(),
    };
    storm.claims = storm.judge();
    storm.print();
    claims::print(&storm.claims);
    storm.beside = beside(options)?;
    record::finish(&places.results, "storm", &surroundings, &storm)?;
    Ok(!options.gate || claims::hold(&storm.claims))
}

fn beside(options: &Options) -> Result<Option<Beside>> {
    let Options { places, count, in_flight, .. } = options;
    let message = Message::new(frames::payload(64));
    let once = |program: &Program, count: u32| -> Result<Costs> {
        let job = message.job(Role::Broadcast, count);
        let mut bench = Bench::open(places, program, &job, *in_flight)?;
        bench.crowd.openings = Openings::default();
        let (since, cut) = (bench.since()?, Instant::now());
        bench.crowd.cut()?;
        bench.fill(count)?;
        let seconds = cut.elapsed().as_secs_f64();
        bench.settle()?;
        let mut costs = bench.costs(&since, count.into())?;
        costs.messages_per_second = f64::from(count) / seconds;
        let Openings { refused, failed, .. } = bench.crowd.openings;
        if refused + failed > 0 {
            println!(
                "  {}: {refused} were refused and {failed} failed, and came again",
                program.name()
            );
        }
        Ok(costs)
    };
    let beside = Beside::measure(&options.beside, places, Role::Broadcast, *count, once)?;
    if let Some(beside) = &beside {
        beside.print("a connection that came back, the end of the old one included");
    }
    Ok(beside)
}

/// Publications at a rate to subscribers that have nothing to do with the storm.
fn quiet_load(options: &Options, server: &Headwater) -> Result<Load> {
    let message = Message::new(frames::payload(64));
    let (publisher, channel) = (headwater::publisher_path(QUIET), headwater::channel_path(QUIET));
    let mut sockets = http::open_websockets(server.address, Upgrade::to(&publisher), 0, 1)?;
    let count = options.subscribers as usize;
    sockets.extend(http::open_websockets(server.address, Upgrade::to(&channel), 1, count)?);
    Ok(Load::start(Plan {
        sockets,
        pattern: Pattern::Broadcast { rate: Some(options.rate) },
        request: message.request,
        expected: Expected::Bytes(message.reply),
        cpu: options.places.client_cpu(),
        allowed: UNLIMITED,
    }))
}

/// What the clients heard.
struct Heard {
    /// What each had last; publications are numbered from 0.
    last: Vec<Option<u32>>,
    received: u64,
    told: u64,
    lost: u64,
    wrong: Option<String>,
}

impl Heard {
    fn hear(&mut self, client: u32, said: &Said<'_>) {
        match said {
            Said::Frame(frame) if frame.opcode == frames::TEXT => {
                let had = &mut self.last[(client - FIRST_CLIENT) as usize];
                let expected = had.map_or(0, |number| number + 1);
                let text = std::str::from_utf8(frame.payload).ok();
                let number = text.and_then(|text| text.parse().ok());
                if number != Some(expected) {
                    self.wrong.get_or_insert_with(|| format!("{number:?} came, not {expected}"));
                }
                *had = number;
                self.received += 1;
            }
            Said::Frame(frame) => self.told += u64::from(frame.opcode == frames::CLOSE),
            Said::Lost(error) => {
                self.lost += 1;
                self.wrong.get_or_insert_with(|| format!("a connection was lost: {error:?}"));
            }
        }
    }

    /// Turns until so many were received in all; says no more after a while.
    fn until(&mut self, due: u64, crowd: &mut Crowd, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.received < due && Instant::now() < deadline {
            crowd.turn(TURN, |client, said| self.hear(client, &said))?;
        }
        Ok(())
    }
}

/// Connects, says so, waits for the word, is cut off, and comes back.
fn clients(
    options: &Options,
    server: SocketAddr,
    events: &mpsc::Sender<()>,
    go: &mpsc::Receiver<()>,
) -> Result<Back> {
    let Options { count, per_channel, missed, .. } = *options;
    let patience = Duration::from_secs_f64(options.patience);
    let all = FIRST_CLIENT..FIRST_CLIENT + count;
    let channel = move |client: u32| (client - FIRST_CLIENT) / per_channel;
    // The ids that the last publication of each channel got.
    let publish = |number: u32| -> Result<Vec<String>> {
        (0..count.div_ceil(per_channel))
            .map(|channel| {
                let path = headwater::publish_path(&format!("storm-{channel}"));
                id_of(&http::post(server, &path, &number.to_string())?)
            })
            .collect()
    };
    let mut crowd = Crowd::new(server, options.in_flight, move |client| {
        let path = headwater::channel_path(&format!("storm-{}", channel(client)));
        http::upgrade_request(server, Upgrade::to(&path))
    })?;
    let mut heard =
        Heard { last: vec![None; count as usize], received: 0, told: 0, lost: 0, wrong: None };
    crowd.want(all.clone());
    crowd.complete(patience, |client, said| heard.hear(client, &said))?;
    let ids = publish(0)?;
    heard.until(count.into(), &mut crowd, patience)?;
    ensure!(
        heard.received == u64::from(count) && heard.wrong.is_none(),
        "before the storm {} of {count} had the first publication: {:?}",
        heard.received,
        heard.wrong
    );
    events.send(()).context("nobody listens")?;
    go.recv().context("nobody says when")?;

    heard.received = 0;
    crowd.openings = Openings::default();
    let started = Instant::now();
    crowd.cut()?;
    crowd.ask(move |client| {
        let channel = channel(client);
        let path = headwater::channel_path(&format!("storm-{channel}"));
        let path = format!("{path}?after={}", ids[channel as usize]);
        http::upgrade_request(server, Upgrade::to(&path))
    });
    crowd.want(all);
    // They begin to come before the first publication that they miss has its place.
    for number in 1..missed {
        crowd.turn(Duration::ZERO, |client, said| heard.hear(client, &said))?;
        publish(number)?;
    }
    let half = u64::from(count / 2);
    while crowd.openings.opened < half && started.elapsed() < patience {
        crowd.turn(TURN, |client, said| heard.hear(client, &said))?;
    }
    publish(missed)?;
    crowd.complete(patience, |client, said| heard.hear(client, &said))?;
    let seconds = started.elapsed().as_secs_f64();
    publish(missed + 1)?;
    heard.until(u64::from(count) * u64::from(missed + 1), &mut crowd, SETTLED)?;
    if let Some(wrong) = &heard.wrong {
        println!("  {wrong}");
    }
    if let Some(trouble) = &crowd.trouble {
        println!("  an opening: {trouble}");
    }
    let Heard { received, told, lost, .. } = heard;
    // The kernel takes so many connections apart on any core, and for milliseconds at a time. That is no part
    // of the storm, so they stay until nobody measures any more.
    events.send(()).context("nobody listens")?;
    let _ = go.recv();
    Ok(Back { seconds, openings: crowd.openings, received, told, lost })
}

/// `{"id":"..."}`
fn id_of(answer: &str) -> Result<String> {
    let answer: serde_json::Value =
        serde_json::from_str(answer).context("a publication's place")?;
    Ok(answer["id"].as_str().context("an answer without an id")?.to_owned())
}

impl Storm {
    fn judge(&self) -> Vec<Claim> {
        let Self { count, opened, lost, due, received, told, held_bytes, peak_bytes, .. } = self;
        let cell = format!("{count} clients");
        let claim = |what: &str, holds: bool, measured: String| {
            Claim::new(what, &cell, Verdict::of(holds), measured)
        };
        let missing = due.saturating_sub(*received);
        let bytes_max = held_bytes + held_bytes / 4 + SLACK_BYTES;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (before, during) = (self.before_us.p999, self.during_us.p999);
        let late = quiet::bound(before);
        vec![
            claim(
                "everybody is back and nobody lost again",
                *opened == u64::from(*count) && *lost == 0,
                format!("{opened} back in {:.2} s, {lost} lost", self.back_seconds),
            ),
            claim(
                "publications lost without a word",
                missing == 0 || *told > 0 && missing <= told * due / u64::from(*count),
                format!("{missing} of {due}, {told} told of a gap"),
            ),
            claim(
                "memory of the server at most a quarter more",
                *peak_bytes <= bytes_max,
                format!("{:.1} MiB, {:.1} held", mebibytes(*peak_bytes), mebibytes(*held_bytes)),
            ),
            claim(
                "p99.9 of a quiet channel during it",
                during <= late,
                format!("{during:.0} us, {before:.0} before, at most {late:.0}"),
            ),
        ]
    }

    fn print(&self) {
        let rate = f64::from(self.count) / self.back_seconds;
        println!(
            "  all back in {:.2} s, {rate:.0} a second; {} told to come later, {} failed; {:.1} us of server \
             CPU each, closing the old ones included",
            self.back_seconds,
            self.refused,
            self.failed,
            self.server_seconds * 1e6 / f64::from(self.count)
        );
        for (when, us) in [("before", &self.before_us), ("during", &self.during_us)] {
            println!(
                "  a quiet channel {when}: p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us",
                us.p50, us.p99, us.p999, us.max
            );
        }
    }

    /// For the report.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |what: &str, value: String| vec![what.to_owned(), value];
        vec![
            row("clients", self.count.to_string()),
            row("connected at first, s", format!("{:.1}", self.connect_seconds)),
            row("all back, s", format!("{:.2}", self.back_seconds)),
            row("told to come later", self.refused.to_string()),
            row("failed", self.failed.to_string()),
            row("server CPU each, us", {
                format!("{:.1}", self.server_seconds * 1e6 / f64::from(self.count))
            }),
        ]
    }
}

const QUIET: &str = "quiet";
/// Beyond the source addresses of the quiet channel's connections.
const FIRST_CLIENT: u32 = 4_000;
const WARM_UP: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
const TURN: Duration = Duration::from_millis(5);
/// For what is still on its way when all are back.
const SETTLED: Duration = Duration::from_secs(60);
/// Of buffers and tables that a server has whatever its size.
const SLACK_BYTES: u64 = 32 << 20;
