//! Connections opened many at a time.
//!
//! In: where to, and what to say. Out: for each, a socket and the answer's first bytes, or why there is
//! none. Each is one chain of CONNECT, SEND and RECV, hundreds of which are under way together, so that
//! neither a full listen queue nor a slow answer holds up the others.
//!
//! Invariants: what the kernel reads and writes is boxed, and stays until its chain has ended; dropped
//! with chains under way, it cancels them, and leaks them if that fails.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::{failure, socket};

/// When an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// At the end of an HTTP head; what follows it may have come along.
    Head,
    /// After so many bytes.
    Bytes(usize),
}

/// What came of one.
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    /// It is open, and this is what the server said.
    Answered(TcpStream, &'a [u8]),
    /// It could not connect, or ended before the answer was complete.
    Failed(io::Error),
}

/// Connections on their way.
pub(crate) struct Connector {
    ring: IoUring,
    to: Box<libc::sockaddr_in>,
    until: Until,
    // Never resized, so that they do not move while the kernel reads or writes them.
    slots: Box<[Slot]>,
    free: Vec<usize>,
}

struct Slot {
    number: u32,
    socket: Option<TcpStream>,
    request: Vec<u8>,
    answer: [u8; ANSWER_BYTES_MAX],
    /// Bytes of the answer that came.
    filled: usize,
    /// Why an earlier op of the chain failed, which ends the later ones.
    error: Option<io::Error>,
}

impl Connector {
    /// At most `in_flight` at one time.
    pub(crate) fn new(to: SocketAddr, until: Until, in_flight: usize) -> io::Result<Self> {
        let SocketAddr::V4(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(8192)
            .build(2048)?;
        let slot = || Slot {
            number: 0,
            socket: None,
            request: Vec::new(),
            answer: [0; ANSWER_BYTES_MAX],
            filled: 0,
            error: None,
        };
        let to = Box::new(libc::sockaddr_in {
            sin_family: FAMILY,
            sin_port: to.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
            sin_zero: [0; 8],
        });
        let slots = (0..in_flight).map(|_| slot()).collect();
        Ok(Self { ring, to, until, slots, free: (0..in_flight).rev().collect() })
    }

    /// How many more may begin.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// Whether none is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Begins one, if there is room; it leaves with the next turn. `number` decides its source address
    /// and names it; nothing is sent where `request` is empty.
    pub(crate) fn begin(&mut self, number: u32, request: &[u8]) -> io::Result<()> {
        let Some(index) = self.free.pop() else { return Ok(()) };
        let prepared = socket::prepare(number as usize).map(TcpStream::from);
        let slot = &mut self.slots[index];
        let socket = prepared.inspect_err(|_| self.free.push(index))?;
        let descriptor = Fd(socket.as_raw_fd());
        slot.number = number;
        slot.socket = Some(socket);
        slot.request.clear();
        slot.request.extend_from_slice(request);
        slot.filled = 0;
        slot.error = None;
        let name = index as u64;
        let size = ADDRESS_BYTES;
        let connect = opcode::Connect::new(descriptor, (&raw const *self.to).cast(), size)
            .build()
            .flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS)
            .user_data(CONNECT | name);
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        let send = opcode::Send::new(descriptor, slot.request.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND | name);
        let receive = receive(slot, descriptor.0, name, self.until);
        let chain: &[squeue::Entry] =
            if request.is_empty() { &[connect, receive] } else { &[connect, send, receive] };
        let submission = self.ring.submission();
        let queued = submission.len();
        drop(submission);
        if queued >= QUEUED_MAX {
            self.ring.submit()?;
        }
        // SAFETY: the address, the request and the answer's place are in boxes of this connector, which
        // live and do not change until the chain has ended.
        let pushed = unsafe { self.ring.submission().push_multiple(chain) };
        pushed.map_err(io::Error::other)
    }

    /// Submits what began, waits for something or for `timeout`, and reports which have ended.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on_end: impl FnMut(u32, Opened<'_>),
    ) -> io::Result<()> {
        let timespec = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timespec);
        // Also without patience: what has arrived is seen only by who asks for something.
        let wanted = usize::from(!self.is_idle());
        match self.ring.submitter().submit_with_args(wanted, &arguments) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        let mut again = Vec::new();
        for completion in self.ring.completion() {
            let data = completion.user_data();
            let index = usize::try_from(data & !KINDS).map_err(io::Error::other)?;
            let slot = &mut self.slots[index];
            let result = completion.result();
            if data & KINDS != RECEIVE {
                // Successes are skipped; the receive behind it follows as cancelled.
                slot.error.get_or_insert_with(|| failure(result));
                continue;
            }
            match usize::try_from(result) {
                Ok(length @ 1..) => slot.filled += length,
                Ok(0) => {
                    slot.error.get_or_insert_with(|| io::ErrorKind::UnexpectedEof.into());
                }
                Err(_) => {
                    slot.error.get_or_insert_with(|| failure(result));
                }
            }
            let answer = &slot.answer[..slot.filled];
            let complete = match self.until {
                Until::Head => answer.windows(4).any(|four| four == b"\r\n\r\n"),
                Until::Bytes(count) => answer.len() >= count,
            };
            let (Some(socket), None) = (&slot.socket, &slot.error) else {
                slot.socket = None;
                let error = slot.error.take().unwrap_or_else(|| io::ErrorKind::Other.into());
                on_end(slot.number, Opened::Failed(error));
                self.free.push(index);
                continue;
            };
            if complete || slot.filled == ANSWER_BYTES_MAX {
                if let Some(socket) = slot.socket.take() {
                    on_end(slot.number, Opened::Answered(socket, answer));
                }
                self.free.push(index);
            } else {
                again.push((index, socket.as_raw_fd()));
            }
        }
        for (index, descriptor) in again {
            let slot = &mut self.slots[index];
            let entry = receive(slot, descriptor, index as u64, self.until);
            if self.ring.submission().is_full() {
                self.ring.submit()?;
            }
            // SAFETY: as in `begin`.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if self.is_idle() {
            return;
        }
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if !idle {
            // The kernel may still write to them.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

/// The rest of the answer, or its beginning.
fn receive(slot: &mut Slot, descriptor: RawFd, name: u64, until: Until) -> squeue::Entry {
    let space = &mut slot.answer[slot.filled..];
    let (length, flags) = match until {
        Until::Head => (space.len(), 0),
        Until::Bytes(count) => {
            (count.saturating_sub(slot.filled).min(space.len()), libc::MSG_WAITALL)
        }
    };
    // At most `ANSWER_BYTES_MAX`.
    let length = u32::try_from(length).unwrap_or(0);
    opcode::Recv::new(Fd(descriptor), space.as_mut_ptr(), length)
        .flags(flags)
        .build()
        .user_data(RECEIVE | name)
}

/// Entries that one enter submits: a connect is 20 us on the loopback, and whoever else wants this core
/// gets it only between two enters.
const QUEUED_MAX: usize = 48;
/// Of the answer; what comes behind stays in the socket.
const ANSWER_BYTES_MAX: usize = 1024;
/// AF_INET in the type that its field has.
const FAMILY: libc::sa_family_t = 2;
const ADDRESS_BYTES: libc::socklen_t = 16;
const CONNECT: u64 = 1 << 56;
const SEND: u64 = 2 << 56;
const RECEIVE: u64 = 3 << 56;
const KINDS: u64 = 0xff << 56;
const _: () = assert!(size_of::<libc::sockaddr_in>() == ADDRESS_BYTES as usize);
const _: () = assert!(FAMILY as libc::c_int == libc::AF_INET);
