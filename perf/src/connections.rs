//! Scenario `connections`: as many subscribed WebSockets as asked for, or as the machine holds, kept
//! alive by pings; then one publication for many of them.
//!
//! In: counts and times. Out: connections held, connect rate, user and kernel memory of each, CPU while
//! they are idle, how long the publication took; and which limit ended it if it ended early. The clients
//! are on the same machine, so memory of the kernel and CPU are those of both ends.
//!
//! **First reading.** What a server keeps for many that come in one turn it has from the first time on, and when that
//! is depends on who else wanted the cores. So it is stopped before the last of the first connections, and finds them
//! all at once: what it grows by behind that is the connections' own.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::headwater::{self, Headwater, Setup};
use crate::http::Upgrade;
use crate::process::{self, Launch, Memory};
use crate::record::{self, Surroundings};
use crate::ring::{Event, Parked, Reply};
use crate::{frames, http};

/// Idle, subscribed WebSockets, as many as the machine holds
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Connections to hold.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(2..))]
    count: u32,
    /// Connections when the first reading of memory is taken.
    #[arg(long, default_value_t = 10_000)]
    base: u32,
    /// How many of them are on the channel of the publication; the others are on channels of a thousand.
    #[arg(long, default_value_t = 100_000)]
    crowd: u32,
    /// How long they are held; if that is longer than between two pings, until they had as many pings as they
    /// are, whatever the machine is busy with.
    #[arg(long, default_value_t = 300.0)]
    hold_seconds: f64,
    /// Between two pings of a connection.
    #[arg(long, default_value_t = 60)]
    ping_seconds: u32,
    /// Shards of the server.
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// Offer permessage-deflate, and insist on it.
    #[arg(long)]
    deflate: bool,
    /// It ends early when the machine has less memory than this left, in MiB.
    #[arg(long, default_value_t = 1024)]
    spare_mebibytes: u64,
    /// Most user bytes per connection; above, or if it ends early, the exit code is 1.
    #[arg(long)]
    gate: Option<f64>,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Connections {
    options: serde_json::Value,
    pub(crate) asked: u32,
    pub(crate) held: u32,
    /// Which limit ended it, if one did.
    pub(crate) ended_by: Option<String>,
    pub(crate) connect_seconds: f64,
    pub(crate) base: Reading,
    pub(crate) full: Reading,
    pub(crate) user_bytes_each: f64,
    /// Of both ends and what they share, by what the machine has less of.
    pub(crate) kernel_bytes_each: f64,
    pub(crate) hold_seconds: f64,
    /// Cores that the server used while all were idle, and the machine with it.
    pub(crate) idle_server_cores: f64,
    pub(crate) idle_machine_cores: f64,
    pub(crate) pings: u64,
    pub(crate) lost: u32,
    /// Who was to get the publication and who got it.
    pub(crate) crowd: u32,
    pub(crate) delivered: u32,
    pub(crate) delivery_seconds: f64,
    pub(crate) gate: Option<f64>,
}

/// Memory at one number of connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) connections: u32,
    pub(crate) server: Memory,
    client: Memory,
    /// `/proc/meminfo`, bytes.
    pub(crate) machine: BTreeMap<String, u64>,
}

impl Reading {
    fn available(&self) -> f64 {
        self.machine.get("MemAvailable").copied().unwrap_or_default() as f64
    }
}

/// The clients' side.
struct Clients {
    parked: Parked,
    pings: u64,
    lost: u32,
    first_loss: Option<String>,
    delivered: u32,
    crowd: u32,
}

impl Clients {
    /// Answers pings and counts, for at most `timeout`.
    fn turn(&mut self, timeout: Duration) -> Result<bool> {
        let Self { parked, pings, lost, first_loss, delivered, crowd } = self;
        let any = parked.turn(timeout, |connection, event| match event {
            Event::Received(bytes) => {
                let mut rest = bytes;
                let mut reply = None;
                // Frames are far smaller than a segment, so that none is cut.
                while let Some(frame) = frames::parse(rest) {
                    match frame.opcode {
                        frames::PING => {
                            *pings += 1;
                            reply = Some(Reply::new(&frames::client_pong(frame.payload)));
                        }
                        frames::TEXT if frame.payload == PUBLICATION.as_bytes() => {
                            *delivered += u32::from(connection < *crowd);
                        }
                        _ => {}
                    }
                    rest = &rest[frame.length..];
                }
                reply
            }
            Event::Ended(error) => {
                *lost += 1;
                first_loss.get_or_insert_with(|| {
                    error.map_or_else(|| "end of stream".into(), |error| error.to_string())
                });
                None
            }
        })?;
        Ok(any)
    }

    /// Turns for so long.
    fn idle(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.turn(left.min(TURN))?;
        }
        Ok(())
    }
}

