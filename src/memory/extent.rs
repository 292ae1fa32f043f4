//! Where a table's chunks lie: one behind the other, so that full tables are backed by pages of 2 MiB.
//!
//! In: a chunk's number. Out: its place, which never changes and is not zeroed by us. A table of a million
//! entries is visited in the order of a channel's readers: with pages of 4 KiB each visit is a page walk, which
//! under a hypervisor is a walk of walks. The kernel is asked for a large page only where all of it is in use
//! already (`MADV_COLLAPSE`, Linux 6.1), so no memory is spent for it.
//!
//! Invariants: an extent is mapped until the table ends; a place is used by one chunk at a time. Deliberately
//! absent: what lies in a chunk, and when it is dropped.

use super::pages::HUGE_PAGE_BYTES;
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

/// Bytes of an extent.
const EXTENT_BYTES: usize = 16 * HUGE_PAGE_BYTES;
const PAGE_BYTES: usize = 4096;

/// The extents of one table.
#[derive(Debug)]
pub(super) struct Extents {
    chunk_bytes: usize,
    list: Vec<Extent>,
    /// Of each large page, in the order of addresses, whether there is nothing to ask for it.
    settled: Vec<bool>,
    /// The large page that is looked at next.
    next: usize,
}

/// A mapping that begins at a large page.
#[derive(Debug)]
struct Extent {
    mapping: NonNull<u8>,
    base: NonNull<u8>,
}

/// The mapping is longer, so that a large page begins in it.
const MAPPING_BYTES: usize = EXTENT_BYTES + HUGE_PAGE_BYTES;

impl Extents {
    /// For chunks of `chunk_bytes`, which must be a multiple of their alignment.
    pub(super) const fn new(chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0 && chunk_bytes <= EXTENT_BYTES, "an extent has room for chunks");
        Self { chunk_bytes, list: Vec::new(), settled: Vec::new(), next: 0 }
    }

    const fn chunks_per_extent(&self) -> usize {
        EXTENT_BYTES / self.chunk_bytes
    }

    /// The place of chunk `number`: `chunk_bytes` that may be written and read. It is aligned to what divides both
    /// `chunk_bytes` and a large page.
    pub(super) fn place(&mut self, number: usize) -> NonNull<u8> {
        let (extent, within) =
            (number / self.chunks_per_extent(), number % self.chunks_per_extent());
        while self.list.len() <= extent {
            self.list.push(Extent::map());
            self.settled.resize(self.list.len() * (EXTENT_BYTES / HUGE_PAGE_BYTES), false);
        }
        // SAFETY: `within` chunks and one more fit in an extent, so the place lies in its mapping.
        unsafe { self.list[extent].base.add(within * self.chunk_bytes) }
    }

    /// Gives the memory of chunk `number` back, but for pages that it shares with its neighbours; the caller uses
    /// it no more.
    pub(super) fn give_back(&mut self, number: usize) {
        let place = self.place(number);
        let start = place.addr().get().next_multiple_of(PAGE_BYTES);
        let end = (place.addr().get() + self.chunk_bytes) / PAGE_BYTES * PAGE_BYTES;
        if start < end {
            // SAFETY: the place goes on to its chunk's end, which is behind.
            let inside = unsafe { place.add(start - place.addr().get()) };
            // SAFETY: the range lies within the chunk, which nobody uses any more.
            unsafe { advise(inside, end - start, libc::MADV_DONTNEED) };
        }
        let pages = self.pages_of(number);
        self.settled[pages].fill(false);
    }

    /// The large pages that chunk `number` lies in.
    fn pages_of(&self, number: usize) -> std::ops::RangeInclusive<usize> {
        let (extent, within) =
            (number / self.chunks_per_extent(), number % self.chunks_per_extent());
        let first = extent * (EXTENT_BYTES / HUGE_PAGE_BYTES);
        let (start, end) = (within * self.chunk_bytes, (within + 1) * self.chunk_bytes - 1);
        first + start / HUGE_PAGE_BYTES..=first + end / HUGE_PAGE_BYTES
    }

    /// The chunks that have a part in large page `page`, or nothing where a part of it is no chunk's.
    fn chunks_of(&self, page: usize) -> Option<std::ops::RangeInclusive<usize>> {
        let pages = EXTENT_BYTES / HUGE_PAGE_BYTES;
        let (extent, within) = (page / pages, page % pages);
        let first = extent * self.chunks_per_extent();
        let (start, end) = (within * HUGE_PAGE_BYTES, (within + 1) * HUGE_PAGE_BYTES - 1);
        let last = end / self.chunk_bytes;
        (last < self.chunks_per_extent()).then_some(first + start / self.chunk_bytes..=first + last)
    }

    /// Asks for at most `most` large pages, where all chunks are `present`. Says how many there came to be.
    pub(super) fn collapse(&mut self, most: usize, present: impl Fn(usize) -> bool) -> usize {
        let (mut asked, mut collapsed) = (0, 0);
        for _ in 0..self.settled.len() {
            if asked == most {
                break;
            }
            let page = self.next % self.settled.len();
            self.next = page + 1;
            if self.settled[page] || !self.chunks_of(page).is_some_and(|mut of| of.all(&present)) {
                continue;
            }
            // A kernel that refuses is not asked again until something was given back there.
            self.settled[page] = true;
            asked += 1;
            let pages = EXTENT_BYTES / HUGE_PAGE_BYTES;
            // SAFETY: the page lies in its extent's mapping.
            let start = unsafe { self.list[page / pages].base.add(page % pages * HUGE_PAGE_BYTES) };
            // SAFETY: to move it changes nothing that is seen.
            collapsed +=
                usize::from(unsafe { advise(start, HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) });
        }
        collapsed
    }
}

