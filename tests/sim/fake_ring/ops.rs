//! What the ops do and which completions come of them: the kernel's half of the ring.

use super::{CellState, Pushed, Queued, Slot, check};
use crate::core::{Core, MICROSECOND, MILLISECOND};
use crate::faults::Fault;
use crate::net::{ConnId, Found};
use headwater::limits::{CLOSES_IN_FLIGHT_MAX, GATHERING_ENTERS_MAX, RING_BUFFER_BYTES};
use headwater::memory::{Key, Lease, Spans, without_first};
use headwater::ring::{
    AcceptCount, Armed, Cell, Completion, Failure, Gathers, ListenerId, Op, Refusal, Refused,
    Socket, Token,
};
use std::sync::atomic::Ordering;

impl Core {
    pub(super) fn push(&mut self, shard: usize, op: Op, gathered: bool) -> Result<(), Refused> {
        check(&mut self.rings[shard], &op);
        if self.faults.strikes(Fault::RefusedPush) {
            return Err(Refused { op, reason: Refusal::NoRoom });
        }
        let state = &mut self.rings[shard];
        if let Op::Receive { socket, .. } = op {
            let Some(lease) = state.leases.lend() else {
                self.faults.happened(Fault::NoLease);
                return Err(Refused { op, reason: Refusal::NoLease });
            };
            state.slot(socket).lease = Some(lease);
        }
        state.counters.submitted += 1;
        self.trace.mix(state.counters.submitted);
        if self.trace.is_shown() {
            self.trace.note("push", &(shard, &op));
        }
        let state = &mut self.rings[shard];
        match &op {
            Op::Poll { socket, .. } => state.slot(*socket).armed.poll = true,
            Op::PollWritable { socket, .. } => state.slot(*socket).armed.writable = true,
            Op::ReceiveMany { socket, .. } => state.slot(*socket).armed.receive_many = true,
            Op::Receive { socket, .. } => state.slot(*socket).receiving = true,
            Op::Send { socket, .. } => state.slot(*socket).sending = true,
            Op::Close { socket, token, .. } => {
                state.slot(*socket).closing = true;
                state.closes += usize::from(*token != Token::NONE);
                assert!(state.closes <= CLOSES_IN_FLIGHT_MAX, "others wait for all these closes");
            }
            _ => {}
        }
        state.submitted.push(Pushed { op, gathered });
        Ok(())
    }

    /// Runs what was pushed; with `gathers`, not always the sends that may wait, if a cell has nothing else.
    pub(crate) fn submit(&mut self, shard: usize, gathers: Gathers) {
        self.rings[shard].counters.enters += 1;
        self.choose_gathering(shard, gathers);
        for pushed in std::mem::take(&mut self.rings[shard].submitted) {
            let state = &mut self.rings[shard];
            match &pushed.op {
                Op::Send { socket, .. } if state.cells[usize::from(socket.cell())].gathering => {
                    state.submitted.push(pushed);
                }
                _ => self.run(shard, pushed.op),
            }
        }
    }

    fn choose_gathering(&mut self, shard: usize, gathers: Gathers) {
        for number in 0..self.rings[shard].cells.len() {
            let state = &self.rings[shard];
            let mut pushed =
                state.submitted.iter().filter(|pushed| pushed.is_of(number)).peekable();
            let gathering = gathers != Gathers::Nothing
                && (gathers == Gathers::All || state.cells[number].waited < GATHERING_ENTERS_MAX)
                && pushed.peek().is_some()
                && pushed.all(|pushed| pushed.gathered)
                && self.random.chance(3, 4);
            self.rings[shard].gathered += u64::from(gathering);
            let cell = &mut self.rings[shard].cells[number];
            cell.gathering = gathering;
            cell.waited =
                if gathering { cell.waited + u8::from(gathers == Gathers::InTurn) } else { 0 };
        }
    }

