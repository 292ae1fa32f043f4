//! The client's half of the opening handshake (RFC 6455 4.1), for tests and load tools.
//!
//! In: what to ask for; then the bytes the server answered. Out: the request; then where frames
//! begin. Invariant: a response is accepted only whole, only with the answer to our key, and only with
//! a subprotocol and an extension that were offered. It does not follow redirects or answer
//! challenges.

use super::extensions::is_token;
use super::{Key, has_token, tokens};
use crate::deflate::{self, Agreement, AnswerError, Offer};
use std::io::Write as _;

/// What a client asks for. All text goes onto the wire as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientRequest<'a> {
    /// `Host`: authority without user information.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// `Origin`, as a browser sends it.
    pub origin: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`, in order of preference, joined by commas.
    pub subprotocols: Option<&'a str>,
    /// An offer of permessage-deflate.
    pub deflate: Option<Offer>,
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
    if let Some(offer) = request.deflate {
        // Writing to a vector does not fail.
        let _ = write!(out, "Sec-WebSocket-Extensions: {offer}\r\n");
    }
    out.extend_from_slice(b"Sec-WebSocket-Key: ");
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
    /// What the server made of our offer of permessage-deflate; `None`: it declined.
    pub deflate: Option<Agreement>,
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
    /// `Upgrade` is not exactly "websocket", or `Connection` does not say upgrade.
    #[error("the server's 101 answer does not upgrade to websocket")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Accept` is missing, given twice, or answers another key.
    #[error("the server's Sec-WebSocket-Accept does not answer our key")]
    Accept,
    /// `Sec-WebSocket-Protocol` is given twice or was not offered (RFC 6455 4.1).
    #[error("the server chose a subprotocol that was not offered")]
    Subprotocol,
    /// The answer to our extensions fails the connection.
    #[error(transparent)]
    Extensions(#[from] AnswerError),
}

/// Reads the response to `request` (RFC 6455 4.1); `None` until its head is whole.
pub fn read_response<'a>(
    input: &'a [u8],
    request: &ClientRequest<'_>,
    key: &Key,
) -> Result<Option<Accepted<'a>>, ResponseError> {
    let window = &input[..input.len().min(RESPONSE_BYTES_MAX)];
    let Some(end) = window.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        let full = window.len() == RESPONSE_BYTES_MAX;
        return if full { Err(ResponseError::Malformed) } else { Ok(None) };
    };
    let mut lines = lines(&input[..end]);
    let status = lines.next().and_then(status_of).ok_or(ResponseError::Malformed)?;
    if status != 101 {
        return Err(ResponseError::Status(status));
    }
    let (mut upgrade, mut connection, mut accept, mut subprotocol) = (None, false, None, None);
    for line in lines.clone() {
        let (name, value) = field(line).ok_or(ResponseError::Malformed)?;
        let (slot, duplicate) = if name.eq_ignore_ascii_case(b"upgrade") {
            (&mut upgrade, ResponseError::NotAnUpgrade)
        } else if name.eq_ignore_ascii_case(b"sec-websocket-accept") {
            (&mut accept, ResponseError::Accept)
        } else if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
            (&mut subprotocol, ResponseError::Subprotocol)
        } else {
            connection |= name.eq_ignore_ascii_case(b"connection") && has_token(value, b"upgrade");
            continue;
        };
        if slot.replace(value).is_some() {
            return Err(duplicate);
        }
    }
    let upgrades = upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    if !upgrades || !connection {
        return Err(ResponseError::NotAnUpgrade);
    }
    if accept != Some(&key.accept()[..]) {
        return Err(ResponseError::Accept);
    }
    let offered = |chosen: &[u8]| {
        !chosen.is_empty()
            && tokens(request.subprotocols.unwrap_or("").as_bytes()).any(|offer| offer == chosen)
    };
    if !subprotocol.is_none_or(offered) {
        return Err(ResponseError::Subprotocol);
    }
    let extensions = lines
        .filter_map(field)
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"sec-websocket-extensions"))
        .map(|(_, value)| value);
    let deflate = deflate::check_answer(extensions, request.deflate.as_ref())?;
    Ok(Some(Accepted { consumed: end + 4, subprotocol, deflate }))
}

