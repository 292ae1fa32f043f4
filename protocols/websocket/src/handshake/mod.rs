//! The opening handshake (RFC 6455 4), server and client half.
//!
//! In: header fields that an HTTP parser has split, or a response head for the client half. Out:
//! the checked key, and the request or the 101 response appended to the caller's vector. Invariants:
//! nothing is allocated; only a key of exactly 16 bytes is accepted; a field of the handshake that
//! breaks its grammar fails it; a subprotocol is only answered if the client offered it.
//!
//! Deliberately absent: method, HTTP version, Host and Origin (the HTTP side checks those before),
//! and what an extension's parameters mean ([`crate::deflate`] negotiates the one there is).

mod client;
pub(crate) mod extensions;

pub use client::{Accepted, ClientRequest, ResponseError, read_response, write_request};

use crate::deflate::Agreement;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};
use std::io::Write as _;

/// A `Sec-WebSocket-Key` that is base64 of 16 bytes (RFC 6455 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 24]);

impl Key {
    /// The key that a client made of 16 random bytes.
    pub fn from_nonce(nonce: [u8; 16]) -> Self {
        let mut text = [0; 24];
        // 16 bytes take exactly 24 characters.
        let written = STANDARD.encode_slice(nonce, &mut text);
        debug_assert_eq!(written, Ok(24));
        Self(text)
    }

    /// Reads a header value; `None` unless it is the base64 form of exactly 16 bytes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = *value.as_array::<24>()?;
        let mut nonce = [0; 18];
        (STANDARD.decode_slice(text, &mut nonce) == Ok(16)).then_some(Self(text))
    }

    /// The header value.
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    /// The value of `Sec-WebSocket-Accept` that answers this key (RFC 6455 4.2.2).
    pub fn accept(&self) -> [u8; 28] {
        let digest = Sha1::new().chain_update(self.0).chain_update(GUID).finalize();
        let mut text = [0; 28];
        // A digest of 20 bytes takes exactly 28 characters.
        let written = STANDARD.encode_slice(digest, &mut text);
        debug_assert_eq!(written, Ok(28));
        text
    }
}

/// Checks the header fields of an upgrade request (RFC 6455 4.2.1) in one pass.
///
/// The caller has seen that the method is GET, the version at least HTTP/1.1 and that no body
/// follows. Names compare without case.
pub fn check<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Key, HandshakeError> {
    let (mut upgrade, mut connection) = (false, false);
    let (mut version, mut key) = (None, None);
    for (name, value) in headers {
        let (slot, duplicate) = match name.len() {
            7 if name.eq_ignore_ascii_case("upgrade") => {
                upgrade |= has_token(value, b"websocket");
                continue;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                connection |= has_token(value, b"upgrade");
                continue;
            }
            17 if name.eq_ignore_ascii_case("sec-websocket-key") => (&mut key, HandshakeError::Key),
            21 if name.eq_ignore_ascii_case("sec-websocket-version") => {
                (&mut version, HandshakeError::Version)
            }
            22 if name.eq_ignore_ascii_case("sec-websocket-protocol") => {
                is_token_list(value).then_some(()).ok_or(HandshakeError::Subprotocol)?;
                continue;
            }
            24 if name.eq_ignore_ascii_case("sec-websocket-extensions") => {
                let mut extensions = extensions::extensions(value);
                extensions.try_for_each(|e| e.map(drop)).map_err(|_| HandshakeError::Extensions)?;
                continue;
            }
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(duplicate);
        }
    }
    if !upgrade || !connection {
        return Err(HandshakeError::NotAnUpgrade);
    }
    // RFC 6455 4.4: another version is answered with the one we speak.
    if version != Some(b"13") {
        return Err(HandshakeError::Version);
    }
    key.and_then(Key::parse).ok_or(HandshakeError::Key)
}

/// The first subprotocol the client offers that the server speaks (RFC 6455 4.2.2), over all its
/// `Sec-WebSocket-Protocol` lines. Subprotocol names compare with case.
pub fn choose_subprotocol<'a, 's>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    supported: &[&'s str],
) -> Option<&'s str> {
    headers
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
        .flat_map(|(_, value)| tokens(value))
        .filter(|offer| !offer.is_empty())
        .find_map(|offer| supported.iter().find(|name| name.as_bytes() == offer).copied())
}

/// What the server chose of what the client offered (RFC 6455 4.2.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct Chosen<'a> {
    /// One of the client's subprotocols.
    pub subprotocol: Option<&'a str>,
    /// The answer to its offer of permessage-deflate.
    pub deflate: Option<Agreement>,
}

/// Appends the 101 response (RFC 6455 4.2.2).
pub fn write_accept(out: &mut Vec<u8>, key: &Key, chosen: &Chosen<'_>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&key.accept());
    if let Some(subprotocol) = chosen.subprotocol {
        debug_assert!(is_token_list(subprotocol.as_bytes()));
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(deflate) = chosen.deflate {
        // Writing to a vector does not fail.
        let _ = write!(out, "\r\nSec-WebSocket-Extensions: {deflate}");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// What is wrong with an upgrade request. The fault is the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// `Upgrade: websocket` or `Connection: Upgrade` is missing.
    #[error("this is a WebSocket: send Upgrade: websocket and Connection: Upgrade")]
    NotAnUpgrade,
    /// Not exactly one `Sec-WebSocket-Version: 13`.
    #[error("send Sec-WebSocket-Version: 13, once")]
    Version,
    /// Not exactly one key of 16 bytes.
    #[error("send Sec-WebSocket-Key, once, with the base64 form of 16 random bytes")]
    Key,
    /// RFC 6455 4.3: not a list of tokens.
    #[error("send subprotocols as tokens with commas between them")]
    Subprotocol,
    /// RFC 6455 9.1: not a list of extensions with parameters.
    #[error("Sec-WebSocket-Extensions breaks the grammar of RFC 6455 9.1")]
    Extensions,
}

impl HandshakeError {
    /// The HTTP status for it. With 426 go `Upgrade: websocket` (RFC 9110 15.5.22) and
    /// [`VERSION_HEADER`] (RFC 6455 4.4).
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::Version => 426,
            // RFC 6455 4.2.1: a violation of the grammar.
            Self::Key | Self::Subprotocol | Self::Extensions => 400,
        }
    }

    /// The stable name for an error body.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAnUpgrade => "upgrade_required",
            Self::Version => "websocket_version",
            Self::Key => "websocket_key",
            Self::Subprotocol => "websocket_protocol",
            Self::Extensions => "websocket_extensions",
        }
    }
}

