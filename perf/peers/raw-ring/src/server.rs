//! The loop: reap, react, submit.
//!
//! In: a listening socket. Out: answered or spread bytes and the counters. See `main.rs` for the
//! invariants.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::arena::{Arena, BufferRing};
use crate::arguments::{Arguments, Mode, Role};
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
        .setup_cqsize(32_768)
        .build(4096)?;
    let no_iowait = ring.params().is_feature_no_iowait() && !arguments.iowait;
    let (mut submitter, sq, mut cq) = ring.split();
    submitter.register_ring_fd()?;
    submitter.register_files_sparse(arguments.slots)?;

    let arena = match arguments.mode {
        Mode::Oneshot | Mode::Lazy => Arena::new(arguments.slots, arguments.buffer),
        Mode::Poll | Mode::Multishot => Arena::new(arguments.buffers.into(), arguments.buffer),
    };
    let buffer_ring = match arguments.mode {
        Mode::Poll | Mode::Oneshot | Mode::Lazy => None,
        Mode::Multishot => Some(BufferRing::new(&submitter, &arena, arguments.buffers)?),
    };
    let signals = Signals::new()?;
    let mut server = Server {
        mode: arguments.mode,
        role: arguments.role,
        recv: arguments.recv,
        reply: arguments.reply,
        send_batch: arguments.send_batch,
        send_flags: match arguments.skip_success {
            true => squeue::Flags::SKIP_SUCCESS,
            false => squeue::Flags::empty(),
        },
        queue: Queue::new(submitter, sq, no_iowait),
        free: (0..arguments.buffers).rev().collect(),
        sent: Vec::with_capacity(arguments.buffers.into()),
        receiving: 0,
        later: Vec::new(),
        buffer_ring,
        connections: vec![Connection::default(); arguments.slots as usize],
        slots_used: 0,
        counters: Counters::default(),
        listener,
        arena,
    };
    server.arm_accept();
    server.arm_signals(&signals);
    // Now that a signal asks for counters and no longer ends the process.
    println!("{{\"port\":{port}}}");

    loop {
        // What is received at once is there when the submission ends: no reason to wait for more.
        let want = match (server.receiving, server.later.len()) {
            (0, 0) => arguments.wait_batch,
            (0, _) => 0,
            _ => 1,
        };
        let due = server.later.len();
        server.queue.submit_and_wait(want, arguments.min_wait_usec)?;
        server.after_submission();
        cq.sync();
        for completion in &mut cq {
            let token = Token::decode(completion.user_data());
            let (result, flags) = (completion.result(), completion.flags());
            match token.kind {
                Kind::Receive => server.on_receive(token, result, flags),
                Kind::Poll => server.on_poll(token, result, flags),
                Kind::Send => server.on_send(token, result),
                Kind::Accept => server.on_accept(result, flags),
                Kind::Close => server.on_closed(token),
                Kind::Cancel => {}
                Kind::Signal if server.on_signal(&signals) => return Ok(()),
                Kind::Signal => {}
            }
        }
        server.receive_due(due);
        // Shows the kernel what was taken; it would not wait over completions it thinks are unseen.
        cq.sync();
    }
}

/// What one connection needs to remember.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    generation: u8,
    open: bool,
    /// Poll mode: a receive is in flight.
    busy: bool,
    /// Poll mode: the poll fired while busy, or the kernel said that more bytes are queued.
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
    sends: u64,
    accepted: u64,
    closed: u64,
    trouble: u64,
}

struct Server<'r> {
    mode: Mode,
    role: Role,
    recv: u32,
    reply: u32,
    send_batch: u32,
    send_flags: squeue::Flags,
    queue: Queue<'r>,
    /// Poll mode: buffers that no operation owns; last in, first out, so that hot ones stay hot.
    free: Vec<u16>,
    /// Buffers of sends that are not submitted yet.
    sent: Vec<u16>,
    /// Poll mode: receives that are not submitted yet, or whose completion was not seen.
    receiving: u32,
    /// Lazy mode: answered connections whose next receive is due in the next turn.
    later: Vec<u32>,
    buffer_ring: Option<BufferRing>,
    connections: Vec<Connection>,
    /// No slot from here on was ever used.
    slots_used: u32,
    counters: Counters,
    listener: RawFd,
    arena: Arena,
}

