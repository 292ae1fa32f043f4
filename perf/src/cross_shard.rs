//! Scenario `cross-shard`: what a publication takes that goes to subscribers of another shard.
//!
//! In: paces. Out: latency from the publisher's message to a subscriber's delivery, server CPU per delivery, messages
//! between shards and doorbells per publication, for each way that a publication can go between two shards: publisher,
//! the channel's home and subscribers on one of them or not, both ways round.
//!
//! **Which shard.** A connection asks twice for the metrics before it becomes a WebSocket: the shard whose count of
//! requests grew is its own. A channel is at home where a POST goes without mail. Connections on the wrong shard are
//! closed again. Each run has a channel of its own, so that what the last one left on its way goes to nobody.
//!
//! With two cores each shard has one and the client takes what it needs of both: while one publication is under way
//! that is a core that waits anyway; at a load the client's work is part of the latency, on every way alike.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::frames;
use crate::headwater::{self, Headwater, by_shard};
use crate::http::{self, KeptAlive, Upgrade};
use crate::load::{Expected, Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::servers::Message;
use crate::statistics::Summary;

/// Publications that go from shard to shard
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// Publications a second to one subscriber, with commas between them; before these, one at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [100.0, 5000.0])]
    rates: Vec<f64>,
    /// Subscribers of a last channel, where a publication follows when all have the last.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    crowd: u32,
    /// Bytes of a publication.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    payload: u32,
    /// Rounds, each with a fresh server and all ways.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// How a publication goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Publisher, home and subscribers share a shard.
    Local,
    /// The subscribers are on the other.
    HomeOfPublisher,
    /// The publisher is on the other.
    HomeOfSubscribers,
    /// The home is on the other.
    ThereAndBack,
}

impl Way {
    pub(crate) const ALL: [Self; 4] =
        [Self::Local, Self::HomeOfPublisher, Self::HomeOfSubscribers, Self::ThereAndBack];

    fn of(place: Place) -> Self {
        let Place { publisher, home, subscribers } = place;
        match (publisher == home, home == subscribers) {
            (true, true) => Self::Local,
            (true, false) => Self::HomeOfPublisher,
            (false, true) => Self::HomeOfSubscribers,
            (false, false) => Self::ThereAndBack,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "one shard",
            Self::HomeOfPublisher => "to the subscribers' shard",
            Self::HomeOfSubscribers => "from the publisher's shard",
            Self::ThereAndBack => "there and back",
        }
    }
}

/// On which shard everyone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    publisher: usize,
    home: usize,
    subscribers: usize,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CrossShard {
    pub(crate) options: serde_json::Value,
    pub(crate) paces: Vec<Pace>,
}

/// How fast, and to how many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    pub(crate) label: String,
    subscribers: u32,
    /// Without it, one after the other.
    rate: Option<f64>,
    pub(crate) runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    place: Place,
    costs: Costs,
    /// For each publication.
    mail: f64,
    doorbells: f64,
}

/// Medians over the runs of a way.
#[derive(Debug)]
pub(crate) struct Middle {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_ns: f64,
    pub(crate) mail: f64,
    pub(crate) doorbells: f64,
}

impl Run {
    /// p50 and p99 in microseconds, CPU per delivery in nanoseconds.
    pub(crate) fn figures(&self) -> [f64; 3] {
        let Costs { latency_us, server_cpu_ns, .. } = &self.costs;
        [latency_us.p50, latency_us.p99, *server_cpu_ns]
    }
}

impl Pace {
    pub(crate) fn runs_of(&self, way: Way) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| Way::of(run.place) == way)
    }

    pub(crate) fn summary(&self, way: Way) -> Option<Middle> {
        let median = |field: fn(&Run) -> f64| -> Option<f64> {
            Summary::of(self.runs_of(way).map(field)).map(|summary| summary.median)
        };
        Some(Middle {
            p50_us: median(|run| run.figures()[0])?,
            p99_us: median(|run| run.figures()[1])?,
            cpu_ns: median(|run| run.figures()[2])?,
            mail: median(|run| run.mail)?,
            doorbells: median(|run| run.doorbells)?,
        })
    }
}

/// Always true: nothing is judged.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let pace =
        |label: String, subscribers, rate| Pace { label, subscribers, rate, runs: Vec::new() };
    let mut paces = vec![pace("one at a time".into(), 1, None)];
    paces.extend(options.rates.iter().map(|rate| pace(format!("{rate} a second"), 1, Some(*rate))));
    let crowd = format!("one at a time, to {} subscribers", options.crowd);
    paces.push(pace(crowd, options.crowd, None));
    for round in 0..options.rounds as usize {
        let server = Headwater::start(&options.places.headwater, 2, &Launch::default())?;
        let mut lab = Lab { server, connections: 0, options };
        let homes = lab.find_homes(SHARDS * SHARDS * paces.len())?;
        let mut taken = [0; SHARDS];
        for turn in 0..SHARDS * SHARDS * SHARDS {
            // Each round begins with another one.
            let number = (turn + 3 * round) % (SHARDS * SHARDS * SHARDS);
            let [publisher, home, subscribers] =
                [1, SHARDS, SHARDS * SHARDS].map(|unit| number / unit % SHARDS);
            let place = Place { publisher, home, subscribers };
            for pace in &mut paces {
                let channel = &homes[home][taken[home]];
                taken[home] += 1;
                let run = lab.once(place, channel, pace).with_context(|| pace.label.clone())?;
                eprintln!("  {:26} {:30} {}", Way::of(place).name(), pace.label, run.costs);
                pace.runs.push(run);
            }
        }
        lab.server.stop()?;
    }
    let result = CrossShard { options: serde_json::to_value(options)?, paces };
    result.print();
    record::finish(&options.places.results, "cross-shard", &surroundings, &result)?;
    Ok(true)
}

