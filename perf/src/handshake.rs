//! Scenario `handshake`: what it costs a server to take a WebSocket, beside accept and one send on a ring.
//!
//! In: how many connections, and how many at a time. Out: CPU of the server per connection, from connect
//! until the client has the whole answer, for an echo, for a subscription, and for the raw ring, which
//! sends as many bytes to whoever connects and reads nothing. Closing is outside of the window on all
//! sides: connections stay until the server has ended. With `--peers`, the WebSockets of other servers in the
//! same rounds. Promised: a WebSocket with a subscription costs
//! at most one and a half times what the cheapest raw ring takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claim, Verdict};
use crate::http::{self, Upgrade};
use crate::measure::{Costs, Known, Since, Times};
use crate::pairs::{CPU, Series, Setting, ratios, rounds};
use crate::peers::{Kind, Missing, Peers, Role};
use crate::process::{self, Launch};
use crate::record::{self, Surroundings};
use crate::ring::{Connector, Opened, Until};
use crate::servers::{Job, PING_MS, Program, Server};
use crate::statistics::Summary;
use crate::{beside, distance, headwater};

/// WebSocket handshakes against accept and one send
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Connections that are opened in the measured window.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=12_000))]
    count: u32,
    /// Connections that are opened before it.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    warmup: u32,
    /// How many are on their way at one time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2_048))]
    in_flight: u32,
    /// Subscriptions of a channel.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    per_channel: u32,
    /// Rounds of all.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// WebSocket peers to measure beside it: all, none, or names with commas between them.
    #[arg(long, default_value = "none")]
    peers: String,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: std::path::PathBuf,
    /// Build the peers first.
    #[arg(long)]
    build: bool,
    /// Keep runs during which the distance between the two cores changed.
    #[arg(long)]
    any_distance: bool,
    /// A missed claim is exit code 1.
    #[arg(long)]
    gate: bool,
}

/// What came out; costs are per connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handshake {
    pub(crate) options: serde_json::Value,
    pub(crate) count: u32,
    pub(crate) in_flight: u32,
    pub(crate) missing: Vec<Missing>,
    pub(crate) rounds: Vec<Series>,
    /// The cheapest raw ring.
    pub(crate) limit: Option<String>,
    /// Which of them are peers.
    pub(crate) peers: Vec<String>,
    pub(crate) claims: Vec<Claim>,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let headwater = |name: &str| Program::Headwater {
        name: name.to_owned(),
        binary: options.places.headwater.clone(),
        shards: 1,
    };
    let mut peers = Peers::read(&options.peers_directory)?;
    peers.select(Role::Accept, "none")?;
    let mut missing = peers.prepare(options.build);
    let limits: Vec<Program> =
        peers.list.iter().map(|peer| Program::new_peer(&peers, peer)).collect();
    let Options { peers: names, peers_directory, build, .. } = options;
    let others = beside::programs(names, peers_directory, *build, Role::Echo, &mut missing)?;
    let (subscribing, echoing) = (headwater(SUBSCRIBING), headwater(ECHOING));
    let mut programs = vec![&subscribing, &echoing];
    programs.extend(limits.iter().chain(&others));
    let times = Times { seconds: 0.0, warmup: 0.0, judge: 0.0 };
    let setting =
        Setting { places: &options.places, times: &times, any_distance: options.any_distance };
    let Options { count, in_flight, .. } = *options;
    println!("{count} connections, {in_flight} at a time; costs are per connection");
    let rounds = rounds(options.rounds, &setting, &programs, &mut missing, |program| {
        let costs =
            once(options, program).with_context(|| format!("measuring {}", program.name()))?;
        eprintln!("  {:24} {costs}", program.name());
        Ok(costs)
    })?;
    let mut handshake = Handshake {
        options: serde_json::to_value(options)?,
        count,
        in_flight,
        missing,
        limit: cheapest(among(&rounds, &limits)).map(|series| series.name.clone()),
        peers: among(&rounds, &others).map(|series| series.name.clone()).collect(),
        rounds,
        claims: Vec::new(),
    };
    handshake.claims = handshake.judge(&setting);
    handshake.print();
    claims::print(&handshake.claims);
    record::finish(&options.places.results, "handshake", &surroundings, &handshake)?;
    Ok(!options.gate || claims::hold(&handshake.claims))
}

