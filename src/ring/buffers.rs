//! The buffer ring: receive buffers from which the kernel picks by itself for a multishot receive.
//!
//! The buffers are leases of their own pool. One that the kernel picked comes out as a [`Lease`];
//! giving it back puts it at the tail of the ring.

use crate::memory::{Lease, LeasePool, PoolId};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one buffer group of a cell.
pub(super) const GROUP: u16 = 0;

/// A registered buffer ring.
#[derive(Debug)]
pub(super) struct BufferRing {
    pool: LeasePool,
    entries: *mut BufRingEntry,
    layout: Layout,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers `count` buffers (a power of two) of `lease_bytes` each; their leases say `id`.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        id: PoolId,
        count: u16,
        lease_bytes: usize,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two");
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
        // SAFETY: the size is not zero, since `count` is at least 1.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        let mut pool = LeasePool::new(id, count, lease_bytes);
        let indexes = pool.hand_over_all();
        let mut ring = Self { pool, entries: memory.cast(), layout, mask: count - 1, tail: 0 };
        // SAFETY: `memory` is page-aligned, holds `count` entries and is freed only in `drop`; the
        // owner drops the io_uring, which unregisters the group, before it drops this.
        unsafe { submitter.register_buf_ring_with_flags(memory as u64, count, GROUP, 0)? };
        for index in indexes {
            let address = ring.pool.address(index);
            ring.offer(index, address);
        }
        Ok(ring)
    }

    /// The buffer that the kernel picked, with `filled` bytes in it.
    #[inline(always)]
    pub(super) fn picked(&mut self, index: u16, filled: usize) -> Lease {
        let mut lease = self.pool.lend_index(index);
        lease.set_filled(filled);
        lease
    }

    /// Lets `read` see the bytes of the buffer that the kernel picked. The buffer is put back if it says
    /// that it is done with them, but the kernel sees that only after [`Self::publish`].
    #[inline(always)]
    pub(super) fn read(
        &mut self,
        index: u16,
        filled: usize,
        read: impl FnOnce(&[u8]) -> bool,
    ) -> bool {
        let done = self.pool.read_index(index, filled, read);
        if done {
            let address = self.pool.address(index);
            self.enter(index, address);
        }
        done
    }

    /// Puts a buffer back for the kernel to pick.
    #[inline(always)]
    pub(super) fn give_back(&mut self, lease: Lease) {
        let address = lease.address();
        let index = self.pool.take_back_index(lease);
        self.offer(index, address);
    }

    pub(super) fn outstanding(&self) -> usize {
        self.pool.outstanding()
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.pool.resident_bytes() + self.layout.size()
    }

    #[inline(always)]
    fn offer(&mut self, index: u16, address: *mut u8) {
        self.enter(index, address);
        self.publish();
    }

    /// Writes an entry behind the tail.
    #[inline(always)]
    fn enter(&mut self, index: u16, address: *mut u8) {
        let at = usize::from(self.tail & self.mask);
        // SAFETY: `at` is below the number of entries that `entries` was allocated for.
        let entry = unsafe { self.entries.add(at) };
        // SAFETY: the entry lies at or past the tail, so the kernel does not read it now, and this
        // is the only writer; zeroed memory is a valid entry.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(self.pool.lease_bytes() as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was put back.
    #[inline(always)]
    pub(super) fn publish(&self) {
        // SAFETY: `entries` is the address of the first entry of an initialised ring.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: the tail is a valid, aligned u16 that only the kernel reads beside us; an atomic
        // store with release order publishes the entry above.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout, freed once.
        unsafe { dealloc(self.entries.cast(), self.layout) };
    }
}
