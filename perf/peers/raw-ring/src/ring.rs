//! The submission side of the ring, and what is in `user_data`.
//!
//! In: entries. Out: submitted operations and the count of enters. Invariant: an entry that was
//! pushed is submitted; the queue drops none.

use std::io;

use io_uring::types::SubmitArgs;
use io_uring::{SubmissionQueue, Submitter, squeue};

/// Submission side of the ring, and how often the kernel was entered.
pub(crate) struct Queue<'r> {
    pub(crate) submitter: Submitter<'r>,
    pub(crate) sq: SubmissionQueue<'r>,
    pub(crate) enters: u64,
}

impl Queue<'_> {
    /// # Safety
    /// Memory that `entry` refers to must stay valid until its completion.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.reserve(1);
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.sq.push(entry) };
        debug_assert!(pushed.is_ok(), "reserve made room");
    }

    /// Room for `count` entries, so that a linked pair is never cut by a submit.
    pub(crate) fn reserve(&mut self, count: usize) {
        while self.sq.capacity() - self.sq.len() < count {
            self.sq.sync();
            self.enters += 1;
            // An interrupted or refused submit is tried again: the queue cannot be dropped.
            let _ = self.submitter.submit();
            self.sq.sync();
        }
    }

    pub(crate) fn submit_and_wait(&mut self, want: usize, min_wait_usec: u32) -> io::Result<()> {
        self.sq.sync();
        self.enters += 1;
        let submitted = match min_wait_usec {
            0 => self.submitter.submit_and_wait(want),
            _ => {
                let args = SubmitArgs::new().min_wait_usec(min_wait_usec);
                self.submitter.submit_with_args(want, &args)
            }
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
