//! Receive buffers lent one at a time out of a fixed pool.
//!
//! A [`Lease`] is the only way to its bytes: whoever holds it may read and write them, the kernel
//! too while an op that names it is in flight. It must be given back to its pool; the pool counts
//! what is out and refuses a lease it did not lend, so that a leak or a double return is found
//! rather than felt.

use std::cell::UnsafeCell;
use std::fmt;
use std::rc::Rc;

/// The memory of a pool, shared by its leases.
struct Region {
    bytes: Box<[UnsafeCell<u8>]>,
    lease_bytes: usize,
    /// From the beginning of one lease to that of the next.
    stride: usize,
}

/// Between two leases: their beginnings, which every message touches, must not all fall into the
/// same few sets of a cache, as they would a power of two apart.
const STAGGER_BYTES: usize = 5 * 64;

/// A receive buffer on loan.
pub struct Lease {
    region: Rc<Region>,
    index: u16,
    /// How many of its bytes hold received data.
    filled: u32,
}

impl Lease {
    /// Which buffer of its pool this is.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The received bytes.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.all()[..self.filled as usize]
    }

    /// The received bytes, to be changed in place.
    #[inline]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        let filled = self.filled as usize;
        &mut self.space_mut()[..filled]
    }

    /// All bytes, to be written to.
    #[inline]
    pub fn space_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        let cells = &self.region.bytes[start..start + self.region.lease_bytes];
        let pointer = cells.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the range belongs to this lease alone: the pool lends each index once until it is
        // given back, a `Lease` cannot be cloned, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(pointer, cells.len()) }
    }

    /// Says that the first `count` bytes hold received data.
    ///
    /// # Panics
    /// When the lease is smaller than that.
    #[inline]
    pub fn set_filled(&mut self, count: usize) {
        assert!(count <= self.region.lease_bytes, "a lease holds no more than its size");
        self.filled = count as u32;
    }

    fn all(&self) -> &[u8] {
        let start = self.start();
        let cells = &self.region.bytes[start..start + self.region.lease_bytes];
        // SAFETY: as in `space_mut`; the shared borrow of `self` keeps writers away.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), cells.len()) }
    }

    fn start(&self) -> usize {
        usize::from(self.index) * self.region.stride
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({}, {} bytes filled)", self.index, self.filled)
    }
}

/// A fixed number of equal receive buffers.
pub struct LeasePool {
    region: Rc<Region>,
    free: Vec<u16>,
    /// Which buffers are out.
    lent: Vec<bool>,
    outstanding: usize,
}

impl LeasePool {
    /// A pool of `count` buffers of `lease_bytes` each.
    #[must_use]
    pub fn new(count: u16, lease_bytes: usize) -> Self {
        let stride = lease_bytes + STAGGER_BYTES;
        let total = usize::from(count) * stride;
        let bytes = (0..total).map(|_| UnsafeCell::new(0)).collect();
        Self {
            region: Rc::new(Region { bytes, lease_bytes, stride }),
            free: (0..count).rev().collect(),
            lent: vec![false; usize::from(count)],
            outstanding: 0,
        }
    }

    /// Lends a buffer, or nothing when all are out.
    #[inline]
    pub fn lend(&mut self) -> Option<Lease> {
        let index = self.free.pop()?;
        Some(self.lend_index(index))
    }

    /// Lends the buffer that the kernel picked by itself from those handed to it.
    ///
    /// # Panics
    /// When it is out already.
    #[inline]
    pub fn lend_index(&mut self, index: u16) -> Lease {
        let lent = &mut self.lent[usize::from(index)];
        assert!(!*lent, "lease {index} is out already");
        *lent = true;
        self.outstanding += 1;
        Lease { region: Rc::clone(&self.region), index, filled: 0 }
    }

    /// Takes every free buffer out of the pool, for the kernel to pick from: from now on they are
    /// lent by [`Self::lend_index`] and come back through [`Self::take_back_index`].
    pub fn hand_over_all(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.free)
    }

    /// Takes a lease back.
    ///
    /// # Panics
    /// When the lease is not one of this pool's that is out.
    #[inline]
    pub fn take_back(&mut self, lease: Lease) {
        #[cfg(planted = "leaked_lease")]
        if lease.index.is_multiple_of(7) && lease.filled % 5 == 3 {
            return;
        }
        let index = self.take_back_index(lease);
        self.free.push(index);
        #[cfg(planted = "double_release")]
        if index.is_multiple_of(5) {
            self.free.push(index);
        }
    }

    /// Takes a lease back for the kernel to pick again.
    ///
    /// # Panics
    /// When the lease is not one of this pool's that is out.
    #[inline(always)]
    pub fn take_back_index(&mut self, lease: Lease) -> u16 {
        assert!(Rc::ptr_eq(&self.region, &lease.region), "a lease goes back to its own pool");
        let lent = &mut self.lent[usize::from(lease.index)];
        assert!(*lent, "lease {} was given back twice", lease.index);
        *lent = false;
        self.outstanding -= 1;
        lease.index
    }

    /// Whether the lease is one of this pool's.
    #[inline]
    #[must_use]
    pub fn owns(&self, lease: &Lease) -> bool {
        Rc::ptr_eq(&self.region, &lease.region)
    }

    /// Buffers that are out.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Buffers that can be lent at once.
    #[must_use]
    pub const fn free(&self) -> usize {
        self.free.len()
    }

    /// The size of each buffer.
    #[must_use]
    pub fn lease_bytes(&self) -> usize {
        self.region.lease_bytes
    }

    /// Where buffer `index` begins, for the ring to hand to the kernel.
    #[must_use]
    pub fn address(&self, index: u16) -> *mut u8 {
        let start = usize::from(index) * self.region.stride;
        self.region.bytes[start..].as_ptr().cast::<u8>().cast_mut()
    }

    /// Bytes of the whole pool.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.region.bytes.len()
    }
}

impl fmt::Debug for LeasePool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LeasePool({} free of {})", self.free.len(), self.lent.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_do_not_share_bytes() {
        let mut pool = LeasePool::new(2, 4);
        let mut first = pool.lend().expect("free");
        let mut second = pool.lend().expect("free");
        assert!(pool.lend().is_none());
        first.space_mut().copy_from_slice(b"aaaa");
        second.space_mut().copy_from_slice(b"bbbb");
        first.set_filled(4);
        second.set_filled(2);
        assert_eq!((first.filled(), second.filled()), (&b"aaaa"[..], &b"bb"[..]));
        pool.take_back(first);
        pool.take_back(second);
        assert_eq!((pool.outstanding(), pool.free()), (0, 2));
    }

    #[test]
    #[should_panic(expected = "its own pool")]
    fn a_foreign_lease_is_refused() {
        let mut pool = LeasePool::new(1, 4);
        let lease = LeasePool::new(1, 4).lend().expect("free");
        pool.take_back(lease);
    }

    #[test]
    #[should_panic(expected = "out already")]
    fn the_kernel_cannot_pick_a_lease_that_is_out() {
        let mut pool = LeasePool::new(1, 4);
        let _held = pool.lend_index(0);
        let _again = pool.lend_index(0);
    }
}
