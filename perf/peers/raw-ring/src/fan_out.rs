//! The limit of a fan-out: what sends of the same bytes to the same number of sockets cost.
//!
//! In: on the first connection how many follow and into how many groups they go in turn, then numbers
//! of groups, all 32 bits little-endian; a number with the highest bit set is how many sends an enter
//! submits from then on. Out: `--reply` bytes to every connection of each named group;
//! one byte on the first connection when all have come. As many rings as the limit of descriptors
//! asks for, on one thread.
//!
//! Invariants: a send never waits, so it is over when its enter returns; a success has no completion,
//! so any completion is the end of the run.
//!
//! Deliberately absent: everything that a subscriber could say.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode, squeue};

use crate::arguments::Arguments;

/// Serves until the first connection ends.
pub(crate) fn serve(arguments: &Arguments, listener: OwnedFd, port: u16) -> io::Result<()> {
    let listener = TcpListener::from(listener);
    println!("{{\"port\":{port}}}");
    let (mut control, _) = listener.accept()?;
    let (subscribers, groups) = (read_number(&mut control)?, read_number(&mut control)?.max(1));
    let mut subscribers = Subscribers::accept(&listener, subscribers, arguments)?;
    control.write_all(b"+")?;
    let mut bytes = [0; 4096];
    let mut kept = 0;
    loop {
        let read = control.read(&mut bytes[kept..])?;
        if read == 0 {
            return Ok(());
        }
        kept += read;
        let (numbers, rest) = bytes[..kept].as_chunks();
        let (taken, rest) = (size_of_val(numbers), rest.len());
        for &number in numbers {
            let number = u32::from_le_bytes(number);
            if number >= SEND_BATCH {
                subscribers.send_batch = (number - SEND_BATCH).clamp(1, ENTRIES) as usize;
                continue;
            }
            let group = number % groups;
            subscribers.send_to((group..subscribers.count).step_by(groups as usize))?;
        }
        subscribers.submit()?;
        bytes.copy_within(taken..taken + rest, 0);
        kept = rest;
    }
}

fn read_number(control: &mut TcpStream) -> io::Result<u32> {
    let mut number = [0; 4];
    control.read_exact(&mut number)?;
    Ok(u32::from_le_bytes(number))
}

/// Connections in direct descriptors of several rings.
struct Subscribers {
    rings: Vec<IoUring>,
    slots: u32,
    count: u32,
    send_batch: usize,
    reply: Box<[u8]>,
}

impl Subscribers {
    fn accept(listener: &TcpListener, count: u32, arguments: &Arguments) -> io::Result<Self> {
        let reply = vec![b'x'; arguments.reply as usize].into_boxed_slice();
        let mut this = Self {
            rings: Vec::new(),
            slots: arguments.slots,
            count: 0,
            send_batch: arguments.send_batch as usize,
            reply,
        };
        while this.count < count {
            let at = this.count % this.slots;
            if at == 0 {
                this.rings.push(ring(this.slots)?);
            }
            let share = (count - this.count).min(this.slots - at).min(ACCEPTED_AT_ONCE);
            let sockets: io::Result<Vec<TcpStream>> =
                (0..share).map(|_| listener.accept().map(|(socket, _)| socket)).collect();
            let sockets = sockets?;
            let raw: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
            if let Some(ring) = this.rings.last() {
                ring.submitter().register_files_update(at, &raw)?;
            }
            this.count += share;
        }
        Ok(this)
    }

    fn send_to(&mut self, connections: impl Iterator<Item = u32>) -> io::Result<()> {
        let Self { rings, slots, send_batch, reply, .. } = self;
        let reply_bytes = u32::try_from(reply.len()).map_err(io::Error::other)?;
        for connection in connections {
            let ring = &mut rings[(connection / *slots) as usize];
            let entry = opcode::Send::new(Fixed(connection % *slots), reply.as_ptr(), reply_bytes)
                .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(u64::from(connection));
            // SAFETY: the bytes are immutable and live as long as the rings, which are dropped before.
            let pushed = unsafe { ring.submission().push(&entry) };
            pushed.map_err(io::Error::other)?;
            if ring.submission().len() >= *send_batch {
                submit(ring)?;
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        for ring in &mut self.rings {
            if !ring.submission().is_empty() {
                submit(ring)?;
            }
        }
        Ok(())
    }
}

/// Submits what is queued; a completion means that a send failed.
fn submit(ring: &mut IoUring) -> io::Result<()> {
    while !ring.submission().is_empty() {
        match ring.submit() {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
            _ => {}
        }
    }
    match ring.completion().next() {
        Some(completion) => Err(io::Error::other(format!(
            "the send to subscriber {} said {}",
            completion.user_data(),
            completion.result()
        ))),
        None => Ok(()),
    }
}

fn ring(slots: u32) -> io::Result<IoUring> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_clamp()
        .build(ENTRIES)?;
    // A thread may register sixteen; it saves a look at its table of descriptors.
    drop(ring.submitter().register_ring_fd());
    ring.submitter().register_files_sparse(slots)?;
    Ok(ring)
}

const ACCEPTED_AT_ONCE: u32 = 500;
const ENTRIES: u32 = 4096;
/// A number from here on says how many sends an enter submits.
const SEND_BATCH: u32 = 1 << 31;
