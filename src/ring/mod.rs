//! The kernel as a trait: ops go in, completions come out, time is read here and nowhere else.
//!
//! [`Ring`] is everything a shard asks of the kernel. [`kernel::KernelRing`] does it with io_uring;
//! the simulator does it with scripted completions, faults and virtual time. Ops own what they
//! refer to (spans, leases), so an implementation cannot outlive its buffers and the trait needs no
//! `unsafe` from its users.
//!
//! Invariants: an op's completion names the token it was pushed with; a socket has at most one send
//! and one receive in flight (the shard sees to it); what an op owned comes back with its
//! completion; a send that took everything has none; an op that was refused was not submitted.
//!
//! This is the only room that knows SQE, CQE, errno and file descriptor.
#![allow(unsafe_code, reason = "submission entries carry raw pointers to buffers the ring owns")]

mod buffers;
mod cell;
mod entry;
mod kernel;
mod listener;
mod sends;
mod table;
pub mod trial;

pub use kernel::{KernelRing, Options};
pub use listener::{Listener, ListenerOptions, listeners_from_environment};

use crate::memory::{Key, Lease, Spans};
use crate::time::Now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which of a shard's rings a socket belongs to.
pub type Cell = u8;

/// A connected socket: a direct descriptor of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Socket {
    /// The cell, in the upper 8 bits, and the slot in its table of direct descriptors.
    bits: u32,
}

impl Socket {
    /// The socket in `slot` of `cell`.
    #[must_use]
    pub const fn new(cell: Cell, slot: u32) -> Self {
        Self { bits: (cell as u32) << 24 | (slot & 0xFF_FFFF) }
    }

    /// The cell it belongs to.
    #[must_use]
    pub const fn cell(self) -> Cell {
        (self.bits >> 24) as u8
    }

    /// Its slot in the cell's table of direct descriptors.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.bits & 0xFF_FFFF
    }
}

/// A listener of the shard, by its place in the list the ring was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u8);

/// Names the connection an op belongs to; the shard's slab key.
pub type Token = Key;

