//! [`Ring`] on io_uring: one or more rings ("cells") of one thread behind one eventfd.
//!
//! The thread sleeps in the first cell. The other cells and the doorbells of other threads signal
//! the eventfd, which the first cell polls; a cell with work shows it in its flags. Every op has a
//! `user_data` of its own: its kind, a generation and either a connection's slot (ops that own
//! nothing) or a slot of the [`Table`] of what ops own.

use super::buffers::{BufferRing, GROUP};
use super::cell::{CellRing, builder, passable};
use super::entry::{self, SEND_FLAGS};
use super::listener::Listener;
use super::sends::{Sending, SpareVectors};
use super::table::{Closing, Entry, Table};
use super::{
    AcceptCount, Armed, Cell, Completion, Doorbell, Failure, Gathers, ListenerId, Op, Refusal,
    Refused, Ring, RingCounters, RingError, Socket, Token, Wait,
};
use crate::limits::{DEFERRED_ENTERS_MAX, GATHERED_SENDS_ENOUGH, GATHERING_ENTERS_MAX};
use crate::memory::{Key, Lease, LeasePool, PoolId, Spans};
use crate::time::{Monotonic, Now, Wall};
use io_uring::squeue::Flags;
use io_uring::types::{DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Sizes of a shard's rings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Submission entries of a cell.
    pub submission_entries: u32,
    /// Completion entries of a cell.
    pub completion_entries: u32,
    /// Direct descriptors of a cell.
    pub slots_per_cell: u32,
    /// Cells that may be opened.
    pub cells_max: Cell,
    /// Receive buffers lent per receive.
    pub leases: u16,
    /// Bytes of each.
    pub lease_bytes: usize,
    /// Receive buffers per cell that the kernel picks from; a power of two.
    pub ring_buffers: u16,
    /// Bytes of each.
    pub ring_buffer_bytes: usize,
}

/// The pool of leases that are lent to a receive; the others are a cell's, and say which.
const LENT: PoolId = 0;
/// Of the events of a poll, those after which nothing but the end comes.
const HANG_UP: i32 = (libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP) as i32;
/// Closes in flight.
const TABLE_ENTRIES_MAX: usize = 1 << 16;

/// [`Ring`] on io_uring.
#[derive(Debug)]
pub struct KernelRing {
    options: Options,
    cells: Vec<CellRing>,
    listeners: Vec<Option<Listener>>,
    leases: LeasePool,
    closes: Table<Closing>,
    vectors: SpareVectors,
    wake: Arc<EventFd>,
    /// The cell whose completions are taken next; past the last when all were.
    taking: usize,
    /// An entry that was taken and is still to be told, and whose it is: the next enter may come before that.
    looked_at: Option<(Cell, cqueue::Entry)>,
    /// The second half of what one entry said.
    also: Option<Completion>,
    /// Receives in flight, by the index of their lease.
    receiving: Vec<Option<(Token, Lease)>>,
    started: Instant,
    counters: RingCounters,
    /// Whether the poll of the eventfd has to be armed again.
    arm_wake: bool,
    /// Whether a cell of this enter has work left. An enter runs twenty pieces of it, of which none may have a
    /// completion, and what is left wakes nobody again; what comes later does.
    left_over: bool,
    /// Counts the enters during which sends may gather.
    gathered_enters: usize,
}

/// What a completion's `user_data` says about its op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Nothing to be told: cancels, and ops whose end another op tells.
    Silent = 0,
    Accept,
    Poll,
    Writable,
    Receive,
    ReceiveMany,
    Send,
    Shutdown,
    Close,
    Wake,
    Install,
}

impl Kind {
    const fn from_user_data(user_data: u64) -> Self {
        match (user_data >> 56) as u8 {
            1 => Self::Accept,
            2 => Self::Poll,
            3 => Self::Writable,
            4 => Self::Receive,
            5 => Self::ReceiveMany,
            6 => Self::Send,
            7 => Self::Shutdown,
            8 => Self::Close,
            9 => Self::Wake,
            10 => Self::Install,
            _ => Self::Silent,
        }
    }
}

