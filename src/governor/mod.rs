//! The governor: one memory budget for the whole box, divided among what takes memory, and what is
//! given up first when it runs out.
//!
//! In: what each shard uses, told about every tick ([`Governor::tick`]), and what the machine says of
//! the whole ([`Governor::measure`]). Out: [`Orders`] for that shard. Shards meet here only then: one
//! padded cell each and one number under compare-and-swap, nothing per message.
//!
//! The shares are guarantees. Connections and media cannot be taken back, so their shares are bounds
//! too: a connection that keeps its side is never ended for another's sake. What history and slow
//! readers do not use of theirs, and what media leaves, history may borrow, and slow readers after it.
//! When the sum is above the budget they give back, in this order:
//!
//! ```text
//! 1 history       the oldest publications go
//! 2 slow readers  are closed, the largest backlog first: WebSocket 1013, event streams end
//! 3 media         windows shrink to what players need; new publishers are refused
//! 4 connections   new ones are refused: 503, Retry-After, RTMP Connect.Rejected
//! ```
//!
//! Invariants (tested): connections never take more than their share, whatever shards do at once;
//! when everybody does as told the sum is above the budget by no more than what was added between two
//! ticks, unless media alone does not fit.
//!
//! Deliberately absent: clocks, files, connections. Who asks the machine is `server`, who obeys is
//! `shard`.

mod plan;
mod slow;

pub use plan::{Limits, Plan, Shares, Used};
pub use slow::{SlowReader, SlowReaders};

use crate::limits::{
    CONNECTION_BYTES, CONNECTIONS_PER_GRANT_MAX, KERNEL_BYTES_PER_CONNECTION,
    KERNEL_BYTES_PER_SLOW_READER_MAX,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// What takes user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Slots, subscriptions and timers of connections.
    Connections,
    /// Publications that channels keep, and the newest of each replica's log.
    History,
    /// What waits for who reads slowly, and what logs keep for them.
    SlowReaders,
    /// Access units of live streams.
    Media,
    /// Queues, leases and tables of rings.
    Ring,
    /// Tables beside what connections have in them.
    Tables,
    /// Pools of blocks that wait for use, compressors, texts.
    Pools,
}

impl Kind {
    /// Every kind with the word for it.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Connections, "connections"),
        (Self::History, "history"),
        (Self::SlowReaders, "slow_readers"),
        (Self::Media, "media"),
        (Self::Ring, "ring"),
        (Self::Tables, "tables"),
        (Self::Pools, "pools"),
    ];
}

/// What is given up, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Publications of histories that were dropped before their time.
    History,
    /// Slow readers that were closed.
    SlowReaders,
    /// Segments that were dropped before their time.
    MediaSegments,
    /// Publishers that were refused.
    MediaPublishers,
    /// Connections that were refused.
    Connections,
}

impl Step {
    /// Every step with the word for it.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::History, "history_publications"),
        (Self::SlowReaders, "slow_readers"),
        (Self::MediaSegments, "media_segments"),
        (Self::MediaPublishers, "media_publishers"),
        (Self::Connections, "connections"),
    ];
}

/// What a shard uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its connections.
    pub connections: u64,
    /// Its readers with something that waits for them.
    pub slow_readers: u64,
    /// User bytes, in the order of [`Kind::ALL`].
    pub bytes: [u64; Kind::ALL.len()],
}

/// What a shard may and shall do until its next tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// How many more connections it may take.
    pub connections: u64,
    /// What its histories have to come down to, as a part of what they have.
    pub history: Option<Part>,
    /// Bytes of slow readers that it has to let go of.
    pub slow_readers_bytes: u64,
    /// What its windows of live streams have to come down to, as a part of what they have.
    pub media: Option<Part>,
}

/// A part of something: `allowed` of `used`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What is allowed of it.
    pub allowed: u64,
    /// What there is.
    pub used: u64,
}