impl Extent {
    fn map() -> Self {
        // SAFETY: a new private mapping where the kernel likes.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let mapping = NonNull::new(mapped.cast::<u8>()).filter(|_| mapped != libc::MAP_FAILED);
        let Some(mapping) = mapping else {
            // As for any other table that cannot grow.
            handle_alloc_error(Layout::new::<[u8; MAPPING_BYTES]>());
        };
        let address = mapping.addr().get();
        // SAFETY: the mapping is longer than an extent by a large page, so one begins in its first.
        let base = unsafe { mapping.add(address.next_multiple_of(HUGE_PAGE_BYTES) - address) };
        Self { mapping, base }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and the table that used it has dropped its chunks before.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), MAPPING_BYTES) };
    }
}

/// Says whether the kernel did as advised.
///
/// # Safety
/// The range is mapped, and the advice changes nothing there that is used.
unsafe fn advise(start: NonNull<u8>, bytes: usize, advice: i32) -> bool {
    // SAFETY: as the caller says.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, advice) == 0 }
}

// SAFETY: mappings belong to the process, not to the thread that made them.
unsafe impl Send for Extent {}
// SAFETY: nothing is reached through a shared reference.
unsafe impl Sync for Extent {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a chunk's number over all of it.
    fn fill(extents: &mut Extents, number: usize, byte: u8) {
        let place = extents.place(number);
        // SAFETY: a place has so many bytes, and nobody else uses it.
        unsafe { place.write_bytes(byte, extents.chunk_bytes) };
    }

    fn is_full_of(extents: &mut Extents, number: usize, byte: u8) -> bool {
        let place = extents.place(number);
        // SAFETY: as above; a new mapping is zeroes.
        let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), extents.chunk_bytes) };
        bytes.iter().all(|found| *found == byte)
    }

    #[test]
    fn places_do_not_overlap_and_stay() {
        for chunk_bytes in [8 * 1024, 45_056, 51_200 + 2048, 3 << 20] {
            let mut extents = Extents::new(chunk_bytes);
            let count = 2 * extents.chunks_per_extent() + 3;
            let places: Vec<_> = (0..count).map(|number| extents.place(number)).collect();
            for number in 0..count {
                fill(&mut extents, number, number as u8);
            }
            for (number, place) in places.iter().enumerate() {
                assert_eq!(extents.place(number), *place);
                assert!(is_full_of(&mut extents, number, number as u8), "{chunk_bytes} {number}");
            }
        }
    }

    #[test]
    fn what_is_given_back_is_empty_and_its_neighbours_are_not() {
        let mut extents = Extents::new(45_056 + 2048);
        for number in 0..3 {
            fill(&mut extents, number, 7);
        }
        extents.give_back(1);
        assert!(is_full_of(&mut extents, 0, 7) && is_full_of(&mut extents, 2, 7));
        let (place, bytes) = (extents.place(1), extents.chunk_bytes);
        // SAFETY: a place has so many bytes, and nobody else uses it.
        let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), bytes) };
        // Of the pages at its ends a neighbour has a part.
        assert!(bytes[PAGE_BYTES..bytes.len() - PAGE_BYTES].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn large_pages_are_asked_for_where_all_is_in_use_and_once() {
        let mut extents = Extents::new(45_056);
        let count = extents.chunks_of(0).expect("the first is whole").count();
        for number in 0..count {
            fill(&mut extents, number, number as u8);
        }
        let one_less = |number| number < count && number != count / 2;
        assert_eq!(extents.collapse(9, one_less), 0);
        assert!(!extents.settled[0], "one is not present");
        // A kernel that gives none changes nothing either.
        let collapsed = extents.collapse(9, |number| number < count);
        assert!(collapsed <= 1 && extents.settled[0] && !extents.settled[1]);
        for number in 0..count {
            assert!(is_full_of(&mut extents, number, number as u8), "{number}");
        }
        assert_eq!(extents.collapse(9, |number| number < count), 0, "it is done");
        extents.give_back(count / 2);
        assert!(!extents.settled[0]);
    }
}
