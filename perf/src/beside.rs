//! Other WebSocket servers beside Headwater, each of them in turn with the same crowd.
//!
//! In: which peers, and what happens to a crowd. Out: costs of every run, Headwater's first, and who is
//! missing. What happens is what all of them can do: nobody has a place to come back to, and there is no
//! quiet channel. So Headwater's numbers here are not those of the scenario that they stand in.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::held::{Crowd, Said};
use crate::http::{self, Upgrade};
use crate::measure::{Costs, Since, Times};
use crate::pairs::{CPU, Series, Setting, ratios, rounds};
use crate::peers::{Missing, Peers, Role};
use crate::process::{self, Family, Launch};
use crate::servers::{Job, Program, Server};
use crate::statistics::Summary;
use crate::{Places, distance};

/// Which peers, and how often.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Others {
    /// WebSocket peers to measure beside it, with at most 18,000 connections each: all, none, or names with
    /// commas between them.
    #[arg(long, default_value = "none")]
    peers: String,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: PathBuf,
    /// Build the peers first.
    #[arg(long)]
    build: bool,
    /// Rounds of Headwater and all peers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    peer_rounds: u32,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Beside {
    connections: u32,
    /// Headwater first.
    pub(crate) rounds: Vec<Series>,
    pub(crate) missing: Vec<Missing>,
    /// CPU of each peer divided by Headwater's of the same round.
    ratios: Vec<(String, Option<Summary>)>,
}

/// The peers that are asked for and can be started; the others are named in `missing`.
pub(crate) fn programs(
    names: &str,
    directory: &Path,
    build: bool,
    role: Role,
    missing: &mut Vec<Missing>,
) -> Result<Vec<Program>> {
    if names == "none" {
        return Ok(Vec::new());
    }
    let mut peers = Peers::read(directory)?;
    missing.extend(peers.select_websockets(role, names)?);
    missing.extend(peers.prepare(build));
    Ok(peers.list.iter().map(|peer| Program::new_peer(&peers, peer)).collect())
}

impl Beside {
    /// Nothing where no peer is asked for; `once` is a run with so many connections.
    pub(crate) fn measure(
        options: &Others,
        places: &Places,
        role: Role,
        count: u32,
        mut once: impl FnMut(&Program, u32) -> Result<Costs>,
    ) -> Result<Option<Self>> {
        if options.peers == "none" {
            return Ok(None);
        }
        let connections = count.min(CONNECTIONS_MAX);
        let Others { peers, peers_directory, build, peer_rounds } = options;
        let mut missing = Vec::new();
        let others = programs(peers, peers_directory, *build, role, &mut missing)?;
        let (name, binary) = ("headwater".to_owned(), places.headwater.clone());
        let headwater = Program::Headwater { name, binary, shards: 1 };
        let everybody: Vec<&Program> = std::iter::once(&headwater).chain(&others).collect();
        let times = Times { seconds: 0.0, warmup: 0.0, judge: 0.0 };
        let setting = Setting { places, times: &times, any_distance: false };
        let rounds = rounds(*peer_rounds, &setting, &everybody, &mut missing, |program| {
            let costs = distance::around(places, || once(program, connections))
                .with_context(|| format!("measuring {}", program.name()))?;
            eprintln!("  {:24} {costs}", program.name());
            Ok(costs)
        })?;
        let ours = rounds.first().filter(|first| first.name == headwater.name());
        let ratio = |other: &Series| Summary::of(ratios(&setting, other, ours?, CPU));
        let ratios = rounds.iter().map(|other| (other.name.clone(), ratio(other))).collect();
        Ok(Some(Self { connections, rounds, missing, ratios }))
    }

    /// `each`: what a cost is of.
    pub(crate) fn print(&self, each: &str) {
        println!("beside, with {} connections; costs are of {each}", self.connections);
        let widths = |row: &[String]| {
            if let [first, rest @ ..] = row {
                let rest: String = rest.iter().map(|cell| format!(" {cell:>18}")).collect();
                println!("  {first:24}{rest}");
            }
        };
        widths(&HEAD.map(str::to_owned));
        for row in self.rows() {
            widths(&row);
        }
        for Missing { name, why } in &self.missing {
            println!("  missing: {name}: {why}");
        }
    }