impl Handshake {
    fn judge(&self, setting: &Setting<'_>) -> Vec<Claim> {
        let find = |name: &str| self.rounds.iter().find(|one| one.name == name);
        let ratio = |one: &Series, other: &Series| Summary::of(ratios(setting, one, other, CPU));
        let limit = self.limit.as_deref().and_then(find);
        let bounds = (RATIO_MAX, f64::INFINITY);
        let mut claims: Vec<Claim> = [SUBSCRIBING, ECHOING]
            .into_iter()
            .filter_map(find)
            .map(|one| {
                let ratio = limit.and_then(|limit| ratio(one, limit));
                Claim::bounded("CPU / accept and one send", &one.name, ratio.as_ref(), bounds)
            })
            .collect();
        claims.extend(self.peers.iter().filter_map(|name| {
            let ratio = ratio(find(ECHOING)?, find(name)?)?;
            let what = format!("CPU / of {name}");
            Some(Claim::new(&what, ECHOING, Verdict::NotAsked, ratio.short()))
        }));
        claims
    }

    fn print(&self) {
        println!(
            "  {:24} {:>8} {:>17} {:>10} {:>8} {:>8} {:>8} {:>8}",
            "server", "CPU ns", "quartiles", "each s", "enters", "alloc.", "p50 us", "p99 us"
        );
        for Series { name, runs } in &self.rounds {
            let of = |field: crate::pairs::Field| Summary::of(runs.iter().filter_map(field));
            let median = |field| of(field).map(|summary| summary.median);
            let Some(cpu) = of(CPU) else { continue };
            println!(
                "  {name:24} {:8.0} {:>17} {:10.0} {:>8} {:>8} {:8.0} {:8.0}",
                cpu.median,
                format!("{:.0} to {:.0}", cpu.quartile_1, cpu.quartile_3),
                median(|costs| Some(costs.messages_per_second)).unwrap_or_default(),
                Known(median(|costs| costs.enters)).to_string(),
                Known(median(|costs| costs.allocations)).to_string(),
                median(|costs| Some(costs.latency_us.p50)).unwrap_or_default(),
                median(|costs| Some(costs.latency_us.p99)).unwrap_or_default(),
            );
        }
        for missing in &self.missing {
            println!("  missing: {}: {}", missing.name, missing.why);
        }
    }
}

/// What came of these programs.
fn among<'a>(rounds: &'a [Series], programs: &'a [Program]) -> impl Iterator<Item = &'a Series> {
    rounds.iter().filter(|series| programs.iter().any(|program| program.name() == series.name))
}

/// The one with the lowest median.
fn cheapest<'a>(limits: impl Iterator<Item = &'a Series>) -> Option<&'a Series> {
    let median = |series: &Series| {
        Summary::of(series.runs.iter().filter_map(CPU)).map_or(f64::INFINITY, |cpu| cpu.median)
    };
    limits.min_by(|one, other| median(one).total_cmp(&median(other)))
}

/// One run of a fresh server.
fn once(options: &Options, program: &Program) -> Result<Costs> {
    let places = &options.places;
    let reply = vec![b'x'; ANSWER_BYTES];
    let job = Job {
        role: if program.kind() == Kind::Raw { Role::Accept } else { Role::Echo },
        payload: &[],
        request: &[0],
        reply: &reply,
        connections: options.count,
        deflate: false,
        ping_ms: PING_MS,
    };
    distance::around(places, || {
        let server = program.start(&job, &Launch::on(places.server_cpu()))?;
        // The thread that starts a server gives it a core of its own.
        process::pin(places.client_cpu())?;
        let costs = watch(options, program, &server)?;
        // Its connections are still open: a drain would say good-bye to each.
        server.kill();
        Ok(costs)
    })
}

