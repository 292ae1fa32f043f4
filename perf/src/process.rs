//! Servers as child processes: started on a core, watched through `/proc`, never left behind.
//!
//! In: commands. Out: CPU time and memory as the kernel counts them. Invariant: every child that was
//! started is killed and reaped when its [`Child`] goes, and killed when this process panics or is
//! told to stop; only processes started here are ever signalled.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// On what a server is started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Launch<'a> {
    /// Its only core.
    pub(crate) cpu: Option<usize>,
    /// A program with arguments that runs the server, such as valgrind; empty: none.
    pub(crate) under: &'a [String],
}

impl Launch<'_> {
    /// On a core, as it is.
    pub(crate) fn on(cpu: Option<usize>) -> Self {
        Self { cpu, under: &[] }
    }

    /// The command that runs `program`, still without its arguments.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self.under {
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            [] => Command::new(program),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) inner: std::process::Child,
    pid: Pid,
}

impl Child {
    /// Starts `command` with `cpu` as its only core (threads it starts inherit that).
    pub(crate) fn spawn(command: &mut Command, cpu: Option<usize>) -> Result<Self> {
        let mut children = children();
        let before = sched_getaffinity(None)?;
        // A child inherits the mask of the thread that starts it.
        pin(cpu)?;
        // A group of its own, so that what it starts can be ended with it.
        let spawned = command.process_group(0).spawn();
        sched_setaffinity(None, &before)?;
        let inner = spawned.with_context(|| format!("cannot start {command:?}"))?;
        let pid = Pid::from_child(&inner);
        children.push(pid);
        Ok(Self { inner, pid })
    }

    pub(crate) fn id(&self) -> u32 {
        self.inner.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // The child is reaped only here and in `drop`, so the id is still its own.
        kill_process(self.pid, signal).context("cannot signal the server")
    }

    /// Fails if the process has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.inner.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended: {status}"),
        }
    }

    /// It and what it started, as of now. Some servers work in processes of their own.
    pub(crate) fn family(&self) -> Result<Family> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Processes come and go meanwhile.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            parents.extend(parent(&stat).map(|parent| (pid, parent)));
        }
        let mut members = vec![self.id()];
        let mut at = 0;
        while let Some(&member) = members.get(at) {
            members
                .extend(parents.iter().filter(|(_, parent)| *parent == member).map(|pair| pair.0));
            at += 1;
        }
        Ok(Family(members))
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.id())
    }

    /// SIGTERM, and SIGKILL for whoever has not ended within `patience`.
    pub(crate) fn stop(mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + patience;
        while self.inner.try_wait()?.is_none() && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The group is the child's own; without effect once nobody is left in it.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.inner.wait();
        children().retain(|pid| *pid != self.pid);
    }
}

/// The processes of a server.
#[derive(Debug)]
pub(crate) struct Family(Vec<u32>);

impl Family {
    /// Time their threads have spent on a core, also in the kernel on their behalf. Threads that
    /// ended no longer count; the servers measured here start theirs once.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.0.iter().map(|pid| cpu_time(&pid.to_string())).sum()
    }

    /// The part of it in the program itself, not in the kernel, as the clock tick saw it: in steps of
    /// 10 ms, so of use over seconds only.
    pub(crate) fn user_time(&self) -> Result<Duration> {
        let user = |pid: &u32| -> Result<Duration> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            user_ticks(&stat).map(|ticks| Duration::from_millis(ticks * 10)).context("utime")
        };
        self.0.iter().map(user).sum()
    }

    /// Of all of them, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.0.iter().map(|pid| Ok(Memory::of(*pid)?.total())).sum()
    }

    /// With commas between them, as `perf -p` takes them.
    pub(crate) fn ids(&self) -> String {
        let ids: Vec<String> = self.0.iter().map(u32::to_string).collect();
        ids.join(",")
    }
}

/// The fourth field of `/proc/PID/stat`; the second is a name in parentheses that may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The 14th field (proc_pid_stat(5)), in USER_HZ of 100.
fn user_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse().ok()
}

/// Resident memory of a process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) anonymous: u64,
    pub(crate) file: u64,
    pub(crate) shared: u64,
}