    /// For the report, below [`HEAD`].
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |(series, (_, ratio)): (&Series, &(String, Option<Summary>))| {
            let of = |field: crate::pairs::Field| Summary::of(series.runs.iter().filter_map(field));
            let median = |field| of(field).map_or(f64::NAN, |summary| summary.median);
            let quartiles = of(CPU).map_or_else(String::new, |cpu| {
                format!("{:.0} to {:.0}", cpu.quartile_1, cpu.quartile_3)
            });
            let ratio = ratio.as_ref().map_or_else(
                || "not compared".to_owned(),
                |Summary { median, interval_95: [low, high], .. }| {
                    format!("{median:.2} ({low:.2}-{high:.2})")
                },
            );
            let seconds = median(|costs| Some(costs.messages as f64 / costs.messages_per_second));
            let cores = median(|costs| Some(costs.server_cores));
            vec![
                series.name.clone(),
                format!("{:.0}", median(CPU)),
                quartiles,
                ratio,
                format!("{seconds:.2}"),
                format!("{cores:.3}"),
                series.runs.len().to_string(),
            ]
        };
        self.rounds.iter().zip(&self.ratios).map(row).collect()
    }
}

/// A server with a crowd that it holds.
pub(crate) struct Bench {
    // Ends before its connections do: a drain would say good-bye to each.
    server: Server,
    family: Family,
    pub(crate) crowd: Crowd,
    lost: u64,
}

impl Bench {
    /// Everybody is there, and the server has nothing more to do.
    pub(crate) fn open(
        places: &Places,
        program: &Program,
        job: &Job<'_>,
        in_flight: u32,
    ) -> Result<Self> {
        let server = program.start(job, &Launch::on(places.server_cpu()))?;
        process::pin(places.client_cpu())?;
        let (address, path) = (server.address(), server.path());
        let crowd = Crowd::new(address, in_flight, move |_| {
            http::upgrade_request(address, Upgrade::to(&path))
        })?;
        let family = server.child().family()?;
        let mut this = Self { server, family, crowd, lost: 0 };
        this.fill(job.connections)?;
        this.settle()?;
        Ok(this)
    }

    pub(crate) fn since(&self) -> Result<Since> {
        Since::now(&self.server)
    }

    /// Of each of `count` things.
    pub(crate) fn costs(&self, since: &Since, count: u64) -> Result<Costs> {
        since.costs(&self.server, count, &Histogram::new(3)?)
    }

    /// All of them connect.
    pub(crate) fn fill(&mut self, count: u32) -> Result<()> {
        self.crowd.want(0..count);
        let lost = &mut self.lost;
        self.crowd
            .complete(PATIENCE, |_, said| *lost += u64::from(matches!(said, Said::Lost(_))))?;
        self.check()
    }

    /// Turns for so long.
    pub(crate) fn turn_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let lost = &mut self.lost;
            self.crowd.turn(left.min(TURN), |_, said| {
                *lost += u64::from(matches!(said, Said::Lost(_)));
            })?;
        }
        self.check()
    }

    /// Waits until the server has nothing more to do, or for a while.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let mut last = self.family.cpu_time()?;
        for _ in 0..SETTLE_LOOKS {
            self.turn_for(LOOK)?;
            let now = self.family.cpu_time()?;
            if now.saturating_sub(last) < BUSY_MIN {
                break;
            }
            last = now;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        ensure!(self.lost == 0, "{} connections were lost", self.lost);
        Ok(())
    }
}

/// Above [`Beside::rows`].
pub(crate) const HEAD: [&str; 7] =
    ["server", "CPU ns", "quartiles", "/ headwater", "seconds", "cores", "runs"];
/// What a process may have on small machines is 20,000 descriptors.
const CONNECTIONS_MAX: u32 = 18_000;
const TURN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
const SETTLE_LOOKS: u32 = 30;
/// In the time of one look; less is a timer's.
const BUSY_MIN: Duration = Duration::from_millis(2);
