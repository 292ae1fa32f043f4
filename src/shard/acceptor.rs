//! Which cell accepts, and how.
//!
//! An accept that finds the table of direct descriptors full drops the connection it took, and a
//! multishot accept may take a whole backlog in one enter. So a cell accepts many at a time only
//! while a whole backlog of every listener fits; then one at a time, as many as there are free
//! slots; then the next cell goes on. When no cell has room, connections wait in the listener's
//! backlog.

use super::ListenerInfo;
use crate::limits::{LISTEN_BACKLOG, REFUSALS_PER_SHARD_MAX};
use crate::ring::{AcceptCount, Cell, Failure, ListenerId, Op, Ring, Socket};
use crate::time::Monotonic;
use std::time::Duration;

/// The accept state of a shard.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<Listening>,
    /// Slots in use per open cell.
    used: Vec<u32>,
    slots: u32,
    /// The cell that accepts.
    accepting: Cell,
    stopped: bool,
    /// Until when a failed accept is not tried again.
    rest_until: Option<Monotonic>,
    exhausted: bool,
    /// Whether that was said in the log.
    told_exhausted: bool,
}

#[derive(Debug)]
struct Listening {
    info: ListenerInfo,
    /// The accept in flight.
    armed: Option<(Cell, AcceptCount)>,
    /// Whether that accept was told to end.
    ending: bool,
    /// Whether the ring has let go of it.
    closed: bool,
}

/// How long an accept that failed for lack of descriptors rests.
const REST: Duration = Duration::from_millis(100);

impl Acceptor {
    pub(super) fn new(listeners: Vec<ListenerInfo>, slots: u32) -> Self {
        Self {
            listeners: listeners
                .into_iter()
                .map(|info| Listening { info, armed: None, ending: false, closed: false })
                .collect(),
            used: vec![0],
            slots,
            accepting: 0,
            stopped: false,
            rest_until: None,
            exhausted: false,
            told_exhausted: false,
        }
    }

    pub(super) fn info(&self, listener: ListenerId) -> ListenerInfo {
        self.listeners[usize::from(listener.0)].info
    }

    /// Arms every listener that should accept and does not.
    pub(super) fn arm<R: Ring>(&mut self, ring: &mut R) {
        if self.stopped {
            // Again, where there was no room for it.
            self.cancel_all(ring);
            self.close_unarmed(ring);
            return;
        }
        if self.listeners.iter().all(|listening| listening.armed.is_some()) {
            return;
        }
        if let Some(until) = self.rest_until {
            if ring.now().monotonic < until {
                return;
            }
            self.rest_until = None;
        }
        for number in 0..self.listeners.len() {
            if self.listeners[number].armed.is_some() {
                continue;
            }
            let Some((cell, count)) = self.place(ring) else { return };
            self.accepting = cell;
            let op = Op::Accept { listener: ListenerId(number as u8), cell, count };
            if ring.push(op).is_ok() {
                self.listeners[number].armed = Some((cell, count));
                self.listeners[number].ending = false;
            }
        }
    }

    pub(super) fn on_accepted<R: Ring>(&mut self, socket: Socket, ring: &mut R) {
        self.used[usize::from(socket.cell())] += 1;
        if !self.fits_backlogs(socket.cell()) {
            self.cancel_many(socket.cell(), ring);
        }
    }

    /// Whether the slots that are left are those for who has to hear that there are none.
    pub(super) fn is_full<R: Ring>(&mut self, ring: &mut R) -> bool {
        let reserve = (self.slots / 16).clamp(1, REFUSALS_PER_SHARD_MAX as u32);
        let free = |used: &u32| self.slots.saturating_sub(*used);
        free(&self.used[usize::from(self.accepting)]) < reserve
            && self.used.iter().map(free).sum::<u32>() < reserve
            && self.open_cell(ring).is_none()
    }

