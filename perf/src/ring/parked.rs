//! Connections that mostly wait, as many as the machine holds.
//!
//! In: connected sockets. Out: what came on which of them, under one numbering. Each is a direct
//! descriptor with a multishot poll armed on it (the cheapest way to wait: a third of the kernel memory
//! of an armed receive), in as many rings as their number needs, because one ring has at most as many
//! descriptors as a process. What came is read into a few buffers that all share.
//!
//! Invariants: receives and sends never wait (MSG_DONTWAIT), so they are over when the enter that
//! submitted them returns, and only until then is their memory borrowed.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::Fixed;
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{Event, failure};

/// What is said in answer to what came: a frame of at most 131 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    bytes: [u8; REPLY_BYTES],
    length: u8,
}

impl Reply {
    /// # Panics
    /// When there are more than 131 bytes.
    pub(crate) fn new(frame: &[u8]) -> Self {
        let mut bytes = [0; REPLY_BYTES];
        bytes[..frame.len()].copy_from_slice(frame);
        Self { bytes, length: u8::try_from(frame.len()).unwrap_or(u8::MAX) }
    }
}

/// All connections.
pub(crate) struct Parked {
    rings: Vec<ParkedRing>,
    per_ring: u32,
    bell: OwnedFd,
}

struct ParkedRing {
    ring: IoUring,
    /// Connections in it.
    count: u32,
    /// Polls that ended and have to be armed again.
    rearm: Vec<u32>,
    /// Connections that have something to read.
    ready: Vec<u32>,
    // Boxed, so that they do not move while the kernel reads or writes them.
    buffers: Box<[[u8; BUFFER_BYTES]; BATCH]>,
    replies: Box<[Reply; BATCH]>,
}

impl Parked {
    /// At most `per_ring` connections to a ring.
    pub(crate) fn new(per_ring: u32) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { rings: Vec::new(), per_ring, bell })
    }

    pub(crate) fn count(&self) -> u32 {
        self.rings.iter().map(|ring| ring.count).sum()
    }

    /// Takes connections over; their descriptors are closed, and the rings keep them.
    pub(crate) fn add(&mut self, sockets: Vec<TcpStream>) -> io::Result<()> {
        let raw: Vec<RawFd> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let has_room = self.rings.last().is_some_and(|ring| ring.count < self.per_ring);
            if !has_room {
                self.rings.push(ParkedRing::new(self.per_ring, &self.bell)?);
            }
            let Some(ring) = self.rings.last_mut() else { break };
            let room = (self.per_ring - ring.count) as usize;
            let (share, behind) = rest.split_at(rest.len().min(room));
            ring.add(share)?;
            rest = behind;
        }
        Ok(())
    }

    /// Sends `frame` on the connections that `speaks` picks; says on how many.
    pub(crate) fn say(&mut self, frame: Reply, speaks: impl Fn(u32) -> bool) -> io::Result<u32> {
        let mut count = 0;
        for (ring, base) in self.rings.iter_mut().zip((0..).step_by(self.per_ring as usize)) {
            let whom: Vec<u32> = (0..ring.count).filter(|index| speaks(base + index)).collect();
            for batch in whom.chunks(BATCH) {
                ring.replies[..batch.len()].fill(frame);
                ring.send(batch)?;
            }
            count += u32::try_from(whom.len()).unwrap_or(u32::MAX);
        }
        Ok(count)
    }

    /// Ends all connections, on this thread: what the kernel does when a ring is dropped, it does on
    /// threads of its own and on any core.
    pub(crate) fn cut(&mut self) -> io::Result<()> {
        for mut ring in self.rings.drain(..) {
            for connection in 0..ring.count {
                // A close does not reach the peer while a poll holds the socket.
                let cancel = opcode::AsyncCancel::new(POLL | u64::from(connection))
                    .build()
                    .flags(squeue::Flags::IO_HARDLINK | squeue::Flags::SKIP_SUCCESS)
                    .user_data(SEND | u64::from(connection));
                let close = opcode::Close::new(Fixed(connection))
                    .build()
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(SEND | u64::from(connection));
                ring.push(&cancel)?;
                ring.push(&close)?;
                if connection % CLOSES == CLOSES - 1 {
                    ring.submit()?;
                    ring.ring.completion().for_each(drop);
                }
            }
            ring.submit()?;
        }
        Ok(())
    }

    /// Waits for something or for `timeout`, and reports what came; says whether anything did.
    /// `on_event` may answer.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on_event: impl FnMut(u32, Event<'_>) -> Option<Reply>,
    ) -> io::Result<bool> {
        // Emptied before the rings are asked: what comes after the asking rings again.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.bell, &mut count);
        let mut any = false;
        for (ring, base) in self.rings.iter_mut().zip((0..).step_by(self.per_ring as usize)) {
            any |= ring.turn(|index, event| on_event(base + index, event))?;
        }
        if !any && !timeout.is_zero() {
            let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(any)
    }
}