const fn user_data(kind: Kind, key: Key) -> u64 {
    (kind as u64) << 56 | key.to_bits()
}

/// A send is named by its number among those of its cell.
const fn send_data(number: u32) -> u64 {
    user_data(Kind::Send, Key { index: number, generation: 0 })
}

const fn entry_key(entry: Entry) -> Key {
    Key { index: entry.index, generation: entry.generation }
}

const fn failed(call: &'static str) -> impl Fn(io::Error) -> RingError {
    move |source| RingError::Call { call, source }
}

impl KernelRing {
    /// Opens the first cell on the calling thread, which alone may use the ring from then on.
    ///
    /// # Errors
    /// When the kernel refuses something the ring needs.
    pub fn new(options: Options, listeners: Vec<Listener>) -> Result<Self, RingError> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| RingError::Call { call: "eventfd", source: error.into() })?;
        let leases = LeasePool::new(LENT, options.leases, options.lease_bytes);
        let options_leases = options.leases;
        let mut ring = Self {
            options,
            cells: Vec::new(),
            listeners: listeners.into_iter().map(Some).collect(),
            leases,
            closes: Table::new(TABLE_ENTRIES_MAX),
            vectors: SpareVectors::default(),
            wake: Arc::new(EventFd(descriptor)),
            taking: 0,
            looked_at: None,
            also: None,
            receiving: (0..options_leases).map(|_| None).collect(),
            started: Instant::now(),
            counters: RingCounters::default(),
            arm_wake: true,
            left_over: false,
            gathered_enters: 0,
        };
        ring.open_cell()?;
        Ok(ring)
    }

    /// Where each listener listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().flatten().map(Listener::address).collect()
    }

    /// Puts an entry in a cell's submission queue, entering the kernel once when it is full.
    #[inline(always)]
    fn submit(&mut self, number: Cell, entry: &squeue::Entry) -> bool {
        self.cells[usize::from(number)].submit(entry, &mut self.counters)
    }

    /// Puts two linked entries in a cell's submission queue, or neither.
    fn submit_linked(&mut self, cell: Cell, entries: &[squeue::Entry]) -> bool {
        let cell = &mut self.cells[usize::from(cell)];
        cell.hurries = true;
        let ring = &mut cell.ring;
        // SAFETY: cancel and close entries point to nothing.
        if unsafe { ring.submission().push_multiple(entries) }.is_err() {
            self.counters.enters += 1;
            if let Err(error) = ring.submit() {
                tracing::debug!(%error, "a full submission queue could not be submitted");
            }
            // SAFETY: as above.
            if unsafe { ring.submission().push_multiple(entries) }.is_err() {
                return false;
            }
        }
        self.counters.submitted += entries.len() as u64;
        true
    }

    /// Several spans are one SENDMSG. Says whether it was pushed.
    #[inline(never)]
    fn push_vectors(&mut self, socket: Socket, token: Token, spans: Spans) -> bool {
        let mut vectors = self.vectors.take();
        vectors.list.extend(spans.iter().map(|span| libc::iovec {
            iov_base: span.address().cast_mut().cast(),
            iov_len: span.len(),
        }));
        vectors.header.msg_iov = vectors.list.as_mut_ptr();
        vectors.header.msg_iovlen = vectors.list.len();
        let header = &raw const vectors.header;
        let bytes = spans.iter().map(|span| span.len() as u32).sum();
        let sending = Sending { token, bytes, spans, vectors: Some(vectors) };
        let number = self.cells[usize::from(socket.cell())].sends.push(sending);
        let sqe = opcode::SendMsg::new(Fixed(socket.slot()), header)
            .flags(SEND_FLAGS as u32)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(send_data(number));
        self.submit(socket.cell(), &sqe)
    }

    fn push_close(&mut self, socket: Socket, token: Token, armed: Armed) -> bool {
        if self.closes.is_full() {
            return false;
        }
        let entry = self.closes.insert(Closing { token, socket });
        let mut chain: smallvec::SmallVec<[squeue::Entry; 4]> = smallvec::SmallVec::new();
        let kinds = [
            (armed.poll, Kind::Poll),
            (armed.writable, Kind::Writable),
            (armed.receive_many, Kind::ReceiveMany),
        ];
        // A close does not reach the peer while an op holds the socket, so each is cancelled by its
        // user_data first; the hard link closes whether or not the cancel found its op.
        for (_, kind) in kinds.into_iter().filter(|(armed, _)| *armed) {
            chain.push(
                opcode::AsyncCancel::new(user_data(kind, token))
                    .build()
                    .flags(Flags::IO_HARDLINK)
                    .user_data(user_data(Kind::Silent, token)),
            );
        }
        chain.push(
            opcode::Close::new(Fixed(socket.slot()))
                .build()
                .user_data(user_data(Kind::Close, entry_key(entry))),
        );
        let pushed = self.submit_linked(socket.cell(), &chain);
        if !pushed {
            self.closes.remove(entry);
        }
        pushed
    }

    fn accept_data(listener: ListenerId) -> u64 {
        user_data(Kind::Accept, Key { index: u32::from(listener.0), generation: 0 })
    }

    /// Whether every completion that is there was taken, and no cell but the first, which sees to it while it waits,
    /// had work left over behind its enter.
    fn is_drained(&mut self) -> bool {
        self.also.is_none()
            && self.looked_at.is_none()
            && !self.left_over
            && self.cells.iter_mut().all(|cell| cell.ring.completion().is_empty())
    }

    /// The next completion of the cell that is taken from, or of one behind it.
    #[inline(always)]
    fn take(&mut self) -> Option<(Cell, cqueue::Entry)> {
        if let Some(looked_at) = self.looked_at.take() {
            self.counters.completed += 1;
            return Some(looked_at);
        }
        while let Some(cell) = self.cells.get_mut(self.taking) {
            if let Some(entry) = cell.ring.completion().next() {
                self.counters.completed += 1;
                return Some((self.taking as Cell, entry));
            }
            if cell.has_overflown(&mut self.counters) {
                self.fetch_overflown();
                continue;
            }
            // What a send of it did not take was told by now.
            self.counters.bytes_sent += cell.sends.release(&mut self.vectors);
            self.taking += 1;
        }
        None
    }

    /// Moves completions that the kernel kept aside into the queue, which is empty.
    #[cold]
    fn fetch_overflown(&mut self) {
        self.counters.enters += 1;
        if let Err(error) = self.cells[self.taking].ring.submit() {
            tracing::debug!(%error, "completions kept aside could not be fetched");
        }
    }

    fn accepted(
        &mut self,
        cell: Cell,
        listener: ListenerId,
        result: i32,
        more: bool,
    ) -> Completion {
        if result < 0 {
            return Completion::AcceptEnded { listener, cell, failure: failure(-result) };
        }
        if !more {
            let failure = Failure::Canceled;
            self.also = Some(Completion::AcceptEnded { listener, cell, failure });
        }
        Completion::Accepted { listener, socket: Socket::new(cell, result as u32) }
    }

    /// The buffer that the kernel picked, with what it received.
    #[inline(always)]
    fn picked(&mut self, cell: Cell, result: i32, flags: u32) -> Option<Lease> {
        let index = cqueue::buffer_select(flags)?;
        let buffers = &mut self.cells[usize::from(cell)].buffers;
        Some(buffers.picked(index, usize::try_from(result).unwrap_or(0)))
    }

    fn received_many_ended(
        &mut self,
        token: Token,
        result: i32,
        lease: Option<Lease>,
    ) -> Completion {
        if let Some(lease) = lease {
            self.release(lease);
        }
        let failure = (result < 0).then(|| failure(-result));
        Completion::ReceiveManyEnded { token, failure }
    }

    #[inline(always)]
    fn received(&mut self, index: usize, result: i32, flags: u32) -> Option<Completion> {
        let (token, mut lease) = self.receiving.get_mut(index)?.take()?;
        let result = if result >= 0 {
            lease.set_filled(result as usize);
            Ok(lease)
        } else {
            self.leases.take_back(lease);
            Err(failure(-result))
        };
        Some(Completion::Received { token, result, nonempty: cqueue::sock_nonempty(flags) })
    }

    /// A send that was not whole.
    #[cold]
    fn sent_short(&mut self, cell: Cell, number: u32, result: i32) -> Option<Completion> {
        let taken = usize::try_from(result).unwrap_or(0);
        let (token, unsent) = self.cells[usize::from(cell)].sends.cut(number, taken)?;
        let result = if result >= 0 { Ok(taken) } else { Err(failure(-result)) };
        Some(Completion::SentShort { token, result, unsent: Box::new(unsent) })
    }

    fn closed(&mut self, key: Key, result: i32) -> Option<Completion> {
        let entry = Entry { index: key.index, generation: key.generation };
        let Closing { token, socket } = self.closes.remove(entry)?;
        if result < 0 {
            tracing::warn!(error = -result, "a direct descriptor could not be closed");
        }
        Some(Completion::Closed { token, socket })
    }

    /// Submits what a cell has and runs its deferred work, without waiting. Sends that
    /// wait for others may stay where they are.
    fn enter_now(&mut self, cell: usize, gathers: Gathers) -> Result<(), RingError> {
        let overflown = self.cells[cell].has_overflown(&mut self.counters);
        let submission = self.cells[cell].ring.submission();
        let (is_empty, has_work) = (submission.is_empty(), submission.taskrun() || overflown);
        drop(submission);
        let waits = match gathers {
            Gathers::Nothing => false,
            Gathers::All => self.cells[cell].goes_on_gathering(),
            Gathers::InTurn => {
                let times = self.gathered_enters.wrapping_add(cell);
                !times.is_multiple_of(usize::from(GATHERING_ENTERS_MAX))
                    && self.cells[cell].goes_on_gathering()
            }
        };
        if !has_work && (is_empty || waits) {
            return Ok(());
        }
        let takes_long =
            gathers != Gathers::Nothing || self.cells[cell].sends.len() >= GATHERED_SENDS_ENOUGH;
        let ring = &mut self.cells[cell].ring;
        self.counters.enters += 1;
        passable(ring.submit().map(drop))?;
        self.cells[cell].settle()?;
        if takes_long {
            self.work_off(cell)?;
        }
        self.left_over |= self.cells[cell].ring.submission().taskrun();
        Ok(())
    }

    /// Runs what a cell deferred while many sends went out. An enter runs some of it by itself, and the next
    /// one comes after as many sends again: whoever speaks would wait for several turns.
    fn work_off(&mut self, cell: usize) -> Result<(), RingError> {
        let ring = &mut self.cells[cell].ring;
        for _ in 0..DEFERRED_ENTERS_MAX {
            if !ring.submission().taskrun() {
                break;
            }
            self.counters.enters += 1;
            passable(ring.submit().map(drop))?;
        }
        Ok(())
    }

    fn enter_waiting(&mut self, wait: Wait) -> Result<(), RingError> {
        let timeout = Timespec::from(wait.timeout);
        let mut arguments = SubmitArgs::new().timespec(&timeout);
        if wait.completions > 1 && !wait.batch.is_zero() {
            let batch = u32::try_from(wait.batch.as_micros()).unwrap_or(u32::MAX);
            arguments = arguments.min_wait_usec(batch);
        }
        self.counters.enters += 1;
        self.cells[0].has_overflown(&mut self.counters);
        let ring = &mut self.cells[0].ring;
        let wanted = wait.completions.max(1) as usize;
        passable(ring.submitter().submit_with_args(wanted, &arguments).map(drop))?;
        self.cells[0].settle()
    }

    fn arm_wake(&mut self) {
        let descriptor = Fd(self.wake.0.as_raw_fd());
        let sqe = opcode::PollAdd::new(descriptor, libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(user_data(Kind::Wake, Key { index: 0, generation: 0 }));
        self.arm_wake = !self.submit(0, &sqe);
    }
}