    fn run(&mut self, shard: usize, op: Op) {
        match op {
            Op::Accept { listener, cell, count } => {
                self.rings[shard].cells[usize::from(cell)].accepting[usize::from(listener.0)] =
                    Some(count);
            }
            Op::CloseListener { listener } => {
                let state = &mut self.rings[shard];
                for cell in &state.cells {
                    assert!(cell.accepting[usize::from(listener.0)].is_none(), "accepts ended");
                }
                for conn in std::mem::take(&mut state.backlog[usize::from(listener.0)]) {
                    self.conns[conn].tear();
                    self.touched.push(self.conns[conn].peer);
                }
            }
            Op::CancelAccept { listener, cell } => {
                let armed = &mut self.rings[shard].cells[usize::from(cell)].accepting
                    [usize::from(listener.0)];
                if armed.take().is_some() {
                    let failure = Failure::Canceled;
                    self.arrive(shard, Completion::AcceptEnded { listener, cell, failure }, None);
                }
            }
            Op::PeerAddress { socket, token } => {
                let address = Some(Box::new(([192, 0, 2, 1], 49_152).into()));
                self.finish(shard, socket, Completion::PeerAddress { token, address });
            }
            Op::Poll { socket, .. } => {
                let slot = self.rings[shard].slot(socket);
                slot.live.poll = true;
                let conn = slot.conn;
                if self.conns[conn].is_readable() {
                    self.readable(shard, socket);
                }
            }
            Op::CancelPoll { socket, token } => {
                let slot = self.rings[shard].slot(socket);
                if std::mem::replace(&mut slot.live.poll, false) {
                    let failure = Some(Failure::Canceled);
                    let ended =
                        Completion::Readable { token, more: false, failure, hung_up: false };
                    self.arrive(shard, ended, Some(socket));
                }
            }
            Op::PollWritable { socket, .. } => {
                let slot = self.rings[shard].slot(socket);
                slot.live.writable = true;
                self.writable(shard, socket);
            }
            Op::Receive { socket, token } => self.receive(shard, socket, token),
            Op::ReceiveMany { socket, .. } => {
                self.rings[shard].slot(socket).live.receive_many = true;
                self.receive_many(shard, socket);
            }
            Op::CancelReceiveMany { socket, token } => {
                let slot = self.rings[shard].slot(socket);
                if std::mem::replace(&mut slot.live.receive_many, false) {
                    let failure = Some(Failure::Canceled);
                    let ended = Completion::ReceiveManyEnded { token, failure };
                    self.arrive(shard, ended, Some(socket));
                }
            }
            Op::Send { socket, token, spans } => self.send(shard, socket, token, spans),
            Op::Shutdown { socket, token } => {
                let conn = self.rings[shard].slot(socket).conn;
                self.conns[conn].server_shutdown();
                self.touched.push(self.conns[conn].peer);
                self.finish(shard, socket, Completion::ShutDown { token });
            }
            Op::Close { socket, token, .. } => self.close(shard, socket, token),
        }
    }

    fn receive(&mut self, shard: usize, socket: Socket, token: Token) {
        let slot = self.rings[shard].slot(socket);
        let conn = slot.conn;
        let mut lease = slot.lease.take().expect("lent at the push");
        if self.conns[conn].is_readable() && self.faults.strikes(Fault::WouldBlock) {
            // What made it readable is there only a moment later, which is told again.
            self.rings[shard].leases.take_back(lease);
            self.conns[conn].news = true;
            self.rings[shard].ready.push(conn);
            let result = Err(Failure::WouldBlock);
            self.finish(shard, socket, Completion::Received { token, result, nonempty: false });
            return;
        }
        let mut most = lease.space_mut().len();
        let waiting = self.conns[conn].waiting();
        if waiting > 1 && self.faults.strikes(Fault::ShortRead) {
            most = self.faults.between(1, most.min(waiting - 1) as u64) as usize;
        }
        let found = self.conns[conn].receive(&mut lease.space_mut()[..most]);
        let nonempty = self.conns[conn].has_more();
        let result = match found {
            Found::Bytes(count) => {
                self.touched.push(self.conns[conn].peer);
                lease.set_filled(count);
                Ok(lease)
            }
            Found::End => Ok(lease),
            Found::Nothing => self.unreceived(shard, lease, Failure::WouldBlock),
            Found::Gone => self.unreceived(shard, lease, Failure::Disconnected),
        };
        self.finish(shard, socket, Completion::Received { token, result, nonempty });
    }

    fn unreceived(
        &mut self,
        shard: usize,
        lease: Lease,
        failure: Failure,
    ) -> Result<Lease, Failure> {
        self.rings[shard].leases.take_back(lease);
        Err(failure)
    }

