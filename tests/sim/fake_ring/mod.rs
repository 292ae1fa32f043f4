//! A [`Ring`] without a kernel: ops run against [`crate::net`], completions come as the seed says.
//!
//! It is as strict as the contract of [`Ring`] allows and asserts what a shard owes it: at most one
//! send and one receive in flight per socket, every op under the socket's own token, nothing after
//! a close, a close that names all that is armed, and so many closes at a time. Like io_uring it runs what was pushed at the
//! next enter; completions of one socket keep their order, but for those that a close cancels.
//! What it does not do: fail an op for a reason that the real kernel would not have.

mod ops;

use crate::net::ConnId;
use crate::world::World;
use headwater::limits::RING_BUFFER_BYTES;
use headwater::memory::{Lease, LeasePool, Spans};
use headwater::ring::{
    AcceptCount, Armed, Cell, Completion, Doorbell, Op, Refused, Ring, RingCounters, RingError,
    Socket, Token, Wait,
};
use headwater::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Cells that may be opened.
const CELLS_MAX: usize = 4;
/// Bytes of a lease of a single receive.
const LEASE_BYTES: usize = 2048;
/// Buffers of a cell for multishot receives.
const RING_BUFFERS: u16 = 4;

/// A shard's end: the trait. All state is in `Core`, so that the scheduler sees it too.
#[derive(Debug)]
pub(crate) struct FakeRing {
    world: Rc<World>,
    shard: usize,
}

/// The doorbell of one ring.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    count: AtomicU64,
}

impl Doorbell for Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The state of one ring.
#[derive(Debug)]
pub(crate) struct RingState {
    shard: usize,
    slots: u32,
    submitted: Vec<Pushed>,
    arrived: VecDeque<Queued>,
    late: BTreeMap<(u64, u64), Queued>,
    late_count: u64,
    cells: Vec<CellState>,
    /// Connections with news.
    pub(crate) ready: Vec<ConnId>,
    /// Connections to be accepted, by listener.
    pub(crate) backlog: Vec<VecDeque<ConnId>>,
    leases: LeasePool,
    bell: Arc<Bell>,
    pub(crate) counters: RingCounters,
    /// Sends that took everything, which no completion tells.
    pub(crate) whole_sends: u64,
    /// Times a cell's sends waited for others.
    pub(crate) gathered: u64,
    /// Closes of connections in flight.
    closes: usize,
    /// Receives that needed no more than [`Ring::answer_received`].
    pub(crate) answered: u64,
    /// Whether what comes next was seen already and left for [`Ring::pop`].
    seen: bool,
    next_uid: u64,
}

/// An op and whether it may wait for others.
#[derive(Debug)]
struct Pushed {
    op: Op,
    gathered: bool,
}

impl Pushed {
    fn is_of(&self, number: usize) -> bool {
        let cell = match &self.op {
            Op::Accept { cell, .. } | Op::CancelAccept { cell, .. } => *cell,
            Op::CloseListener { .. } => return true,
            Op::PeerAddress { socket, .. }
            | Op::Poll { socket, .. }
            | Op::PollWritable { socket, .. }
            | Op::Receive { socket, .. }
            | Op::ReceiveMany { socket, .. }
            | Op::CancelReceiveMany { socket, .. }
            | Op::CancelPoll { socket, .. }
            | Op::Send { socket, .. }
            | Op::Shutdown { socket, .. }
            | Op::Close { socket, .. } => socket.cell(),
        };
        usize::from(cell) == number
    }
}

/// A completion and the occupant of a slot that it is about.
#[derive(Debug)]
struct Queued {
    completion: Completion,
    about: Option<(Cell, u32, u64)>,
}

#[derive(Debug)]
struct CellState {
    slots: Vec<Option<Slot>>,
    /// By listener, the accept that is armed.
    accepting: Vec<Option<AcceptCount>>,
    buffers: LeasePool,
    buffers_free: VecDeque<u16>,
    /// Whether sends wait for others, and for how many enters they have.
    gathering: bool,
    waited: u8,
    round: u8,
}

