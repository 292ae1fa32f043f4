//! Receive buffers that live as long as the process, and the kernel's buffer ring over them.
//!
//! In: sizes. Out: addresses to put into SQEs. Invariant: the memory is zeroed once, never freed and
//! never lent as a Rust reference, so the kernel may write it at any time.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// `count` buffers of `size` bytes.
pub(crate) struct Arena {
    base: NonNull<u8>,
    size: u32,
    count: u32,
}

impl Arena {
    pub(crate) fn new(count: u32, size: u32) -> Self {
        let base = pages(count as usize * size as usize);
        Self { base, size, count }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The address of buffer `id`.
    pub(crate) fn address(&self, id: u32) -> *mut u8 {
        assert!(id < self.count, "a buffer id comes from this arena");
        self.base.as_ptr().wrapping_add(id as usize * self.size as usize)
    }
}

/// The ring through which buffers are lent to multishot receives (`io_uring_register_buf_ring(3)`).
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers the ring as group 0 and lends the `count` buffers of `arena`.
    pub(crate) fn new(submitter: &Submitter<'_>, arena: &Arena, count: u16) -> io::Result<Self> {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let entries = pages(bytes).cast::<BufRingEntry>();
        // SAFETY: the address is page-aligned and has room for `count` entries; it is never freed.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, count, 0, 0)?;
        }
        let mut ring = Self { entries, mask: count - 1, tail: 0 };
        for id in 0..count {
            ring.give(arena, id);
        }
        ring.publish();
        Ok(ring)
    }

    /// Puts a buffer back; visible to the kernel after [`publish`](Self::publish).
    pub(crate) fn give(&mut self, arena: &Arena, id: u16) {
        let at = self.entries.as_ptr().wrapping_add(usize::from(self.tail & self.mask));
        // SAFETY: `at` lies within the ring because of the mask, and the kernel does not read an
        // entry at or past the published tail.
        let entry = unsafe { &mut *at };
        entry.set_addr(arena.address(id.into()) as u64);
        entry.set_len(arena.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was put back.
    pub(crate) fn publish(&self) {
        // SAFETY: `entries` is the first entry of a registered, zeroed, page-aligned buffer ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is an aligned u16 that only this thread writes and the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed, page-aligned memory that is never freed.
fn pages(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes.max(1), 4096).unwrap_or_else(|_| {
        // Both factors are bounded by the command line: at most 32 GiB.
        unreachable!("the size of the arena is bounded")
    });
    // SAFETY: the layout has a size of at least one.
    let address = unsafe { alloc_zeroed(layout) };
    NonNull::new(address).unwrap_or_else(|| handle_alloc_error(layout))
}