impl Part {
    /// This part of `bytes`, rounded down.
    #[must_use]
    pub const fn of(self, bytes: u64) -> u64 {
        if self.used == 0 {
            return bytes;
        }
        // At most `bytes`, as `allowed` is at most `used`.
        (bytes as u128 * self.allowed as u128 / self.used as u128) as u64
    }
}

/// The budget and who uses what of it; one for all shards.
#[derive(Debug)]
pub struct Governor {
    plan: Plan,
    cells: Box<[Cell]>,
    /// Bytes of connections that there are or may be until the next tick, over all shards.
    reserved: AtomicU64,
    /// Resident memory that no shard told of.
    unaccounted: AtomicU64,
    /// What sockets of this machine have queued in the kernel.
    queued: AtomicU64,
}

/// One shard's part, written by that shard alone.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    connections: AtomicU64,
    slow_readers: AtomicU64,
    bytes: [AtomicU64; Kind::ALL.len()],
    /// Its part of `Governor::reserved`.
    reserved: AtomicU64,
    /// Whether it may take a connection.
    has_room: AtomicU64,
    shed: [AtomicU64; Step::ALL.len()],
}

impl Governor {
    /// A governor of `shards` shards.
    #[must_use]
    pub fn new(shards: usize, plan: Plan) -> Self {
        Self {
            plan,
            cells: (0..shards).map(|_| Cell::default()).collect(),
            reserved: AtomicU64::new(0),
            unaccounted: AtomicU64::new(0),
            queued: AtomicU64::new(0),
        }
    }

    /// What is to be kept to.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A shard tells what it uses and hears what to do.
    pub fn tick(&self, shard: usize, report: &Report) -> Orders {
        let own = &self.cells[shard];
        own.connections.store(report.connections, Ordering::Relaxed);
        own.slow_readers.store(report.slow_readers, Ordering::Relaxed);
        for (cell, bytes) in own.bytes.iter().zip(report.bytes) {
            cell.store(bytes, Ordering::Relaxed);
        }
        let used = self.used();
        let limits = self.plan.limits(&used);
        let connections = self.reserve(own, report, limits.connections);
        own.has_room.store(u64::from(connections > 0), Ordering::Relaxed);
        let slow = report.bytes[Kind::SlowReaders as usize]
            + self.queued_for(report.slow_readers, self.slow_readers());
        let excess = used.slow_readers.saturating_sub(limits.slow_readers);
        Orders {
            connections,
            history: part(limits.history, used.history),
            slow_readers_bytes: Part { allowed: excess, used: used.slow_readers }.of(slow),
            media: part(limits.media, used.media),
        }
    }

    /// A shard has used up what it was granted and asks for more before its next tick. Says how many
    /// connections it may take.
    pub fn ask(&self, shard: usize, report: &Report) -> u64 {
        let own = &self.cells[shard];
        let limit = self.plan.limits(&self.used()).connections;
        let connections = self.reserve(own, report, limit);
        own.has_room.store(u64::from(connections > 0), Ordering::Relaxed);
        connections
    }

    /// Gives back what a shard was granted and did not use, and grants anew.
    fn reserve(&self, own: &Cell, report: &Report, limit: u64) -> u64 {
        let used = connection_bytes(report);
        let former = own.reserved.load(Ordering::Relaxed);
        let mut total = self.reserved.load(Ordering::Relaxed);
        loop {
            let others = total - former;
            let free = limit.saturating_sub(others.saturating_add(used)) / CONNECTION_BYTES;
            // Shards share what is left, down to the last one, which goes to who comes first.
            let fair = (free / self.cells.len().max(1) as u64).max(free.min(1));
            let granted = fair.min(CONNECTIONS_PER_GRANT_MAX);
            let reserved = used + granted * CONNECTION_BYTES;
            let exchanged = self.reserved.compare_exchange_weak(
                total,
                others + reserved,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => {
                    own.reserved.store(reserved, Ordering::Relaxed);
                    return granted;
                }
                Err(present) => total = present,
            }
        }
    }

