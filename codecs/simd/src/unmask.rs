//! XOR of a slice with a repeating four-byte key, in place (the masking of RFC 6455 5.3), and
//! whether what comes out is ASCII, which costs nothing beside it.
//!
//! In: bytes, key, and the phase: which byte of the key meets the first byte of the slice, so that
//! a payload arriving in pieces continues where the last piece ended. Out: the slice, transformed.
//! The operation is its own inverse. It does not know frames.

/// XORs `bytes[i]` with `mask[(phase + i) % 4]`; says whether every byte is ASCII then.
///
/// Uses AVX2 where the processor has it, else [`unmask_portable`].
#[inline]
pub fn unmask(bytes: &mut [u8], mask: [u8; 4], phase: usize) -> Ascii {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= WIDE_BYTES_MIN && std::arch::is_x86_feature_detected!("avx2") {
        return x86::unmask_wide(bytes, rotated(mask, phase));
    }
    unmask_portable(bytes, mask, phase)
}

/// XORs `source` with the mask from its first byte on, into `target`; says whether that is ASCII. What a
/// payload that is copied anyway takes instead of [`unmask`].
///
/// # Panics
/// When the two are not of one length.
#[inline]
pub fn unmask_into(source: &[u8], target: &mut [u8], mask: [u8; 4]) -> Ascii {
    assert_eq!(source.len(), target.len(), "every byte has its place");
    #[cfg(target_arch = "x86_64")]
    if source.len() >= WIDE_BYTES_MIN && std::arch::is_x86_feature_detected!("avx2") {
        return x86::unmask_into_wide(source, target, mask);
    }
    unmask_into_portable(source, target, mask)
}

/// The safe twin of [`unmask_into`].
#[inline]
pub fn unmask_into_portable(source: &[u8], target: &mut [u8], mask: [u8; 4]) -> Ascii {
    if let 16..=32 = source.len()
        && let (Some(start), Some(end)) = (source.first_chunk(), source.last_chunk())
    {
        // The two may overlap, where both say the same.
        let behind = wide(rotated(mask, source.len()));
        let (start, end) = (u128::from_ne_bytes(*start), u128::from_ne_bytes(*end));
        let (start, end) = (start ^ wide(mask), end ^ behind);
        if let Some(first) = target.first_chunk_mut() {
            *first = start.to_ne_bytes();
        }
        if let Some(last) = target.last_chunk_mut() {
            *last = end.to_ne_bytes();
        }
        return Ascii::from_bits(start | end);
    }
    let (sources, tail) = source.as_chunks::<8>();
    let (targets, target_tail) = target.as_chunks_mut::<8>();
    let mut seen = 0;
    for (from, to) in sources.iter().zip(targets) {
        let plain = u64::from_ne_bytes(*from) ^ word(mask);
        seen |= plain;
        *to = plain.to_ne_bytes();
    }
    // 8 is a multiple of the key's length, so the tail starts at phase 0.
    target_tail.copy_from_slice(tail);
    Ascii::from_bits(u128::from(seen)).and(unmask_portable(target_tail, mask, 0))
}

/// Whether bytes have their eighth bit clear: such text is UTF-8 without a further look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ascii {
    /// All of them.
    All,
    /// Not all of them.
    No,
}

/// The safe twin of [`unmask`]: a word at a time, on every processor.
#[inline]
pub fn unmask_portable(bytes: &mut [u8], mask: [u8; 4], phase: usize) -> Ascii {
    let key = rotated(mask, phase);
    // The last word may overlap the one before it: it is read before anything is written, and
    // written last, so that both write the same bytes where they overlap.
    let behind = rotated(key, bytes.len());
    match bytes.len() {
        0..8 => unmask_short(bytes, key),
        8..16 => unmask_ends(bytes, word(key), word(behind)),
        16..=32 => unmask_wide_ends(bytes, wide(key), wide(behind)),
        _ => unmask_words(bytes, word(key), word(behind)),
    }
}