/// A direct descriptor in use.
#[derive(Debug)]
struct Slot {
    uid: u64,
    conn: ConnId,
    token: Option<Token>,
    /// What the shard believes is armed: from the push to the completion that ends it.
    armed: Armed,
    /// What is armed.
    live: Armed,
    /// Of the receive in flight.
    lease: Option<Lease>,
    receiving: bool,
    sending: bool,
    closing: bool,
    /// No completion of an op comes before this.
    busy_until: u64,
}

impl RingState {
    pub(crate) fn new(shard: usize, listeners: usize, slots: u32, leases: u16) -> Self {
        let mut state = Self {
            shard,
            slots,
            submitted: Vec::new(),
            arrived: VecDeque::new(),
            late: BTreeMap::new(),
            late_count: 0,
            cells: Vec::new(),
            ready: Vec::new(),
            backlog: vec![VecDeque::new(); listeners],
            leases: LeasePool::new(0, leases, LEASE_BYTES),
            bell: Arc::default(),
            counters: RingCounters::default(),
            whole_sends: 0,
            gathered: 0,
            closes: 0,
            answered: 0,
            seen: false,
            next_uid: 0,
        };
        state.open_cell();
        state
    }

    fn open_cell(&mut self) {
        let mut buffers =
            LeasePool::new(self.cells.len() as u16 + 1, RING_BUFFERS, RING_BUFFER_BYTES);
        let buffers_free = buffers.hand_over_all().into();
        self.cells.push(CellState {
            slots: (0..self.slots).map(|_| None).collect(),
            accepting: vec![None; self.backlog.len()],
            buffers,
            buffers_free,
            gathering: false,
            waited: 0,
            round: 0,
        });
    }

    fn slot(&mut self, socket: Socket) -> &mut Slot {
        let slot = &mut self.cells[usize::from(socket.cell())].slots[socket.slot() as usize];
        slot.as_mut().unwrap_or_else(|| panic!("{socket:?} is not open"))
    }

    fn release(&mut self, lease: Lease) {
        if lease.pool() == 0 {
            self.leases.take_back(lease);
            return;
        }
        let cell = &mut self.cells[usize::from(lease.pool()) - 1];
        let index = cell.buffers.take_back_index(lease);
        cell.buffers_free.push_back(index);
    }

    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// When the first late completion is due.
    pub(crate) fn next_late(&self) -> Option<u64> {
        self.late.first_key_value().map(|((due, _), _)| *due)
    }

    /// How often others rang.
    pub(crate) fn rung(&self) -> u64 {
        self.bell.count.load(Ordering::Relaxed)
    }

    pub(crate) fn slots_in_use(&self) -> usize {
        self.cells.iter().map(|cell| cell.slots.iter().flatten().count()).sum()
    }

    pub(crate) fn leases_out(&self) -> usize {
        let picked: usize = self.cells.iter().map(|cell| cell.buffers.outstanding()).sum();
        self.leases.outstanding() + picked
    }

    /// That every lease is where it was at the start.
    pub(crate) fn assert_leases_are_back(&self, leases: u16) {
        assert_eq!(self.leases_out(), 0, "shard {}: leases are out", self.shard);
        assert_eq!(self.leases.free(), usize::from(leases), "shard {}: leases free", self.shard);
        for cell in &self.cells {
            assert_eq!(cell.buffers_free.len(), usize::from(RING_BUFFERS), "ring buffers free");
        }
    }

    pub(crate) fn cell_count(&self) -> usize {
        self.cells.len()
    }
}