/// Asks a descriptor that was installed for this, and closes it.
fn peer_address(installed: i32) -> Option<SocketAddr> {
    if installed < 0 {
        return None;
    }
    // SAFETY: the kernel has just installed this descriptor for the op that asked for it (no error,
    // so not negative), and nothing else in the process knows its number.
    let descriptor = unsafe { OwnedFd::from_raw_fd(installed) };
    let address = rustix::net::getpeername(&descriptor).ok()??;
    SocketAddr::try_from(address).ok()
}

const fn failure(errno: i32) -> Failure {
    match errno {
        libc::EAGAIN => Failure::WouldBlock,
        libc::ENOBUFS => Failure::NoBuffers,
        libc::ECANCELED => Failure::Canceled,
        libc::ECONNRESET
        | libc::EPIPE
        | libc::ETIMEDOUT
        | libc::ECONNABORTED
        | libc::ENOTCONN
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH => Failure::Disconnected,
        libc::ENFILE => Failure::TableFull,
        libc::EMFILE => Failure::OutOfFiles,
        other => Failure::Other(other),
    }
}

impl Ring for KernelRing {
    fn push(&mut self, op: Op) -> Result<(), Refused> {
        let pushed = match op {
            Op::Receive { socket, token } => {
                return self
                    .receive(socket, token)
                    .map_err(|reason| Refused { op: Op::Receive { socket, token }, reason });
            }
            Op::Send { socket, token, spans } => return self.send(socket, token, spans),
            Op::Close { socket, token, armed } => self.push_close(socket, token, armed),
            Op::Accept { listener, cell, count } => {
                // A shard that let go of a listener accepts no more; an accept all the same fails.
                let listener_descriptor = self.listeners[usize::from(listener.0)].as_ref();
                let descriptor = Fd(listener_descriptor.map_or(-1, Listener::raw));
                let sqe = match count {
                    AcceptCount::One => {
                        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
                        opcode::Accept::new(descriptor, no_address, no_length)
                            .file_index(Some(DestinationSlot::auto_target()))
                            .build()
                    }
                    AcceptCount::Many => {
                        opcode::AcceptMulti::new(descriptor).allocate_file_index(true).build()
                    }
                };
                self.submit(cell, &sqe.user_data(Self::accept_data(listener)))
            }
            Op::CloseListener { listener } => {
                self.listeners[usize::from(listener.0)] = None;
                true
            }
            Op::CancelAccept { listener, cell } => {
                let sqe = opcode::AsyncCancel::new(Self::accept_data(listener)).build();
                self.submit(cell, &sqe.user_data(user_data(Kind::Silent, Key::NONE)))
            }
            Op::PeerAddress { socket, token } => {
                // No op asks a direct descriptor for its peer; an ordinary one for the same socket
                // answers and is closed at once (Linux 6.8).
                let sqe = opcode::FixedFdInstall::new(Fixed(socket.slot()), 0).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Install, token)))
            }
            Op::Poll { socket, token } => {
                let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
                let sqe = opcode::PollAdd::new(Fixed(socket.slot()), events).multi(true).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Poll, token)))
            }
            Op::CancelPoll { socket, token } => {
                let sqe = opcode::AsyncCancel::new(user_data(Kind::Poll, token)).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Silent, token)))
            }
            Op::PollWritable { socket, token } => {
                let sqe = opcode::PollAdd::new(Fixed(socket.slot()), libc::POLLOUT as u32).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Writable, token)))
            }
            Op::ReceiveMany { socket, token } => {
                let sqe = opcode::RecvMulti::new(Fixed(socket.slot()), GROUP).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::ReceiveMany, token)))
            }
            Op::CancelReceiveMany { socket, token } => {
                let sqe = opcode::AsyncCancel::new(user_data(Kind::ReceiveMany, token)).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Silent, token)))
            }
            Op::Shutdown { socket, token } => {
                let sqe = opcode::Shutdown::new(Fixed(socket.slot()), libc::SHUT_WR).build();
                self.submit(socket.cell(), &sqe.user_data(user_data(Kind::Shutdown, token)))
            }
        };
        if pushed { Ok(()) } else { Err(Refused { op, reason: Refusal::NoRoom }) }
    }

    #[inline]
    fn receive(&mut self, socket: Socket, token: Token) -> Result<(), Refusal> {
        let mut lease = self.leases.lend().ok_or(Refusal::NoLease)?;
        let index = lease.index();
        let space = lease.space_mut();
        let (address, length) = (space.as_mut_ptr(), space.len() as u32);
        // A lease is lent to one receive at a time, so its index names the receive.
        let sqe = opcode::Recv::new(Fixed(socket.slot()), address, length)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(user_data(Kind::Receive, Key { index: u32::from(index), generation: 0 }));
        if !self.submit(socket.cell(), &sqe) {
            self.leases.take_back(lease);
            return Err(Refusal::NoRoom);
        }
        self.receiving[usize::from(index)] = Some((token, lease));
        Ok(())
    }

    #[inline(always)]
    fn send(&mut self, socket: Socket, token: Token, spans: Spans) -> Result<(), Refused> {
        self.cells[usize::from(socket.cell())].hurries = true;
        self.send_gathered(socket, token, spans)
    }

    #[inline(always)]
    fn send_gathered(&mut self, socket: Socket, token: Token, spans: Spans) -> Result<(), Refused> {
        let refused =
            |spans| Refused { op: Op::Send { socket, token, spans }, reason: Refusal::NoRoom };
        let cell = &mut self.cells[usize::from(socket.cell())];
        if cell.sends.is_full() {
            return Err(refused(spans));
        }
        let pushed = if let [span] = spans.as_slice() {
            let (address, bytes) = (span.address(), span.len() as u32);
            let number = cell.sends.push(Sending { token, bytes, spans, vectors: None });
            let sqe = entry::send(socket.slot(), address, bytes, send_data(number));
            cell.submit_gathered(&sqe, &mut self.counters)
        } else {
            self.push_vectors(socket, token, spans)
        };
        if pushed {
            return Ok(());
        }
        let sends = &mut self.cells[usize::from(socket.cell())].sends;
        let taken_back = sends.pop(&mut self.vectors);
        Err(refused(taken_back))
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        if self.arm_wake {
            self.arm_wake();
        }
        self.gathered_enters =
            self.gathered_enters.wrapping_add(usize::from(wait.gathers == Gathers::InTurn));
        self.left_over = false;
        for cell in 1..self.cells.len() {
            self.enter_now(cell, wait.gathers)?;
        }
        let waits = self.is_drained() && !wait.timeout.is_zero();
        if waits {
            self.enter_waiting(wait)?;
        } else {
            self.enter_now(0, wait.gathers)?;
        }
        if waits {
            for cell in 1..self.cells.len() {
                self.enter_now(cell, Gathers::Nothing)?;
            }
        }
        self.taking = 0;
        Ok(())
    }

    #[inline(always)]
    fn round(&self, cell: Cell) -> u8 {
        self.cells[usize::from(cell)].sends.round()
    }

    #[inline(always)]
    fn answer_received(&mut self, most: u32, mut answer: impl FnMut(Token, &[u8]) -> bool) -> u32 {
        if self.looked_at.is_some() {
            return 0;
        }
        let Some(cell) = self.cells.get_mut(self.taking) else { return 0 };
        let mut queue = cell.ring.completion();
        let mut answered = 0;
        while answered < most
            && let Some(entry) = queue.next()
        {
            let (data, flags) = (entry.user_data(), entry.flags());
            let goes_on = data >> 56 == Kind::ReceiveMany as u64 && cqueue::more(flags);
            let done = goes_on
                && entry.result() > 0
                && cqueue::buffer_select(flags).is_some_and(|index| {
                    let read = |bytes: &[u8]| answer(Key::from_bits(data), bytes);
                    cell.buffers.read(index, entry.result() as usize, read)
                });
            if !done {
                self.looked_at = Some((self.taking as Cell, entry));
                break;
            }
            answered += 1;
        }
        drop(queue);
        cell.buffers.publish();
        self.counters.completed += u64::from(answered);
        answered
    }

    fn pop(&mut self) -> Option<Completion> {
        if self.also.is_some() {
            return self.also.take();
        }
        while let Some((cell, entry)) = self.take() {
            let data = entry.user_data();
            let key = Key::from_bits(data);
            let (result, more) = (entry.result(), cqueue::more(entry.flags()));
            let completion = match Kind::from_user_data(data) {
                Kind::Poll => {
                    let failure = (result < 0).then(|| failure(-result));
                    let hung_up = result > 0 && result & HANG_UP != 0;
                    return Some(Completion::Readable { token: key, more, failure, hung_up });
                }
                Kind::Receive => self.received(key.index as usize, result, entry.flags()),
                Kind::Send => self.sent_short(cell, key.index, result),
                Kind::ReceiveMany => {
                    let lease = self.picked(cell, result, entry.flags());
                    match lease {
                        Some(lease) if result > 0 => {
                            return Some(Completion::ReceivedMany { token: key, lease, more });
                        }
                        lease => return Some(self.received_many_ended(key, result, lease)),
                    }
                }
                Kind::Silent => continue,
                Kind::Wake => {
                    self.arm_wake |= !more;
                    return Some(Completion::Doorbell);
                }
                Kind::Accept => {
                    return Some(self.accepted(cell, ListenerId(key.index as u8), result, more));
                }
                Kind::Install => {
                    let address = peer_address(result).map(Box::new);
                    return Some(Completion::PeerAddress { token: key, address });
                }
                Kind::Writable => return Some(Completion::Writable { token: key }),
                Kind::Shutdown => return Some(Completion::ShutDown { token: key }),
                Kind::Close => self.closed(key, result),
            };
            if completion.is_some() {
                return completion;
            }
        }
        None
    }

    #[inline(always)]
    fn release(&mut self, lease: Lease) {
        match usize::from(lease.pool()) {
            0 => self.leases.take_back(lease),
            cell => self.cells[cell - 1].buffers.give_back(lease),
        }
    }

    fn now(&self) -> Now {
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: Monotonic::from_nanos(since),
            wall: Wall::from_unix_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    fn slots_per_cell(&self) -> u32 {
        self.options.slots_per_cell
    }

    fn open_cell(&mut self) -> Result<Cell, RingError> {
        let number = self.cells.len();
        if number >= usize::from(self.options.cells_max) {
            return Err(RingError::CellsExhausted(self.options.cells_max));
        }
        let ring: IoUring = builder(self.options.completion_entries)
            .build(self.options.submission_entries)
            .map_err(failed("io_uring_setup"))?;
        let submitter = ring.submitter();
        submitter
            .register_files_sparse(self.options.slots_per_cell)
            .map_err(failed("io_uring_register(FILES2)"))?;
        if number > 0 {
            submitter
                .register_eventfd(self.wake.0.as_raw_fd())
                .map_err(failed("io_uring_register(EVENTFD)"))?;
        }
        let (count, bytes) = (self.options.ring_buffers, self.options.ring_buffer_bytes);
        let buffers = BufferRing::register(&submitter, number as PoolId + 1, count, bytes)
            .map_err(failed("io_uring_register(PBUF_RING)"))?;
        self.cells.push(CellRing::new(ring, buffers));
        Ok(number as Cell)
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::<EventFd>::clone(&self.wake)
    }

    fn counters(&self) -> RingCounters {
        let picked: usize = self.cells.iter().map(|cell| cell.buffers.outstanding()).sum();
        let leases_out = (self.leases.outstanding() + picked) as u64;
        RingCounters { leases_out, ..self.counters }
    }

    fn resident_bytes(&self) -> usize {
        let entries = self.options.completion_entries * 16 + self.options.submission_entries * 64;
        let cells: usize = self
            .cells
            .iter()
            .map(|cell| cell.buffers.resident_bytes() + cell.sends.resident_bytes())
            .sum();
        cells
            + self.cells.len() * entries as usize
            + self.leases.resident_bytes()
            + self.closes.resident_bytes()
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        // The kernel may still write into leases of receives in flight; closing the rings first
        // ends that (fields would drop in order, but the order is stated here).
        self.cells.clear();
    }
}

/// The eventfd that wakes a ring.
#[derive(Debug)]
struct EventFd(OwnedFd);

impl Doorbell for EventFd {
    fn ring(&self) {
        // A full counter means that it was rung and not yet heard, which is as good.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