impl Server<'_> {
    /// Sends do not wait (MSG_DONTWAIT), so those submitted are over and their buffers are free.
    fn after_submission(&mut self) {
        match &mut self.buffer_ring {
            Some(ring) => {
                if self.sent.is_empty() {
                    return;
                }
                for lease in self.sent.drain(..) {
                    ring.give(&self.arena, lease);
                }
                ring.publish();
            }
            None => self.free.append(&mut self.sent),
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
        self.slots_used = self.slots_used.max(slot + 1);
        self.connections[slot as usize].open = true;
        match self.mode {
            Mode::Poll => self.arm_poll(slot),
            Mode::Multishot => self.arm_receive_multishot(slot),
            Mode::Oneshot | Mode::Lazy => {
                self.arm_receive_oneshot(slot, IORING_RECVSEND_POLL_FIRST);
            }
        }
    }

    fn on_poll(&mut self, token: Token, result: i32, flags: u32) {
        let connection = &mut self.connections[token.slot as usize];
        if connection.closing || connection.generation != token.generation {
            return; // What was cancelled with the connection.
        }
        if result < 0 {
            return match result {
                code if code == -libc::ECANCELED => self.arm_poll(token.slot),
                _ => self.close(token.slot),
            };
        }
        if connection.busy {
            connection.again = true;
        } else {
            self.receive(token.slot);
        }
        if !cqueue::more(flags) {
            self.arm_poll(token.slot);
        }
    }

    fn on_receive(&mut self, token: Token, result: i32, flags: u32) {
        let slot = token.slot;
        let lease = match self.mode {
            Mode::Multishot => cqueue::buffer_select(flags),
            Mode::Poll => {
                self.receiving -= 1;
                Some(token.lease)
            }
            Mode::Oneshot | Mode::Lazy => None,
        };
        let connection = &mut self.connections[slot as usize];
        let current = !connection.closing && connection.generation == token.generation;
        let Ok(length @ 1..) = u32::try_from(result) else {
            self.sent.extend(lease);
            if current {
                self.on_no_bytes(slot, result, flags);
            }
            return;
        };
        if !current {
            self.sent.extend(lease);
            return;
        }
        self.counters.receives += 1;
        let answer = if connection.carry == 0 && length == self.recv {
            self.counters.messages += 1;
            self.reply
        } else {
            self.count(slot, length)
        };
        if answer > 0 {
            let address = match lease {
                Some(lease) => self.arena.address(lease.into()),
                None => self.arena.address(slot),
            };
            match self.role {
                Role::Echo => self.send(slot, address, answer),
                Role::Broadcast => self.spread(slot, address, answer / self.reply),
                // They have loops of their own.
                Role::Accept | Role::FanOut => {}
            }
        }
        self.sent.extend(lease);
        self.receive_on(slot, flags);
    }

    /// What is due after `length` more bytes that are not just one message.
    #[cold]
    fn count(&mut self, slot: u32, length: u32) -> u32 {
        let connection = &mut self.connections[slot as usize];
        // A carry is below --recv and a receive is at most --buffer, both at most 1 MiB.
        let have = connection.carry + length;
        connection.carry = have % self.recv;
        let messages = have / self.recv;
        self.counters.messages += u64::from(messages);
        messages * self.reply
    }

    /// After bytes came and their answer was queued: whatever makes the next ones come.
    fn receive_on(&mut self, slot: u32, flags: u32) {
        match self.mode {
            Mode::Multishot if cqueue::more(flags) => {}
            Mode::Multishot => self.arm_receive_multishot(slot),
            Mode::Oneshot => self.arm_receive_oneshot(slot, IORING_RECVSEND_POLL_FIRST),
            Mode::Lazy => self.later.push(slot),
            Mode::Poll => {
                let connection = &mut self.connections[slot as usize];
                connection.again |= cqueue::sock_nonempty(flags);
                self.on_idle(slot);
            }
        }
    }

    /// Queues `answer` bytes, in as many sends as the buffer needs: more than one only when several
    /// messages came at once. They run in order, while they are submitted.
    fn send(&mut self, slot: u32, address: *const u8, mut answer: u32) {
        let generation = self.connections[slot as usize].generation;
        let step = self.arena.size() / self.reply * self.reply;
        while answer > 0 {
            let length = answer.min(step);
            answer -= length;
            self.push_send(slot, generation, address, length);
        }
    }

    fn push_send(&mut self, slot: u32, generation: u8, address: *const u8, length: u32) {
        self.counters.sends += 1;
        // How many replies it is, for the check of its completion.
        let replies = u16::try_from(length / self.reply).unwrap_or(u16::MAX);
        let token = Token { kind: Kind::Send, generation, lease: replies, slot };
        let entry = opcode::Send::new(Fixed(slot), address, length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(self.send_flags)
            .user_data(token.encode());
        // SAFETY: the address has at least `length` bytes, which are never freed; its buffer is
        // given back only after the submission, during which a send that does not wait is over.
        unsafe { self.queue.push(&entry) };
    }

    /// One message to all connections but the one it came from, `--send-batch` sends at a time.
    fn spread(&mut self, from: u32, address: *const u8, messages: u32) {
        for _ in 0..messages {
            let mut batched = 0;
            for slot in 0..self.slots_used {
                let Connection { open, closing, generation, .. } = self.connections[slot as usize];
                if slot == from || !open || closing {
                    continue;
                }
                self.push_send(slot, generation, address, self.reply);
                batched += 1;
                if batched == self.send_batch {
                    self.queue.submit();
                    batched = 0;
                }
            }
        }
    }

    /// With --skip-success only for a send that failed or was short.
    fn on_send(&mut self, token: Token, result: i32) {
        let connection = &self.connections[token.slot as usize];
        if connection.closing || connection.generation != token.generation {
            return;
        }
        if u32::try_from(result) != Ok(u32::from(token.lease) * self.reply) {
            self.counters.trouble += 1;
            self.close(token.slot);
        }
    }

    /// Nothing in flight: read on if there may be bytes, else the poll will tell.
    fn on_idle(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.busy = false;
        if connection.again {
            self.receive(slot);
        }
    }

    /// A receive ended without bytes: nothing there, no buffer, end of stream or an error.
    #[cold]
    fn on_no_bytes(&mut self, slot: u32, result: i32, flags: u32) {
        match result {
            code if code == -libc::EAGAIN && self.mode == Mode::Poll => self.on_idle(slot),
            code if code == -libc::ENOBUFS && !cqueue::more(flags) => {
                self.arm_receive_multishot(slot);
            }
            _ => self.close(slot),
        }
    }

    fn receive(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(lease) = self.free.pop() else {
            // More connections than buffers have bytes at this moment: submit what holds buffers.
            // The connection's turn comes again, because the poll is armed anew.
            return self.receive_later(slot);
        };
        connection.busy = true;
        connection.again = false;
        let token = Token { kind: Kind::Receive, generation: connection.generation, lease, slot };
        let entry =
            opcode::Recv::new(Fixed(slot), self.arena.address(lease.into()), self.arena.size())
                .flags(libc::MSG_DONTWAIT)
                .build()
                .user_data(token.encode());
        // SAFETY: the buffer is that long, is never freed, and was just taken out of `free`.
        unsafe { self.queue.push(&entry) };
        self.receiving += 1;
    }

    /// Takes the poll off and arms a new one, which looks at the socket first.
    #[cold]
    fn receive_later(&mut self, slot: u32) {
        let generation = self.connections[slot as usize].generation;
        let armed = Token { kind: Kind::Poll, generation, lease: 0, slot };
        let token = Token { kind: Kind::Cancel, ..armed };
        let entry = opcode::PollRemove::new(armed.encode()).build().user_data(token.encode());
        // SAFETY: the operation refers to no memory.
        unsafe { self.queue.push(&entry) };
    }

    /// Cancels what waits on the slot by its user_data, then closes it; a bare CLOSE of a direct
    /// descriptor with an armed operation would leave the connection open.
    #[cold]
    fn close(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if std::mem::replace(&mut connection.closing, true) {
            return;
        }
        let generation = connection.generation;
        let kind = match self.mode {
            Mode::Poll => Kind::Poll,
            Mode::Multishot | Mode::Oneshot | Mode::Lazy => Kind::Receive,
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

    fn on_closed(&mut self, token: Token) {
        let connection = &mut self.connections[token.slot as usize];
        if connection.generation == token.generation {
            let generation = connection.generation.wrapping_add(1);
            *connection = Connection { generation, ..Connection::default() };
            self.counters.closed += 1;
        }
    }

    #[cold]
    fn arm_accept(&mut self) {
        let token = Token { kind: Kind::Accept, generation: 0, lease: 0, slot: 0 };
        let entry = opcode::AcceptMulti::new(Fd(self.listener))
            .allocate_file_index(true)
            .build()
            .user_data(token.encode());
        // SAFETY: multishot accept stores no address; the listener outlives the loop.
        unsafe { self.queue.push(&entry) };
    }

    #[cold]
    fn arm_poll(&mut self, slot: u32) {
        let generation = self.connections[slot as usize].generation;
        let token = Token { kind: Kind::Poll, generation, lease: 0, slot };
        let events = u32::from(libc::POLLIN.unsigned_abs() | libc::POLLRDHUP.unsigned_abs());
        let entry =
            opcode::PollAdd::new(Fixed(slot), events).multi(true).build().user_data(token.encode());
        // SAFETY: a poll refers to no memory.
        unsafe { self.queue.push(&entry) };
    }

    #[cold]
    fn arm_receive_multishot(&mut self, slot: u32) {
        let generation = self.connections[slot as usize].generation;
        let token = Token { kind: Kind::Receive, generation, lease: 0, slot };
        let entry = opcode::RecvMulti::new(Fixed(slot), 0).build().user_data(token.encode());
        // SAFETY: the buffers come from the registered ring, whose memory is never freed.
        unsafe { self.queue.push(&entry) };
    }

    /// Lazy mode: receives for the first `due` of those that were answered before.
    fn receive_due(&mut self, due: usize) {
        for index in 0..due {
            let slot = self.later[index];
            if !self.connections[slot as usize].closing {
                self.arm_receive_oneshot(slot, 0);
            }
        }
        self.later.drain(..due);
    }

    /// With POLL_FIRST it goes to wait at once: an answer was just sent, so nothing is there yet.
    fn arm_receive_oneshot(&mut self, slot: u32, how: u16) {
        let generation = self.connections[slot as usize].generation;
        let token = Token { kind: Kind::Receive, generation, lease: 0, slot };
        let entry = opcode::Recv::new(Fixed(slot), self.arena.address(slot), self.arena.size())
            .ioprio(how)
            .build()
            .user_data(token.encode());
        // SAFETY: the buffer is the connection's own and never freed; an answer out of it was queued
        // before and is sent before this receive starts.
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
    #[cold]
    fn on_signal(&mut self, signals: &Signals) -> bool {
        let stop = signals.drain();
        let Counters { messages, receives, sends, accepted, closed, trouble } = self.counters;
        let enters = self.queue.enters;
        println!(
            "{{\"messages\":{messages},\"enters\":{enters},\"receives\":{receives},\
             \"sends\":{sends},\"accepted\":{accepted},\"closed\":{closed},\"trouble\":{trouble}}}"
        );
        if !stop {
            self.arm_signals(signals);
        }
        stop
    }
}

/// `IORING_RECVSEND_POLL_FIRST` of io_uring_prep_recv(3); the crate does not name it.
const IORING_RECVSEND_POLL_FIRST: u16 = 1;