/// What a shard owes the ring when it pushes.
fn check(state: &mut RingState, op: &Op) {
    let (socket, token) = match op {
        Op::Accept { listener, cell, .. } => {
            let armed = state.cells[usize::from(*cell)].accepting[usize::from(listener.0)];
            assert!(armed.is_none(), "an accept is armed twice");
            return;
        }
        Op::CancelAccept { .. } | Op::CloseListener { .. } => return,
        Op::PeerAddress { socket, token }
        | Op::Poll { socket, token }
        | Op::PollWritable { socket, token }
        | Op::Receive { socket, token }
        | Op::ReceiveMany { socket, token }
        | Op::CancelReceiveMany { socket, token }
        | Op::CancelPoll { socket, token }
        | Op::Send { socket, token, .. }
        | Op::Shutdown { socket, token }
        | Op::Close { socket, token, .. } => (*socket, *token),
    };
    let slot = state.slot(socket);
    assert!(!slot.closing, "{op:?} after the close");
    let known = *slot.token.get_or_insert(token);
    assert_eq!(known, token, "{op:?} under another connection's token");
    match op {
        Op::Poll { .. } => assert!(!slot.armed.poll, "a poll is armed twice"),
        Op::PollWritable { .. } => assert!(!slot.armed.writable, "armed twice"),
        Op::Receive { .. } | Op::ReceiveMany { .. } => {
            assert!(!slot.receiving && !slot.armed.receive_many, "two receives in flight");
        }
        Op::Send { spans, .. } => {
            assert!(!slot.sending, "two sends in flight");
            assert!(spans.iter().any(|span| !span.is_empty()), "nothing is sent");
            assert!(spans.len() <= headwater::limits::SPANS_PER_SEND_MAX + 2, "{}", spans.len());
        }
        Op::Close { armed, .. } => {
            // What ended while the close waited for room may be named too.
            let named = (!slot.armed.poll || armed.poll)
                && (!slot.armed.writable || armed.writable)
                && (!slot.armed.receive_many || armed.receive_many);
            assert!(named, "{op:?} does not name all that is armed: {:?}", slot.armed);
        }
        _ => {}
    }
}

impl FakeRing {
    pub(crate) const fn new(world: Rc<World>, shard: usize) -> Self {
        Self { world, shard }
    }
}

impl Ring for FakeRing {
    fn push(&mut self, op: Op) -> Result<(), Refused> {
        self.world.core.borrow_mut().push(self.shard, op, false)
    }

    fn send_gathered(&mut self, socket: Socket, token: Token, spans: Spans) -> Result<(), Refused> {
        let op = Op::Send { socket, token, spans };
        self.world.core.borrow_mut().push(self.shard, op, true)
    }

    fn round(&self, cell: Cell) -> u8 {
        self.world.core.borrow().rings[self.shard].cells[usize::from(cell)].round
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        self.world.enter(self.shard, wait);
        Ok(())
    }

    fn answer_received(&mut self, most: u32, answer: impl FnMut(Token, &[u8]) -> bool) -> u32 {
        self.world.core.borrow_mut().answer_received(self.shard, most, answer)
    }

    fn pop(&mut self) -> Option<Completion> {
        self.world.core.borrow_mut().pop(self.shard)
    }

    fn release(&mut self, lease: Lease) {
        self.world.core.borrow_mut().rings[self.shard].release(lease);
    }

    fn now(&self) -> Now {
        self.world.core.borrow().now()
    }

    fn slots_per_cell(&self) -> u32 {
        self.world.core.borrow().rings[self.shard].slots
    }

    fn open_cell(&mut self) -> Result<Cell, RingError> {
        let state = &mut self.world.core.borrow_mut().rings[self.shard];
        if state.cells.len() == CELLS_MAX {
            return Err(RingError::CellsExhausted(CELLS_MAX as Cell));
        }
        state.open_cell();
        Ok(state.cells.len() as Cell - 1)
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::<Bell>::clone(&self.world.core.borrow().rings[self.shard].bell)
    }

    fn counters(&self) -> RingCounters {
        let core = self.world.core.borrow();
        let state = &core.rings[self.shard];
        RingCounters { leases_out: state.leases_out() as u64, ..state.counters }
    }

    fn resident_bytes(&self) -> usize {
        0
    }
}