    fn receive_many(&mut self, shard: usize, socket: Socket) {
        loop {
            let slot = self.rings[shard].slot(socket);
            let conn = slot.conn;
            let Some(token) = slot.token.filter(|_| slot.live.receive_many) else { return };
            if !self.conns[conn].is_readable() {
                return;
            }
            let starved = self.faults.strikes(Fault::NoBuffers);
            let overflown = self.faults.strikes(Fault::Overflow);
            let cell = &mut self.rings[shard].cells[usize::from(socket.cell())];
            let completion = if starved || cell.buffers_free.is_empty() {
                Completion::ReceiveManyEnded { token, failure: Some(Failure::NoBuffers) }
            } else {
                let mut into = [0; RING_BUFFER_BYTES];
                match self.conns[conn].receive(&mut into) {
                    Found::Bytes(count) => {
                        let index = cell.buffers_free.pop_front().expect("checked above");
                        let mut lease = cell.buffers.lend_index(index);
                        lease.space_mut()[..count].copy_from_slice(&into[..count]);
                        lease.set_filled(count);
                        Completion::ReceivedMany { token, lease, more: !overflown }
                    }
                    Found::End => Completion::ReceiveManyEnded { token, failure: None },
                    Found::Nothing => return,
                    Found::Gone => {
                        let failure = Some(Failure::Disconnected);
                        Completion::ReceiveManyEnded { token, failure }
                    }
                }
            };
            self.touched.push(self.conns[conn].peer);
            if !matches!(completion, Completion::ReceivedMany { more: true, .. }) {
                self.rings[shard].slot(socket).live.receive_many = false;
            }
            self.arrive(shard, completion, Some(socket));
        }
    }

    fn send(&mut self, shard: usize, socket: Socket, token: Token, spans: Spans) {
        let conn = self.rings[shard].slot(socket).conn;
        let total: usize = spans.iter().map(|span| span.len()).sum();
        let result = match self.conns[conn].room() {
            None => Err(Failure::Disconnected),
            Some(0) => Err(Failure::WouldBlock),
            Some(room) => {
                let mut count = room.min(total);
                if count > 1 && self.faults.strikes(Fault::PartialSend) {
                    count = self.faults.between(1, count as u64 - 1) as usize;
                }
                let mut left = count;
                for span in &spans {
                    let part = left.min(span.len());
                    self.conns[conn].send(&span[..part]);
                    left -= part;
                }
                self.touched.push(self.conns[conn].peer);
                Ok(count)
            }
        };
        let taken = result.unwrap_or(0);
        let slot = self.rings[shard].slot(socket);
        let about = Some((socket.cell(), socket.slot(), slot.uid));
        slot.sending = taken < total;
        let state = &mut self.rings[shard];
        state.counters.bytes_sent += taken as u64;
        if taken == total {
            state.whole_sends += 1;
        } else {
            // It is told in the enter that submitted it, whatever else of the socket is late.
            let unsent = Box::new(without_first(spans, taken));
            let completion = Completion::SentShort { token, result, unsent };
            state.arrived.push_back(Queued { completion, about });
        }
    }

    fn close(&mut self, shard: usize, socket: Socket, token: Token) {
        let (cell, number) = (usize::from(socket.cell()), socket.slot() as usize);
        let slot = self.rings[shard].cells[cell].slots[number].take().expect("an open socket");
        self.conns[slot.conn].server_close();
        self.conns[slot.conn].slot = None;
        self.touched.push(self.conns[slot.conn].peer);
        let mut canceled = Vec::new();
        let failure = Some(Failure::Canceled);
        if slot.live.poll {
            canceled.push(Completion::Readable { token, more: false, failure, hung_up: false });
        }
        if slot.live.writable {
            canceled.push(Completion::Writable { token });
        }
        if slot.live.receive_many {
            canceled.push(Completion::ReceiveManyEnded { token, failure });
        }
        // A cancelled op's own completion may come before or after that of the close.
        let after = self.random.chance(1, 2);
        for completion in canceled {
            let due = self.now + if after { self.random.below(MILLISECOND) } else { 0 };
            self.postpone(shard, due, Queued { completion, about: None });
        }
        let due = self.due(slot.busy_until);
        let completion = Completion::Closed { token, socket };
        self.postpone(shard, due, Queued { completion, about: None });
    }

    /// When an op's completion comes that may not come before `earliest`.
    fn due(&mut self, earliest: u64) -> u64 {
        let mut due = self.now.max(earliest);
        if self.faults.strikes(Fault::LateCompletion) {
            due += self.faults.between(MICROSECOND, 3 * MILLISECOND);
        }
        due
    }