/// The lines of a head, without the bytes that end them.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// A field's name and value; a name is a token, so a folded line is none.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_name = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    is_name.then_some((name, value))
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
    use crate::deflate::WindowBits;
    use crate::handshake::{Chosen, write_accept};

    fn key() -> Key {
        Key::from_nonce(*b"the sample nonce")
    }

    fn request() -> ClientRequest<'static> {
        ClientRequest {
            host: "server.example.com",
            target: "/chat",
            origin: Some("http://example.com"),
            subprotocols: Some("chat, superchat"),
            deflate: Some(Offer::default()),
        }
    }

    #[test]
    fn the_request() {
        let mut out = Vec::new();
        write_request(&mut out, &request(), &key());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n\
             Sec-WebSocket-Protocol: chat, superchat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
    }

    #[test]
    fn every_beginning_of_a_response_is_incomplete() {
        let agreement =
            Agreement { server_max_window_bits: WindowBits::new(10), ..Agreement::default() };
        let mut response = Vec::new();
        let chosen = Chosen { subprotocol: Some("chat"), deflate: Some(agreement) };
        write_accept(&mut response, &key(), &chosen);
        let head_bytes = response.len();
        response.extend_from_slice(b"\x81\x00");
        for end in 0..head_bytes {
            assert_eq!(read_response(&response[..end], &request(), &key()), Ok(None));
        }
        let accepted =
            Accepted { consumed: head_bytes, subprotocol: Some(b"chat"), deflate: Some(agreement) };
        assert_eq!(read_response(&response, &request(), &key()), Ok(Some(accepted)));
        let other = Key::from_nonce([0; 16]);
        assert_eq!(read_response(&response, &request(), &other), Err(ResponseError::Accept));
    }

    #[test]
    fn other_answers() {
        for (response, error) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], ResponseError::Status(403)),
            (b"HTTP/1.0 101 x\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 1010 x\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", ResponseError::NotAnUpgrade),
            (b"HTTP/1.1 101 x\r\nnonsense\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 101 x\r\nA: b\r\n folded: c\r\n\r\n", ResponseError::Malformed),
            (b"HTTP/1.1 101 x\r\nA : b\r\n\r\n", ResponseError::Malformed),
            (&[b'x'; RESPONSE_BYTES_MAX], ResponseError::Malformed),
        ] {
            assert_eq!(read_response(response, &request(), &key()), Err(error));
        }
    }

    /// RFC 6455 4.1, the rules for each field of a 101 answer.
    #[test]
    fn fields_that_fail_the_connection() {
        let good = [
            "Upgrade: WebSocket",
            "Connection: keep-alive, upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ];
        let read = |lines: &[&str], request: &ClientRequest<'_>| {
            let response = format!("HTTP/1.1 101 x\r\n{}\r\n\r\n", lines.join("\r\n"));
            read_response(response.as_bytes(), request, &key()).map(|accepted| accepted.is_some())
        };
        assert_eq!(read(&good, &request()), Ok(true));
        for (line, error) in [
            (0, ResponseError::NotAnUpgrade),
            (1, ResponseError::NotAnUpgrade),
            (2, ResponseError::Accept),
        ] {
            let mut lines = good.to_vec();
            lines.remove(line);
            assert_eq!(read(&lines, &request()), Err(error), "without {}", good[line]);
        }
        let extensions = |error| ResponseError::Extensions(error);
        for (line, error) in [
            ("Upgrade: websocket", ResponseError::NotAnUpgrade),
            ("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ResponseError::Accept),
            ("Sec-WebSocket-Protocol: Chat", ResponseError::Subprotocol),
            ("Sec-WebSocket-Protocol:", ResponseError::Subprotocol),
            ("Sec-WebSocket-Protocol: chat, superchat", ResponseError::Subprotocol),
            ("Sec-WebSocket-Extensions: x", extensions(AnswerError::NotOffered)),
            ("Sec-WebSocket-Extensions: ;", extensions(AnswerError::Malformed)),
            (
                "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",
                extensions(AnswerError::NotOffered),
            ),
            (
                "Sec-WebSocket-Extensions: permessage-deflate; x",
                extensions(AnswerError::Parameters),
            ),
        ] {
            assert_eq!(read(&[&good[..], &[line]].concat(), &request()), Err(error), "{line}");
        }
        let [upgrade, connection, accept] = good;
        let other = ["Upgrade: websocket, h2c", connection, accept];
        assert_eq!(read(&other, &request()), Err(ResponseError::NotAnUpgrade));
        let twice = "Sec-WebSocket-Protocol: chat";
        let twice = [upgrade, connection, accept, twice, twice];
        assert_eq!(read(&twice, &request()), Err(ResponseError::Subprotocol));
        // Nothing was asked for, so nothing may be answered.
        let bare = ClientRequest { subprotocols: None, deflate: None, ..request() };
        let chat = [upgrade, connection, accept, "Sec-WebSocket-Protocol: chat"];
        assert_eq!(read(&chat, &request()), Ok(true));
        assert_eq!(read(&chat, &bare), Err(ResponseError::Subprotocol));
        let deflate = [upgrade, connection, accept, "Sec-WebSocket-Extensions: permessage-deflate"];
        assert_eq!(read(&deflate, &request()), Ok(true));
        assert_eq!(read(&deflate, &bare), Err(extensions(AnswerError::NotOffered)));
    }
}
