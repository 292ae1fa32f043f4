//! Headwater as the server under test: the one place that knows its flags, its configuration, its
//! routes and the names of its counters.
//!
//! In: the path of the binary. Out: a running, ready server and its counters. Not here: what a
//! scenario does with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::http;
use crate::process::{Child, Launch};
use crate::record::Directory;
use crate::servers::Counters;

/// WebSocket that sends every message back to its sender only; exists when `http.echo` is on.
pub(crate) const ECHO_PATH: &str = "/echo";
/// One message comes back to everyone on the channel.
pub(crate) fn channel_path(channel: &str) -> String {
    format!("/ws/{channel}")
}
/// The same, without the sender's own messages.
pub(crate) fn publisher_path(channel: &str) -> String {
    format!("/ws/{channel}?echo=0")
}
/// Publishes the body of a POST.
pub(crate) fn publish_path(channel: &str) -> String {
    format!("/pub/{channel}")
}
/// The clients share their cores, also with programs that are not ours.
const IDLE_MS_MIN: u32 = 60_000;
const READY_PATH: &str = "/readyz";
pub(crate) const METRICS_PATH: &str = "/metrics";

const ENTERS: &str = "headwater_ring_enters_total";
/// All of them, enters included.
const SYSTEM_CALLS: &str = "headwater_system_calls_total";
/// Only in builds and runs that count allocations.
const ALLOCATIONS: &str = "headwater_allocations_total";

/// Messages compressed by permessage-deflate: one per publication, not per subscriber.
const COMPRESSIONS: &str = "headwater_deflate_compressions_total";

/// HTTP requests; the one that asks is counted already.
pub(crate) const REQUESTS: &str = "headwater_http_requests_total";
/// Messages that came from clients.
pub(crate) const MESSAGES: &str = "headwater_messages_received_total";
/// Messages from shard to shard, and the doorbells rung for them.
pub(crate) const MAIL: &str = "headwater_mailbox_messages_total";
pub(crate) const DOORBELLS: &str = "headwater_mailbox_doorbells_total";

/// How the server is set up where scenarios differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) shards: u32,
    /// Between two pings of a silent WebSocket. Off for the length of a run where the load client
    /// counts every byte that comes; a connection still owns its timer.
    pub(crate) ping_interval_ms: u32,
    /// After so long a silent WebSocket is closed.
    pub(crate) idle_timeout_ms: u32,
    /// How long publications gather before they are sent.
    pub(crate) batch_window_ms: u32,
}

impl Setup {
    /// Pinged so often; a client that was held up for a while is not silent yet.
    pub(crate) fn with_pings(shards: u32, ping_interval_ms: u32) -> Self {
        let idle_timeout_ms = ping_interval_ms.saturating_mul(3).max(IDLE_MS_MIN);
        Self { shards, ping_interval_ms, idle_timeout_ms, batch_window_ms: 0 }
    }

    pub(crate) fn without_pings(shards: u32) -> Self {
        Self { shards, ping_interval_ms: 600_000, idle_timeout_ms: 1_200_000, batch_window_ms: 0 }
    }
}

/// What the lab sets; everything else is the default.
fn configuration(http: SocketAddr, setup: Setup) -> String {
    let Setup { shards, ping_interval_ms, idle_timeout_ms, batch_window_ms } = setup;
    format!(
        r#"shards = {shards}

[http]
addr = ["{http}"]
echo = true

[rtmp]
addr = []

[log]
level = "warn"

[websocket]
ping_interval_ms = {ping_interval_ms}
idle_timeout_ms = {idle_timeout_ms}

[channels]
batch_window_ms = {batch_window_ms}
"#
    )
}

/// The command that serves `configuration`.
fn command(launch: &Launch<'_>, binary: &Path, configuration: &Path) -> Command {
    let mut command = launch.command(binary);
    command.arg("serve").arg("--config").arg(configuration);
    // Read by builds that can count allocations, ignored by others.
    command.env("HEADWATER_COUNT_ALLOCATIONS", "1");
    command
}

/// A server that answered its readiness check.
#[derive(Debug)]
pub(crate) struct Headwater {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    // Removed after the child has ended: fields drop in this order.
    _directory: Directory,
}

impl Headwater {
    pub(crate) fn start(binary: &Path, shards: u32, launch: &Launch<'_>) -> Result<Self> {
        Self::start_as(binary, Setup::without_pings(shards), launch)
    }

    pub(crate) fn start_as(binary: &Path, setup: Setup, launch: &Launch<'_>) -> Result<Self> {
        let address = free_address()?;
        let directory = Directory::new("server")?;
        let configuration_file = directory.path().join("headwater.toml");
        fs::write(&configuration_file, configuration(address, setup))?;
        let log = directory.path().join("server.log");
        let errors = fs::File::create(&log)?;
        let mut child = Child::spawn(
            command(launch, binary, &configuration_file)
                .stdin(Stdio::null())
                .stdout(errors.try_clone()?)
                .stderr(errors),
            launch.cpu,
        )
        .context("build it first: cargo build --release")?;
        http::wait_until_ready(address, READY_PATH, || child.check_alive()).with_context(|| {
            format!("the server said:\n{}", fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(Self { child, address, _directory: directory })
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        let text = http::get(self.address, METRICS_PATH)?;
        Ok(Counters {
            enters: sum(&text, ENTERS),
            system_calls: sum(&text, SYSTEM_CALLS),
            allocations: sum(&text, ALLOCATIONS),
            compressions: sum(&text, COMPRESSIONS),
        })
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.child.stop(Duration::from_secs(5))
    }
}

/// A counter of each shard.
pub(crate) fn by_shard(text: &str, name: &str) -> Vec<u64> {
    (0..).map_while(|shard| sum(text, &format!("{name}{{shard=\"{shard}\"}}"))).collect()
}

/// The sum of a counter over its labels; `None` if the text has no such counter.
pub(crate) fn sum(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<u64>().ok()
        })
        .fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

/// A port that was free a moment ago; the server sets SO_REUSEADDR, and nobody else is asked to
/// take it in between.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::{by_shard, sum};

    #[test]
    fn counters_are_summed_over_shards() {
        let text = "# TYPE a_total counter\na_total{shard=\"0\"} 3\na_total{shard=\"1\"} 4 17\n\
                    a_total_more 9\nb_total 5\n";
        assert_eq!(sum(text, "a_total"), Some(7));
        assert_eq!(sum(text, "b_total"), Some(5));
        assert_eq!(sum(text, "c_total"), None);
        assert_eq!(by_shard(text, "a_total"), [3, 4]);
    }
}