    /// The completion of an op that ran at once.
    fn finish(&mut self, shard: usize, socket: Socket, completion: Completion) {
        let earliest = self.rings[shard].slot(socket).busy_until;
        let due = self.due(earliest);
        let slot = self.rings[shard].slot(socket);
        slot.busy_until = due;
        let about = Some((socket.cell(), socket.slot(), slot.uid));
        self.postpone(shard, due, Queued { completion, about });
    }

    fn postpone(&mut self, shard: usize, due: u64, queued: Queued) {
        let state = &mut self.rings[shard];
        state.late_count += 1;
        state.late.insert((due, state.late_count), queued);
    }

    /// A completion that comes now, behind those of the socket's ops that ran before.
    fn arrive(&mut self, shard: usize, completion: Completion, socket: Option<Socket>) {
        let Some(socket) = socket else {
            self.rings[shard].arrived.push_back(Queued { completion, about: None });
            return;
        };
        let now = self.now;
        let slot = self.rings[shard].slot(socket);
        let (due, uid) = (slot.busy_until.max(now), slot.uid);
        let about = Some((socket.cell(), socket.slot(), uid));
        self.postpone(shard, due, Queued { completion, about });
    }

    fn readable(&mut self, shard: usize, socket: Socket) {
        let overflown = self.faults.strikes(Fault::Overflow);
        let slot = self.rings[shard].slot(socket);
        let Some(token) = slot.token.filter(|_| slot.live.poll) else { return };
        slot.live.poll = !overflown;
        self.rings[shard].counters.overflows += u64::from(overflown);
        let conn = self.rings[shard].slot(socket).conn;
        let hung_up = self.conns[conn].is_readable() && self.conns[conn].waiting() == 0;
        let readable = Completion::Readable { token, more: !overflown, failure: None, hung_up };
        self.arrive(shard, readable, Some(socket));
    }

    fn writable(&mut self, shard: usize, socket: Socket) {
        let slot = self.rings[shard].slot(socket);
        let Some(token) = slot.token.filter(|_| slot.live.writable) else { return };
        if self.conns[slot.conn].is_writable() {
            slot.live.writable = false;
            self.arrive(shard, Completion::Writable { token }, Some(socket));
        }
    }

    fn accept(&mut self, shard: usize) {
        for number in 0..self.rings[shard].backlog.len() {
            let listener = ListenerId(number as u8);
            let armed = |cell: &CellState| cell.accepting[number].is_some();
            while let Some(cell) = self.rings[shard].cells.iter().position(armed) {
                let Some(conn) = self.rings[shard].backlog[number].pop_front() else { break };
                let ended = self.accept_one(shard, listener, cell, conn);
                if let Some(failure) = ended {
                    self.rings[shard].cells[cell].accepting[number] = None;
                    let cell = cell as Cell;
                    self.arrive(shard, Completion::AcceptEnded { listener, cell, failure }, None);
                }
            }
        }
    }

    /// Why the accept ended with it, if it did.
    fn accept_one(
        &mut self,
        shard: usize,
        listener: ListenerId,
        cell: usize,
        conn: ConnId,
    ) -> Option<Failure> {
        if self.faults.strikes(Fault::OutOfFiles) {
            self.rings[shard].backlog[usize::from(listener.0)].push_front(conn);
            return Some(Failure::OutOfFiles);
        }
        let state = &mut self.rings[shard];
        let free = state.cells[cell].slots.iter().position(Option::is_none);
        // The kernel would drop the connection, which a shard must not let come to pass.
        let number = free.expect("an accept finds a free direct descriptor");
        state.next_uid += 1;
        state.cells[cell].slots[number] = Some(Slot {
            uid: state.next_uid,
            conn,
            token: None,
            armed: Armed::default(),
            live: Armed::default(),
            lease: None,
            receiving: false,
            sending: false,
            closing: false,
            busy_until: 0,
        });
        self.conns[conn].slot = Some((cell as Cell, number as u32));
        let socket = Socket::new(cell as Cell, number as u32);
        self.arrive(shard, Completion::Accepted { listener, socket }, None);
        let one = self.rings[shard].cells[cell].accepting[usize::from(listener.0)]
            == Some(AcceptCount::One);
        (one || self.faults.strikes(Fault::AcceptEnded)).then_some(Failure::Canceled)
    }

