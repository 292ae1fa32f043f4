//! What is read of the machine, once, from /proc, /sys and the limits of this process.
//!
//! In: files of the kernel. Out: [`Facts`], and the few figures that a running server asks for. A fact
//! that cannot be read is `None` or empty. Judged elsewhere.

use std::fmt;
use std::path::Path;

/// What was read, once. `None` and empty stand for unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub(super) kernel_release: String,
    /// `kernel.io_uring_disabled`: 0 for everyone, 1 for a group and CAP_SYS_ADMIN, 2 for nobody.
    pub(super) io_uring_disabled: Option<u64>,
    pub(super) io_uring_group: Option<i64>,
    pub(super) seccomp_filter: bool,
    pub(super) container: Option<&'static str>,
    pub(super) nofile: Limit,
    pub(super) memlock: Limit,
    pub(super) nr_open: Option<u64>,
    pub(super) file_max: Option<u64>,
    pub(super) somaxconn: Option<u64>,
    pub(super) syn_backlog: Option<u64>,
    /// The last of the three numbers, in pages.
    pub(super) tcp_mem_pages: Option<u64>,
    pub(super) page_bytes: u64,
    pub(super) port_range: Option<(u16, u16)>,
    pub(super) conntrack_max: Option<u64>,
    pub(super) conntrack_count: Option<u64>,
    pub(super) congestion_default: String,
    pub(super) congestion_available: Vec<String>,
    pub(super) memory_available: Option<u64>,
    /// What the memory budget is without a configuration.
    pub(super) memory_budget: Option<u64>,
    /// Whether this process may raise its hard limits (CAP_SYS_RESOURCE).
    pub(super) may_raise: bool,
    pub(super) cores: usize,
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
            conntrack_count: number("/proc/sys/net/netfilter/nf_conntrack_count"),
            congestion_default: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned()),
            congestion_available: read("/proc/sys/net/ipv4/tcp_available_congestion_control")
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            memory_available: memory_available(),
            memory_budget: memory_budget_bytes(),
            may_raise: may_raise(&status),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }

    /// Major and minor of the release.
    pub(super) fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel_release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// How many flows are tracked at most, where any are: without a rule that asks for it, none are.
    pub(super) fn tracked_max(&self) -> Option<u64> {
        self.conntrack_max.filter(|_| self.conntrack_count != Some(0))
    }

    pub(super) fn tcp_mem_bytes(&self) -> Option<u64> {
        self.tcp_mem_pages.map(|pages| pages.saturating_mul(self.page_bytes))
    }
}

/// A resource limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
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
    let mut space = [0; SHORT_FILE_BYTES];
    let text = read_into(&mut space, "/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_bytes()))
}

/// What TCP sockets have queued in the kernel, of all processes in this network namespace.
#[must_use]
pub fn tcp_queued_bytes() -> Option<u64> {
    let mut space = [0; SHORT_FILE_BYTES];
    let text = read_into(&mut space, "/proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let pages: u64 = line.split_once(" mem ")?.1.split_whitespace().next()?.parse().ok()?;
    Some(pages.saturating_mul(page_bytes()))
}

/// The two above are short, and are asked for all the time: without an allocation.
const SHORT_FILE_BYTES: usize = 1024;

fn read_into<'a>(space: &'a mut [u8; SHORT_FILE_BYTES], path: &str) -> Option<&'a str> {
    use std::io::Read as _;
    // The kernel makes such a file in one piece.
    let bytes = std::fs::File::open(path).and_then(|mut file| file.read(space)).ok()?;
    std::str::from_utf8(&space[..bytes]).ok()
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
pub(super) fn ancestors(group: &str) -> impl Iterator<Item = &str> {
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

/// Whether CAP_SYS_RESOURCE is in effect (capabilities(7)).
fn may_raise(status: &str) -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> CAP_SYS_RESOURCE & 1 == 1)
}

/// The first number after a label at the start of a line.
pub(super) fn field(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}