/// What a shard asks for.
#[derive(Debug)]
pub enum Op {
    /// Accept connections into direct descriptors of `cell`.
    Accept {
        /// Whose connections.
        listener: ListenerId,
        /// The cell that takes them.
        cell: Cell,
        /// How many.
        count: AcceptCount,
    },
    /// End an accept.
    CancelAccept {
        /// Whose connections.
        listener: ListenerId,
        /// The cell that took them.
        cell: Cell,
    },
    /// Let go of a listener whose accepts have ended: who connects from now on is refused, unless
    /// another process holds it too.
    CloseListener {
        /// Which.
        listener: ListenerId,
    },
    /// Say from where the peer connected. Needed once for a connection, where a rule goes by it.
    PeerAddress {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Say when there is something to receive or the peer closed its half (multishot).
    Poll {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// End a [`Op::Poll`]; its last completion says so.
    CancelPoll {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Say once when there is room to send.
    PollWritable {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Receive what is there, without waiting, into a lease of the ring's pool.
    Receive {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Receive from now on into leases that the kernel picks (multishot).
    ReceiveMany {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// End a [`Op::ReceiveMany`].
    CancelReceiveMany {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Send the spans in order, without waiting. It is over when the next enter returns; only what it
    /// did not take is told, in [`Completion::SentShort`], before [`Ring::pop`] says that nothing more
    /// has arrived.
    Send {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
        /// The bytes.
        spans: Spans,
    },
    /// Close our half: the peer reads an end of stream after what was sent.
    Shutdown {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
    },
    /// Cancel what is armed and give the slot back.
    Close {
        /// The socket.
        socket: Socket,
        /// The connection.
        token: Token,
        /// What is in flight and would keep the socket open.
        armed: Armed,
    },
}

/// How many connections an accept takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptCount {
    /// One; it has to be armed again.
    One,
    /// All that come, until told otherwise (multishot). One enter may bring as many as the backlog
    /// holds, and those that find no free slot are dropped.
    Many,
}

/// Long-lived ops that a close has to cancel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// A [`Op::Poll`].
    pub poll: bool,
    /// A [`Op::PollWritable`].
    pub writable: bool,
    /// A [`Op::ReceiveMany`].
    pub receive_many: bool,
}

/// What came of an op.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted.
    Accepted {
        /// On which listener.
        listener: ListenerId,
        /// The new socket.
        socket: Socket,
    },
    /// An accept ended, by cancel or failure; it has to be armed again to go on.
    AcceptEnded {
        /// On which listener.
        listener: ListenerId,
        /// The cell that took connections.
        cell: Cell,
        /// Why, when it was not asked for.
        failure: Failure,
    },
    /// From where the peer connected.
    PeerAddress {
        /// The connection.
        token: Token,
        /// `None` when the peer is gone already, or came by no internet address.
        address: Option<Box<SocketAddr>>,
    },
    /// There is something to receive, or an end of stream.
    Readable {
        /// The connection.
        token: Token,
        /// Whether the poll goes on; if not it has to be armed again.
        more: bool,
        /// Why the poll ended, when it failed.
        failure: Option<Failure>,
        /// Whether the peer has closed its half, or reset the connection.
        hung_up: bool,
    },
    /// There is room to send, or the socket failed: the next send says which.
    Writable {
        /// The connection.
        token: Token,
    },
    /// A receive ended.
    Received {
        /// The connection.
        token: Token,
        /// The bytes (none filled: end of stream), or why there are none.
        result: Result<Lease, Failure>,
        /// Whether more is waiting already.
        nonempty: bool,
    },
    /// A multishot receive brought something.
    ReceivedMany {
        /// The connection.
        token: Token,
        /// The bytes.
        lease: Lease,
        /// Whether it goes on; if not it has to be armed again.
        more: bool,
    },
    /// A multishot receive ended without bytes; it has to be armed again.
    ReceiveManyEnded {
        /// The connection.
        token: Token,
        /// Why; `None` at the end of the stream.
        failure: Option<Failure>,
    },
    /// A send did not take everything.
    SentShort {
        /// The connection.
        token: Token,
        /// How many bytes were taken.
        result: Result<usize, Failure>,
        /// What was not; it has to be sent before anything else.
        unsent: Box<Spans>,
    },
    /// Our half is closed.
    ShutDown {
        /// The connection.
        token: Token,
    },
    /// The slot is free again.
    Closed {
        /// The connection.
        token: Token,
        /// The socket that was.
        socket: Socket,
    },
    /// Another thread rang: there may be something in a mailbox.
    Doorbell,
}

const _: () = assert!(size_of::<Completion>() <= 40, "a completion is moved for every op");

/// Why an op failed, as far as the difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing could be done without waiting (EAGAIN).
    WouldBlock,
    /// The kernel had no receive buffer to pick (ENOBUFS).
    NoBuffers,
    /// It was cancelled (ECANCELED).
    Canceled,
    /// The peer is gone (ECONNRESET, EPIPE, ETIMEDOUT and their like).
    Disconnected,
    /// The table of direct descriptors was full; the connection was dropped (ENFILE).
    TableFull,
    /// The process may open no more files (EMFILE).
    OutOfFiles,
    /// Anything else: the error number.
    Other(i32),
}

/// How long and for how much to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// At most so long; zero only looks.
    pub timeout: Duration,
    /// Until so many completions are there.
    pub completions: u32,
    /// After so long one completion is enough; zero waits for all of them.
    pub batch: Duration,
    /// Whether sends by [`Ring::send_gathered`] may wait for the next enter, because more of them come soon.
    pub gathers: Gathers,
}

/// Whether an enter leaves sends that may wait where they are, when a cell has nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gathers {
    /// All are submitted.
    #[default]
    Nothing,
    /// Those of all cells wait.
    All,
    /// Those of some cells are submitted, in each such enter of others, so that none waits for many of these.
    InTurn,
}

/// An op that was not submitted, and why.
#[derive(Debug)]
pub struct Refused {
    /// The op, unchanged.
    pub op: Op,
    /// Why.
    pub reason: Refusal,
}

/// Why an op was not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All leases are out; try again after some came back.
    NoLease,
    /// The submission queue or the table of ops is full; try again after the next enter.
    NoRoom,
}

