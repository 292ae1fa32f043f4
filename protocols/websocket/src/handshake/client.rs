//! The client's half of the opening handshake (RFC 6455 4.1), for tests and load tools.
//!
//! In: what to ask for; then the bytes the server answered. Out: the request; then where frames
//! begin. Invariant: a response is accepted only whole and only with the answer to our key. It
//! does not follow redirects or answer challenges.

use super::{Key, has_token};

/// What a client asks for. All text goes onto the wire as it is.
#[derive(Debug, Clone, Copy)]
pub struct ClientRequest<'a> {
    /// `Host`: authority without user information.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// `Origin`, as a browser sends it.
    pub origin: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`, in order of preference, joined by commas.
    pub subprotocols: Option<&'a str>,
}

/// Appends an upgrade request.
pub fn write_request(out: &mut Vec<u8>, request: &ClientRequest<'_>, key: &Key) {
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("GET ");
    put(request.target);
    put(" HTTP/1.1\r\nHost: ");
    put(request.host);
    put("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    for (name, value) in
        [("Origin: ", request.origin), ("Sec-WebSocket-Protocol: ", request.subprotocols)]
    {
        if let Some(value) = value {
            put(name);
            put(value);
            put("\r\n");
        }
    }
    put("Sec-WebSocket-Key: ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// A response that completes the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The bytes of the response; frames begin behind them.
    pub consumed: usize,
    /// The subprotocol the server chose.
    pub subprotocol: Option<&'a [u8]>,
}

/// What the server answered instead. The fault is the server's, or it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Another status than 101.
    #[error("the server answered status {0} instead of 101")]
    Status(u16),
    /// Not an HTTP/1.1 response head, or one longer than 16 KiB.
    #[error("the server's answer is not an HTTP/1.1 response head")]
    Malformed,
    /// `Upgrade` or `Connection` is missing.
    #[error("the server's 101 answer does not upgrade to websocket")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` is missing or answers another key.
    #[error("the server's Sec-WebSocket-Accept does not answer our key")]
    Accept,
}

/// Reads a response; `None` until its head is whole.
pub fn read_response<'a>(
    input: &'a [u8],
    key: &Key,
) -> Result<Option<Accepted<'a>>, ResponseError> {
    let window = &input[..input.len().min(RESPONSE_BYTES_MAX)];
    let Some(end) = window.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        let full = window.len() == RESPONSE_BYTES_MAX;
        return if full { Err(ResponseError::Malformed) } else { Ok(None) };
    };
    let mut lines = input[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().and_then(status_of).ok_or(ResponseError::Malformed)?;
    if status != 101 {
        return Err(ResponseError::Status(status));
    }
    let (mut upgrade, mut connection, mut accept, mut subprotocol) = (false, false, None, None);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(ResponseError::Malformed);
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"upgrade") {
            upgrade |= has_token(value, b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            connection |= has_token(value, b"upgrade");
        } else if name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            accept = Some(value);
        } else if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
            subprotocol = Some(value);
        }
    }
    if !upgrade || !connection {
        return Err(ResponseError::NotAnUpgrade);
    }
    if accept != Some(&key.accept()[..]) {
        return Err(ResponseError::Accept);
    }
    Ok(Some(Accepted { consumed: end + 4, subprotocol }))
}

/// The status of `HTTP/1.1 NNN reason`.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    let (digits, after) = rest.split_first_chunk::<3>()?;
    let ends = matches!(after.first(), None | Some(b' '));
    if !ends || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The longest response head.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::write_accept;

    fn key() -> Key {
        Key::from_nonce(*b"the sample nonce")
    }

    #[test]
    fn the_request() {
        let mut out = Vec::new();
        let request = ClientRequest {
            host: "server.example.com",
            target: "/chat",
            origin: Some("http://example.com"),
            subprotocols: Some("chat, superchat"),
        };
        write_request(&mut out, &request, &key());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n\
             Sec-WebSocket-Protocol: chat, superchat\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
    }

    #[test]
    fn every_beginning_of_a_response_is_incomplete() {
        let mut response = Vec::new();
        write_accept(&mut response, &key(), Some("chat"));
        let head_bytes = response.len();
        response.extend_from_slice(b"\x81\x00");
        for end in 0..head_bytes {
            assert_eq!(read_response(&response[..end], &key()), Ok(None));
        }
        let accepted = Accepted { consumed: head_bytes, subprotocol: Some(b"chat") };
        assert_eq!(read_response(&response, &key()), Ok(Some(accepted)));
        let other = Key::from_nonce([0; 16]);
        assert_eq!(read_response(&response, &other), Err(ResponseError::Accept));
    }

    #[test]
    fn other_answers() {
        for (response, error) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], ResponseError::Status(403)),
            (b"HTTP/1.0 101 x\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 1010 x\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", ResponseError::NotAnUpgrade),
            (b"HTTP/1.1 101 x\r\nnonsense\r\n\r\n", ResponseError::Malformed),
            (&[b'x'; RESPONSE_BYTES_MAX], ResponseError::Malformed),
        ] {
            assert_eq!(read_response(response, &key()), Err(error));
        }
    }
}