/// What a 426 answer carries so that the client knows the version we speak (RFC 6455 4.4).
pub const VERSION_HEADER: (&str, &str) = ("Sec-WebSocket-Version", "13");

/// The elements of a comma-separated list, without the whitespace around them.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// `1#token`: empty elements do not count (RFC 9110 5.6.1.2), but one must be there.
fn is_token_list(value: &[u8]) -> bool {
    let mut elements = tokens(value).filter(|element| !element.is_empty()).peekable();
    elements.peek().is_some()
        && elements.all(|element| element.iter().all(|byte| extensions::is_token(*byte)))
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    tokens(value).any(|element| element.eq_ignore_ascii_case(token))
}

/// RFC 6455 1.3: what is hashed behind the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = Vec<(&'static str, &'static [u8])>;

    fn good() -> Headers {
        vec![
            ("Host", b"server.example.com"),
            ("Upgrade", b"websocket"),
            ("Connection", b"keep-alive, Upgrade"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", b"chat, superchat"),
            ("Sec-WebSocket-Version", b"13"),
        ]
    }

    fn with(name: &'static str, value: &'static [u8]) -> Headers {
        let mut headers = good();
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value));
        headers
    }

    /// RFC 6455 1.3.
    #[test]
    fn the_example_of_the_standard() {
        let key = check(good()).unwrap();
        assert_eq!(&key.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key, Key::from_nonce(*b"the sample nonce"));
        let mut out = Vec::new();
        write_accept(&mut out, &key, &Chosen { subprotocol: Some("chat"), deflate: None });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\n\r\n"
        );
    }

    #[test]
    fn what_is_refused() {
        use HandshakeError::{Extensions, Key, NotAnUpgrade, Subprotocol, Version};
        for (headers, error) in [
            (with("Upgrade", b"h2c"), NotAnUpgrade),
            (with("Upgrade", b"websockets"), NotAnUpgrade),
            (with("Connection", b"keep-alive"), NotAnUpgrade),
            (with("Sec-WebSocket-Version", b"8"), Version),
            (with("Sec-WebSocket-Version", b"13, 8"), Version),
            (with("Sec-WebSocket-Version", b""), Version),
            (with("Sec-WebSocket-Key", b""), Key),
            (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ="), Key),
            (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZTEyMw=="), Key),
            (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25j!Q=="), Key),
            (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jAAAA"), Key),
            (with("Sec-WebSocket-Version", b"13, 13"), Version),
            (with("Sec-WebSocket-Protocol", b""), Subprotocol),
            (with("Sec-WebSocket-Protocol", b", ,"), Subprotocol),
            (with("Sec-WebSocket-Protocol", b"a chat"), Subprotocol),
            (with("Sec-WebSocket-Protocol", b"chat, super/chat"), Subprotocol),
            (with("Sec-WebSocket-Protocol", "ch\u{e4}t".as_bytes()), Subprotocol),
            (with("Sec-WebSocket-Extensions", b""), Extensions),
            (with("Sec-WebSocket-Extensions", b"permessage-deflate;"), Extensions),
            (with("Sec-WebSocket-Extensions", b"a, b=1"), Extensions),
        ] {
            assert_eq!(check(headers), Err(error));
        }
        for (name, error) in [("sec-websocket-key", Key), ("SEC-WEBSOCKET-VERSION", Version)] {
            let mut twice = good();
            let value = good().iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap().1;
            twice.push((name, value));
            assert_eq!(check(twice), Err(error), "duplicate {name}");
            let mut without = good();
            without.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            assert_eq!(check(without), Err(error), "missing {name}");
        }
        assert_eq!(Version.status(), 426);
        for error in [Key, Subprotocol, Extensions] {
            assert_eq!(error.status(), 400);
        }
    }

    #[test]
    fn tokens_may_come_in_any_case_on_several_lines() {
        let mut headers = with("Upgrade", b"h2c , WebSocket");
        headers.retain(|(name, _)| *name != "Connection");
        headers.push(("connection", b"keep-alive"));
        headers.push(("CONNECTION", b" ,upgrade,"));
        assert!(check(headers).is_ok());
    }

    #[test]
    fn the_clients_order_decides_among_subprotocols() {
        let choose = |supported: &[&'static str]| choose_subprotocol(good(), supported);
        assert_eq!(choose(&["superchat", "chat"]), Some("chat"));
        assert_eq!(choose(&["superchat"]), Some("superchat"));
        assert_eq!(choose(&["Chat"]), None);
        assert_eq!(choose(&[]), None);
        let empties = with("Sec-WebSocket-Protocol", b" , chat ,, superchat");
        assert!(check(empties.clone()).is_ok());
        assert_eq!(choose_subprotocol(empties, &["", "superchat"]), Some("superchat"));
        let mut lines = good();
        lines.push(("sec-websocket-protocol", b"headwater.json"));
        assert_eq!(choose_subprotocol(lines, &["headwater.json"]), Some("headwater.json"));
    }
}
