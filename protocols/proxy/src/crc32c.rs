//! CRC-32C (Castagnoli; RFC 3720 12.1, RFC 9260 appendix A), as the checksum TLV has it.
//!
//! In: bytes in pieces. Out: the sum. One table, made by the compiler; a header has a few hundred bytes and comes once
//! for a connection, so nothing faster is worth its place.

pub(super) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    !pieces.into_iter().flatten().fold(u32::MAX, |sum, byte| {
        // Eight bits index 256 entries.
        sum >> 8 ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize]
    })
}

/// The polynomial, its bits in reverse.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 3720 B.4, and the check value of the CRC catalogues.
    #[test]
    fn known_sums() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"", 0),
        ] {
            assert_eq!(crc32c([bytes]), sum, "{bytes:?}");
            let (first, second) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c([first, second]), sum);
        }
    }
}
