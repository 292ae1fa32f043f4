//! The recorder: a result with everything needed to know what it was measured on.
//!
//! In: a scenario's result. Out: one JSON file per run in a directory that git ignores.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Where and on what.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    pub(crate) unix_seconds: u64,
    /// The same in UTC, for people.
    pub(crate) time: String,
    pub(crate) machine: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_kilobytes: Option<u64>,
    pub(crate) commit: String,
    /// Files differed from the commit.
    pub(crate) dirty: bool,
    /// Of this program: `release` or `debug`.
    pub(crate) profile: String,
    pub(crate) rustflags: String,
    pub(crate) load_average: String,
    /// Kernel settings that change what a message costs.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) command_line: Vec<String>,
}

impl Surroundings {
    pub(crate) fn look() -> Self {
        let uname = rustix::system::uname();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_seconds = since_epoch.map_or(0, |time| time.as_secs());
        let memory = field("/proc/meminfo", "MemTotal");
        let commit = commit();
        Self {
            unix_seconds,
            time: utc(unix_seconds),
            machine: uname.machine().to_string_lossy().into_owned(),
            kernel: format!(
                "{} {}",
                uname.release().to_string_lossy(),
                uname.version().to_string_lossy()
            ),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kilobytes: memory.and_then(|text| text.split(' ').next()?.parse().ok()),
            dirty: commit.ends_with("-dirty"),
            commit,
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            rustflags: std::env::var("RUSTFLAGS").unwrap_or_default(),
            load_average: line("/proc/loadavg"),
            settings: SETTINGS
                .iter()
                .map(|(name, path)| ((*name).to_owned(), line(path)))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            command_line: std::env::args().collect(),
        }
    }
}

const SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_congestion_control", "/proc/sys/net/ipv4/tcp_congestion_control"),
    ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
    ("net.ipv4.tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
    ("net.ipv4.ip_local_port_range", "/proc/sys/net/ipv4/ip_local_port_range"),
    ("net.ipv4.tcp_mem", "/proc/sys/net/ipv4/tcp_mem"),
    ("net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
    ("net.ipv4.tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem"),
    ("kernel.io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
    ("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("scaling_governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("receive packet steering", "/sys/class/net/lo/queues/rx-0/rps_cpus"),
];

/// `2026-11-22 01:28 UTC`, by the algorithm of civil dates from days.
fn utc(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
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

/// The last [`write()`] of a scenario, with a report beside it.
pub(crate) fn finish(
    directory: &Path,
    scenario: &str,
    surroundings: &Surroundings,
    result: &impl Serialize,
) -> Result<()> {
    let path = write(directory, scenario, surroundings, result)?;
    println!("recorded in {}", path.display());
    let page = path.with_extension("html");
    crate::report::write(&path, &page)?;
    println!("report in {}", page.display());
    Ok(())
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

/// The commit this program's directory is at, with a mark when files differ from it.
pub(crate) fn commit() -> String {
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

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_311_423), "2026-11-22 01:37 UTC");
    }
}