impl CrossShard {
    fn print(&self) {
        for pace in &self.paces {
            println!("{}", pace.label);
            println!(
                "  {:26} {:>8} {:>8} {:>10} {:>10} {:>10}",
                "", "p50 us", "p99 us", "CPU ns", "mail", "doorbells"
            );
            for way in Way::ALL {
                let Some(Middle { p50_us, p99_us, cpu_ns, mail, doorbells }) = pace.summary(way)
                else {
                    continue;
                };
                println!(
                    "  {:26} {p50_us:8.0} {p99_us:8.0} {cpu_ns:10.0} {mail:10.3} {doorbells:10.3}",
                    way.name()
                );
            }
        }
    }
}

/// A server and how many connections were opened to it.
struct Lab<'a> {
    server: Headwater,
    connections: usize,
    options: &'a Options,
}

impl Lab<'_> {
    /// A connection on a shard.
    fn connect(&mut self, shard: usize) -> Result<KeptAlive> {
        for _ in 0..ATTEMPTS_MAX {
            let mut connection = KeptAlive::connect(self.server.address, self.connections)?;
            self.connections += 1;
            let mut requests = || -> Result<Vec<u64>> {
                Ok(by_shard(&connection.get(headwater::METRICS_PATH)?, headwater::REQUESTS))
            };
            let (before, after) = (requests()?, requests()?);
            ensure!(before.len() == SHARDS && after.len() == SHARDS, "a server of two shards");
            if after[shard] > before[shard] {
                return Ok(connection);
            }
        }
        anyhow::bail!("no connection came to shard {shard} in {ATTEMPTS_MAX} attempts")
    }

    fn websocket(&mut self, shard: usize, path: &str) -> Result<TcpStream> {
        self.connect(shard)?.upgrade(Upgrade::to(path))
    }

    /// For each shard so many channels that are at home there.
    fn find_homes(&mut self, count: usize) -> Result<Vec<Vec<String>>> {
        let mut homes = vec![Vec::new(); SHARDS];
        let mut connection = self.connect(0)?;
        let mail = |connection: &mut KeptAlive| -> Result<u64> {
            let text = connection.get(headwater::METRICS_PATH)?;
            by_shard(&text, headwater::MAIL).first().copied().context("no count of mail")
        };
        for number in 0..ATTEMPTS_MAX * count {
            let channel = format!("mesh-{number}");
            let before = mail(&mut connection)?;
            connection.post(&headwater::publish_path(&channel), "whose is it")?;
            let home = usize::from(mail(&mut connection)? > before);
            homes[home].push(channel);
            if homes.iter().all(|home| home.len() >= count) {
                return Ok(homes);
            }
        }
        anyhow::bail!("every channel is at home on one shard")
    }

    fn once(&mut self, place: Place, channel: &str, pace: &Pace) -> Result<Run> {
        let message = Message::new(frames::payload(self.options.payload as usize));
        let publisher = headwater::publisher_path(channel);
        let mut sockets = vec![self.websocket(place.publisher, &publisher)?];
        for _ in 0..pace.subscribers {
            sockets.push(self.websocket(place.subscribers, &headwater::channel_path(channel))?);
        }
        // Before the first publication, so that of all but the last one the mail is counted too.
        let before = self.counts()?;
        let load = Load::start(Plan {
            sockets,
            pattern: Pattern::Broadcast { rate: pace.rate },
            request: message.request,
            expected: Expected::Bytes(message.reply),
            cpu: None,
            allowed: UNLIMITED,
        });
        let (child, counters) = (&self.server.child, || self.server.counters());
        let costs = measure::costs(child, counters, load, &self.options.times)?;
        let after = self.counts()?;
        let grown = |index: usize| (after[index] - before[index]) as f64;
        let publications = grown(0);
        ensure!(publications > 0.0, "nothing was published");
        Ok(Run { place, costs, mail: grown(1) / publications, doorbells: grown(2) / publications })
    }

    /// Messages of clients, messages between shards, doorbells.
    fn counts(&self) -> Result<[u64; 3]> {
        let text = http::get(self.server.address, headwater::METRICS_PATH)?;
        let sum = |name| headwater::sum(&text, name).with_context(|| format!("no {name}"));
        Ok([sum(headwater::MESSAGES)?, sum(headwater::MAIL)?, sum(headwater::DOORBELLS)?])
    }
}

const SHARDS: usize = 2;
/// For one that half of them are.
const ATTEMPTS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::{Place, Way};

    #[test]
    fn a_way_is_where_the_home_is() {
        let way = |[publisher, home, subscribers]: [usize; 3]| {
            Way::of(Place { publisher, home, subscribers })
        };
        assert_eq!([way([0, 0, 0]), way([1, 1, 1])], [Way::Local; 2]);
        assert_eq!([way([0, 0, 1]), way([1, 1, 0])], [Way::HomeOfPublisher; 2]);
        assert_eq!([way([0, 1, 1]), way([1, 0, 0])], [Way::HomeOfSubscribers; 2]);
        assert_eq!([way([0, 1, 0]), way([1, 0, 1])], [Way::ThereAndBack; 2]);
    }
}
