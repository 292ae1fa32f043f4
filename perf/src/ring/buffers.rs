//! The buffer ring of multishot receives: memory lent to the kernel and taken back.
//!
//! In: buffer ids from completions. Out: the bytes. Invariant: a buffer is read only between its
//! completion and [`Buffers::give`], when the kernel does not have it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The group id of the one buffer ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct Buffers {
    entries: Pages,
    memory: Pages,
    count: u16,
    size: u32,
    tail: u16,
}

impl Buffers {
    /// Registers a ring of `count` (a power of two) buffers and lends all of them.
    pub(super) fn new(ring: &IoUring, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Pages::new(usize::from(count) * size as usize);
        let address = entries.address.as_ptr() as u64;
        // SAFETY: the address is page-aligned and has room for `count` entries; the owner of `Self`
        // keeps it until the ring's operations are cancelled.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut this = Self { entries, memory, count, size, tail: 0 };
        for id in 0..count {
            this.give(id);
        }
        this.publish();
        Ok(this)
    }

    /// The first `length` bytes of buffer `id`, which a completion handed over.
    pub(super) fn lent(&mut self, id: u16, length: usize) -> &[u8] {
        assert!(id < self.count && length <= self.size as usize, "the kernel names our buffers");
        let start = self.memory.address.as_ptr().wrapping_add(usize::from(id) * self.size as usize);
        // SAFETY: within `memory`, zeroed at first and so initialised, and not the kernel's until
        // `give`, which the borrow of `self` forbids meanwhile.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Puts a buffer back; the kernel sees it after [`publish`](Self::publish).
    pub(super) fn give(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        let entry = self.entries.address.cast::<BufRingEntry>().as_ptr().wrapping_add(at);
        // SAFETY: `at` is below `count`; the kernel does not read at or past the published tail.
        let entry = unsafe { &mut *entry };
        let offset = usize::from(id) * self.size as usize;
        entry.set_addr(self.memory.address.as_ptr().wrapping_add(offset) as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was put back.
    pub(super) fn publish(&self) {
        let base = self.entries.address.cast::<BufRingEntry>().as_ptr();
        // SAFETY: `base` is the first entry of a registered, zeroed, page-aligned buffer ring.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: an aligned u16 that only this thread writes and the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed, page-aligned memory.
struct Pages {
    address: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(1), 4096)
            .unwrap_or_else(|_| unreachable!("at most 32768 buffers of at most 64 KiB"));
        // SAFETY: the layout has a size of at least one.
        let address = unsafe { alloc_zeroed(layout) };
        let address = NonNull::new(address).unwrap_or_else(|| handle_alloc_error(layout));
        Self { address, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; `Ring` drops it after its operations.
        unsafe { dealloc(self.address.as_ptr(), self.layout) };
    }
}
