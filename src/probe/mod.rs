//! What this kernel and machine give: the text behind `headwater probe`, and the reason behind a refused start.
//!
//! In: /proc, resource limits, and the outcome of one io_uring trial, which the caller makes (only `ring` knows how).
//! Out: a [`Report`]: the facts, how many connections would fit and what ends it, and the commands that would change
//! that. Facts are read once ([`Facts::read`]) and judged by pure functions, so that the judgement is tested against
//! machines we do not have.
//!
//! Nothing here changes a setting, and a fact that cannot be read is shown as unknown and never guessed.

use std::fmt;
use std::io;
use std::path::Path;

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
}

/// Reads the machine, makes the trial and judges both. `encoders` are the names of the encoders that were found.
pub fn report(trial: impl FnOnce() -> io::Result<Features>, encoders: Vec<String>) -> Report {
    let facts = Facts::read();
    let io_uring = trial().map_err(|error| Refusal::explain(&error, &facts));
    Report { facts, io_uring, encoders }
}

impl Report {
    /// Whether `serve` can run here.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.kernel_is_new_enough() && self.io_uring.is_ok()
    }

    /// Connections the memory that is free now would hold, idle.
    #[must_use]
    pub fn connections_by_memory(&self) -> Option<u64> {
        self.facts.memory_available.map(|bytes| bytes / 8 * 7 / CONNECTION_BYTES)
    }

    /// Connections one ring can hold: its direct descriptors are capped by RLIMIT_NOFILE.
    #[must_use]
    pub fn connections_per_ring(&self) -> Option<u64> {
        self.facts.nofile.hard
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
        advise_descriptors(facts, &mut advice);
        advise_network(facts, &mut advice);
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
            line(f, "conntrack", &format!("{max} flows"))?;
        }
        let congestion =
            format!("{} (of {})", facts.congestion_default, facts.congestion_available.join(", "));
        line(f, "congestion", &congestion)?;
        line(f, "cores", &facts.cores.to_string())?;
        let memory = facts.memory_available.map(size);
        line(f, "memory free", &known(memory.as_ref()))?;
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
        writeln!(f)?;
        let Some(by_memory) = self.connections_by_memory() else {
            return writeln!(
                f,
                "How many connections fit is unknown: /proc/meminfo cannot be read."
            );
        };
        writeln!(
            f,
            "About {by_memory} idle connections fit into seven eighths of the free memory, at {KERNEL_BYTES} B of \
             kernel\nand {USER_BYTES} B of user memory each."
        )?;
        if let Some(per_ring) = self.connections_per_ring().filter(|slots| *slots > 0) {
            let rings = by_memory.div_ceil(per_ring);
            writeln!(
                f,
                "One ring holds at most {per_ring} of them (RLIMIT_NOFILE), so all of them need {rings} ring(s); shards \
                 open\nthem as needed, up to cells.max_cells each."
            )?;
        }
        if let Some(bytes) = self.facts.tcp_mem_bytes() {
            let queued = bytes / self.facts.page_bytes.max(1);
            writeln!(
                f,
                "At one page each, {queued} connections can have data queued at once before tcp_mem squeezes them."
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

/// What was read, once. `None` and empty stand for unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    kernel_release: String,
    /// `kernel.io_uring_disabled`: 0 for everyone, 1 for a group and CAP_SYS_ADMIN, 2 for nobody.
    io_uring_disabled: Option<u64>,
    io_uring_group: Option<i64>,
    seccomp_filter: bool,
    container: Option<&'static str>,
    nofile: Limit,
    memlock: Limit,
    nr_open: Option<u64>,
    file_max: Option<u64>,
    somaxconn: Option<u64>,
    syn_backlog: Option<u64>,
    /// The last of the three numbers, in pages.
    tcp_mem_pages: Option<u64>,
    page_bytes: u64,
    port_range: Option<(u16, u16)>,
    conntrack_max: Option<u64>,
    congestion_default: String,
    congestion_available: Vec<String>,
    memory_available: Option<u64>,
    cores: usize,
}

impl Facts {
    /// Reads the machine this runs on.
    #[must_use]
    pub fn read() -> Self {
        let pair = |text: String| {
            let mut numbers = text.split_whitespace().map(str::parse::<u16>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let status = read("/proc/self/status").unwrap_or_default();
        Self {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            io_uring_group: read("/proc/sys/kernel/io_uring_group")
                .and_then(|t| t.trim().parse().ok()),
            seccomp_filter: field(&status, "Seccomp:") == Some(2),
            container: container(),
            nofile: Limit::read(rustix::process::Resource::Nofile),
            memlock: Limit::read(rustix::process::Resource::Memlock),
            nr_open: number("/proc/sys/fs/nr_open"),
            file_max: number("/proc/sys/fs/file-max"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            syn_backlog: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            tcp_mem_pages: read("/proc/sys/net/ipv4/tcp_mem")
                .and_then(|text| text.split_whitespace().nth(2)?.parse().ok()),
            page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            port_range: read("/proc/sys/net/ipv4/ip_local_port_range").and_then(pair),
            conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            congestion_default: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned()),
            congestion_available: read("/proc/sys/net/ipv4/tcp_available_congestion_control")
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            memory_available: memory_available(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }

    /// Major and minor of the release.
    fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel_release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    fn tcp_mem_bytes(&self) -> Option<u64> {
        self.tcp_mem_pages.map(|pages| pages.saturating_mul(self.page_bytes))
    }

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

/// A resource limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl Limit {
    fn read(resource: rustix::process::Resource) -> Self {
        let limit = rustix::process::getrlimit(resource);
        Self { soft: limit.current, hard: limit.maximum }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        write!(f, "soft {}, hard {}", show(self.soft), show(self.hard))
    }
}

fn advise_descriptors(facts: &Facts, advice: &mut Vec<Advice>) {
    let Limit { soft, hard } = facts.nofile;
    if let Some(hard) = hard.filter(|hard| *hard < NOFILE_GOOD) {
        advice.push(Advice::new(
            format!(
                "RLIMIT_NOFILE is {hard} hard: a ring holds that many connections, so a shard opens more rings; one \
                 ring per shard is a little cheaper"
            ),
            "systemd: LimitNOFILE=1048576\n\
             login shells: echo '* hard nofile 1048576' > /etc/security/limits.d/headwater.conf",
        ));
    }
    if let (Some(soft), hard) = (soft, hard)
        && hard.is_none_or(|hard| soft < hard)
    {
        advice.push(Advice::new(
            format!("RLIMIT_NOFILE is {soft} soft, less than the hard limit"),
            "ulimit -n \"$(ulimit -Hn)\"",
        ));
    }
    if facts.memlock.hard.is_some_and(|bytes| bytes < MEMLOCK_GOOD) {
        advice.push(Advice::new(
            "RLIMIT_MEMLOCK is small: registered buffers and, for users without CAP_IPC_LOCK, large rings count against it",
            "systemd: LimitMEMLOCK=infinity",
        ));
    }
}

fn advise_network(facts: &Facts, advice: &mut Vec<Advice>) {
    for (name, value, good) in [
        ("net.core.somaxconn", facts.somaxconn, BACKLOG_GOOD),
        ("net.ipv4.tcp_max_syn_backlog", facts.syn_backlog, BACKLOG_GOOD),
    ] {
        if let Some(value) = value.filter(|value| *value < good) {
            advice.push(Advice::new(
                format!("{name} is {value}: a storm of reconnecting clients overflows it"),
                &format!("sysctl -w {name}={good}"),
            ));
        }
    }
    if let Some(max) = facts.conntrack_max.filter(|max| *max < NOFILE_GOOD) {
        advice.push(Advice::new(
            format!("connection tracking stops new connections at {max}"),
            "sysctl -w net.netfilter.nf_conntrack_max=2097152    # or do not track the server's ports",
        ));
    }
    if !facts.congestion_available.is_empty()
        && !facts.congestion_available.iter().any(|name| name == "cubic")
    {
        advice.push(Advice::new(
            "cubic, the default of tcp.congestion, is not available; the system's choice stays in effect",
            "modprobe tcp_cubic",
        ));
    }
}

/// What a container leaves behind for its processes to see.
fn container() -> Option<&'static str> {
    if Path::new("/.dockerenv").exists() {
        return Some("docker");
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman");
    }
    std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "kubernetes")
}

/// The memory budget that follows the machine: four fifths of its memory, or of the least limit of the
/// control groups around this process. What is left is for everything else and the kernel's own.
#[must_use]
pub fn memory_budget_bytes() -> Option<u64> {
    let machine = field(&read("/proc/meminfo")?, "MemTotal:")?.saturating_mul(1024);
    let bytes = group_limit().map_or(machine, |limit| limit.min(machine));
    Some(bytes / 5 * 4)
}

/// User memory of this process: anonymous, of files and shared (proc_pid_statm(5)).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let pages: u64 = read("/proc/self/statm")?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_bytes()))
}

/// What TCP sockets have queued in the kernel, of all processes in this network namespace.
#[must_use]
pub fn tcp_queued_bytes() -> Option<u64> {
    let text = read("/proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let pages: u64 = line.split_once(" mem ")?.1.split_whitespace().next()?.parse().ok()?;
    Some(pages.saturating_mul(page_bytes()))
}

fn page_bytes() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// The least limit of memory of the control groups that this process is in, from its own up to the
/// root: version 2 where it is mounted, else version 1, whose own figure already is the least.
fn group_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let limits =
        ancestors(unified).filter_map(|group| number(&format!("/sys/fs/cgroup{group}/memory.max")));
    let former = groups
        .lines()
        .find_map(|line| line.split_once(":memory:").map(|(_, group)| group))
        .and_then(|group| read(&format!("/sys/fs/cgroup/memory{group}/memory.stat")))
        .and_then(|stat| field(&stat, "hierarchical_memory_limit"));
    limits.chain(former).min()
}

/// `/a/b` is in itself, in `/a` and in the root, which has no name here.
fn ancestors(group: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(group.trim_end_matches('/')), |group| {
        group.rfind('/').map(|end| &group[..end])
    })
}

/// MemAvailable, or what the control group leaves of its limit if that is less.
fn memory_available() -> Option<u64> {
    let machine = field(&read("/proc/meminfo")?, "MemAvailable:")?.saturating_mul(1024);
    let group = number("/sys/fs/cgroup/memory.max")
        .map(|max| max.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The first number after a label at the start of a line.
fn field(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
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
/// Kernel memory of an idle TCP connection in a direct slot with a multishot POLL_ADD, measured on Linux 6.18.
const KERNEL_BYTES: u64 = 3_930;
/// Our share of an idle, subscribed connection: the target that tests gate.
const USER_BYTES: u64 = 256;
const CONNECTION_BYTES: u64 = KERNEL_BYTES + USER_BYTES;
/// From here on one ring holds what one core serves.
const NOFILE_GOOD: u64 = 1 << 20;
const MEMLOCK_GOOD: u64 = 64 << 20;
const BACKLOG_GOOD: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn eperm() -> io::Error {
        io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error())
    }

    fn machine() -> Facts {
        Facts {
            kernel_release: "6.12.9-amd64".to_owned(),
            nofile: Limit { soft: Some(1 << 20), hard: Some(1 << 20) },
            somaxconn: Some(4096),
            syn_backlog: Some(4096),
            congestion_available: vec!["reno".to_owned(), "cubic".to_owned()],
            memory_available: Some(8 * 4_186_000),
            tcp_mem_pages: Some(1000),
            page_bytes: 4096,
            cores: 2,
            ..Facts::default()
        }
    }

    fn report_of(facts: Facts) -> Report {
        Report { facts, io_uring: Ok(Features::default()), encoders: Vec::new() }
    }

    #[test]
    fn refusal_names_who_and_how_to_allow() {
        let disabled = |value| Facts { io_uring_disabled: Some(value), ..machine() };
        let filtered = Facts { seccomp_filter: true, ..machine() };
        let contained = Facts { container: Some("docker"), ..filtered.clone() };
        let errno = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for (error, facts, by, remedy) in [
            (eperm(), disabled(2), "io_uring_disabled = 2", "kernel.io_uring_disabled=0"),
            (eperm(), disabled(1), "only CAP_SYS_ADMIN and no group", "kernel.io_uring_group="),
            (eperm(), filtered.clone(), "seccomp filter", "SystemCallFilter"),
            (eperm(), contained.clone(), "container (docker)", "--security-opt seccomp"),
            (errno(rustix::io::Errno::NOSYS), contained, "container (docker)", "--security-opt"),
            (errno(rustix::io::Errno::NOSYS), machine(), "built without", "CONFIG_IO_URING"),
            (eperm(), machine(), "security module", "ausearch"),
            (errno(rustix::io::Errno::INVAL), machine(), "lacks a flag", "6.12"),
            (errno(rustix::io::Errno::NOMEM), machine(), "memory limit", "ulimit -l"),
            (errno(rustix::io::Errno::MFILE), machine(), "open files", "ulimit -n"),
        ] {
            let refusal = Refusal::explain(&error, &facts);
            assert!(refusal.by.contains(by), "{error}: {refusal}");
            assert!(refusal.remedy.contains(remedy), "{error}: {refusal}");
            assert!(!refusal.to_string().contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn kernel_floor() {
        for (release, usable) in [
            ("6.12.0", true),
            ("6.11.99-generic", false),
            ("5.15", false),
            ("6.18.44-x", true),
            ("7.0-rc1", true),
            ("strange", true),
        ] {
            let report = report_of(Facts { kernel_release: release.to_owned(), ..machine() });
            assert_eq!(report.is_usable(), usable, "{release}");
            assert_eq!(report.advice().is_empty(), usable, "{release}");
        }
    }

    #[test]
    fn a_good_machine_needs_nothing_and_a_small_one_is_told() {
        assert_eq!(report_of(machine()).advice(), []);
        let small = Facts {
            nofile: Limit { soft: Some(1024), hard: Some(20_000) },
            memlock: Limit { soft: Some(1), hard: Some(8 << 20) },
            somaxconn: Some(128),
            syn_backlog: Some(64),
            conntrack_max: Some(65_536),
            congestion_available: vec!["reno".to_owned()],
            ..machine()
        };
        let report = report_of(small);
        assert_eq!(report.advice().len(), 7);
        let text = report.to_string();
        for part in ["LimitNOFILE", "ulimit -n", "LimitMEMLOCK", "somaxconn=4096", "modprobe"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn fit_is_memory_over_the_price_of_a_connection() {
        let report = report_of(machine());
        assert_eq!(report.connections_by_memory(), Some(7_000));
        assert!(report.to_string().contains("About 7000 idle connections"));
        assert!(report.to_string().contains("1000 connections can have data queued"));
        let unknown = report_of(Facts { memory_available: None, ..machine() });
        assert!(unknown.to_string().contains("unknown"));
    }

    #[test]
    fn refused_machine_says_so() {
        let facts = Facts { io_uring_disabled: Some(2), ..machine() };
        let io_uring = Err(Refusal::explain(&eperm(), &facts));
        let report = Report { facts, io_uring, encoders: vec!["av1 (rav1e)".to_owned()] };
        assert!(!report.is_usable());
        let text = report.to_string();
        assert!(text.contains("REFUSED") && text.contains("sysctl -w") && text.contains("rav1e"));
    }

    #[test]
    fn this_machine_can_be_read() {
        let facts = Facts::read();
        assert!(facts.kernel_version().is_some(), "{}", facts.kernel_release);
        assert!(facts.memory_available.is_some_and(|bytes| bytes > 1 << 20));
        assert!(facts.tcp_mem_bytes().is_some() && facts.port_range.is_some());
        assert!(facts.page_bytes >= 4096 && facts.cores > 0);
        println!("{}", report(|| Ok(Features::default()), Vec::new()));
    }

    #[test]
    fn fields_of_proc_files() {
        assert_eq!(field("A: 1\nSeccomp:\t2\n", "Seccomp:"), Some(2));
        assert_eq!(field("MemAvailable:   1234 kB", "MemAvailable:"), Some(1234));
        assert_eq!(field("x", "Seccomp:"), None);
    }
}
