//! The server: listeners, a thread per shard, signals, the end.
//!
//! Everything is made here and handed down: entropy, seeds, rings, the mesh. A shard's thread is
//! pinned, opens its ring itself (only the thread that opened a ring may use it) and turns until it
//! is drained.

use crate::config::{Config, Count, ProxyRange, is_loopback};
use crate::connection::{Role, Transport};
use crate::governor::{Plan, Shares};
use crate::limits::{
    CELLS_MAX, COMPLETION_ENTRIES, LEASE_BYTES, LEASES_PER_SHARD, LISTEN_BACKLOG, MAILBOX_MESSAGES,
    RING_BUFFER_BYTES, RING_BUFFERS_PER_CELL, SLOTS_PER_CELL_MAX, SUBMISSION_ENTRIES,
    UNACKNOWLEDGED_MS,
};
use crate::mailbox::{Post, SHARDS_MAX, SideSender, mesh};
use crate::observe::Board;
use crate::ring::{
    KernelRing, Listener, ListenerOptions, Options, RingError, listeners_from_environment,
};
use crate::session::Settings;
use crate::shard::{ListenerInfo, Mail, Shard, ShardOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A path cannot be listened on.
    #[error("cannot listen on {}: {source}", path.display())]
    ListenPath {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A listener that was handed over cannot be used.
    #[error("cannot use the listeners of LISTEN_FDS: {0}")]
    HandedOver(std::io::Error),
    /// The kernel refuses io_uring.
    #[error("{0}")]
    Refused(String),
    /// The memory budget is to follow the machine, which does not say what it has.
    #[error("/proc/meminfo cannot be read: say in the configuration what memory.budget_mib is")]
    MemoryUnknown,
    /// A shard failed.
    #[error("shard {shard}: {source}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        source: RingError,
    },
    /// A thread could not be started or ended badly.
    #[error("thread {name}: {reason}")]
    Thread {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shards: Vec<JoinHandle<Result<(), RingError>>>,
    senders: Vec<SideSender<Mail>>,
    /// Further queues into the first shard, for threads that feed the server.
    feeds: Vec<SideSender<Mail>>,
    addresses: Vec<(Role, SocketAddr)>,
    paths: Vec<PathBuf>,
    board: Arc<Board>,
    /// Ends the thread that measures when it is dropped.
    measuring: Option<std::sync::mpsc::Sender<()>>,
}

/// Messages that side threads may have on their way to a shard.
const SIDE_MESSAGES: usize = 1024;
/// Threads that may feed the server: the demo's picture and its messages.
const FEEDS: usize = 2;

impl Server {
    /// Starts every shard and returns when all of them serve.
    ///
    /// # Errors
    /// When an address or the kernel refuses.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        check_kernel()?;
        // With huge pages an idle connection measured 559 bytes instead of 266.
        if !crate::memory::pages::only_asked_huge_pages() {
            tracing::debug!("transparent huge pages stay on");
        }
        let shards = config.shards.or(cores()).min(u32::from(SHARDS_MAX)) as usize;
        let Listening { addresses, paths, by_shard } = listen(config, shards)?;
        let entropy = RandomState::new();
        let epoch = u64::try_from(unix_seconds()).unwrap_or(1);
        let settings = Arc::new(Settings::new(config, entropy.hash_one("home"), epoch));
        let board = Arc::new(Board::with_budget(shards, plan(config)?));
        let (ready, started) = std::sync::mpsc::channel();
        let mut server = Self {
            shards: Vec::new(),
            senders: Vec::new(),
            feeds: Vec::new(),
            addresses,
            paths,
            board: Arc::clone(&board),
            measuring: None,
        };
        let posts = mesh(shards as u8, MAILBOX_MESSAGES);
        for (number, (mut post, listeners)) in posts.into_iter().zip(by_shard).enumerate() {
            let (listeners, infos) = listeners.into_iter().unzip();
            server.senders.push(post.side_sender(SIDE_MESSAGES));
            if number == 0 {
                server.feeds.extend((0..FEEDS).map(|_| post.side_sender(SIDE_MESSAGES)));
            }
            let options = ShardOptions {
                listeners: infos,
                settings: Arc::clone(&settings),
                board: Arc::clone(&board),
                transport: Transport::Plain,
                entropy: entropy.hash_one(("shard", number)),
                sinks_per_turn: crate::limits::SINKS_PER_TURN,
            };
            let ring = ring_options(config);
            let ready = ready.clone();
            let name = format!("shard-{number}");
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || run_shard(number, ring, listeners, post, options, &ready))
                .map_err(|error| ServerError::Thread { name, reason: error.to_string() })?;
            server.shards.push(thread);
        }
        drop(ready);
        for _ in 0..shards {
            // A shard that fails before it is ready drops its sender; its error is in its result.
            if started.recv().is_err() {
                server.drain();
                return Err(server.wait().err().unwrap_or_else(|| ServerError::Thread {
                    name: "shard".to_string(),
                    reason: "ended before it served".to_string(),
                }));
            }
        }
        // After the shards, because the allocator lays memory out in the order in which threads begin:
        // started among them, 16 MiB messages kept 21 MiB more resident in half of all runs.
        server.measuring = start_measuring(&server.board);
        Ok(server)
    }

    /// What is known of all shards.
    #[must_use]
    pub const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Where the server listens.
    #[must_use]
    pub fn addresses(&self) -> &[(Role, SocketAddr)] {
        &self.addresses
    }

    /// The paths on which it speaks HTTP.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The first address of a role.
    #[must_use]
    pub fn address(&self, role: Role) -> Option<SocketAddr> {
        self.addresses.iter().find(|(known, _)| *known == role).map(|(_, address)| *address)
    }

    /// Queues into a shard for threads that feed the server; taken once.
    pub fn side_senders(&mut self) -> Vec<SideSender<Mail>> {
        std::mem::take(&mut self.feeds)
    }

    /// A queue into every shard, for the thread that drains them; taken once.
    pub fn take_senders(&mut self) -> Vec<SideSender<Mail>> {
        std::mem::take(&mut self.senders)
    }

    /// Tells every shard to drain; a second time, to stop at once.
    pub fn drain(&mut self) {
        drain(&mut self.senders);
    }

    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// The first failure of a shard.
    pub fn wait(self) -> Result<(), ServerError> {
        let mut failure = None;
        for (shard, thread) in self.shards.into_iter().enumerate() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(source)) => {
                    failure.get_or_insert(ServerError::Shard { shard, source });
                }
                Err(_) => {
                    failure.get_or_insert_with(|| ServerError::Thread {
                        name: format!("shard-{shard}"),
                        reason: "panicked".to_string(),
                    });
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Tells every shard to drain; a second time, to stop at once.
pub fn drain(senders: &mut [SideSender<Mail>]) {
    for sender in senders {
        // A queue that is full of media has room again in a moment; a shard that is gone needs no
        // telling.
        while sender.send(Mail::Drain).is_err() && !sender.is_abandoned() {
            std::thread::yield_now();
        }
    }
}

/// What this kernel and machine give, and what is missing for `connections` of them.
#[must_use]
pub fn probe(connections: Option<u64>) -> crate::probe::Report {
    let trial = || {
        crate::ring::trial::trial().map(|features| trial_report(&features)).map_err(|error| {
            match error {
                RingError::Call { source, .. } => source,
                other @ RingError::CellsExhausted(_) => std::io::Error::other(other),
            }
        })
    };
    let encoders = crate::encode::BACKENDS
        .iter()
        .map(|backend| format!("{} ({}): {:?}", backend.name, backend.codec, (backend.probe)()))
        .collect();
    crate::probe::report(trial, encoders, connections)
}

fn trial_report(features: &crate::ring::trial::Features) -> crate::probe::Features {
    let found = [
        ("operations in use", features.ops),
        ("batched wait (min_wait)", features.min_wait),
        ("completions kept on overflow", features.no_drop),
        ("zero-copy send", features.send_zero_copy),
    ];
    let (present, missing): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, known)| *known);
    let names = |list: Vec<(&str, bool)>| list.into_iter().map(|(name, _)| name.into()).collect();
    crate::probe::Features { present: names(present), missing: names(missing) }
}

