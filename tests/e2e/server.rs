//! `headwater serve` and `headwater demo` as children: started on free ports, ended by SIGTERM.
//!
//! In: lines of configuration. Out: addresses as the log gives them, metrics, memory. Invariant: [`Server::stop`] has
//! seen the drain end with exit code 0; a server that is only dropped is killed.

use crate::client::Http;
use crate::process::Process;
use crate::tools::scratch;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) rtmp: SocketAddr,
}

impl Server {
    /// `serve` with two shards, free ports and these lines.
    pub(crate) fn start(test: &str, configuration: &Configuration<'_>) -> Self {
        Self::from_file(&config_file(test, configuration))
    }

    /// `serve` with this configuration, which has a listener for HTTP and one for RTMP.
    pub(crate) fn from_file(file: &Path) -> Self {
        Self::spawn(Command::new(BINARY).arg("serve").arg("--config").arg(file))
    }

    /// `demo` on free ports.
    pub(crate) fn demo() -> Self {
        let addresses = ["--http", "127.0.0.1:0", "--rtmp", "127.0.0.1:0"];
        Self::spawn(Command::new(BINARY).arg("demo").args(addresses))
    }

    fn spawn(command: &mut Command) -> Self {
        raise_file_limit();
        let mut process = Process::start(command);
        let mut address = |role: &str| {
            let line = process.wait_for_line(&format!("serving {role}"), STARTS);
            let (_, rest) = line.split_once("address=").expect("the log names the address");
            rest.split_whitespace().next().and_then(|text| text.parse().ok()).expect("an address")
        };
        let (http, rtmp) = (address("http"), address("rtmp"));
        Self { process, http, rtmp }
    }

    /// Waits for a line of the log.
    pub(crate) fn log(&mut self, wanted: &str) -> String {
        self.process.wait_for_line(wanted, Duration::from_secs(20))
    }

    /// Drains; all is well when it exits with 0.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{}", self.process.text());
    }

    /// A metric of every shard.
    pub(crate) fn metric(&self, name: &str) -> Vec<u64> {
        let response = Http::connect(self.http).get("/metrics");
        assert_eq!(response.status, 200);
        let text = response.text();
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok());
        lines.map(|line| value(line).expect("a whole number")).collect()
    }

    /// User memory: RssAnon + RssFile + RssShmem.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes(&["RssAnon:", "RssFile:", "RssShmem:"])
    }

    /// Address space: also what was allocated and never touched.
    pub(crate) fn virtual_bytes(&self) -> u64 {
        self.status_bytes(&["VmSize:"])
    }

    /// The sum of some fields of `/proc/PID/status` (proc_pid_status(5)).
    fn status_bytes(&self, names: &[&str]) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).expect("our child lives");
        let field = |name: &&str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(*name)).expect("a field");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
        };
        names.iter().map(field).sum::<u64>() * 1024
    }
}

/// What a test changes of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Configuration<'a> {
    /// Lines before the first section.
    pub(crate) top: &'a str,
    /// Whole sections other than `[http]` and `[rtmp]`.
    pub(crate) sections: &'a str,
}

fn config_file(test: &str, configuration: &Configuration<'_>) -> PathBuf {
    let file = scratch("e2e").join(format!("{test}.toml"));
    let Configuration { top, sections } = configuration;
    let text = format!(
        "shards = 2\n{top}\n[http]\naddr = [\"127.0.0.1:0\"]\n[rtmp]\naddr = [\"127.0.0.1:0\"]\n{sections}\n"
    );
    std::fs::write(&file, text).expect("the target directory is writable");
    file
}

/// Takes all descriptors that this process may have; children inherit the limit.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may rise to the hard one");
    limit.maximum.unwrap_or(u64::MAX)
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_headwater");
const STARTS: Duration = Duration::from_secs(20);
