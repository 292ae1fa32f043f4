//! Receive buffers lent one at a time out of a fixed pool.
//!
//! A [`Lease`] is the only way to its bytes: whoever holds it may read and write them, the kernel
//! too while an op that names it is in flight. It must be given back to its pool; the pool counts
//! what is out and refuses a lease it did not lend, so that a leak or a double return is found
//! rather than felt.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

/// The memory of a pool, shared by its leases.
struct Region {
    bytes: Box<[UnsafeCell<u8>]>,
    lease_bytes: usize,
    /// From the beginning of one lease to that of the next.
    stride: usize,
}

impl Region {
    /// Where buffer `index` begins; the pool has as many as were allocated.
    #[inline(always)]
    fn begin_of(&self, index: u16) -> NonNull<u8> {
        let first = NonNull::from_ref(&*self.bytes).cast::<u8>();
        // SAFETY: callers have looked the index up in the pool's list of its buffers, and the region was
        // allocated with `stride` bytes, `lease_bytes` among them, for each of these.
        unsafe { first.add(usize::from(index) * self.stride) }
    }
}

/// Between two leases: their beginnings, which every message touches, must not all fall into the
/// same few sets of a cache, as they would a power of two apart.
const STAGGER_BYTES: usize = 5 * 64;

/// A receive buffer on loan.
pub struct Lease {
    /// Where its bytes begin in the region, which it keeps.
    bytes: NonNull<u8>,
    region: Rc<Region>,
    /// How many of its bytes hold received data; at most as many as it has.
    filled: u32,
    index: u16,
    pool: PoolId,
}

/// Tells pools apart that leases go back to.
pub type PoolId = u16;

impl Lease {
    /// Which buffer of its pool this is.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// Which pool it goes back to, as that was told at its making.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        self.pool
    }

    /// Where its bytes begin, for the ring to hand to the kernel.
    #[must_use]
    pub const fn address(&self) -> *mut u8 {
        self.bytes.as_ptr()
    }

    /// The received bytes.
    #[inline(always)]
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        // SAFETY: `filled` is at most the size of the lease; for the rest as in `space_mut`, with the
        // shared borrow of `self` keeping writers away.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.filled as usize) }
    }

    /// The received bytes, to be changed in place.
    #[inline(always)]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        // SAFETY: `filled` is at most the size of the lease; for the rest as in `space_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.filled as usize) }
    }

    /// All bytes, to be written to.
    #[inline]
    pub fn space_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pool checked that so many bytes from here on are the region's, which lives as long
        // as this lease. They belong to it alone: the pool lends each index once until it is given back,
        // a `Lease` cannot be cloned, and the borrow of `self` is exclusive. They are in an `UnsafeCell`
        // and were zeroed at first, so they may be written and are initialised.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.region.lease_bytes) }
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
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({}, {} bytes filled)", self.index, self.filled)
    }
}

/// A fixed number of equal receive buffers.
pub struct LeasePool {
    id: PoolId,
    region: Rc<Region>,
    free: Vec<u16>,
    /// Which buffers are out.
    lent: Vec<bool>,
    outstanding: usize,
}

impl LeasePool {
    /// A pool of `count` buffers of `lease_bytes` each; its leases say `id`.
    #[must_use]
    pub fn new(id: PoolId, count: u16, lease_bytes: usize) -> Self {
        let stride = lease_bytes + STAGGER_BYTES;
        let total = usize::from(count) * stride;
        let bytes = zeroed(total);
        Self {
            id,
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
    #[inline(always)]
    pub fn lend_index(&mut self, index: u16) -> Lease {
        let lent = &mut self.lent[usize::from(index)];
        assert!(!*lent, "lease {index} is out already");
        *lent = true;
        self.outstanding += 1;
        let bytes = self.region.begin_of(index);
        Lease { bytes, region: Rc::clone(&self.region), filled: 0, index, pool: self.id }
    }

    /// Lets `read` see the first `filled` bytes of the buffer that the kernel picked, which is not lent for
    /// it: it stays the ring's.
    ///
    /// # Panics
    /// When it is out, or smaller than that.
    #[inline(always)]
    pub fn read_index<T>(&mut self, index: u16, filled: usize, read: impl FnOnce(&[u8]) -> T) -> T {
        assert!(!self.lent[usize::from(index)], "lease {index} is out");
        assert!(filled <= self.region.lease_bytes, "a lease holds no more than its size");
        let bytes = self.region.begin_of(index).as_ptr();
        // SAFETY: so many bytes from here on are the region's, in an `UnsafeCell` and zeroed at first. No
        // `Lease` names them, as was just seen, and none is made meanwhile, because `self` is borrowed
        // exclusively; the kernel writes to a buffer that it picked only when it is offered again.
        read(unsafe { std::slice::from_raw_parts(bytes, filled) })
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
        assert!(usize::from(index) < self.lent.len(), "a buffer of the pool");
        self.region.begin_of(index).as_ptr()
    }

    /// Bytes of the whole pool.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.region.bytes.len()
    }
}

/// Zeroed memory, of which no page is touched: leases that are never lent cost nothing.
fn zeroed(count: usize) -> Box<[UnsafeCell<u8>]> {
    let bytes: Box<[u8]> = vec![0; count].into_boxed_slice();
    let raw = Box::into_raw(bytes) as *mut [UnsafeCell<u8>];
    // SAFETY: `UnsafeCell<u8>` has the layout of `u8`, and `raw` came from `Box::into_raw` of a slice of
    // the same length just above, so ownership passes to this box alone.
    unsafe { Box::from_raw(raw) }
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
        let mut pool = LeasePool::new(0, 2, 4);
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
        let mut pool = LeasePool::new(0, 1, 4);
        let lease = LeasePool::new(0, 1, 4).lend().expect("free");
        pool.take_back(lease);
    }

    #[test]
    #[should_panic(expected = "out already")]
    fn the_kernel_cannot_pick_a_lease_that_is_out() {
        let mut pool = LeasePool::new(0, 1, 4);
        let _held = pool.lend_index(0);
        let _again = pool.lend_index(0);
    }
}