    /// What the machine says: the resident memory of this process, and the bytes that TCP sockets have
    /// queued in the kernel.
    pub fn measure(&self, resident_bytes: u64, queued_bytes: u64) {
        let accounted: u64 = Kind::ALL.iter().map(|(kind, _)| self.bytes(*kind)).sum();
        self.unaccounted.store(resident_bytes.saturating_sub(accounted), Ordering::Relaxed);
        self.queued.store(queued_bytes, Ordering::Relaxed);
    }

    /// Counts what was given up.
    pub fn shed(&self, shard: usize, step: Step, count: u64) {
        let cell = &self.cells[shard].shed[step as usize];
        cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// What was given up so far in a step.
    #[must_use]
    pub fn shed_total(&self, step: Step) -> u64 {
        self.sum(|cell| &cell.shed[step as usize])
    }

    /// Whether no shard may take a connection.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sum(|cell| &cell.has_room) == 0
    }

    /// Whether media has room for one more publisher.
    #[must_use]
    pub fn takes_publishers(&self) -> bool {
        let used = self.used();
        used.media < self.plan.limits(&used).media
    }

    /// User bytes of a kind, over all shards.
    #[must_use]
    pub fn bytes(&self, kind: Kind) -> u64 {
        self.sum(|cell| &cell.bytes[kind as usize])
    }

    /// User bytes of a kind on one shard.
    #[must_use]
    pub fn shard_bytes(&self, shard: usize, kind: Kind) -> u64 {
        self.cells[shard].bytes[kind as usize].load(Ordering::Relaxed)
    }

    /// Connections, over all shards.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.sum(|cell| &cell.connections)
    }

    /// Readers with something that waits for them, over all shards.
    #[must_use]
    pub fn slow_readers(&self) -> u64 {
        self.sum(|cell| &cell.slow_readers)
    }

    /// What the kernel is taken to spend on idle sockets.
    #[must_use]
    pub fn kernel_sockets_bytes(&self) -> u64 {
        self.connections() * KERNEL_BYTES_PER_CONNECTION
    }

    /// What the kernel has queued for slow readers: as measured, but no more than their sockets hold,
    /// because the measure is of everything on this machine.
    #[must_use]
    pub fn kernel_queued_bytes(&self) -> u64 {
        let most = self.slow_readers().saturating_mul(KERNEL_BYTES_PER_SLOW_READER_MAX);
        self.queued.load(Ordering::Relaxed).min(most)
    }

    /// Resident memory that no shard told of: the binary, stacks, the allocator's own.
    #[must_use]
    pub fn unaccounted_bytes(&self) -> u64 {
        self.unaccounted.load(Ordering::Relaxed)
    }

    /// What is used of the budget.
    #[must_use]
    pub fn used(&self) -> Used {
        Used {
            connections: self.bytes(Kind::Connections) + self.kernel_sockets_bytes(),
            history: self.bytes(Kind::History),
            slow_readers: self.bytes(Kind::SlowReaders) + self.kernel_queued_bytes(),
            media: self.bytes(Kind::Media),
            other: self.bytes(Kind::Ring)
                + self.bytes(Kind::Tables)
                + self.bytes(Kind::Pools)
                + self.unaccounted_bytes(),
        }
    }

    /// Of what the kernel has queued, the part of `readers` of `all`.
    fn queued_for(&self, readers: u64, all: u64) -> u64 {
        Part { allowed: readers, used: all.max(1) }.of(self.kernel_queued_bytes())
    }

    fn sum(&self, value: impl Fn(&Cell) -> &AtomicU64) -> u64 {
        self.cells.iter().map(|cell| value(cell).load(Ordering::Relaxed)).sum()
    }
}

/// What a shard's connections take, with the kernel's part.
const fn connection_bytes(report: &Report) -> u64 {
    report.bytes[Kind::Connections as usize] + report.connections * KERNEL_BYTES_PER_CONNECTION
}

fn part(allowed: u64, used: u64) -> Option<Part> {
    (used > allowed).then_some(Part { allowed, used })
}

#[cfg(test)]
mod tests;
