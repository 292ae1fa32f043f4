//! One run: a server under a load, watched for a window.
//!
//! In: a server process, its counters, a load that just started. Out: costs per message. The window
//! is read from the outside in: own counters, CPU time and messages at both ends, each counter
//! divided by the messages between its own two readings, so that asking the server costs nothing
//! that is then counted against it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::judge::{self, Verdict};
use crate::load::Load;
use crate::process::{self, Child, Family};
use crate::servers::{Counters, Server};

/// How long each part of a run takes.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Times {
    /// Seconds of the measured window.
    #[arg(long, default_value_t = 1.0, value_parser = duration)]
    pub(crate) seconds: f64,
    /// Seconds of load before it.
    #[arg(long, default_value_t = 0.25, value_parser = duration)]
    pub(crate) warmup: f64,
    /// Seconds after it in which perf or strace counts system calls, in some of the runs; 0: not at
    /// all.
    #[arg(long, default_value_t = 0.2, value_parser = duration)]
    pub(crate) judge: f64,
}

fn duration(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0 to 3600".into()),
    }
}

/// What a message (for fan-out: a delivery) cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Costs {
    pub(crate) messages: u64,
    pub(crate) messages_per_second: f64,
    pub(crate) server_cpu_ns: f64,
    /// Share of one core that the server used: below about 0.95 it waited for the client.
    pub(crate) server_cores: f64,
    /// Cores that everybody else kept busy meanwhile: the noise of a shared machine. The smaller, the
    /// more the other numbers mean.
    pub(crate) foreign_cores: f64,
    /// Round trip of a cache line between the two cores, before and after the run; `None` where they
    /// are not pinned. Runs at different distances cannot be compared.
    pub(crate) core_distance_ns: Option<[f64; 2]>,
    /// `io_uring_enter`, by the server's own count.
    pub(crate) enters: Option<f64>,
    /// All system calls, enters among them, by the server's own count.
    pub(crate) system_calls: Option<f64>,
    /// All system calls, by the judge's count.
    pub(crate) judged_system_calls: Option<f64>,
    pub(crate) judge: Option<judge::Judge>,
    pub(crate) allocations: Option<f64>,
    pub(crate) compressions: Option<f64>,
    pub(crate) latency_us: Latency,
}

/// Latencies of the window, microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// Share of messages that took at most so long: `[share, microseconds]`, denser towards 1.
    pub(crate) curve: Vec<[f64; 2]>,
}

/// Watches `child` under `load`, which it ends.
pub(crate) fn costs(
    child: &Child,
    counters: impl Fn() -> Result<Counters>,
    mut load: Load,
    times: &Times,
) -> Result<Costs> {
    load.run_for(Duration::from_secs_f64(times.warmup))?;
    // With many connections and large messages one round of all takes longer than that.
    load.run_until(load.connections(), PATIENCE)?;
    let family = child.family()?;
    let counted_before = (counters()?, load.messages());
    load.begin_window();
    let foreign_before = foreign_time(&family)?;
    let before = (family.cpu_time()?, load.messages(), Instant::now());
    load.run_for(Duration::from_secs_f64(times.seconds))?;
    load.run_until(before.1 + load.connections(), PATIENCE)?;
    let after = (family.cpu_time()?, load.messages(), Instant::now());
    load.end_window();
    let foreign = foreign_time(&family)? - foreign_before;
    let counted_after = (counters()?, load.messages());
    let judged = match times.judge {
        0.0 => None,
        seconds => Some(judge_messages(&family, &load, Duration::from_secs_f64(seconds))?),
    };
    let histogram = load.stop()?;

    let messages = after.1 - before.1;
    ensure!(messages > 0, "no message was answered in the window");
    let counted = counted_after.1 - counted_before.1;
    let per_counted = |field: fn(&Counters) -> Option<u64>| -> Option<f64> {
        let growth = field(&counted_after.0)?.saturating_sub(field(&counted_before.0)?);
        Some(growth as f64 / counted as f64)
    };
    let cpu = after.0.saturating_sub(before.0);
    let wall = after.2.duration_since(before.2).as_secs_f64();
    Ok(Costs {
        messages,
        messages_per_second: messages as f64 / wall,
        server_cpu_ns: cpu.as_secs_f64() * 1e9 / messages as f64,
        server_cores: cpu.as_secs_f64() / wall,
        // Ticks and nanoseconds do not quite agree: next to nothing may come out negative.
        foreign_cores: (foreign / wall).max(0.0),
        core_distance_ns: None,
        enters: per_counted(|counters| counters.enters),
        system_calls: per_counted(|counters| counters.system_calls),
        judged_system_calls: judged.map(|(_, per_message)| per_message),
        judge: judged.map(|(verdict, _)| verdict.judge),
        allocations: per_counted(|counters| counters.allocations),
        compressions: per_counted(|counters| counters.compressions),
        latency_us: Latency::of(&histogram),
    })
}