/// Counts since the ring was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounters {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Ops submitted.
    pub submitted: u64,
    /// Completions reaped.
    pub completed: u64,
    /// Times the kernel had to keep completions aside because a queue was full.
    pub overflows: u64,
    /// Leases that are out.
    pub leases_out: u64,
    /// Bytes that sends took, as far as what they did not take was told.
    pub bytes_sent: u64,
}

/// Wakes a shard that sleeps in [`Ring::enter`], from any thread.
pub trait Doorbell: Send + Sync + std::fmt::Debug {
    /// Makes a [`Completion::Doorbell`] arrive.
    fn ring(&self);
}

/// The ring cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A call of the ring itself failed.
    #[error("{call}: {source}")]
    Call {
        /// Which call.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// No further cell may be opened.
    #[error("all {0} cells are open")]
    CellsExhausted(Cell),
}

/// Everything a shard asks of the kernel.
pub trait Ring {
    /// Queues an op for the next enter; may enter by itself when the queue is full.
    ///
    /// # Errors
    /// The op, when there is no room for it now.
    fn push(&mut self, op: Op) -> Result<(), Refused>;

    /// The same for [`Op::Receive`], the most frequent.
    ///
    /// # Errors
    /// Why it was not queued.
    fn receive(&mut self, socket: Socket, token: Token) -> Result<(), Refusal> {
        self.push(Op::Receive { socket, token }).map_err(|refused| refused.reason)
    }

    /// The same for [`Op::Send`], the most frequent.
    ///
    /// # Errors
    /// The op, when there is no room for it now.
    fn send(&mut self, socket: Socket, token: Token, spans: Spans) -> Result<(), Refused> {
        self.push(Op::Send { socket, token, spans })
    }

    /// The same for a send that may wait for others while [`Wait::gathers`] says that more come.
    ///
    /// # Errors
    /// The op, when there is no room for it now.
    fn send_gathered(&mut self, socket: Socket, token: Token, spans: Spans) -> Result<(), Refused> {
        self.send(socket, token, spans)
    }

    /// A number of a cell that is another one when of every send so far it is known what it took.
    fn round(&self, cell: Cell) -> u8;

    /// Submits what was pushed and waits for completions.
    ///
    /// # Errors
    /// When the ring cannot go on.
    fn enter(&mut self, wait: Wait) -> Result<(), RingError>;

    /// Lets `answer` see what multishot receives brought, as long as they are what comes next and it says
    /// that it needs the bytes no more; at most `most` of them. Says how many that were. What `answer`
    /// did not want is next for [`Self::pop`], to which a ring may leave them all.
    fn answer_received(&mut self, most: u32, answer: impl FnMut(Token, &[u8]) -> bool) -> u32 {
        let (_, _) = (most, answer);
        0
    }

    /// Takes the next completion that has arrived. `None` says that all were taken that the last enter
    /// brought.
    fn pop(&mut self) -> Option<Completion>;

    /// Gives a lease back.
    fn release(&mut self, lease: Lease);

    /// The time now.
    fn now(&self) -> Now;

    /// How many direct descriptors a cell has.
    fn slots_per_cell(&self) -> u32;

    /// Opens one more cell and says which.
    ///
    /// # Errors
    /// When there are as many as allowed, or the kernel refuses.
    fn open_cell(&mut self) -> Result<Cell, RingError>;

    /// A handle that wakes this ring from any thread.
    fn doorbell(&self) -> Arc<dyn Doorbell>;

    /// Counts since the ring was made.
    fn counters(&self) -> RingCounters;

    /// Memory of queues, leases and tables, in bytes.
    fn resident_bytes(&self) -> usize;
}
