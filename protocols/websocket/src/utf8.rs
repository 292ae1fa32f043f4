//! UTF-8 checked piece by piece, failing at the first byte that can't continue (RFC 6455 8.1).
//!
//! In: pieces of a text, cut anywhere. Out: nothing, or the offset of the sequence that is wrong in
//! this piece. Invariant: between pieces at most three bytes are held, the valid beginning of one
//! code point.

/// Checks one text piece by piece. It holds the beginning of a code point that the last piece cut.
///
/// The decoder has one of its own; this is for text that appears only later, such as a compressed
/// message after inflation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Utf8 {
    bytes: [u8; 3],
    length: u8,
}

impl Utf8 {
    /// Before the first piece.
    pub const fn new() -> Self {
        Self { bytes: [0; 3], length: 0 }
    }

    /// Checks a text that is there at once. On an error the offset of the wrong sequence is
    /// returned.
    pub fn check(text: &[u8]) -> Result<(), usize> {
        check(text)
    }

    /// Checks the next piece. On an error the offset in `piece` of the wrong sequence is returned
    /// (0 when the sequence began in an earlier piece).
    pub fn receive(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut start = 0;
        while self.length > 0 {
            let Some(&byte) = piece.get(start) else { return Ok(()) };
            start += 1;
            self.complete(byte)?;
        }
        let rest = &piece[start..];
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(start + error.valid_up_to());
        }
        // What remains is the beginning of a code point, at most three bytes.
        for &byte in &rest[error.valid_up_to()..] {
            self.push(byte);
        }
        Ok(())
    }

    /// Whether the text may end here.
    pub const fn is_complete(self) -> bool {
        self.length == 0
    }

    fn complete(&mut self, byte: u8) -> Result<(), usize> {
        let held = usize::from(self.length);
        let mut sequence = [0; 4];
        sequence[..held].copy_from_slice(&self.bytes[..held]);
        sequence[held] = byte;
        match std::str::from_utf8(&sequence[..=held]) {
            Ok(_) => self.length = 0,
            Err(error) if error.error_len().is_some() => return Err(0),
            Err(_) => self.push(byte),
        }
        Ok(())
    }

    fn push(&mut self, byte: u8) {
        // A valid beginning of a code point that is not whole has at most three bytes.
        debug_assert!(self.length < 3);
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }
}

/// Checks a whole text. On an error the offset of the wrong sequence is returned.
pub(crate) fn check(text: &[u8]) -> Result<(), usize> {
    match simdutf8::basic::from_utf8(text) {
        Ok(_) => Ok(()),
        // Only on the failing path: once more, for the place.
        Err(_) => Err(std::str::from_utf8(text).err().map_or(0, |error| error.valid_up_to())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[&[u8]]) -> Result<bool, (usize, usize)> {
        let mut carry = Utf8::new();
        for (index, piece) in pieces.iter().enumerate() {
            carry.receive(piece).map_err(|offset| (index, offset))?;
        }
        Ok(carry.is_complete())
    }

    #[test]
    fn every_split_of_valid_text_is_valid() {
        let text = "aé\u{fffd}€\u{10ffff}\u{800}z\u{1f600}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let cut = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(pieces(&cut), Ok(true), "{first} {second}");
            }
        }
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        // A surrogate, an overlong form, above the last code point, a lone continuation.
        for bad in
            [&b"\xed\xa0\x80"[..], b"\xc0\xaf", b"\xe0\x80\x80", b"\xf4\x90", b"\x80", b"\xff"]
        {
            assert_eq!(check(&[b"abc", bad].concat()), Err(3));
            assert_eq!(pieces(&[&[b"abc", bad].concat()]), Err((0, 3)), "{bad:x?}");
            // Byte by byte: wrong at the second byte at the latest.
            let bytes: Vec<&[u8]> = bad.chunks(1).collect();
            let (piece, _) = pieces(&bytes).unwrap_err();
            assert!(piece <= 1, "{bad:x?} passed {piece}");
        }
    }

    #[test]
    fn an_unfinished_code_point_is_told() {
        assert_eq!(pieces(&[b"\xf0\x9f\x98"]), Ok(false));
        assert_eq!(pieces(&[b"\xf0", b"\x9f", b"", b"\x98"]), Ok(false));
        assert_eq!(pieces(&[b"\xf0", b"\x9f", b"\x98", b"\x80"]), Ok(true));
        assert_eq!(check(b"ab\xf0\x9f"), Err(2));
        // Wrong behind a code point that the cut had split.
        assert_eq!(pieces(&[b"\xc3", b"\xa9ab\xff"]), Err((1, 3)));
        // A second beginning where a continuation is due.
        assert_eq!(pieces(&[b"\xf0\x9f", b"a"]), Err((1, 0)));
    }
}
