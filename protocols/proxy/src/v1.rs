//! Version 1: one line of text (2.1).
//!
//! In: bytes that begin with `P`. Out: the header, or the rule it breaks. The line is judged when it is whole, so that
//! any cut gives the same answer; it is at most 107 bytes, so looking at it again costs nothing.

use super::{Error, ErrorKind, Source, Step, V1_BYTES_MAX, error, signature};
use memchr::memchr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) fn receive(input: &[u8]) -> Result<Step, Error> {
    if !signature(input, SIGNATURE)? {
        return Ok(Step::Incomplete);
    }
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr(b'\n', window) else {
        if window.len() == V1_BYTES_MAX {
            return Err(error(ErrorKind::LineTooLong, V1_BYTES_MAX));
        }
        return Ok(Step::Incomplete);
    };
    // The signature stands before it, so a byte is there.
    let line = &window[..end];
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(error(ErrorKind::BadLineEnd, end));
    };
    if let Some(at) = line.iter().position(u8::is_ascii_control) {
        return Err(error(ErrorKind::BadLineEnd, at));
    }
    let source = fields(&line[SIGNATURE.len()..])
        .map_err(|(kind, offset)| error(kind, SIGNATURE.len() + offset))?;
    Ok(Step::Header { consumed: end + 1, source })
}

/// What stands behind `PROXY `.
fn fields(text: &[u8]) -> Result<Source, (ErrorKind, usize)> {
    let mut fields = Fields { text, at: 0 };
    let (family, at) = fields.next();
    match family {
        b"TCP4" | b"TCP6" => {}
        // Whatever follows has to be ignored.
        b"UNKNOWN" => return Ok(Source::Unknown),
        _ => return Err((ErrorKind::BadFamily, at)),
    }
    let mut address = || {
        let (text, at) = fields.next();
        parse_address(family == b"TCP4", text).ok_or((ErrorKind::BadAddress, at))
    };
    let (client, server) = (address()?, address()?);
    let mut port = || {
        let (text, at) = fields.next();
        parse_port(text).ok_or((ErrorKind::BadPort, at))
    };
    let (client_port, server_port) = (port()?, port()?);
    if fields.at <= text.len() {
        return Err((ErrorKind::BadFields, fields.at));
    }
    Ok(Source::Internet {
        client: SocketAddr::new(client, client_port),
        server: SocketAddr::new(server, server_port),
    })
}

/// What single spaces part. Two spaces make an empty field, which nothing accepts.
struct Fields<'a> {
    text: &'a [u8],
    /// Behind the space of the last field; past the text's end when there is none left.
    at: usize,
}

impl<'a> Fields<'a> {
    /// The next field and where it is; an empty one when none is left.
    fn next(&mut self) -> (&'a [u8], usize) {
        let start = self.at.min(self.text.len());
        let rest = &self.text[start..];
        let field = &rest[..memchr(b' ', rest).unwrap_or(rest.len())];
        self.at = start + field.len() + 1;
        (field, start)
    }
}

fn parse_address(is_v4: bool, text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if is_v4 {
        // The parser of the standard library takes no leading zeros and no other spellings.
        text.parse().ok().map(|address: Ipv4Addr| address.into())
    } else {
        text.parse().ok().map(|address: Ipv6Addr| address.into())
    }
}

fn parse_port(text: &[u8]) -> Option<u16> {
    let is_plain = match text {
        [b'0', _, ..] | [] => false,
        digits => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
    };
    if !is_plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

const SIGNATURE: &[u8] = b"PROXY ";