/// Says whether as many were held as asked for, and the gate.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.base < options.count, "--base must be below --count");
    let surroundings = Surroundings::look();
    wait_for_kernel()?;
    let setup = Setup::with_pings(options.shards, options.ping_seconds.saturating_mul(1000));
    let server = Headwater::start_as(&options.places.headwater, setup, &Launch::default())?;
    let mut clients = Clients {
        parked: Parked::new(PER_RING)?,
        pings: 0,
        lost: 0,
        first_loss: None,
        delivered: 0,
        crowd: options.crowd.min(options.count),
    };
    let started = Instant::now();
    let few = options.base.saturating_sub(CROWDED);
    open(&server, &mut clients, options, few, Coming::OneByOne)
        .or_else(|| open(&server, &mut clients, options, options.base, Coming::AtOnce))
        .map_or(Ok(()), |why| Err(anyhow::anyhow!("even the first ones failed: {why}")))?;
    let base = settled(&server, &mut clients)?;
    let ended_by = open(&server, &mut clients, options, options.count, Coming::OneByOne);
    let connect_seconds = started.elapsed().as_secs_f64();
    let full = settled(&server, &mut clients)?;
    println!("{} connections in {connect_seconds:.1} s", full.connections);

    let (cpu, busy, pings) =
        (server.child.family()?.cpu_time()?, process::machine_busy_time()?, clients.pings);
    let holding = Instant::now();
    clients.idle(Duration::from_secs_f64(options.hold_seconds))?;
    if options.hold_seconds > f64::from(options.ping_seconds) {
        while clients.pings - pings < u64::from(full.connections) && holding.elapsed() < PATIENCE {
            clients.turn(TURN)?;
        }
    }
    let hold_seconds = holding.elapsed().as_secs_f64();
    let cores = |time: Duration| time.as_secs_f64() / hold_seconds;
    let idle_server_cores = cores(server.child.family()?.cpu_time()?.saturating_sub(cpu));
    let idle_machine_cores = cores(process::machine_busy_time()?.saturating_sub(busy));
    let pings = clients.pings - pings;

    let published = Instant::now();
    http::post(server.address, &headwater::publish_path(CROWD), PUBLICATION)?;
    let crowd = clients.crowd.min(clients.parked.count());
    while clients.delivered < crowd && published.elapsed() < PATIENCE {
        clients.turn(TURN)?;
    }
    let delivery_seconds = published.elapsed().as_secs_f64();
    let added = f64::from(full.connections - base.connections);
    let user = |reading: &Reading| reading.server.total() as f64;
    let both = |reading: &Reading| user(reading) + reading.client.total() as f64;
    let user_bytes_each = (user(&full) - user(&base)) / added;
    let fallen = base.available() - full.available();
    let result = Connections {
        options: serde_json::to_value(options)?,
        asked: options.count,
        held: full.connections - clients.lost,
        ended_by,
        connect_seconds,
        user_bytes_each,
        kernel_bytes_each: (fallen - (both(&full) - both(&base))) / added,
        base,
        full,
        hold_seconds,
        idle_server_cores,
        idle_machine_cores,
        pings,
        lost: clients.lost,
        crowd,
        delivered: clients.delivered,
        delivery_seconds,
        gate: options.gate,
    };
    drop(clients.parked);
    // A drain would say good-bye to each; nobody listens any more.
    drop(server);
    result.print(clients.first_loss.as_deref());
    record::finish(&options.places.results, "connections", &surroundings, &result)?;
    Ok(result.holds())
}

impl Connections {
    fn holds(&self) -> bool {
        self.ended_by.is_none()
            && self.lost == 0
            && self.delivered == self.crowd
            && self.gate.is_none_or(|gate| self.user_bytes_each <= gate)
    }

    fn print(&self, first_loss: Option<&str>) {
        println!(
            "{} of {} connections held for {:.0} s, {} lost{}",
            self.held,
            self.asked,
            self.hold_seconds,
            self.lost,
            first_loss.map_or_else(String::new, |why| format!(" ({why})"))
        );
        if let Some(why) = &self.ended_by {
            println!("  it ended there: {why}");
        }
        println!(
            "  {:.0} connections a second; per connection {:.1} user bytes of the server, {:.0} bytes \
             of the kernel for both ends",
            f64::from(self.full.connections) / self.connect_seconds,
            self.user_bytes_each,
            self.kernel_bytes_each
        );
        println!(
            "  idle: the server used {:.3} cores, the machine {:.3}; {} pings answered",
            self.idle_server_cores, self.idle_machine_cores, self.pings
        );
        println!(
            "  one publication: {} of {} had it after {:.2} s",
            self.delivered, self.crowd, self.delivery_seconds
        );
    }
}