impl ParkedRing {
    fn new(slots: u32, bell: &OwnedFd) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_clamp()
            .setup_cqsize(8192)
            .build(1024)?;
        ring.submitter().register_files_sparse(slots)?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        let empty = Reply { bytes: [0; REPLY_BYTES], length: 0 };
        Ok(Self {
            ring,
            count: 0,
            rearm: Vec::new(),
            ready: Vec::new(),
            buffers: Box::new([[0; BUFFER_BYTES]; BATCH]),
            replies: Box::new([empty; BATCH]),
        })
    }

    fn add(&mut self, sockets: &[RawFd]) -> io::Result<()> {
        self.ring.submitter().register_files_update(self.count, sockets)?;
        let added = u32::try_from(sockets.len()).map_err(io::Error::other)?;
        self.rearm.extend(self.count..self.count + added);
        self.count += added;
        self.arm()?;
        self.ring.submit().map(drop)
    }

    fn arm(&mut self) -> io::Result<()> {
        while let Some(connection) = self.rearm.pop() {
            let entry = opcode::PollAdd::new(Fixed(connection), POLL_EVENTS)
                .multi(true)
                .build()
                .user_data(POLL | u64::from(connection));
            self.push(&entry)?;
        }
        Ok(())
    }

    fn turn(
        &mut self,
        mut on_event: impl FnMut(u32, Event<'_>) -> Option<Reply>,
    ) -> io::Result<bool> {
        let submission = self.ring.submission();
        let idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if idle && self.ring.completion().is_empty() {
            return Ok(false);
        }
        self.submit()?;
        self.reap(&mut on_event);
        let any = !self.ready.is_empty();
        while !self.ready.is_empty() {
            self.read_batch(&mut on_event)?;
        }
        self.arm()?;
        Ok(any)
    }

    /// Receives from up to [`BATCH`] connections that are ready, and sends what is answered.
    fn read_batch(
        &mut self,
        on_event: &mut impl FnMut(u32, Event<'_>) -> Option<Reply>,
    ) -> io::Result<()> {
        let count = self.ready.len().min(BATCH);
        let batch: Vec<u32> = self.ready.drain(..count).collect();
        for (slot, connection) in batch.iter().enumerate() {
            let (address, length) = (self.buffers[slot].as_mut_ptr(), BUFFER_LENGTH);
            let entry = opcode::Recv::new(Fixed(*connection), address, length)
                .flags(libc::MSG_DONTWAIT)
                .build()
                .user_data(RECEIVE | (slot as u64) << 32 | u64::from(*connection));
            self.push(&entry)?;
        }
        self.submit()?;
        let answered = self.reap(on_event);
        self.send(&answered)
    }

    /// Sends the replies, in their order, on these connections, at most [`BATCH`].
    fn send(&mut self, connections: &[u32]) -> io::Result<()> {
        for (slot, connection) in connections.iter().enumerate() {
            let Reply { bytes, length } = &self.replies[slot];
            let entry = opcode::Send::new(Fixed(*connection), bytes.as_ptr(), u32::from(*length))
                .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(SEND | u64::from(*connection));
            self.push(&entry)?;
        }
        self.submit()
    }

    /// Takes the completions that are there; says to whom the replies go, in their order.
    fn reap(&mut self, on_event: &mut impl FnMut(u32, Event<'_>) -> Option<Reply>) -> Vec<u32> {
        let mut answered = Vec::new();
        for completion in self.ring.completion() {
            let data = completion.user_data();
            // The low half is the connection.
            let connection = u32::try_from(data & u64::from(u32::MAX)).unwrap_or(0);
            let result = completion.result();
            match data & KINDS {
                POLL => {
                    self.ready.push(connection);
                    if !cqueue::more(completion.flags()) {
                        self.rearm.push(connection);
                    }
                }
                RECEIVE => {
                    let slot = (data >> 32) as usize % BATCH;
                    let event = match usize::try_from(result) {
                        Ok(0) => Event::Ended(None),
                        Ok(length) => {
                            if length == BUFFER_BYTES {
                                // The poll does not tell again of what was there already.
                                self.ready.push(connection);
                            }
                            Event::Received(&self.buffers[slot][..length])
                        }
                        Err(_) if result == -libc::EAGAIN => continue,
                        Err(_) => Event::Ended(Some(failure(result))),
                    };
                    if let Some(reply) = on_event(connection, event) {
                        self.replies[answered.len()] = reply;
                        answered.push(connection);
                    }
                }
                _ => {
                    on_event(connection, Event::Ended(Some(failure(result))));
                }
            }
        }
        answered
    }

    fn submit(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: polls point to nothing; receives and sends point to boxed arrays of this ring, never
        // wait in the kernel, and every push of one is followed by an enter before the arrays are
        // touched again or dropped.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(io::Error::other)
    }
}

const POLL_EVENTS: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
/// Connections that are closed with one enter.
const CLOSES: u32 = 16;
/// Connections that are read from with one enter.
const BATCH: usize = 128;
const BUFFER_LENGTH: u32 = 2048;
const BUFFER_BYTES: usize = BUFFER_LENGTH as usize;
const REPLY_BYTES: usize = 131;
const POLL: u64 = 1 << 56;
const RECEIVE: u64 = 2 << 56;
const SEND: u64 = 3 << 56;
const KINDS: u64 = 0xff << 56;
