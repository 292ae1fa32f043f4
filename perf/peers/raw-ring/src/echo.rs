//! The loop: reap, react, submit.
//!
//! In: a listening socket. Out: echoed bytes and the counters. See `main.rs` for the invariants.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::arena::{Arena, BufferRing};
use crate::arguments::{Arguments, Mode};
use crate::ring::{Kind, Queue, Token};
use crate::signals::Signals;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(arguments: &Arguments, listener: RawFd, port: u16) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_clamp()
        .setup_cqsize(8192)
        .build(4096)?;
    let (mut submitter, sq, mut cq) = ring.split();
    submitter.register_ring_fd()?;
    submitter.register_files_sparse(arguments.slots)?;

    let arena = Arena::new(arguments.buffers, arguments.buffer);
    let buffer_ring = match arguments.mode {
        Mode::Poll => None,
        Mode::Multishot => Some(BufferRing::new(&submitter, &arena)?),
    };
    let signals = Signals::new()?;
    let mut echo = Echo {
        mode: arguments.mode,
        recv: arguments.recv,
        reply: arguments.reply,
        queue: Queue { submitter, sq, enters: 0 },
        free: (0..arguments.buffers).rev().collect(),
        buffer_ring,
        connections: vec![Connection::default(); arguments.slots as usize],
        counters: Counters::default(),
        listener,
        arena,
    };
    echo.arm_accept();
    echo.arm_signals(&signals);
    // Now that a signal asks for counters and no longer ends the process.
    println!("{{\"port\":{port}}}");

    loop {
        echo.queue.submit_and_wait(arguments.wait_batch, arguments.min_wait_usec)?;
        cq.sync();
        for completion in &mut cq {
            let token = Token::decode(completion.user_data());
            if token.kind == Kind::Signal {
                if echo.on_signal(&signals) {
                    return Ok(());
                }
                continue;
            }
            echo.on_completion(token, completion.result(), completion.flags());
        }
        // Shows the kernel what was taken; it would not wait over completions it thinks are unseen.
        cq.sync();
        if let Some(buffers) = &echo.buffer_ring {
            buffers.publish();
        }
    }
}

/// What one connection needs to remember.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    generation: u8,
    /// A receive (poll mode) or a send is in flight.
    busy: bool,
    /// The poll fired while busy, or the kernel said that more bytes are queued.
    again: bool,
    /// Cancel and close were submitted; what completes until then is ignored.
    closing: bool,
    /// Bytes of an unfinished message.
    carry: u32,
}

#[derive(Debug, Default)]
struct Counters {
    messages: u64,
    receives: u64,
    accepted: u64,
    closed: u64,
    trouble: u64,
}

struct Echo<'r> {
    mode: Mode,
    recv: u32,
    reply: u32,
    queue: Queue<'r>,
    /// Buffers that no operation owns; last in, first out, so that hot ones stay hot.
    free: Vec<u16>,
    buffer_ring: Option<BufferRing>,
    connections: Vec<Connection>,
    counters: Counters,
    listener: RawFd,
    arena: Arena,
}