fn check_kernel() -> Result<(), ServerError> {
    match crate::ring::trial::trial() {
        Ok(features) if features.suffices() => Ok(()),
        Ok(features) => Err(ServerError::Refused(format!(
            "this kernel is too old, Linux 6.12 is the floor ({features})"
        ))),
        Err(RingError::Call { call, source }) => {
            let facts = crate::probe::Facts::read();
            let refusal = crate::probe::Refusal::explain(&source, &facts);
            Err(ServerError::Refused(format!("{call}: {refusal}")))
        }
        Err(error) => Err(ServerError::Refused(error.to_string())),
    }
}

fn run_shard(
    number: usize,
    ring: Options,
    listeners: Vec<Listener>,
    post: Post<Mail>,
    options: ShardOptions,
    ready: &std::sync::mpsc::Sender<()>,
) -> Result<(), RingError> {
    pin(number);
    let ring = KernelRing::new(ring, listeners)?;
    let mut shard = Shard::new(ring, post, options);
    // The first turn arms the accepts: from then on connections are served.
    shard.turn()?;
    // The receiver waits for every shard before it goes away.
    let _ = ready.send(());
    shard.run()
}

/// Pins the calling thread to one of the cores it may run on.
fn pin(number: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let cores: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.is_empty() {
        return;
    }
    let mut chosen = rustix::thread::CpuSet::new();
    chosen.set(cores[number % cores.len()]);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &chosen) {
        tracing::warn!(%error, "a shard could not be pinned to its core");
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// The sizes of a shard's ring; slots by what the process may have.
fn ring_options(config: &Config) -> Options {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit
        .current
        .or(limit.maximum)
        .map_or(SLOTS_PER_CELL_MAX, |files| u32::try_from(files).unwrap_or(u32::MAX));
    let slots = files.min(SLOTS_PER_CELL_MAX);
    Options {
        submission_entries: SUBMISSION_ENTRIES,
        completion_entries: COMPLETION_ENTRIES,
        slots_per_cell: config.cells.slots_per_cell.or(slots).min(slots),
        cells_max: u8::try_from(config.cells.max_cells).unwrap_or(CELLS_MAX).min(CELLS_MAX),
        leases: LEASES_PER_SHARD,
        lease_bytes: LEASE_BYTES,
        ring_buffers: RING_BUFFERS_PER_CELL,
        ring_buffer_bytes: RING_BUFFER_BYTES,
    }
}

/// What is listened on.
struct Listening {
    addresses: Vec<(Role, SocketAddr)>,
    paths: Vec<PathBuf>,
    /// Each shard's listeners, in the order of its ring's.
    by_shard: Vec<Vec<(Listener, ListenerInfo)>>,
}

/// A listener per address and shard, and one per path.
fn listen(config: &Config, shards: usize) -> Result<Listening, ServerError> {
    let congestion = Some(config.tcp.congestion.clone()).filter(|name| !name.is_empty());
    let options = ListenerOptions {
        backlog: LISTEN_BACKLOG,
        congestion,
        unacknowledged_ms: UNACKNOWLEDGED_MS,
        defers_accept: true,
    };
    let handed_over = listeners_from_environment(&options).map_err(ServerError::HandedOver)?;
    let mut listening = Listening {
        addresses: Vec::new(),
        paths: Vec::new(),
        by_shard: (0..shards).map(|_| Vec::new()).collect(),
    };
    let mut handed_over: Vec<Option<Listener>> = handed_over.into_iter().map(Some).collect();
    let wanted = config
        .http
        .addr
        .iter()
        .map(|address| (Role::Http, *address))
        .chain(config.rtmp.addr.iter().map(|address| (Role::Rtmp, *address)))
        .chain(config.http.raw_echo.iter().map(|address| (Role::Echo, *address)));
    for (role, mut address) in wanted {
        let info = internet_info(config, role, address);
        for listeners in &mut listening.by_shard {
            let given = handed_over
                .iter_mut()
                .find(|listener| {
                    listener.as_ref().is_some_and(|listener| listener.address() == address)
                })
                .and_then(Option::take);
            let listener = match given {
                Some(listener) => listener,
                None => Listener::bind(address, &options)
                    .map_err(|source| ServerError::Listen { address, source })?,
            };
            // Port 0 becomes a real one with the first shard; the others share it.
            address = listener.address();
            listeners.push((listener, info));
        }
        listening.addresses.push((role, address));
    }
    let info = ListenerInfo {
        is_proxy: config.http.trusts_unix(),
        proxy_protocol: config.http.proxy_protocol,
        ..ListenerInfo::local(Role::Http)
    };
    // Of two shards that accept from one socket one would get everything: a path has one shard.
    for (number, path) in config.http.unix.iter().enumerate() {
        let path = path.as_path();
        let given = handed_over
            .iter_mut()
            .find(|listener| listener.as_ref().is_some_and(|l| l.path() == Some(path)))
            .and_then(Option::take);
        let listener = match given {
            Some(listener) => listener,
            None => Listener::bind_path(path, config.http.unix_mode.bits(), &options)
                .map_err(|source| ServerError::ListenPath { path: path.to_owned(), source })?,
        };
        listening.by_shard[number % shards].push((listener, info));
        listening.paths.push(path.to_owned());
    }
    Ok(listening)
}

fn internet_info(config: &Config, role: Role, address: SocketAddr) -> ListenerInfo {
    let is_local = is_loopback(address);
    let has_proxies =
        config.http.proxies.iter().any(|proxy| matches!(proxy, ProxyRange::Internet { .. }));
    ListenerInfo {
        role,
        is_local,
        is_proxy: false,
        // Asking costs an op and two system calls for each connection; publishers are few, and who
        // they are belongs into the log.
        asks_address: match role {
            Role::Http => has_proxies,
            Role::Rtmp => has_proxies || !is_local,
            Role::Echo => false,
        },
        proxy_protocol: match role {
            Role::Http => config.http.proxy_protocol,
            Role::Rtmp => config.rtmp.proxy_protocol,
            Role::Echo => false,
        },
    }
}

/// The memory budget, from the configuration or from the machine.
fn plan(config: &Config) -> Result<Plan, ServerError> {
    let memory = &config.memory;
    let budget_bytes = match memory.budget_mib {
        Count::Exactly(mib) => u64::from(mib.get()) << 20,
        Count::Auto => crate::probe::memory_budget_bytes().ok_or(ServerError::MemoryUnknown)?,
    };
    let shares = Shares {
        connections: memory.connections_percent,
        history: memory.history_percent,
        slow_readers: memory.slow_readers_percent,
        media: memory.media_percent,
    };
    tracing::info!(budget_mib = budget_bytes >> 20, "memory budget");
    Ok(Plan { budget_bytes, shares })
}

fn start_measuring(board: &Arc<Board>) -> Option<std::sync::mpsc::Sender<()>> {
    let (stop, stopped) = std::sync::mpsc::channel();
    let board = Arc::clone(board);
    let started = std::thread::Builder::new()
        .name("memory".to_string())
        .spawn(move || measure(&board, &stopped));
    match started {
        Ok(_) => Some(stop),
        Err(error) => {
            tracing::warn!(%error, "what the whole process uses is not measured");
            None
        }
    }
}

/// How often the machine is asked what the whole process uses.
const MEASURE_EVERY: Duration = Duration::from_millis(250);

/// Tells the governor what the machine says, until `stopped` is dropped: what shards count is not all
/// there is, and what the kernel queues they cannot see. In a thread of its own, because a shard waits
/// for nothing but its ring.
fn measure(board: &Board, stopped: &Receiver<()>) {
    while stopped.recv_timeout(MEASURE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let resident = crate::probe::resident_bytes().unwrap_or(0);
        let queued = crate::probe::tcp_queued_bytes().unwrap_or(0);
        board.governor().measure(resident, queued);
    }
}

fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
