//! Host and port as `Host` and an absolute target carry them (RFC 9110 4.2, 7.2).
//!
//! In: bytes. Out: host text and port, or nothing. Invariant: the host is a bracketed IPv6 literal
//! or made of letters, digits, `-`, `.`, `_` and `~`; user information, percent-encoding and
//! delimiters that RFC 3986 would allow in a name are refused, because no name that we serve has
//! them and they are what host confusion is made of.

/// A host and the port if one was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The name as it was sent, with the brackets of an IPv6 literal. Compare without case.
    pub host: &'a str,
    /// `None` if there was no port, or an empty one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`. The host may be empty.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']')? + 1;
            let address = &text[1..end - 1];
            let is_literal = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if address.is_empty() || !address.bytes().all(is_literal) {
                return None;
            }
            let rest = &text[end..];
            (&text[..end], if rest.is_empty() { "" } else { rest.strip_prefix(':')? })
        } else {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            if !host.bytes().all(is_name) {
                return None;
            }
            (host, port)
        };
        let port = match port {
            "" => None,
            digits if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { host, port })
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, host, port) in [
            ("", "", None),
            ("localhost", "localhost", None),
            ("Example.ORG:8080", "Example.ORG", Some(8080)),
            ("example.org:", "example.org", None),
            ("127.0.0.1:0", "127.0.0.1", Some(0)),
            ("[::1]", "[::1]", None),
            ("[::ffff:127.0.0.1]:65535", "[::ffff:127.0.0.1]", Some(65535)),
        ] {
            let expected = Authority { host, port };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "user@host",
            "a b",
            "a/b",
            "a,b",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:65536",
            "a:000080",
            "[::1",
            "::1",
            "[]",
            "[::1]80",
            "[g]",
            "%6c",
            "\u{e9}",
            "a\0",
            "a\\b",
            "[::1]]:1",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Authority::parse(b"\xff"), None);
    }
}
