//! The submission side of the ring, and what is in `user_data`.
//!
//! In: entries. Out: submitted operations and the count of enters. Invariant: an entry that was
//! pushed is submitted; the queue drops none.

use std::io;

use io_uring::types::SubmitArgs;
use io_uring::{SubmissionQueue, Submitter, squeue};

/// Submission side of the ring, and how often the kernel was entered.
pub(crate) struct Queue<'r> {
    submitter: Submitter<'r>,
    sq: SubmissionQueue<'r>,
    wait_flags: u32,
    pub(crate) enters: u64,
}

impl<'r> Queue<'r> {
    pub(crate) fn new(submitter: Submitter<'r>, sq: SubmissionQueue<'r>, no_iowait: bool) -> Self {
        let no_iowait = if no_iowait { IORING_ENTER_NO_IOWAIT } else { 0 };
        Self { submitter, sq, wait_flags: IORING_ENTER_GETEVENTS | no_iowait, enters: 0 }
    }

    /// # Safety
    /// Memory that `entry` refers to must stay valid until its completion.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) {
        if self.sq.is_full() {
            self.reserve(1);
        }
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.sq.push(entry) };
        debug_assert!(pushed.is_ok(), "reserve made room");
    }

    /// Room for `count` entries, so that a linked pair is never cut by a submit.
    #[cold]
    pub(crate) fn reserve(&mut self, count: usize) {
        while self.sq.capacity() - self.sq.len() < count {
            self.submit();
        }
    }

    /// Submits what is queued and does not wait. An interrupted or refused submission is made up for
    /// by the next, because the queue keeps what was not taken.
    pub(crate) fn submit(&mut self) {
        self.sq.sync();
        self.enters += 1;
        let _ = self.submitter.submit();
        self.sq.sync();
    }

    pub(crate) fn submit_and_wait(&mut self, want: u32, min_wait_usec: u32) -> io::Result<()> {
        self.sq.sync();
        self.enters += 1;
        // At most as many as the ring has entries, 4096.
        let queued = u32::try_from(self.sq.len()).unwrap_or(u32::MAX);
        let submitted = if want > 1 {
            let arguments = SubmitArgs::new().min_wait_usec(min_wait_usec);
            let flags = self.wait_flags | IORING_ENTER_EXT_ARG;
            // SAFETY: the flag says that the argument is an io_uring_getevents_arg, which it is.
            unsafe { self.submitter.enter(queued, want, flags, Some(&arguments)) }
        } else {
            // SAFETY: no argument is given, and none is promised by the flags.
            unsafe { self.submitter.enter::<()>(queued, want, self.wait_flags, None) }
        };
        self.sq.sync();
        match submitted {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Interrupted, or completions must be reaped first.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

/// Flags of io_uring_enter(2); the crate keeps the first two to itself and lacks the third (6.15).
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_ENTER_EXT_ARG: u32 = 1 << 3;
const IORING_ENTER_NO_IOWAIT: u32 = 1 << 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept,
    Poll,
    Receive,
    Send,
    Cancel,
    Close,
    Signal,
}

/// What is in `user_data`: kind, generation, lease and slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) generation: u8,
    pub(crate) lease: u16,
    pub(crate) slot: u32,
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.kind as u8) << 56
            | u64::from(self.generation) << 48
            | u64::from(self.lease) << 32
            | u64::from(self.slot)
    }

    pub(crate) fn decode(user_data: u64) -> Self {
        let [kind, generation, lease_high, lease_low, slot @ ..] = user_data.to_be_bytes();
        let kind = match kind {
            0 => Kind::Accept,
            1 => Kind::Poll,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Cancel,
            5 => Kind::Close,
            _ => Kind::Signal,
        };
        Self {
            kind,
            generation,
            lease: u16::from_be_bytes([lease_high, lease_low]),
            slot: u32::from_be_bytes(slot),
        }
    }
}
