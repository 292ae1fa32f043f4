//! What this kernel and machine give: the text behind `headwater probe`, and the reason behind a refused start.
//!
//! In: /proc, resource limits, and the outcome of one io_uring trial, which the caller makes (only `ring` knows how).
//! Out: a [`Report`]: the facts, how many connections would fit and what ends it, and the commands that would change
//! that. Facts are read once ([`Facts::read`]) and judged by pure functions, so that the judgement is tested against
//! machines we do not have.
//!
//! Nothing here changes a setting, and a fact that cannot be read is shown as unknown and never guessed.

mod facts;
mod fit;

pub use facts::{Facts, memory_budget_bytes, resident_bytes, tcp_queued_bytes};
pub use fit::Bound;

use std::fmt;
use std::io;

/// What the trial ring found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Names of features and operations in use that this kernel has.
    pub present: Vec<String>,
    /// Names of those it lacks.
    pub missing: Vec<String>,
}

/// Everything `headwater probe` says.
#[derive(Debug)]
pub struct Report {
    facts: Facts,
    io_uring: Result<Features, Refusal>,
    encoders: Vec<String>,
    /// How many connections are aimed at.
    target: Option<u64>,
}

/// Reads the machine, makes the trial and judges both. `encoders` are the names of the encoders that were found;
/// `target` is how many connections are aimed at, if that was said.
pub fn report(
    trial: impl FnOnce() -> io::Result<Features>,
    encoders: Vec<String>,
    target: Option<u64>,
) -> Report {
    let facts = Facts::read();
    let io_uring = trial().map_err(|error| Refusal::explain(&error, &facts));
    Report { facts, io_uring, encoders, target }
}

impl Report {
    /// Whether `serve` can run here.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.kernel_is_new_enough() && self.io_uring.is_ok()
    }

    /// What ends the number of connections here, the lowest bound first.
    #[must_use]
    pub fn bounds(&self) -> Vec<Bound> {
        fit::bounds(&self.facts)
    }

    fn kernel_is_new_enough(&self) -> bool {
        // An unreadable version is not held against the machine; the trial decides.
        self.facts.kernel_version().is_none_or(|version| version >= KERNEL_FLOOR)
    }

    /// What to set, most important first; each with the commands that do it.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        let facts = &self.facts;
        let mut advice = Vec::new();
        if !self.kernel_is_new_enough() {
            let (major, minor) = KERNEL_FLOOR;
            advice.push(Advice::new(
                format!("the kernel is older than {major}.{minor}, which this server needs"),
                "install a newer kernel and restart",
            ));
        }
        if let Err(refusal) = &self.io_uring {
            advice.push(Advice::new(
                format!("io_uring is refused by {}", refusal.by),
                &refusal.remedy,
            ));
        }
        match self.target {
            Some(target) => fit::advise_target(facts, target, &mut advice),
            None => fit::advise_descriptors(facts, &mut advice),
        }
        fit::advise_network(facts, &mut advice);
        advice
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        let (major, minor) = KERNEL_FLOOR;
        let verdict = if self.kernel_is_new_enough() { "ok" } else { "TOO OLD" };
        let release = &facts.kernel_release;
        line(f, "kernel", &format!("{release} (floor {major}.{minor}: {verdict})"))?;
        match &self.io_uring {
            Ok(features) => {
                line(f, "io_uring", "available")?;
                line(f, "  has", &features.present.join(", "))?;
                if !features.missing.is_empty() {
                    line(f, "  lacks", &features.missing.join(", "))?;
                }
            }
            Err(refusal) => {
                line(f, "io_uring", &format!("REFUSED ({}) by {}", refusal.error, refusal.by))?;
            }
        }
        if let Some(container) = facts.container {
            line(f, "container", container)?;
        }
        line(f, "nofile", &format!("{} (also the slots of one ring)", facts.nofile))?;
        line(f, "memlock", &format!("{} bytes", facts.memlock))?;
        line(f, "fs.nr_open", &known(facts.nr_open.as_ref()))?;
        line(f, "fs.file-max", &known(facts.file_max.as_ref()))?;
        line(f, "somaxconn", &known(facts.somaxconn.as_ref()))?;
        line(f, "syn backlog", &known(facts.syn_backlog.as_ref()))?;
        let tcp_mem = facts.tcp_mem_bytes().map(|bytes| format!("{} of queued data", size(bytes)));
        line(f, "tcp_mem", &known(tcp_mem.as_ref()))?;
        let ports = facts.port_range.map(|(low, high)| format!("{low} to {high} (clients only)"));
        line(f, "ports", &known(ports.as_ref()))?;
        if let Some(max) = facts.conntrack_max {
            let idle = if facts.tracked_max().is_none() { " (nothing is tracked now)" } else { "" };
            line(f, "conntrack", &format!("{max} flows{idle}"))?;
        }
        let congestion =
            format!("{} (of {})", facts.congestion_default, facts.congestion_available.join(", "));
        line(f, "congestion", &congestion)?;
        line(f, "cores", &facts.cores.to_string())?;
        let memory = facts.memory_available.map(size);
        line(f, "memory free", &known(memory.as_ref()))?;
        let budget = facts.memory_budget.map(|bytes| format!("{} unless configured", size(bytes)));
        line(f, "budget", &known(budget.as_ref()))?;
        let encoders = self.encoders.join(", ");
        line(f, "encoders", if encoders.is_empty() { "none in this build" } else { &encoders })?;
        self.fit(f)?;
        let advice = self.advice();
        if advice.is_empty() {
            return writeln!(f, "\nNothing needs to be set.");
        }
        writeln!(f, "\nWhat to set:")?;
        for Advice { why, commands } in &advice {
            writeln!(f, "- {why}")?;
            for command in commands.lines() {
                writeln!(f, "    {command}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn fit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nHow many idle connections fit here, by what ends them:")?;
        let bounds = self.bounds();
        for Bound { connections, what } in &bounds {
            writeln!(f, "{connections:>12}  {what}")?;
        }
        if self.facts.memory_budget.is_none() {
            writeln!(f, "{:>12}  memory: /proc/meminfo cannot be read", "unknown")?;
        }
        if let Some(target) = self.target {
            let fits = bounds.first().is_none_or(|lowest| lowest.connections >= target);
            let verdict = if fits { "fit as it is" } else { "do not fit as it is; see below" };
            writeln!(f, "{target} connections {verdict}.")?;
        }
        if let Some(pages) = self.facts.tcp_mem_pages {
            writeln!(
                f,
                "At one page each, {pages} connections can have data queued at once before tcp_mem squeezes them."
            )?;
        }
        Ok(())
    }
}

