//! An allocator that counts: the proof that the path of data does not allocate.
//!
//! One relaxed addition per allocation, which costs nothing where nothing is allocated. The binary
//! wraps its allocator in it; `/metrics` shows the count.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

/// Allocations and reallocations of this process.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// How often this process allocated or reallocated; 0 unless its allocator is a [`Counting`].
#[must_use]
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Counts what the allocator `A` is asked for.
#[derive(Debug, Default)]
pub struct Counting<A>(pub A);

// SAFETY: every method hands its arguments unchanged to the same method of `A`, which is a
// `GlobalAlloc`; counting touches only a static integer and does not allocate.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `A`'s.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract, which is `A`'s, and `pointer`
        // came from `A`.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc_zeroed`'s contract, which is `A`'s.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::realloc`'s contract, which is `A`'s, and `pointer`
        // came from `A`.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
