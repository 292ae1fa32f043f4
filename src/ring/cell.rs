//! A cell: one io_uring with the buffers that it was told of and the sends that are in flight in it.
//!
//! Its invariants: an entry that was pushed is submitted by the next enter, but for sends that gather; a send
//! that was submitted is over when [`CellRing::settle`] has returned. Sends cost less where many follow each other in
//! one enter, so those that may wait are gathered over some turns.

use super::buffers::BufferRing;
use super::sends::Sends;
use super::{RingCounters, RingError};
use crate::limits::GATHERED_SENDS_ENOUGH;
use io_uring::{Builder, IoUring, squeue};
use rustix::fd::AsRawFd;
use std::io;

/// Tries to submit what the kernel did not take at once, for want of memory.
const SUBMITS_MAX: u32 = 1000;

/// The setup of a shard's ring (io_uring_setup(2)).
pub(super) fn builder(completion_entries: u32) -> Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_clamp()
        .setup_cqsize(completion_entries)
        .dontfork();
    builder
}

/// One ring. The io_uring is declared before the buffers it was told of, so it is dropped first.
pub(super) struct CellRing {
    pub(super) ring: IoUring,
    pub(super) buffers: BufferRing,
    pub(super) sends: Sends,
    /// Whether something was pushed that does not wait.
    pub(super) hurries: bool,
    /// Whether the kernel kept completions aside when that was last looked at.
    overflown: bool,
}

impl CellRing {
    pub(super) fn new(ring: IoUring, buffers: BufferRing) -> Self {
        Self { ring, buffers, sends: Sends::default(), hurries: false, overflown: false }
    }

    /// Puts an entry in the submission queue, entering the kernel once when it is full.
    #[inline(always)]
    pub(super) fn submit(&mut self, entry: &squeue::Entry, counters: &mut RingCounters) -> bool {
        self.hurries = true;
        self.submit_gathered(entry, counters)
    }

    /// The same for an entry that may wait for others.
    #[inline(always)]
    pub(super) fn submit_gathered(
        &mut self,
        entry: &squeue::Entry,
        counters: &mut RingCounters,
    ) -> bool {
        let mut queue = self.ring.submission();
        if queue.is_full() {
            drop(queue);
            self.submit_now(counters);
            queue = self.ring.submission();
        }
        // SAFETY: everything an entry points to is owned by `receiving` or `listeners` until its
        // completion is reaped, or by `sends` until an enter took it, and those live as long as the ring.
        let pushed = unsafe { queue.push(entry) }.is_ok();
        counters.submitted += u64::from(pushed);
        pushed
    }

    #[cold]
    pub(super) fn submit_now(&mut self, counters: &mut RingCounters) {
        counters.enters += 1;
        if let Err(error) = self.ring.submit() {
            tracing::debug!(%error, "a full submission queue could not be submitted");
        }
    }

    /// Whether the kernel keeps completions aside, because there was no room in the queue for them. It says so until
    /// all of them were fetched, which takes many enters; it is counted once.
    #[inline]
    pub(super) fn has_overflown(&mut self, counters: &mut RingCounters) -> bool {
        let overflown = self.ring.submission().cq_overflow();
        counters.overflows += u64::from(overflown && !self.overflown);
        self.overflown = overflown;
        overflown
    }

    /// Whether what was pushed may wait for more.
    pub(super) fn goes_on_gathering(&self) -> bool {
        !self.hurries && self.sends.len() < GATHERED_SENDS_ENOUGH
    }

    /// Sees to it that all entries were taken: the sends among them are over.
    pub(super) fn settle(&mut self) -> Result<(), RingError> {
        self.hurries = false;
        for _ in 0..SUBMITS_MAX {
            if self.ring.submission().is_empty() {
                self.sends.settle();
                return Ok(());
            }
            passable(self.ring.submit().map(drop))?;
        }
        let source = io::Error::from_raw_os_error(libc::EAGAIN);
        Err(RingError::Call { call: "io_uring_enter: nothing is taken", source })
    }
}

impl std::fmt::Debug for CellRing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CellRing({})", self.ring.as_raw_fd())
    }
}

/// Results of an enter that are part of normal life: the time was up, a signal came, or completions
/// have to be reaped first.
pub(super) fn passable(result: io::Result<()>) -> Result<(), RingError> {
    match result {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Err(RingError::Call { call: "io_uring_enter", source: error })
        }
        _ => Ok(()),
    }
}
