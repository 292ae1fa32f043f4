//! The grammar of chunk extensions (RFC 9112 7.1.1).
//!
//! In: what stands behind a chunk's size, without the line's end. Out: the offset of the byte that breaks the grammar.
//! Extensions mean nothing here; they are read strictly because a reader that takes quotes seriously and one that does
//! not differ on where an odd one ends, and with it on where the body does.

use super::head::is_token_byte;

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, without the bad whitespace: no sender may write
/// it, and nobody we know does.
pub(super) fn check(extension: &[u8]) -> Result<(), usize> {
    let mut at = 0;
    while at < extension.len() {
        if extension[at] != b';' {
            return Err(at);
        }
        at = token(extension, at + 1)?;
        if extension.get(at) == Some(&b'=') {
            at += 1;
            at = match extension.get(at) {
                Some(b'"') => quoted(extension, at + 1)?,
                _ => token(extension, at)?,
            };
        }
    }
    Ok(())
}

/// Where a token of at least one byte ends.
fn token(text: &[u8], start: usize) -> Result<usize, usize> {
    let bytes = text[start..].iter().take_while(|byte| is_token_byte(**byte)).count();
    if bytes == 0 { Err(start) } else { Ok(start + bytes) }
}

/// Behind the closing quote of a string whose first byte is at `start` (RFC 9110 5.6.4).
fn quoted(text: &[u8], start: usize) -> Result<usize, usize> {
    let mut at = start;
    loop {
        at += match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if text.get(at + 1).is_some_and(|byte| is_text(*byte)) => 2,
            Some(b'\\') | None => return Err(at),
            Some(byte) if is_text(*byte) => 1,
            Some(_) => return Err(at),
        };
    }
}

/// Anything but controls.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn grammar() {
        for good in [
            "",
            ";a",
            ";a=b",
            ";a=\"\"",
            ";a=\"b;c=\\\"d \"",
            ";a;b=c;d=\"\t\u{e9}\"",
            ";a=\"\\\\\";b",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, offset) in [
            (" ", 0),
            (";", 1),
            (";;a", 1),
            ("; a", 1),
            (";a ", 2),
            (";a=", 3),
            (";a=;b", 3),
            (";=b", 1),
            (";a=b=c", 4),
            (";a=\"b", 5),
            (";a=\"b\\\"", 7),
            (";a=\"b\\", 5),
            (";a=\"b\"c", 6),
            (";a=\"\0\"", 4),
            (";a=\"\\\0\"", 4),
            (";a=\"\x7f\"", 4),
            (";\u{e9}", 1),
        ] {
            assert_eq!(check(bad.as_bytes()), Err(offset), "{bad:?}");
        }
    }
}