/// One or two words.
#[inline(always)]
fn unmask_ends(bytes: &mut [u8], key: u64, behind: u64) -> Ascii {
    let (Some(&start), Some(&end)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return Ascii::No;
    };
    let (start, end) = (u64::from_ne_bytes(start) ^ key, u64::from_ne_bytes(end) ^ behind);
    if let Some(first) = bytes.first_chunk_mut() {
        *first = start.to_ne_bytes();
    }
    if let Some(last) = bytes.last_chunk_mut() {
        *last = end.to_ne_bytes();
    }
    Ascii::from_bits(u128::from(start | end))
}

/// One or two wide words.
#[inline(always)]
fn unmask_wide_ends(bytes: &mut [u8], key: u128, behind: u128) -> Ascii {
    let (Some(&start), Some(&end)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return Ascii::No;
    };
    let (start, end) = (u128::from_ne_bytes(start) ^ key, u128::from_ne_bytes(end) ^ behind);
    if let Some(first) = bytes.first_chunk_mut() {
        *first = start.to_ne_bytes();
    }
    if let Some(last) = bytes.last_chunk_mut() {
        *last = end.to_ne_bytes();
    }
    Ascii::from_bits(start | end)
}

/// Words, one after the other; the compiler makes wide ones of them.
fn unmask_words(bytes: &mut [u8], key: u64, behind: u64) -> Ascii {
    let Some(&end) = bytes.last_chunk() else { return Ascii::No };
    let end = u64::from_ne_bytes(end) ^ behind;
    let mut seen = end;
    let (words, _) = bytes.as_chunks_mut::<8>();
    for word in words {
        let plain = u64::from_ne_bytes(*word) ^ key;
        seen |= plain;
        *word = plain.to_ne_bytes();
    }
    if let Some(last) = bytes.last_chunk_mut() {
        *last = end.to_ne_bytes();
    }
    Ascii::from_bits(u128::from(seen))
}

/// Fewer bytes than a word.
#[inline]
fn unmask_short(bytes: &mut [u8], key: [u8; 4]) -> Ascii {
    let [a, b, c, d] = key;
    let mut seen = 0_u128;
    for (byte, key_byte) in bytes.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key_byte;
        seen |= u128::from(*byte);
    }
    Ascii::from_bits(seen)
}

impl Ascii {
    #[inline]
    const fn from_bits(seen: u128) -> Self {
        if seen & u128::from_ne_bytes([0x80; 16]) == 0 { Self::All } else { Self::No }
    }

    /// Whether both are.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, Self::All) => Self::All,
            _ => Self::No,
        }
    }
}

/// The key twice: what meets eight bytes.
#[inline]
const fn word(key: [u8; 4]) -> u64 {
    u32::from_ne_bytes(key) as u64 * 0x1_0000_0001
}

/// The key four times.
#[inline]
const fn wide(key: [u8; 4]) -> u128 {
    let word = word(key) as u128;
    word << 64 | word
}

/// The key as it meets the first byte of the slice.
#[inline]
fn rotated(mask: [u8; 4], phase: usize) -> [u8; 4] {
    let mask = u32::from_le_bytes(mask);
    let [bytes, ..] = phase.to_le_bytes();
    mask.rotate_right(8 * u32::from(bytes & 3)).to_le_bytes()
}

/// Below this length the portable loop is as fast and the detection is not worth its load.
#[cfg(target_arch = "x86_64")]
const WIDE_BYTES_MIN: usize = 128;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "AVX2 intrinsics; checked byte for byte against the safe twin")]
mod x86 {
    //! The AVX2 kernel. Entered only after detection.

