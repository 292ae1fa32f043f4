//! The two servers an echo can be measured against, behind one set of questions.
//!
//! In: which one, and where its binary is. Out: its process, its address, its own counters. Not
//! here: Headwater's flags and names, which are in `headwater.rs`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::headwater::{ECHO_PATH, Headwater};
use crate::http;
use crate::process::{Child, Launch};

/// What a server counts about itself; `None` where it does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    pub(crate) enters: Option<u64>,
    /// Enters included.
    pub(crate) system_calls: Option<u64>,
    pub(crate) allocations: Option<u64>,
}

/// A running echo server.
#[derive(Debug)]
pub(crate) enum Server {
    Headwater(Headwater),
    RawRing(RawRing),
}

impl Server {
    pub(crate) fn child(&self) -> &Child {
        match self {
            Self::Headwater(server) => &server.child,
            Self::RawRing(server) => &server.child,
        }
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        match self {
            Self::Headwater(server) => server.counters(),
            Self::RawRing(server) => server.counters(),
        }
    }

    pub(crate) fn connect(&self, count: usize) -> Result<Vec<TcpStream>> {
        match self {
            Self::Headwater(server) => http::open_websockets(server.address, ECHO_PATH, 0, count),
            Self::RawRing(server) => http::open_raw(server.address, count),
        }
    }

    /// Ends it without asking.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) fn stop(self) -> Result<()> {
        match self {
            Self::Headwater(server) => server.stop(),
            Self::RawRing(server) => server.child.stop(Duration::from_secs(5)),
        }
    }
}

/// How the raw ring is to run; the flags of `perf/peers/raw-ring`.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct RawRingOptions {
    /// How the raw ring's connections wait for bytes.
    #[arg(long, value_enum, default_value_t = RawMode::Poll)]
    pub(crate) raw_mode: RawMode,
    /// Completions one wait of the raw ring asks for.
    #[arg(long, default_value_t = 1)]
    pub(crate) wait_batch: u32,
    /// After this long a wait of the raw ring is content with one completion.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_wait_usec: u32,
}

/// `--mode` of the raw ring.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawMode {
    /// Multishot POLL_ADD, then RECV.
    Poll,
    /// Multishot RECV and a buffer ring.
    Multishot,
}

/// The limit peer.
#[derive(Debug)]
pub(crate) struct RawRing {
    child: Child,
    address: SocketAddr,
    lines: mpsc::Receiver<String>,
}

impl RawRing {
    /// `request` and `reply` are the bytes of one message each way.
    pub(crate) fn start(
        binary: &Path,
        options: &RawRingOptions,
        request: usize,
        reply: usize,
        launch: &Launch<'_>,
    ) -> Result<Self> {
        let mode = match options.raw_mode {
            RawMode::Poll => "poll",
            RawMode::Multishot => "multishot",
        };
        let mut command = launch.command(binary);
        command
            .args(["--port", "0", "--mode", mode])
            .args(["--recv", &request.to_string(), "--reply", &reply.to_string()])
            .args(["--wait-batch", &options.wait_batch.to_string()])
            .args(["--min-wait-usec", &options.min_wait_usec.to_string()])
            .args(["--buffer", &request.next_power_of_two().max(4096).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command, launch.cpu).context(
            "build it first: cargo build --release --manifest-path perf/peers/Cargo.toml",
        )?;
        let stdout = child.inner.stdout.take().context("stdout was piped")?;
        let (sender, lines) = mpsc::channel();
        // Ends with the child, whose end closes the pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut this = Self { child, address: (Ipv4Addr::LOCALHOST, 0).into(), lines };
        let Listening { port } = this.line()?;
        this.address.set_port(port);
        Ok(this)
    }

    fn counters(&self) -> Result<Counters> {
        self.child.signal(Signal::USR1)?;
        let Counted { enters } = self.line()?;
        // Its loop makes no other call.
        Ok(Counters { enters: Some(enters), system_calls: Some(enters), allocations: None })
    }

    fn line<T: for<'a> Deserialize<'a>>(&self) -> Result<T> {
        let line = self
            .lines
            .recv_timeout(Duration::from_secs(30))
            .context("the raw ring printed nothing")?;
        serde_json::from_str(&line).with_context(|| format!("the raw ring printed {line:?}"))
    }
}

/// Its first line.
#[derive(Debug, Deserialize)]
struct Listening {
    port: u16,
}

/// Its answer to SIGUSR1.
#[derive(Debug, Deserialize)]
struct Counted {
    enters: u64,
}
