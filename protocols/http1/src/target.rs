//! What a request asks for: percent-encoding and query pairs (RFC 3986 2.1, 3.3, 3.4).
//!
//! In: raw text of a path segment or a query. Out: decoded text, borrowed when nothing was encoded.
//! Invariants: a decoded text is UTF-8 and has no NUL; decoding happens once. It does not split
//! paths or judge `.` and `..`: routes compare segments, and a decoded `/` is part of one segment.

use std::borrow::Cow;

/// Decodes one path segment. `+` stands for itself.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, DecodeError> {
    decode(segment, Plus::Itself)
}

/// Decodes a key or value of a query as forms encode it: `+` is a space.
pub fn decode_query(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    decode(text, Plus::Space)
}

/// The pairs of a query in order, still encoded. A pair without `=` has an empty value; empty pairs
/// are left out.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Why a text can't be decoded. The fault is the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `%` without two hexadecimal digits.
    #[error("percent sign without two hexadecimal digits at byte {offset}")]
    Percent {
        /// Where the percent sign is.
        offset: usize,
    },
    /// `%00`, or a NUL as it is.
    #[error("encoded NUL at byte {offset}")]
    Nul {
        /// Where it is in the encoded text.
        offset: usize,
    },
    /// The decoded bytes are not UTF-8.
    #[error("the decoded text is not UTF-8")]
    NotUtf8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Space,
}

fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, DecodeError> {
    let bytes = text.as_bytes();
    let is_special = |byte: &u8| match byte {
        b'%' | 0 => true,
        b'+' => plus == Plus::Space,
        _ => false,
    };
    let Some(start) = bytes.iter().position(is_special) else { return Ok(Cow::Borrowed(text)) };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..start]);
    let mut offset = start;
    while let Some(&byte) = bytes.get(offset) {
        let (decoded, taken) = match byte {
            b'%' => match bytes.get(offset + 1..offset + 3).and_then(hex_pair) {
                Some(decoded) => (decoded, 3),
                None => return Err(DecodeError::Percent { offset }),
            },
            b'+' if plus == Plus::Space => (b' ', 1),
            other => (other, 1),
        };
        if decoded == 0 {
            return Err(DecodeError::Nul { offset });
        }
        out.push(decoded);
        offset += taken;
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| DecodeError::NotUtf8)
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let &[high, low] = digits else { return None };
    Some(hex_digit(high)? << 4 | hex_digit(low)?)
}

/// The value of a hexadecimal digit.
pub(crate) const fn hex_digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn segments() {
        assert!(matches!(decode_segment("chat+1"), Ok(Cow::Borrowed("chat+1"))));
        for (raw, decoded) in [
            ("a%2Fb", "a/b"),
            ("%41%7a", "Az"),
            ("%E2%82%ac", "\u{20ac}"),
            ("%2541", "%41"),
            ("%", "!"),
        ] {
            if decoded == "!" {
                assert_eq!(decode_segment(raw), Err(DecodeError::Percent { offset: 0 }));
            } else {
                assert_eq!(decode_segment(raw).unwrap(), decoded);
            }
        }
        for (raw, error) in [
            ("ab%4", DecodeError::Percent { offset: 2 }),
            ("%g0", DecodeError::Percent { offset: 0 }),
            ("%+1", DecodeError::Percent { offset: 0 }),
            ("%\u{e9}", DecodeError::Percent { offset: 0 }),
            ("a%00", DecodeError::Nul { offset: 1 }),
            ("a\0", DecodeError::Nul { offset: 1 }),
            ("%ff", DecodeError::NotUtf8),
            ("%ed%a0%80", DecodeError::NotUtf8),
            ("%c0%80", DecodeError::NotUtf8),
        ] {
            assert_eq!(decode_segment(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn queries() {
        let pairs: Vec<_> = query_pairs("channel=a%2Fb&&after=&x&=y&k=v=w").collect();
        assert_eq!(
            pairs,
            [("channel", "a%2Fb"), ("after", ""), ("x", ""), ("", "y"), ("k", "v=w")]
        );
        assert_eq!(query_pairs("").count(), 0);
        assert_eq!(decode_query("a+b%2B").unwrap(), "a b+");
    }

    proptest! {
        #[test]
        fn encoded_text_comes_back(text in "[^\0]{0,40}") {
            let raw: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode_segment(&raw).unwrap(), text);
        }

        #[test]
        fn never_panics(text in "(%|\\PC|[0-9a-f]){0,40}") {
            let _ = (decode_segment(&text), decode_query(&text));
        }
    }
}