/// Opens connections until there are `count`; says what ended it early, if something did.
fn open(
    server: &Headwater,
    clients: &mut Clients,
    options: &Options,
    count: u32,
    coming: Coming,
) -> Option<String> {
    while clients.parked.count() < count {
        let first = clients.parked.count();
        let crowd = clients.crowd;
        let (channel, end) = if first < crowd {
            (CROWD.to_owned(), crowd)
        } else {
            let number = (first - crowd) / PER_CHANNEL;
            (format!("few-{number}"), crowd + (number + 1) * PER_CHANNEL)
        };
        let share = (end.min(count) - first).min(PER_CHANNEL);
        let path = headwater::channel_path(&channel);
        let upgrade = Upgrade { path: &path, deflate: options.deflate };
        if let Err(error) = open_some(server, clients, upgrade, first, share, coming) {
            return Some(format!("{error:#}"));
        }
        if (first / PROGRESS) != (first + share) / PROGRESS {
            println!("  {} connections", first + share);
        }
        match machine_memory() {
            Ok(machine) => {
                let available = machine.get("MemAvailable").copied().unwrap_or_default();
                if available < options.spare_mebibytes << 20 {
                    return Some(format!("the machine has only {} MiB left", available >> 20));
                }
            }
            Err(error) => return Some(format!("{error:#}")),
        }
    }
    None
}

fn open_some(
    server: &Headwater,
    clients: &mut Clients,
    upgrade: Upgrade<'_>,
    first: u32,
    count: u32,
    coming: Coming,
) -> Result<()> {
    let (first, count) = (first as usize, count as usize);
    let sockets = match coming {
        Coming::OneByOne => http::open_websockets(server.address, upgrade, first, count)?,
        Coming::AtOnce => open_at_once(server, upgrade, first, count)?,
    };
    clients.parked.add(sockets).context("the client's rings")?;
    while clients.turn(Duration::ZERO)? {}
    Ok(())
}

/// As many as wait in a listen queue come to a server that was stopped meanwhile.
fn open_at_once(
    server: &Headwater,
    upgrade: Upgrade<'_>,
    first: usize,
    count: usize,
) -> Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let (start, share) = (first + open.len(), http::BATCH.min(count - open.len()));
        server.child.signal(Signal::STOP)?;
        let asked = http::ask_websockets(server.address, start, share, &|_| upgrade);
        server.child.signal(Signal::CONT)?;
        let asked = asked?;
        http::accept_websockets(&asked, start, &|_| upgrade)?;
        open.extend(asked);
    }
    Ok(open)
}

/// How connections come.
#[derive(Debug, Clone, Copy)]
enum Coming {
    /// As fast as the server takes them.
    OneByOne,
    /// Many before the server sees the first.
    AtOnce,
}

/// Memory when the server's no longer changes, or after a while anyway.
fn settled(server: &Headwater, clients: &mut Clients) -> Result<Reading> {
    let mut last = server.child.memory()?;
    for _ in 0..25 {
        clients.idle(Duration::from_millis(200))?;
        let now = server.child.memory()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(Reading {
        connections: clients.parked.count(),
        server: last,
        client: Memory::own()?,
        machine: machine_memory()?,
    })
}

/// Until the kernel has cleaned up behind whoever was here before, which goes on after his end: what it gives back
/// would be missing in what our connections take.
fn wait_for_kernel() -> Result<()> {
    let slab = || anyhow::Ok(machine_memory()?.get("Slab").copied().unwrap_or_default());
    let deadline = Instant::now() + PATIENCE;
    let mut last = slab()?;
    while Instant::now() < deadline {
        thread::sleep(CLEANED_WITHIN);
        let now = slab()?;
        if now + CLEANED_BYTES > last {
            return Ok(());
        }
        last = now;
    }
    println!(
        "  the kernel still cleans up behind others: what it takes for a connection is not to be trusted"
    );
    Ok(())
}

/// `/proc/meminfo`, in bytes.
fn machine_memory() -> Result<BTreeMap<String, u64>> {
    Ok(parse_meminfo(&fs::read_to_string("/proc/meminfo")?))
}

fn parse_meminfo(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some((name.to_owned(), kilobytes * 1024))
        })
        .collect()
}

const CROWD: &str = "crowd";
/// The kernel is at rest when it gives back less than so much in so long.
const CLEANED_BYTES: u64 = 4 << 20;
const CLEANED_WITHIN: Duration = Duration::from_millis(500);
/// Too short to be compressed.
const PUBLICATION: &str = "is everybody there";
/// Of the first connections, those that come at once.
const CROWDED: u32 = 1_000;
/// Connections on each of the other channels; also opened between two looks at the pings.
const PER_CHANNEL: u32 = 1000;
/// Direct descriptors of one ring, below the 20,000 that a process may have on small machines.
const PER_RING: u32 = 18_000;
const PROGRESS: u32 = 100_000;
const TURN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::parse_meminfo;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let memory =
            parse_meminfo("MemTotal:       24641628 kB\nHugePages_Total:       0\nSlab: 7 kB\n");
        assert_eq!(memory.get("MemTotal"), Some(&(24_641_628 * 1024)));
        assert_eq!(memory.get("Slab"), Some(&(7 * 1024)));
        assert_eq!(memory.len(), 2);
    }
}