    pub(super) fn on_closed(&mut self, socket: Socket) {
        let used = &mut self.used[usize::from(socket.cell())];
        debug_assert!(*used > 0, "a slot is freed once");
        *used = used.saturating_sub(1);
        self.exhausted = false;
    }

    pub(super) fn on_ended(&mut self, listener: ListenerId, failure: Failure, now: Monotonic) {
        let listening = &mut self.listeners[usize::from(listener.0)];
        listening.armed = None;
        listening.ending = false;
        if matches!(failure, Failure::OutOfFiles | Failure::TableFull | Failure::Other(_)) {
            tracing::warn!(?failure, "accepting failed; resting");
            self.rest_until = Some(now + REST);
        }
    }

    /// Accepts no more.
    pub(super) fn stop<R: Ring>(&mut self, ring: &mut R) {
        self.stopped = true;
        self.cancel_all(ring);
    }

    /// How long accepting rests, if it does.
    pub(super) fn rests_for(&self, now: Monotonic) -> Option<Duration> {
        self.rest_until.filter(|_| !self.stopped).map(|until| until - now)
    }

    /// Lets go of the listeners whose accepts have ended.
    fn close_unarmed<R: Ring>(&mut self, ring: &mut R) {
        for (number, listening) in self.listeners.iter_mut().enumerate() {
            if listening.armed.is_none() && !listening.closed {
                let op = Op::CloseListener { listener: ListenerId(number as u8) };
                listening.closed = ring.push(op).is_ok();
            }
        }
    }

    /// Whether a whole backlog of every listener finds a slot in a cell.
    fn fits_backlogs(&self, cell: Cell) -> bool {
        let backlogs = self.listeners.len() as u32 * LISTEN_BACKLOG as u32;
        self.slots.saturating_sub(self.used[usize::from(cell)]) > backlogs
    }

    fn cancel_many<R: Ring>(&mut self, cell: Cell, ring: &mut R) {
        for number in 0..self.listeners.len() {
            if self.listeners[number].armed == Some((cell, AcceptCount::Many)) {
                self.cancel(number, ring);
            }
        }
    }

    fn cancel_all<R: Ring>(&mut self, ring: &mut R) {
        for number in 0..self.listeners.len() {
            self.cancel(number, ring);
        }
    }

    fn cancel<R: Ring>(&mut self, number: usize, ring: &mut R) {
        let listening = &mut self.listeners[number];
        if let Some((cell, _)) = listening.armed
            && !listening.ending
        {
            let op = Op::CancelAccept { listener: ListenerId(number as u8), cell };
            listening.ending = ring.push(op).is_ok();
        }
    }

    /// Where the next accept is armed, and for how many.
    fn place<R: Ring>(&mut self, ring: &mut R) -> Option<(Cell, AcceptCount)> {
        let cells = 0..self.used.len() as Cell;
        let cell = std::iter::once(self.accepting)
            .chain(cells)
            .find(|cell| self.has_room(*cell))
            .or_else(|| self.open_cell(ring))?;
        let count = if self.fits_backlogs(cell) { AcceptCount::Many } else { AcceptCount::One };
        Some((cell, count))
    }

    /// Whether a cell has a slot for one more accept beside those in flight.
    fn has_room(&self, cell: Cell) -> bool {
        let in_flight = self
            .listeners
            .iter()
            .filter(|listening| listening.armed.is_some_and(|(armed, _)| armed == cell));
        self.used[usize::from(cell)] + (in_flight.count() as u32) < self.slots
    }

    fn open_cell<R: Ring>(&mut self, ring: &mut R) -> Option<Cell> {
        if self.exhausted {
            return None;
        }
        match ring.open_cell() {
            Ok(cell) => {
                self.used.push(0);
                Some(cell)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told_exhausted, true) {
                    tracing::warn!(%error, "no further cell can be opened; connections beyond these are refused");
                }
                self.exhausted = true;
                None
            }
        }
    }
}
