//! The submission entry of the op that is pushed most, written as words.
//!
//! The crate builds an entry field by field, which the processor then reads back in vectors: each such
//! read waits until the narrow writes have left the store buffer.

use io_uring::squeue;

/// Nothing waits in the kernel: a send is over when its submission is. One that does not take all is
/// a failure (MSG_WAITALL), and only failures are told (IOSQE_CQE_SKIP_SUCCESS).
pub(super) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

const IORING_OP_SEND: u64 = 26;
const IOSQE_FIXED_FILE: u64 = 1 << 0;
const IOSQE_CQE_SKIP_SUCCESS: u64 = 1 << 6;

/// SEND of `bytes` from `address` into the direct descriptor `slot` (`struct io_uring_sqe`).
#[inline(always)]
pub(super) fn send(slot: u32, address: *const u8, bytes: u32, user_data: u64) -> squeue::Entry {
    let flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    let words: [u64; 8] = [
        IORING_OP_SEND | flags << 8 | u64::from(slot) << 32,
        0,
        address as u64,
        u64::from(bytes) | (SEND_FLAGS as u64) << 32,
        user_data,
        0,
        0,
        0,
    ];
    let words = words.map(u64::to_le);
    // SAFETY: an entry is `struct io_uring_sqe` and nothing else: 64 bytes of integers, for which every
    // pattern is a value; the sizes are compared at compile time, the fields by the test below.
    unsafe { std::mem::transmute::<[u64; 8], squeue::Entry>(words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::{opcode, types::Fixed};

    fn words(entry: squeue::Entry) -> [u64; 8] {
        // SAFETY: as in `send`; the crate zeroes what it does not set.
        unsafe { std::mem::transmute::<squeue::Entry, [u64; 8]>(entry) }
    }

    #[test]
    fn the_words_are_the_fields() {
        for (slot, bytes, user_data) in [(0, 1, 7), (0xFF_FFFF, u32::MAX, u64::MAX)] {
            let data = [1, 2, 3];
            let built = opcode::Send::new(Fixed(slot), data.as_ptr(), bytes)
                .flags(SEND_FLAGS)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(user_data);
            assert_eq!(words(send(slot, data.as_ptr(), bytes, user_data)), words(built));
        }
    }
}
