//! The recorder: a result with everything needed to know what it was measured on.
//!
//! In: a scenario's result. Out: one JSON file per run in a directory that git ignores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Where and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Surroundings {
    unix_seconds: u64,
    kernel: String,
    processor: String,
    cores: usize,
    memory_kilobytes: Option<u64>,
    congestion_control: String,
    load_average: String,
    commit: String,
    command_line: Vec<String>,
}

impl Surroundings {
    pub(crate) fn look() -> Self {
        let uname = rustix::system::uname();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let memory = field("/proc/meminfo", "MemTotal");
        Self {
            unix_seconds: since_epoch.map_or(0, |time| time.as_secs()),
            kernel: format!(
                "{} {}",
                uname.release().to_string_lossy(),
                uname.version().to_string_lossy()
            ),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kilobytes: memory.and_then(|text| text.split(' ').next()?.parse().ok()),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_average: line("/proc/loadavg"),
            commit: commit(),
            command_line: std::env::args().collect(),
        }
    }
}

/// Writes `result` to `directory/scenario-TIME.json`.
pub(crate) fn write(
    directory: &Path,
    scenario: &str,
    surroundings: &Surroundings,
    result: &impl Serialize,
) -> Result<PathBuf> {
    #[derive(Serialize)]
    struct Record<'a, T> {
        scenario: &'a str,
        surroundings: &'a Surroundings,
        result: &'a T,
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{scenario}-{}.json", surroundings.unix_seconds));
    let text = serde_json::to_string_pretty(&Record { scenario, surroundings, result })?;
    fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    Ok(path)
}

/// A directory for the length of a run.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(what: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("headwater-perf-{}-{what}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A file left in the temporary directory is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn commit() -> String {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of the first `name : value` line.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}
