//! Byte ranges and entity tags (RFC 9110 8.8.3, 13.1, 14).
//!
//! In: header values and what is being served. Out: which part to serve, or whether a condition
//! holds. Invariant: a value that breaks the grammar is ignored, as the standard asks, never an
//! error. Several ranges are answered with the whole (RFC 9110 14.2 lets a server ignore `Range`);
//! dates in conditions never match, because entity tags are what we hand out.

use std::fmt;

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// 200 and everything.
    Whole,
    /// 206 and these bytes.
    Part(ByteRange),
    /// 416.
    Unsatisfiable,
}

/// Bytes `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The position of the first byte.
    pub first: u64,
    /// The position of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes: the `Content-Length` of a 206.
    pub const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// The value of `Content-Range` (RFC 9110 14.4): in a 206 with the part, in a 416 without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The part that is served.
    pub part: Option<ByteRange>,
    /// The length of the whole.
    pub length: u64,
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(ByteRange { first, last }) => write!(f, "bytes {first}-{last}/{}", self.length),
            None => write!(f, "bytes */{}", self.length),
        }
    }
}

/// Reads a `Range` header against what is served, `length` bytes long.
pub fn select(value: &[u8], length: u64) -> Selection {
    parse(value, length).unwrap_or(Selection::Whole)
}

/// Whether `Range` counts under this `If-Range` (RFC 9110 13.1.5): only for the very same tag, both
/// strong.
pub fn if_range_holds(value: &[u8], etag: &str) -> bool {
    !etag.starts_with("W/") && value.trim_ascii() == etag.as_bytes()
}

/// Whether `If-None-Match` names what is served (RFC 9110 13.1.2, weak comparison): answer 304 to
/// GET and HEAD, 412 to others.
pub fn if_none_match_names(value: &[u8], etag: &str) -> bool {
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    value.trim_ascii() == b"*" || etags(value).any(|(_, tag)| tag == etag.as_bytes())
}

/// Whether `If-Match` names what is served (RFC 9110 13.1.1, strong comparison): else answer 412.
pub fn if_match_names(value: &[u8], etag: &str) -> bool {
    let is_strong = !etag.starts_with("W/");
    let same = |(weak, tag): (bool, &[u8])| !weak && is_strong && tag == etag.as_bytes();
    value.trim_ascii() == b"*" || etags(value).any(same)
}

/// RFC 9110 14.1.1, 14.1.2. `None`: not a range set of bytes with one member.
fn parse(value: &[u8], length: u64) -> Option<Selection> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    if !value[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let set = value[equals + 1..].trim_ascii();
    let dash = set.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&set[..dash], &set[dash + 1..]);
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match (suffix, length) {
            (0, _) => Selection::Unsatisfiable,
            // Nothing can be part of an empty whole, and it is all there is.
            (_, 0) => Selection::Whole,
            _ => part(length.saturating_sub(suffix), length - 1),
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if first > last {
        return None;
    }
    if first >= length {
        return Some(Selection::Unsatisfiable);
    }
    Some(part(first, last.min(length - 1)))
}

const fn part(first: u64, last: u64) -> Selection {
    Selection::Part(ByteRange { first, last })
}

/// Digits; a number too large for us is larger than anything we serve.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// The tags of a list, quotes included, and whether each is weak. Ends at what is not a tag.
fn etags(value: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = &rest[start..];
        let is_weak = rest.starts_with(b"W/");
        if is_weak {
            rest = &rest[2..];
        }
        if rest.first() != Some(&b'"') {
            return None;
        }
        let end = rest[1..].iter().position(|byte| *byte == b'"')? + 2;
        let tag = &rest[..end];
        rest = &rest[end..];
        // Between two tags stands a comma.
        let is_separated = matches!(rest.trim_ascii_start().first(), None | Some(b','));
        is_separated.then_some((is_weak, tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        use Selection::{Unsatisfiable, Whole};
        for (value, length, expected) in [
            // RFC 9110 14.1.2, for 10,000 bytes.
            ("bytes=0-499", 10_000, part(0, 499)),
            ("bytes=500-999", 10_000, part(500, 999)),
            ("bytes=-500", 10_000, part(9500, 9999)),
            ("bytes=9500-", 10_000, part(9500, 9999)),
            ("Bytes= 0-0 ", 10, part(0, 0)),
            ("bytes=0-99999999999999999999999", 10, part(0, 9)),
            ("bytes=-11", 10, part(0, 9)),
            ("bytes=9-9", 10, part(9, 9)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Whole),
            ("bytes=0-0,-1", 10, Whole),
            ("bytes=0-1,5-6", 10, Whole),
            ("bytes=5-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1 -2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("items=0-1", 10, Whole),
            ("bytes 0-1", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(select(value.as_bytes(), length), expected, "{value} of {length}");
        }
        assert_eq!(ByteRange { first: 3, last: 3 }.length(), 1);
        let part = Some(ByteRange { first: 42, last: 1233 });
        assert_eq!(ContentRange { part, length: 1234 }.to_string(), "bytes 42-1233/1234");
        assert_eq!(ContentRange { part: None, length: 1234 }.to_string(), "bytes */1234");
    }

    /// RFC 9110 8.8.3.2, the comparison table.
    #[test]
    fn comparison_of_tags() {
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            for (value, etag) in [(a, b), (b, a)] {
                assert_eq!(if_match_names(value.as_bytes(), etag), strong, "{value} {etag}");
                assert_eq!(if_none_match_names(value.as_bytes(), etag), weak, "{value} {etag}");
                assert_eq!(if_range_holds(value.as_bytes(), etag), strong, "{value} {etag}");
            }
        }
    }

    #[test]
    fn lists_of_tags() {
        for (value, named) in [
            (&b"*"[..], true),
            (b"\"a\", W/\"x\" ,\"b\"", true),
            (b",,\"x\"", true),
            (b"\"a,\", \"x\"", true),
            (b"\"a\" \"x\"", false),
            (b"x", false),
            (b"\"x", false),
            (b"w/\"x\"", false),
            (b"Sun, 06 Nov 1994 08:49:37 GMT", false),
            (b"", false),
        ] {
            assert_eq!(if_none_match_names(value, "\"x\""), named, "{value:?}");
        }
        assert!(!if_range_holds(b"Sun, 06 Nov 1994 08:49:37 GMT", "\"x\""));
        assert!(!if_range_holds(b"*", "\"x\""));
    }
}