    /// Moves everything that has happened by now to what arrived.
    pub(crate) fn collect(&mut self, shard: usize) {
        self.accept(shard);
        for conn in std::mem::take(&mut self.rings[shard].ready) {
            let Some((cell, number)) = self.conns[conn].slot else { continue };
            if !std::mem::take(&mut self.conns[conn].news) {
                continue;
            }
            let socket = Socket::new(cell, number);
            if self.conns[conn].is_readable() || self.faults.strikes(Fault::WouldBlock) {
                self.readable(shard, socket);
                self.receive_many(shard, socket);
            }
            self.writable(shard, socket);
        }
        let state = &mut self.rings[shard];
        while state.late.first_key_value().is_some_and(|((due, _), _)| *due <= self.now) {
            if let Some((_, queued)) = state.late.pop_first() {
                state.arrived.push_back(queued);
            }
        }
        if state.bell.rung.swap(false, Ordering::Relaxed) {
            state.arrived.push_back(Queued { completion: Completion::Doorbell, about: None });
        }
    }

    /// Lets `answer` see what multishot receives brought, and now and then leaves it for [`Self::pop`].
    pub(super) fn answer_received(
        &mut self,
        shard: usize,
        most: u32,
        mut answer: impl FnMut(Token, &[u8]) -> bool,
    ) -> u32 {
        let mut answered = 0;
        while answered < most && !self.rings[shard].seen {
            let Some(front) = self.rings[shard].arrived.front() else { break };
            let Completion::ReceivedMany { token, lease, more: true } = &front.completion else {
                break;
            };
            if self.random.chance(1, 8) {
                break;
            }
            if !answer(*token, lease.filled()) {
                self.rings[shard].seen = true;
                break;
            }
            if let Some(Completion::ReceivedMany { lease, .. }) = self.pop(shard) {
                self.rings[shard].release(lease);
            }
            answered += 1;
        }
        self.rings[shard].answered += u64::from(answered);
        answered
    }

    pub(super) fn pop(&mut self, shard: usize) -> Option<Completion> {
        let state = &mut self.rings[shard];
        state.seen = false;
        let Some(Queued { completion, about }) = state.arrived.pop_front() else {
            for cell in state.cells.iter_mut().filter(|cell| !cell.gathering) {
                cell.round = cell.round.wrapping_add(1);
            }
            return None;
        };
        state.counters.completed += 1;
        let is_close =
            matches!(&completion, Completion::Closed { token, .. } if *token != Token::NONE);
        state.closes -= usize::from(is_close);
        if let Some((cell, number, uid)) = about
            && let Some(slot) = &mut state.cells[usize::from(cell)].slots[number as usize]
            && slot.uid == uid
        {
            match &completion {
                Completion::Readable { more, .. } => slot.armed.poll &= more,
                Completion::ReceivedMany { more, .. } => slot.armed.receive_many &= more,
                Completion::ReceiveManyEnded { .. } => slot.armed.receive_many = false,
                Completion::Writable { .. } => slot.armed.writable = false,
                Completion::Received { .. } => slot.receiving = false,
                Completion::SentShort { .. } => slot.sending = false,
                _ => {}
            }
        }
        self.trace.mix(shard as u64 ^ self.now << 4);
        self.trace.mix(mark(&completion));
        if self.trace.is_shown() {
            self.trace.note("pop", &(shard, &completion));
        }
        Some(completion)
    }
}

/// A number that tells completions apart.
fn mark(completion: &Completion) -> u64 {
    let (kind, token, size) = match completion {
        Completion::Accepted { socket, .. } => (1, Key::NONE, u64::from(socket.slot())),
        Completion::AcceptEnded { cell, .. } => (2, Key::NONE, u64::from(*cell)),
        Completion::Readable { token, more, .. } => (3, *token, u64::from(*more)),
        Completion::Writable { token } => (4, *token, 0),
        Completion::Received { token, result, .. } => {
            (5, *token, result.as_ref().map_or(u64::MAX, |lease| lease.filled().len() as u64))
        }
        Completion::ReceivedMany { token, more, .. } => (6, *token, u64::from(*more)),
        Completion::SentShort { token, result, .. } => {
            (12, *token, result.map_or(u64::MAX, |sent| sent as u64))
        }
        Completion::ReceiveManyEnded { token, .. } => (13, *token, 0),
        Completion::ShutDown { token } => (8, *token, 0),
        Completion::Closed { token, .. } => (9, *token, 0),
        Completion::Doorbell => (10, Key::NONE, 0),
        Completion::PeerAddress { token, .. } => (11, *token, 0),
    };
    kind << 56 ^ token.to_bits() << 20 ^ size
}
