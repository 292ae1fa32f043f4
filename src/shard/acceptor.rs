//! Which cell accepts, and whether.
//!
//! An accept that finds the table of direct descriptors full drops the connection it took, so a cell
//! stops accepting while it still has slots in reserve and the next one goes on, with the listener
//! open all the time. When no cell has room, connections wait in the listener's backlog.

use super::ListenerInfo;
use crate::limits::RESERVED_SLOTS_MAX;
use crate::ring::{Cell, Failure, ListenerId, Op, Ring, Socket};
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
}

#[derive(Debug)]
struct Listening {
    info: ListenerInfo,
    /// The cell its accept is armed on.
    armed: Option<Cell>,
    /// Whether that accept was told to end.
    ending: bool,
}

/// How long an accept that failed for lack of descriptors rests.
const REST: Duration = Duration::from_millis(100);

impl Acceptor {
    pub(super) fn new(listeners: Vec<ListenerInfo>, slots: u32) -> Self {
        Self {
            listeners: listeners
                .into_iter()
                .map(|info| Listening { info, armed: None, ending: false })
                .collect(),
            used: vec![0],
            slots,
            accepting: 0,
            stopped: false,
            rest_until: None,
            exhausted: false,
        }
    }

    pub(super) fn info(&self, listener: ListenerId) -> ListenerInfo {
        self.listeners[usize::from(listener.0)].info
    }

    /// Arms every listener that should accept and does not.
    pub(super) fn arm<R: Ring>(&mut self, ring: &mut R) {
        if self.stopped || self.listeners.iter().all(|listening| listening.armed.is_some()) {
            return;
        }
        if let Some(until) = self.rest_until {
            if ring.now().monotonic < until {
                return;
            }
            self.rest_until = None;
        }
        let Some(cell) = self.cell_with_room(ring) else { return };
        self.accepting = cell;
        for (number, listening) in self.listeners.iter_mut().enumerate() {
            if listening.armed.is_none() {
                let op = Op::Accept { listener: ListenerId(number as u8), cell };
                if ring.push(op).is_ok() {
                    listening.armed = Some(cell);
                    listening.ending = false;
                }
            }
        }
    }

    pub(super) fn on_accepted<R: Ring>(&mut self, socket: Socket, ring: &mut R) {
        self.used[usize::from(socket.cell())] += 1;
        if self.used[usize::from(socket.cell())] >= self.slots - self.reserve() {
            self.cancel(socket.cell(), ring);
        }
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
        for cell in 0..self.used.len() {
            self.cancel(cell as Cell, ring);
        }
    }

    fn cancel<R: Ring>(&mut self, cell: Cell, ring: &mut R) {
        for (number, listening) in self.listeners.iter_mut().enumerate() {
            if listening.armed == Some(cell) && !listening.ending {
                let op = Op::CancelAccept { listener: ListenerId(number as u8), cell };
                listening.ending = ring.push(op).is_ok();
            }
        }
    }

    fn reserve(&self) -> u32 {
        (self.slots / 8).clamp(1, RESERVED_SLOTS_MAX)
    }

    /// A cell whose reserve is untouched; a new one when there is none.
    fn cell_with_room<R: Ring>(&mut self, ring: &mut R) -> Option<Cell> {
        let room = self.slots - self.reserve();
        let preferred = usize::from(self.accepting);
        if self.used[preferred] < room {
            return Some(self.accepting);
        }
        if let Some(cell) = self.used.iter().position(|used| *used < room) {
            return Some(cell as Cell);
        }
        if self.exhausted {
            return None;
        }
        match ring.open_cell() {
            Ok(cell) => {
                self.used.push(0);
                Some(cell)
            }
            Err(error) => {
                tracing::warn!(%error, "no room for further connections; they wait to be accepted");
                self.exhausted = true;
                None
            }
        }
    }
}