/// A setting worth changing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong, and what it costs.
    pub why: String,
    /// Commands or unit-file lines, one per line.
    pub commands: String,
}

impl Advice {
    fn new(why: impl Into<String>, commands: &str) -> Self {
        Self { why: why.into(), commands: commands.to_owned() }
    }
}

/// Who keeps us from io_uring, and how to allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's answer.
    pub error: String,
    /// Who gave it.
    pub by: String,
    /// Commands, or what to do, one per line.
    pub remedy: String,
}

impl Refusal {
    /// Concludes from the error and the facts around it.
    #[must_use]
    pub fn explain(error: &io::Error, facts: &Facts) -> Self {
        let (by, remedy) = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => facts.who_forbids(),
            Some(rustix::io::Errno::NOSYS) if facts.seccomp_filter => seccomp(facts),
            Some(rustix::io::Errno::NOSYS) => (
                "the kernel, which was built without it".to_owned(),
                "use a kernel with CONFIG_IO_URING=y".to_owned(),
            ),
            Some(rustix::io::Errno::INVAL) => (
                "the kernel, which lacks a flag or operation this server needs".to_owned(),
                format!("use Linux {}.{} or newer", KERNEL_FLOOR.0, KERNEL_FLOOR.1),
            ),
            Some(rustix::io::Errno::NOMEM) => (
                "a memory limit (RLIMIT_MEMLOCK, or memory.max of the control group)".to_owned(),
                "ulimit -l unlimited    # or LimitMEMLOCK=infinity in the unit".to_owned(),
            ),
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                ("the limit of open files".to_owned(), "ulimit -n \"$(ulimit -Hn)\"".to_owned())
            }
            _ => (
                "something this server does not know".to_owned(),
                "strace -e io_uring_setup headwater probe".to_owned(),
            ),
        };
        Self { error: error.to_string(), by, remedy }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "io_uring is refused ({}) by {}; to allow it: {}",
            self.error,
            self.by,
            self.remedy.replace('\n', "; ")
        )
    }
}

impl Facts {
    /// Who answers EPERM: the sysctl is checked first because the kernel checks it after seccomp let the call through,
    /// so when it forbids, lifting the other alone would not help.
    fn who_forbids(&self) -> (String, String) {
        match (self.io_uring_disabled, self.io_uring_group) {
            (Some(2), _) => (
                "the sysctl kernel.io_uring_disabled = 2 (nobody may)".to_owned(),
                "sysctl -w kernel.io_uring_disabled=0".to_owned(),
            ),
            (Some(1), group) => {
                let group = match group {
                    Some(group) if group >= 0 => format!("group {group}"),
                    _ => "no group".to_owned(),
                };
                (
                    format!(
                        "the sysctl kernel.io_uring_disabled = 1 (only CAP_SYS_ADMIN and {group} may)"
                    ),
                    "sysctl -w kernel.io_uring_group=\"$(id -g headwater)\"    # the group the server runs as\n\
                     sysctl -w kernel.io_uring_disabled=0                    # or: everyone"
                        .to_owned(),
                )
            }
            _ if self.seccomp_filter => seccomp(self),
            _ => (
                "a security module (SELinux, AppArmor) or a supervisor of this process".to_owned(),
                "ausearch -m avc -c headwater    # SELinux: shows the rule that is missing\n\
                 aa-status                       # AppArmor: shows the profile in force"
                    .to_owned(),
            ),
        }
    }
}

fn seccomp(facts: &Facts) -> (String, String) {
    match facts.container {
        Some(container) => (
            format!("the seccomp profile of the container ({container})"),
            "docker run --security-opt seccomp=PROFILE.json ...    # the default profile plus io_uring_setup,\n\
             \u{20}                                                     # io_uring_enter, io_uring_register\n\
             Kubernetes: securityContext.seccompProfile, type Localhost, with the same profile"
                .to_owned(),
        ),
        None => (
            "a seccomp filter of this process (a service manager or sandbox set it)".to_owned(),
            "systemd: SystemCallFilter=@system-service io_uring_setup io_uring_enter io_uring_register".to_owned(),
        ),
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, value: &str) -> fmt::Result {
    writeln!(f, "{label:<12} {value}")
}

fn known<T: fmt::Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

fn size(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    if mebibytes >= 10 << 10 {
        format!("{} GiB", mebibytes >> 10)
    } else {
        format!("{mebibytes} MiB")
    }
}

/// Major and minor of the oldest kernel that is supported.
const KERNEL_FLOOR: (u32, u32) = (6, 12);

#[cfg(test)]
mod tests;