/// What a server had used when something began that is no load of messages.
#[derive(Debug)]
pub(crate) struct Since {
    family: Family,
    counters: Counters,
    foreign: f64,
    cpu: Duration,
    began: Instant,
}

impl Since {
    pub(crate) fn now(server: &Server) -> Result<Self> {
        let (family, counters) = (server.child().family()?, server.counters()?);
        let foreign = foreign_time(&family)?;
        let cpu = family.cpu_time()?;
        Ok(Self { family, counters, foreign, cpu, began: Instant::now() })
    }

    /// Of each of `count` things that were done meanwhile.
    pub(crate) fn costs(
        &self,
        server: &Server,
        count: u64,
        latency: &Histogram<u64>,
    ) -> Result<Costs> {
        let cpu = self.family.cpu_time()?.saturating_sub(self.cpu).as_secs_f64();
        let wall = self.began.elapsed().as_secs_f64();
        let foreign = foreign_time(&self.family)? - self.foreign;
        let (counters, before) = (server.counters()?, &self.counters);
        ensure!(wall > 0.0 && count > 0, "nothing was done, or in no time");
        let each = |field: fn(&Counters) -> Option<u64>| {
            Some(field(&counters)?.saturating_sub(field(before)?) as f64 / count as f64)
        };
        Ok(Costs {
            messages: count,
            messages_per_second: count as f64 / wall,
            server_cpu_ns: cpu * 1e9 / count as f64,
            server_cores: cpu / wall,
            foreign_cores: (foreign / wall).max(0.0),
            core_distance_ns: None,
            enters: each(|counters| counters.enters),
            system_calls: each(|counters| counters.system_calls),
            judged_system_calls: None,
            judge: None,
            allocations: each(|counters| counters.allocations),
            compressions: None,
            latency_us: Latency::of(latency),
        })
    }
}

/// For every connection to be answered once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Seconds that neither the server nor this process used.
fn foreign_time(family: &Family) -> Result<f64> {
    let measured = family.cpu_time()? + process::own_cpu_time()?;
    Ok(process::machine_busy_time()?.as_secs_f64() - measured.as_secs_f64())
}

/// Both rates are of the same moment, though not of exactly the same microseconds.
fn judge_messages(family: &Family, load: &Load, time: Duration) -> Result<(Verdict, f64)> {
    let (messages, start) = (load.messages(), Instant::now());
    let verdict = judge::system_calls(&family.ids(), time)?;
    let rate = (load.messages() - messages) as f64 / start.elapsed().as_secs_f64();
    Ok((verdict, verdict.system_calls_per_second / rate))
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |quantile: f64| microseconds(histogram.value_at_quantile(quantile));
        let curve = histogram
            .iter_quantiles(CURVE_TICKS_PER_HALVING)
            .map(|step| [step.quantile(), microseconds(step.value_iterated_to())])
            .collect();
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(histogram.max()),
            curve,
        }
    }
}

const CURVE_TICKS_PER_HALVING: u32 = 2;

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            server_cpu_ns,
            messages_per_second,
            server_cores,
            foreign_cores,
            latency_us,
            ..
        } = self;
        write!(f, "{server_cpu_ns:7.0} ns CPU  {messages_per_second:8.0}/s  ")?;
        write!(f, "{server_cores:4.2} cores, others {foreign_cores:4.2}  ")?;
        if let Some([before, after]) = self.core_distance_ns {
            write!(f, "distance {before:.0} {after:.0} ns  ")?;
        }
        write!(f, "{} enters  ", Known(self.enters))?;
        write!(f, "{} calls judged  ", Known(self.judged_system_calls))?;
        write!(f, "{} allocations  ", Known(self.allocations))?;
        write!(f, "p50 {:.0} p99 {:.0} us", latency_us.p50, latency_us.p99)
    }
}

/// A number, or that nobody counted it.
pub(crate) struct Known(pub(crate) Option<f64>);

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number:.4}"),
            None => f.write_str("n/a"),
        }
    }
}

#[cfg(test)]
impl Costs {
    /// Round numbers, for tests of what is made of them.
    pub(crate) fn example() -> Self {
        Self {
            messages: 100_000,
            messages_per_second: 100_000.0,
            server_cpu_ns: 5000.0,
            server_cores: 0.5,
            foreign_cores: 0.0,
            core_distance_ns: Some([40.0, 41.0]),
            enters: Some(0.25),
            system_calls: Some(0.25),
            judged_system_calls: None,
            judge: None,
            allocations: None,
            compressions: None,
            latency_us: Latency {
                p50: 100.0,
                p90: 200.0,
                p99: 300.0,
                p999: 400.0,
                max: 500.0,
                curve: vec![
                    [0.5, 100.0],
                    [0.9, 200.0],
                    [0.99, 300.0],
                    [0.999, 400.0],
                    [1.0, 500.0],
                ],
            },
        }
    }
}

#[cfg(test)]
impl Times {
    pub(crate) fn example() -> Self {
        Self { seconds: 1.0, warmup: 0.0, judge: 0.0 }
    }
}