impl Memory {
    pub(crate) fn total(self) -> u64 {
        self.anonymous + self.file + self.shared
    }

    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&status).context("/proc/PID/status lacks Rss lines")
    }

    /// Of this process.
    pub(crate) fn own() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        Self::parse(&status).context("/proc/self/status lacks Rss lines")
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 =
                line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kilobytes * 1024)
        };
        Some(Self {
            anonymous: field("RssAnon")?,
            file: field("RssFile")?,
            shared: field("RssShmem")?,
        })
    }
}

/// CPU time of this process.
pub(crate) fn own_cpu_time() -> Result<Duration> {
    cpu_time("self")
}

/// Time that all cores were not idle, everybody's, time stolen by the hypervisor included; in steps
/// of 10 ms.
pub(crate) fn machine_busy_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_ticks(&text).map(|ticks| Duration::from_millis(ticks * 10)).context("/proc/stat")
}

/// `cpu user nice system idle iowait irq softirq steal ...` (proc_stat(5)), in USER_HZ of 100.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let idle = fields.get(3)? + fields.get(4)?;
    Some(fields.iter().take(8).sum::<u64>() - idle)
}

fn cpu_time(process: &str) -> Result<Duration> {
    let tasks = format!("/proc/{process}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let run = text.split_whitespace().next().context("empty schedstat")?;
        nanoseconds += run.parse::<u64>().context("schedstat")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Pins the calling thread, and what it starts, to `cpu`.
pub(crate) fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cpu}"))
}

/// The calling thread runs only when nobody else wants its core (sched(7), SCHED_IDLE).
#[allow(unsafe_code, reason = "nobody wraps this call")]
pub(crate) fn yield_to_everybody() -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and `parameters` is readable for the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("SCHED_IDLE") }
}

/// Kills the children when this process panics, is interrupted or is terminated: the release profile
/// aborts on panic, so that no destructor runs.
pub(crate) fn install_reaper() -> Result<()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        kill_all();
    }));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            kill_all();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Takes the soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Best effort: opening too many fails with its own message.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn kill_all() {
    // `try_lock`: the panic may have happened while starting a child.
    if let Ok(children) = CHILDREN.try_lock() {
        for pid in children.iter() {
            let _ = kill_process_group(*pid, Signal::KILL);
        }
    }
}

fn children() -> MutexGuard<'static, Vec<Pid>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Children that were started and not reaped.
static CHILDREN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{Child, Memory, busy_ticks, children};

    #[test]
    fn memory_of_a_status_file() {
        let status =
            "VmRSS:\t    99 kB\nRssAnon:\t     100 kB\nRssFile:\t      8 kB\nRssShmem:\t 0 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!(memory.total(), 108 * 1024);
        assert_eq!(Memory::parse("VmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn the_machine_is_busy_outside_of_idle_and_iowait() {
        assert_eq!(busy_ticks("cpu  10 20 30 4000 500 1 2 3 99 99\ncpu0 1 2\n"), Some(66));
        assert_eq!(busy_ticks("intr 1 2 3"), None);
    }

    #[test]
    fn a_dropped_child_is_reaped() {
        let child = Child::spawn(Command::new("sleep").arg("60"), None).unwrap();
        let id = child.id();
        assert!(child.memory().unwrap().total() > 0);
        let family = child.family().unwrap();
        assert_eq!(family.ids(), id.to_string());
        assert!(family.cpu_time().is_ok());
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
        assert!(children().iter().all(|pid| pid.as_raw_nonzero().get().unsigned_abs() != id));
    }

    #[test]
    fn what_a_child_starts_belongs_to_it_and_goes_with_it() {
        let mut shell = Command::new("sh");
        // The second command keeps the shell from becoming the first.
        shell.args(["-c", "sleep 60; true"]);
        let child = Child::spawn(&mut shell, None).unwrap();
        let started = std::time::Instant::now();
        let grandchild = loop {
            let ids = child.family().unwrap().ids();
            if let Some((_, grandchild)) = ids.split_once(',') {
                break grandchild.to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        };
        drop(child);
        let stat = format!("/proc/{grandchild}/stat");
        let is_gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        assert_eq!(super::parent("7 (a) b) S 5 1 1"), Some(5));
    }

    #[test]
    fn a_stopped_child_ends_by_sigterm() {
        let child = Child::spawn(Command::new("sleep").arg("60"), None).unwrap();
        let started = std::time::Instant::now();
        child.stop(Duration::from_secs(30)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
