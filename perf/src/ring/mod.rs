//! The ring of the load client, behind a safe interface: the only `unsafe` of this crate, with the
//! one socket option that `rustix` lacks.
//!
//! In: connected sockets and the bytes that every send sends. Out: received bytes, lent for the
//! length of a call. Invariants: everything the kernel reads or writes is owned here, is not moved
//! or freed while an operation may use it, and is leaked if the operations cannot be cancelled.
//!
//! Deliberately absent: framing, time, and deciding what to send next.

mod buffers;
mod cells;
mod connector;
mod parked;
pub(crate) mod socket;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use buffers::Buffers;
pub(crate) use cells::Cells;
pub(crate) use connector::{Connector, Opened, Until};
pub(crate) use parked::{Parked, Reply};

/// What happened to a connection.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Bytes came.
    Received(&'a [u8]),
    /// The peer ended the stream, or a receive or a send failed.
    Ended(Option<io::Error>),
}

/// A ring with a multishot receive armed on every socket.
struct Ring {
    ring: IoUring,
    // `Option` so that drop can leak them.
    buffers: Option<Buffers>,
    outgoing: Option<Box<[u8]>>,
    /// Receives that ended for want of a buffer.
    rearm: Vec<u32>,
}

impl Ring {
    /// Takes `sockets` (connection `n` is the n-th) and arms their receives, in buffers of
    /// `buffer_size`. [`send`](Self::send) sends `outgoing`. The ring keeps the sockets as direct
    /// descriptors, so that they no longer count against the limit of descriptors; they close with
    /// it.
    fn new(sockets: Vec<OwnedFd>, outgoing: Vec<u8>, buffer_size: u32) -> io::Result<Self> {
        let count = u32::try_from(sockets.len()).map_err(io::Error::other)?;
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_clamp()
            .setup_cqsize(4 * count.clamp(1024, 16_384))
            .build(4096)?;
        let raw: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&raw)?;
        let affordable = (BUFFER_BYTES_MAX / buffer_size).max(64);
        let entries = (2 * count).clamp(64, 32_768.min(affordable)).next_power_of_two();
        let entries = u16::try_from(entries).unwrap_or(32_768);
        let buffers = Buffers::new(&ring, entries, buffer_size)?;
        drop(sockets);
        let mut this = Self {
            ring,
            buffers: Some(buffers),
            outgoing: Some(outgoing.into_boxed_slice()),
            rearm: (0..count).collect(),
        };
        this.arm_receives()?;
        Ok(this)
    }

    /// Queues one send of the outgoing bytes; it leaves with the next turn. Its success is silent.
    fn send(&mut self, connection: u32) -> io::Result<()> {
        let Some(outgoing) = &self.outgoing else { return Ok(()) };
        let length = u32::try_from(outgoing.len()).map_err(io::Error::other)?;
        let entry = opcode::Send::new(Fixed(connection), outgoing.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND | u64::from(connection));
        // SAFETY: the bytes are immutable and live until `drop` has cancelled every operation.
        unsafe { self.push(&entry) }
    }

    /// Writes to `bell` whenever there is something to reap.
    fn ring_at(&self, bell: &OwnedFd) -> io::Result<()> {
        self.ring.submitter().register_eventfd(bell.as_raw_fd())
    }

    /// Submits what is queued, waits for a completion or `timeout`, and reports what came; says
    /// whether anything did.
    fn turn(
        &mut self,
        timeout: Duration,
        mut on_event: impl FnMut(u32, Event<'_>),
    ) -> io::Result<bool> {
        self.arm_receives()?;
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        let Some(buffers) = &mut self.buffers else { return Ok(false) };
        let mut any = false;
        for completion in self.ring.completion() {
            any = true;
            let user_data = completion.user_data();
            // The low half is the connection.
            let connection = u32::try_from(user_data & u64::from(u32::MAX)).unwrap_or(0);
            let (result, flags) = (completion.result(), completion.flags());
            if user_data & SEND != 0 {
                // Success is skipped, and WAITALL makes a short send an error of the peer.
                on_event(connection, Event::Ended(Some(failure(result))));
                continue;
            }
            let more = cqueue::more(flags);
            match (usize::try_from(result), cqueue::buffer_select(flags)) {
                (Ok(length @ 1..), Some(id)) => {
                    on_event(connection, Event::Received(buffers.lent(id, length)));
                    buffers.give(id);
                    if !more {
                        self.rearm.push(connection);
                    }
                }
                _ if result == -libc::ENOBUFS => self.rearm.push(connection),
                (Ok(_), _) => on_event(connection, Event::Ended(None)),
                _ => on_event(connection, Event::Ended(Some(failure(result)))),
            }
        }
        buffers.publish();
        Ok(any)
    }

    fn arm_receives(&mut self) -> io::Result<()> {
        while let Some(connection) = self.rearm.pop() {
            let entry = opcode::RecvMulti::new(Fixed(connection), buffers::GROUP)
                .build()
                .user_data(u64::from(connection));
            // SAFETY: the memory is that of the registered buffer ring, which lives until `drop`
            // has cancelled every operation.
            unsafe { self.push(&entry)? };
        }
        Ok(())
    }

    /// # Safety
    /// Memory that `entry` refers to must stay valid until its completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(io::Error::other)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if !idle {
            // The kernel may still write to them.
            std::mem::forget(self.buffers.take());
            std::mem::forget(self.outgoing.take());
        }
    }
}

fn failure(result: i32) -> io::Error {
    if result < 0 {
        io::Error::from_raw_os_error(-result)
    } else {
        io::Error::new(io::ErrorKind::WriteZero, format!("short send of {result} bytes"))
    }
}

/// Of one ring's receive buffers; what does not fit waits in the sockets.
const BUFFER_BYTES_MAX: u32 = 64 << 20;
/// Marks the completion of a send; the rest of `user_data` is the connection.
const SEND: u64 = 1 << 32;
