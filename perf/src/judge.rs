//! Somebody else's count of a server's system calls, so that nobody has to believe the server's own.
//!
//! In: a process under load. Out: system calls per second. `perf stat` on the tracepoint
//! `raw_syscalls:sys_enter` costs the server well under a microsecond per call; where it is not
//! available, `strace -c` counts too, but slows the server down: fewer, fuller turns, so a lower
//! count than without it. Both count every thread the process has at the start.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// What was counted, by whom.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Verdict {
    pub(crate) judge: Judge,
    pub(crate) system_calls_per_second: f64,
}

/// Who counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Judge {
    Perf,
    Strace,
}

/// Counts those of some processes (ids with commas between them) for about `time`. Blocks; the judge is a child that ends by itself.
pub(crate) fn system_calls(ids: &str, time: Duration) -> Result<Verdict> {
    let by_perf = perf(ids, time);
    by_perf.or_else(|first| {
        strace(ids, time).with_context(|| format!("neither perf ({first:#}) nor strace can count"))
    })
}

fn perf(pid: &str, time: Duration) -> Result<Verdict> {
    let seconds = time.as_secs_f64().to_string();
    let output = run(Command::new("perf").args([
        "stat",
        "-x",
        ",",
        "-e",
        "raw_syscalls:sys_enter",
        "-p",
        pid,
        "--",
        "sleep",
        &seconds,
    ]))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let per_second = parse_perf(&text, time).with_context(|| text.trim().to_owned())?;
    Ok(Verdict { judge: Judge::Perf, system_calls_per_second: per_second })
}

/// `COUNT,,EVENT,TIME_RUNNING,...`: the time is the CPU time of the tasks, so the rate is over the
/// wall time that was asked for.
fn parse_perf(text: &str, time: Duration) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    let count: u32 = line.split(',').next()?.parse().ok()?;
    Some(f64::from(count) / time.as_secs_f64())
}

fn strace(pid: &str, time: Duration) -> Result<Verdict> {
    let seconds = time.as_secs_f64().to_string();
    // `timeout` interrupts strace, which then detaches and prints its table.
    let output = run(
        Command::new("timeout").args(["-s", "INT", &seconds, "strace", "-c", "-f", "-p", pid])
    )?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let per_second = parse_strace(&text, time).with_context(|| text.trim().to_owned())?;
    Ok(Verdict { judge: Judge::Strace, system_calls_per_second: per_second })
}

/// `100.00    0.110704           2     50220           total`
fn parse_strace(text: &str, time: Duration) -> Option<f64> {
    let line = text.lines().rfind(|line| line.trim_end().ends_with("total"))?;
    let count: u32 = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(f64::from(count) / time.as_secs_f64())
}

fn run(command: &mut Command) -> Result<Output> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Ok(output),
        Err(error) => bail!("cannot start {command:?}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_perf, parse_strace};

    #[test]
    fn the_output_of_both() {
        let second = Duration::from_secs(2);
        let perf = "4143513,,raw_syscalls:sys_enter,300870697,100.00,13.772,M/sec\n";
        assert_eq!(parse_perf(perf, second), Some(2_071_756.5));
        assert_eq!(parse_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n", second), None);
        let strace = "strace: Process 9 attached\n 50.18  0.05 2 25110  read\n------\n\
                      100.00    0.110704           2     50220           total\n";
        assert_eq!(parse_strace(strace, second), Some(25_110.0));
        assert_eq!(parse_strace("strace: attach: ptrace(PTRACE_SEIZE, 9)\n", second), None);
    }
}