fn watch(options: &Options, program: &Program, server: &Server) -> Result<Costs> {
    let address = server.address();
    let (kind, path) = (program.kind(), server.path());
    let request = |number: u32| -> Vec<u8> {
        let path = match (program.name(), kind) {
            (_, Kind::Raw) => return Vec::new(),
            (ECHOING, _) => headwater::ECHO_PATH,
            (SUBSCRIBING, _) => {
                &headwater::channel_path(&format!("c{}", number / options.per_channel))
            }
            _ => &path,
        };
        http::upgrade_request(address, Upgrade::to(path))
    };
    let mut kept = Vec::new();
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    // Peers have fields of their own in their answers.
    let until = match server {
        Server::Peer(peer) if peer.kind == Kind::Websocket => Until::Head,
        _ => Until::Bytes(ANSWER_BYTES),
    };
    let mut connector = Connector::new(address, until, options.in_flight as usize)?;
    let mut open = |first: u32, count: u32| -> Result<Histogram<u64>> {
        let mut begun = vec![Instant::now(); count as usize];
        let (mut next, mut done, mut trouble) = (first, 0, None);
        latency.reset();
        while done < count {
            while connector.room() > 0 && next < first + count {
                begun[(next - first) as usize] = Instant::now();
                connector.begin(next, &request(next))?;
                next += 1;
            }
            connector.turn(PATIENCE, |number, opened| {
                done += 1;
                match opened {
                    Opened::Answered(socket, answer) => {
                        let took = begun[(number - first) as usize].elapsed();
                        latency
                            .saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                        if kind == Kind::Websocket && !http::is_upgraded(answer) {
                            trouble = Some(anyhow::anyhow!(
                                "connection {number}: {}",
                                String::from_utf8_lossy(answer)
                            ));
                        }
                        kept.push(socket);
                    }
                    Opened::Failed(error) => {
                        trouble = Some(anyhow::anyhow!("connection {number}: {error}"));
                    }
                }
            })?;
            if let Some(trouble) = trouble.take() {
                return Err(trouble);
            }
        }
        Ok(latency.clone())
    };
    open(0, options.warmup)?;
    let since = Since::now(server)?;
    let latency = open(options.warmup, options.count)?;
    since.costs(server, options.count.into(), &latency)
}

const SUBSCRIBING: &str = "headwater, subscribed";
const ECHOING: &str = "headwater, echo";
/// Of `HTTP/1.1 101 Switching Protocols` with the three fields that it needs.
const ANSWER_BYTES: usize = 129;
const RATIO_MAX: f64 = 1.5;
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::{ECHOING, Handshake, SUBSCRIBING, cheapest};
    use crate::Places;
    use crate::claims::Verdict;
    use crate::measure::{Costs, Times};
    use crate::pairs::{Series, Setting};

    #[test]
    fn the_cheapest_raw_ring_is_the_limit() {
        let series = |name: &str, cpu: f64| Series {
            name: name.into(),
            runs: vec![Costs { server_cpu_ns: cpu, ..Costs::example() }; 3],
        };
        let rounds = vec![
            series(SUBSCRIBING, 1_600.0),
            series(ECHOING, 1_400.0),
            series("raw", 1_000.0),
            series("another", 1_200.0),
            series("peer", 2_800.0),
        ];
        let limit = cheapest(rounds[2..4].iter()).map(|series| series.name.clone());
        assert_eq!(limit.as_deref(), Some("raw"));
        let handshake = Handshake {
            options: serde_json::Value::Null,
            count: 1,
            in_flight: 1,
            missing: vec![],
            rounds,
            limit,
            peers: vec!["peer".into()],
            claims: vec![],
        };
        let (places, times) = (Places::example(), Times::example());
        let setting = Setting { places: &places, times: &times, any_distance: false };
        let claims = handshake.judge(&setting);
        let verdicts: Vec<_> = claims.iter().map(|claim| claim.verdict).collect();
        assert_eq!(verdicts, [Verdict::Missed, Verdict::Held, Verdict::NotAsked]);
        assert!(claims[2].measured.starts_with("0.500 "), "{}", claims[2].measured);
    }
}