    use super::Ascii;
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
    };

    /// XORs with the key, which is already rotated to phase 0. The caller has seen AVX2.
    #[inline]
    pub(super) fn unmask_wide(bytes: &mut [u8], key: [u8; 4]) -> Ascii {
        debug_assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: `kernel` requires AVX2 and nothing else; the only caller, `unmask`, enters this
        // function in the branch where `is_x86_feature_detected!("avx2")` answered true.
        // JUSTIFICATION: a function compiled for a feature the build does not assume can only be
        // called this way; the wide kernel handles 32 bytes per step where the twin handles 8.
        unsafe { kernel(bytes, key) }
    }

    #[target_feature(enable = "avx2")]
    fn kernel(bytes: &mut [u8], key: [u8; 4]) -> Ascii {
        let key_lanes = _mm256_set1_epi32(i32::from_ne_bytes(key));
        let mut seen = _mm256_setzero_si256();
        let (blocks, tail) = bytes.as_chunks_mut::<128>();
        for block in blocks {
            let (lanes, _) = block.as_chunks_mut::<32>();
            for lane in lanes {
                seen = _mm256_or_si256(seen, lane_kernel(lane, key_lanes));
            }
        }
        let (lanes, tail) = tail.as_chunks_mut::<32>();
        for lane in lanes {
            seen = _mm256_or_si256(seen, lane_kernel(lane, key_lanes));
        }
        // 32 is a multiple of the key's length, so the tail starts at phase 0.
        let rest = super::unmask_portable(tail, key, 0);
        let lanes = if _mm256_movemask_epi8(seen) == 0 { Ascii::All } else { Ascii::No };
        lanes.and(rest)
    }

    /// XORs with the key into another place of the same length. The caller has seen AVX2.
    #[inline]
    pub(super) fn unmask_into_wide(source: &[u8], target: &mut [u8], key: [u8; 4]) -> Ascii {
        debug_assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: `kernel_into` requires AVX2 and nothing else; the only caller, `unmask_into`,
        // enters this function in the branch where `is_x86_feature_detected!("avx2")` answered true.
        // JUSTIFICATION: as for `unmask_wide`.
        unsafe { kernel_into(source, target, key) }
    }

    #[target_feature(enable = "avx2")]
    fn kernel_into(source: &[u8], target: &mut [u8], key: [u8; 4]) -> Ascii {
        let key_lanes = _mm256_set1_epi32(i32::from_ne_bytes(key));
        let mut seen = _mm256_setzero_si256();
        let (blocks, rest) = source.as_chunks::<128>();
        let (target_blocks, target_rest) = target.as_chunks_mut::<128>();
        for (block, target_block) in blocks.iter().zip(target_blocks) {
            let (lanes, target_lanes) =
                (block.as_chunks::<32>().0, target_block.as_chunks_mut::<32>().0);
            for (from, to) in lanes.iter().zip(target_lanes) {
                seen = _mm256_or_si256(seen, lane_into(from, to, key_lanes));
            }
        }
        let (lanes, target_lanes) = (rest.as_chunks::<32>().0, target_rest.as_chunks_mut::<32>().0);
        for (from, to) in lanes.iter().zip(target_lanes) {
            seen = _mm256_or_si256(seen, lane_into(from, to, key_lanes));
        }
        // The last lane may overlap the one before, where both say the same.
        if !source.len().is_multiple_of(32)
            && let (Some(from), Some(to)) = (source.last_chunk(), target.last_chunk_mut())
        {
            let behind = i32::from_ne_bytes(super::rotated(key, source.len()));
            seen = _mm256_or_si256(seen, lane_into(from, to, _mm256_set1_epi32(behind)));
        }
        if _mm256_movemask_epi8(seen) == 0 { Ascii::All } else { Ascii::No }
    }

    /// XORs 32 bytes into another place and gives what they are then.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lane_into(from: &[u8; 32], to: &mut [u8; 32], key_lanes: __m256i) -> __m256i {
        // SAFETY: the address is that of a `&[u8; 32]`, so 32 bytes are readable and initialised; the
        // unaligned load asks for no alignment.
        // JUSTIFICATION: the vector load has no safe form on slices.
        let value = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        let value = _mm256_xor_si256(value, key_lanes);
        // SAFETY: the address is that of a `&mut [u8; 32]`, exclusively borrowed for this step; the
        // unaligned store asks for no alignment.
        // JUSTIFICATION: the vector store has no safe form on slices.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
        value
    }

    /// XORs 32 bytes and gives what they are then.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lane_kernel(lane: &mut [u8; 32], key_lanes: __m256i) -> __m256i {
        let address: *mut __m256i = lane.as_mut_ptr().cast();
        // SAFETY: `address` comes from `&mut [u8; 32]`, so 32 bytes are readable and initialised; the
        // unaligned load asks for no alignment.
        // JUSTIFICATION: the vector load has no safe form on slices.
        let value = unsafe { _mm256_loadu_si256(address) };
        let value = _mm256_xor_si256(value, key_lanes);
        // SAFETY: the same 32 bytes, exclusively borrowed through `lane` for this step; the unaligned
        // store asks for no alignment.
        // JUSTIFICATION: the vector store has no safe form on slices.
        unsafe { _mm256_storeu_si256(address, value) };
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x11, 0xa2, 0x37, 0xfd];

    fn byte_loop(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte ^= mask[(phase + index) % 4];
        }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..=250_u8).cycle().step_by(31).take(length).collect()
    }

    /// Every offset in a 64-byte line, every length to 200, every phase: the bytes named change as
    /// the byte loop changes them, and their neighbours do not change.
    #[test]
    fn every_offset_length_and_phase_matches_the_byte_loop() {
        type Kernel = fn(&mut [u8], [u8; 4], usize) -> Ascii;
        let kernels: [(&str, Kernel); 2] = [("unmask", unmask), ("portable", unmask_portable)];
        let source = pattern(300);
        for (name, kernel) in kernels {
            for offset in 0..64 {
                for length in 0..=200 {
                    for phase in 0..4 {
                        let mut expected = source.clone();
                        byte_loop(&mut expected[offset..offset + length], MASK, phase);
                        let mut actual = source.clone();
                        let ascii = kernel(&mut actual[offset..offset + length], MASK, phase);
                        let expected_ascii = expected[offset..offset + length].is_ascii();
                        assert_eq!(ascii == Ascii::All, expected_ascii);
                        assert!(
                            actual == expected,
                            "{name} offset {offset} length {length} phase {phase}"
                        );
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_wide_kernel_matches_below_its_threshold_too() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            eprintln!("skipped: this processor has no AVX2");
            return;
        }
        for length in 0..=200 {
            let mut expected = pattern(length);
            byte_loop(&mut expected, MASK, 0);
            let mut actual = pattern(length);
            x86::unmask_wide(&mut actual, MASK);
            assert_eq!(actual, expected, "length {length}");
        }
    }

    #[test]
    fn into_another_place_is_the_same_at_every_length_and_offset() {
        for length in 0..=300 {
            for offset in [0, 1, 7, 31] {
                let source = pattern(length + offset);
                let mut expected = source[offset..].to_vec();
                let ascii = unmask(&mut expected, MASK, 0);
                for kernel in [unmask_into, unmask_into_portable] {
                    let mut target = vec![0xEE; length + 2 * offset];
                    let got = kernel(&source[offset..], &mut target[offset..offset + length], MASK);
                    assert_eq!((got, &target[offset..offset + length]), (ascii, &expected[..]));
                    assert!(target[..offset].iter().all(|byte| *byte == 0xEE));
                    assert!(target[offset + length..].iter().all(|byte| *byte == 0xEE));
                }
            }
        }
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_is() {
        for length in 1..=200 {
            for at in 0..length {
                let mut text = vec![b'a'; length];
                text[at] = 0x80;
                byte_loop(&mut text, MASK, 1);
                let mut twin = text.clone();
                assert_eq!(unmask(&mut text, MASK, 1), Ascii::No, "{at} of {length}");
                assert_eq!(unmask_portable(&mut twin, MASK, 1), Ascii::No, "{at} of {length}");
            }
            let mut text = vec![b'a'; length];
            byte_loop(&mut text, MASK, 3);
            assert_eq!(unmask(&mut text, MASK, 3), Ascii::All);
        }
    }

    #[test]
    fn a_phase_past_the_key_wraps() {
        for phase in [4, 7, 4096 + 3, usize::MAX] {
            let (mut a, mut b) = (pattern(150), pattern(150));
            unmask(&mut a, MASK, phase);
            unmask(&mut b, MASK, phase % 4);
            assert_eq!(a, b);
        }
    }

    proptest! {
        #[test]
        fn pieces_with_running_phase_equal_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            mask in any::<[u8; 4]>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut whole = bytes.clone();
            unmask(&mut whole, mask, 0);
            let mut pieces = bytes.clone();
            let cut = cut.index(bytes.len() + 1);
            let (first, second) = pieces.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut);
            prop_assert_eq!(&pieces, &whole);
            unmask(&mut pieces, mask, 0);
            prop_assert_eq!(pieces, bytes);
        }
    }
}