impl Echo<'_> {
    fn on_completion(&mut self, token: Token, result: i32, flags: u32) {
        if token.kind == Kind::Accept {
            return self.on_accept(result, flags);
        }
        let lease = match token.kind {
            Kind::Receive if self.mode == Mode::Multishot => cqueue::buffer_select(flags),
            Kind::Receive | Kind::Send => Some(token.lease),
            _ => None,
        };
        let connection = &mut self.connections[token.slot as usize];
        let current = connection.generation == token.generation;
        if token.kind == Kind::Close && current {
            let generation = connection.generation.wrapping_add(1);
            *connection = Connection { generation, ..Connection::default() };
            self.counters.closed += 1;
        } else if connection.closing || !current {
            self.give_back(lease); // What was cancelled with the connection.
        } else {
            match token.kind {
                Kind::Poll => self.on_poll(token.slot, result, flags),
                Kind::Receive => self.on_receive(token.slot, lease, result, flags),
                Kind::Send => self.on_send(token, result),
                Kind::Accept | Kind::Signal | Kind::Cancel | Kind::Close => {}
            }
        }
    }

    fn on_accept(&mut self, result: i32, flags: u32) {
        if !cqueue::more(flags) {
            self.arm_accept();
        }
        let Ok(slot) = u32::try_from(result) else {
            self.counters.trouble += 1;
            return;
        };
        self.counters.accepted += 1;
        match self.mode {
            Mode::Poll => self.arm_poll(slot),
            Mode::Multishot => self.arm_receive_multishot(slot),
        }
    }

    fn on_poll(&mut self, slot: u32, result: i32, flags: u32) {
        if result < 0 {
            return self.close(slot);
        }
        if !cqueue::more(flags) {
            self.arm_poll(slot);
        }
        let connection = &mut self.connections[slot as usize];
        if connection.busy {
            connection.again = true;
        } else {
            self.receive(slot);
        }
    }

    fn on_receive(&mut self, slot: u32, lease: Option<u16>, result: i32, flags: u32) {
        let rearm = self.mode == Mode::Multishot && !cqueue::more(flags);
        let (Ok(length @ 1..), Some(lease)) = (u32::try_from(result), lease) else {
            self.give_back(lease);
            return self.on_no_bytes(slot, result, rearm);
        };
        self.counters.receives += 1;
        if rearm {
            self.arm_receive_multishot(slot);
        }
        let connection = &mut self.connections[slot as usize];
        connection.again |= self.mode == Mode::Poll && cqueue::sock_nonempty(flags);
        if self.recv == 0 {
            self.counters.messages += 1;
            return self.answer(slot, lease, length);
        }
        // Both terms are bounded: a carry is below --recv, a receive is at most --buffer.
        let have = u64::from(connection.carry) + u64::from(length);
        let complete = have / u64::from(self.recv);
        connection.carry = u32::try_from(have % u64::from(self.recv)).unwrap_or(0);
        self.counters.messages += complete;
        let answer = complete * u64::from(self.reply);
        self.answer(slot, lease, u32::try_from(answer).unwrap_or(u32::MAX));
    }

    /// Sends `answer` bytes out of `lease`, or goes on reading if no message is complete.
    fn answer(&mut self, slot: u32, lease: u16, answer: u32) {
        let connection = &mut self.connections[slot as usize];
        if answer == 0 {
            self.give_back(Some(lease));
            return match self.mode {
                Mode::Poll => self.on_idle(slot),
                Mode::Multishot => {}
            };
        }
        let overlaps = self.mode == Mode::Multishot && connection.busy;
        if overlaps || answer as usize > self.arena.size() {
            // A second send in flight would mix its bytes with the first's: the load client is a
            // closed loop, and whoever is not is refused.
            self.counters.trouble += 1;
            self.give_back(Some(lease));
            return self.close(slot);
        }
        connection.busy = true;
        let token = Token { kind: Kind::Send, generation: connection.generation, lease, slot };
        let entry = opcode::Send::new(Fixed(slot), self.arena.address(lease), answer)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(token.encode());
        // SAFETY: the buffer has at least `answer` bytes (checked above), is never freed, and stays
        // out of `free` and the buffer ring until this send's completion.
        unsafe { self.queue.push(&entry) };
    }

    fn on_send(&mut self, token: Token, result: i32) {
        self.give_back(Some(token.lease));
        let connection = &mut self.connections[token.slot as usize];
        connection.busy = false;
        let short = self.reply != 0 && u32::try_from(result).is_ok_and(|sent| sent < self.reply);
        if result < 0 || short {
            self.counters.trouble += 1;
            return self.close(token.slot);
        }
        if self.mode == Mode::Poll {
            self.on_idle(token.slot);
        }
    }

    /// Nothing in flight: read on if there may be bytes, else the poll will tell.
    fn on_idle(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.busy = false;
        if std::mem::take(&mut connection.again) {
            self.receive(slot);
        }
    }

    /// A receive ended without bytes: nothing there, no buffer, end of stream or an error.
    fn on_no_bytes(&mut self, slot: u32, result: i32, rearm: bool) {
        match result {
            code if code == -libc::EAGAIN => self.on_idle(slot),
            code if code == -libc::ENOBUFS && rearm => self.arm_receive_multishot(slot),
            _ => self.close(slot),
        }
    }

    fn receive(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.busy = true;
        connection.again = false;
        let Some(lease) = self.free.pop() else {
            // Buffers are held only between a receive and its send, which complete in the same
            // turn; as many as SQEs means that this does not happen.
            self.counters.trouble += 1;
            connection.busy = false;
            return self.close(slot);
        };
        let token = Token { kind: Kind::Receive, generation: connection.generation, lease, slot };
        let size = u32::try_from(self.arena.size()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fixed(slot), self.arena.address(lease), size)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(token.encode());
        // SAFETY: the buffer has `size` bytes, is never freed, and was just taken out of `free`.
        unsafe { self.queue.push(&entry) };
    }

    /// Cancels what waits on the slot by its user_data, then closes it; a bare CLOSE of a direct
    /// descriptor with an armed operation would leave the connection open.
    fn close(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if std::mem::replace(&mut connection.closing, true) {
            return;
        }
        let generation = connection.generation;
        let kind = match self.mode {
            Mode::Poll => Kind::Poll,
            Mode::Multishot => Kind::Receive,
        };
        let armed = Token { kind, generation, lease: 0, slot };
        let cancel = Token { kind: Kind::Cancel, generation, lease: 0, slot };
        let close = Token { kind: Kind::Close, generation, lease: 0, slot };
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(armed.encode()))
            .build()
            .flags(squeue::Flags::IO_HARDLINK)
            .user_data(cancel.encode());
        let close = opcode::Close::new(Fixed(slot)).build().user_data(close.encode());
        self.queue.reserve(2);
        // SAFETY: neither operation refers to memory of this process.
        unsafe { self.queue.push(&cancel) };
        // SAFETY: as above.
        unsafe { self.queue.push(&close) };
    }

    fn give_back(&mut self, lease: Option<u16>) {
        let Some(lease) = lease else { return };
        match &mut self.buffer_ring {
            Some(ring) => ring.give(&self.arena, lease),
            None => self.free.push(lease),
        }
    }

    fn arm_accept(&mut self) {
        let token = Token { kind: Kind::Accept, generation: 0, lease: 0, slot: 0 };
        let entry = opcode::AcceptMulti::new(Fd(self.listener))
            .allocate_file_index(true)
            .build()
            .user_data(token.encode());
        // SAFETY: multishot accept stores no address; the listener outlives the loop.
        unsafe { self.queue.push(&entry) };
    }

    fn arm_poll(&mut self, slot: u32) {
        let generation = self.connections[slot as usize].generation;
        let token = Token { kind: Kind::Poll, generation, lease: 0, slot };
        let events = u32::from(libc::POLLIN.unsigned_abs() | libc::POLLRDHUP.unsigned_abs());
        let entry =
            opcode::PollAdd::new(Fixed(slot), events).multi(true).build().user_data(token.encode());
        // SAFETY: a poll refers to no memory.
        unsafe { self.queue.push(&entry) };
    }

    fn arm_receive_multishot(&mut self, slot: u32) {
        if let Some(buffers) = &self.buffer_ring {
            buffers.publish(); // Arming on an empty buffer ring fails at once.
        }
        let generation = self.connections[slot as usize].generation;
        let token = Token { kind: Kind::Receive, generation, lease: 0, slot };
        let entry = opcode::RecvMulti::new(Fixed(slot), 0).build().user_data(token.encode());
        // SAFETY: the buffers come from the registered ring, whose memory is never freed.
        unsafe { self.queue.push(&entry) };
    }

    fn arm_signals(&mut self, signals: &Signals) {
        let token = Token { kind: Kind::Signal, generation: 0, lease: 0, slot: 0 };
        let entry =
            opcode::PollAdd::new(Fd(signals.wake.as_raw_fd()), 1).build().user_data(token.encode());
        // SAFETY: a poll refers to no memory; the socket outlives the loop.
        unsafe { self.queue.push(&entry) };
    }

    /// Prints the counters; says whether to stop.
    fn on_signal(&mut self, signals: &Signals) -> bool {
        let stop = signals.drain();
        let Counters { messages, receives, accepted, closed, trouble } = self.counters;
        let enters = self.queue.enters;
        println!(
            "{{\"messages\":{messages},\"enters\":{enters},\"receives\":{receives},\
             \"accepted\":{accepted},\"closed\":{closed},\"trouble\":{trouble}}}"
        );
        if !stop {
            self.arm_signals(signals);
        }
        stop
    }
}
