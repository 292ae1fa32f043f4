//! Cutting an input into pieces, as a network would.
//!
//! In: an input whose first byte chooses the cuts. Out: the rest, whole and in pieces. The first byte is kept apart so
//! that the fuzzer can find an interesting stream and an interesting cut independently.

/// The stream, and the pieces it arrives in: byte by byte for a first byte of 0, else of pseudo-random sizes up to a
/// bound that depends on it. No piece is empty.
#[must_use]
pub fn pieces(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((&choice, stream)) = input.split_first() else { return (&[], Vec::new()) };
    let bound = [1, 2, 5, 17, 130, 1_500][usize::from(choice) % 6];
    let mut state = u32::from(choice) << 8 | 1;
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let length = (1 + state as usize % bound).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        pieces.push(piece);
        rest = behind;
    }
    (stream, pieces)
}

/// The input and a prefix of it; the first byte chooses where the prefix ends.
#[must_use]
pub fn prefix(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((&choice, whole)) = input.split_first() else { return (&[], &[]) };
    // In 256ths of the length, so that one byte reaches every place of a short input and many of a long one.
    let end = if whole.len() < 256 {
        usize::from(choice).min(whole.len())
    } else {
        whole.len() * usize::from(choice) / 255
    };
    (whole, &whole[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_stream() {
        let input: Vec<u8> = (0..=255).cycle().take(4000).collect();
        for choice in 0..=255 {
            let mut input = input.clone();
            input[0] = choice;
            let (stream, pieces) = pieces(&input);
            assert_eq!(pieces.concat(), stream);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(prefix(&input).0.starts_with(prefix(&input).1));
        }
        assert_eq!(prefix(&[255, 1, 2]), (&[1, 2][..], &[1, 2][..]));
        assert_eq!(pieces(&[]).1, Vec::<&[u8]>::new());
    }
}
