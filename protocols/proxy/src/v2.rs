//! Version 2: a binary header with a length (2.2).
//!
//! In: bytes that do not begin with `P`. Out: the header, or the rule it breaks. Its first 16 bytes are judged one after
//! the other as they come; the rest when it is whole.

use super::crc32c::crc32c;
use super::{Error, ErrorKind, Limits, Source, Step, error, signature};
use std::net::{IpAddr, SocketAddr};

pub(super) fn receive(input: &[u8], limits: &Limits) -> Result<Step, Error> {
    if !signature(input, SIGNATURE)? {
        return Ok(Step::Incomplete);
    }
    let Some(&version_and_command) = input.get(VERSION_AT) else { return Ok(Step::Incomplete) };
    if version_and_command >> 4 != 2 {
        return Err(error(ErrorKind::BadVersion, VERSION_AT));
    }
    let is_local = match version_and_command & 15 {
        0 => true,
        1 => false,
        _ => return Err(error(ErrorKind::BadCommand, VERSION_AT)),
    };
    let Some(&family) = input.get(FAMILY_AT) else { return Ok(Step::Incomplete) };
    let address_bytes = match family {
        // With LOCAL the family is ignored, and so is what follows.
        _ if is_local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(error(ErrorKind::BadTransport, FAMILY_AT)),
    };
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(Step::Incomplete);
    };
    let length = usize::from(u16::from_be_bytes([head[LENGTH_AT], head[LENGTH_AT + 1]]));
    if length < address_bytes {
        return Err(error(ErrorKind::TooShort, LENGTH_AT));
    }
    if HEAD_BYTES + length > limits.header_bytes_max {
        return Err(error(ErrorKind::TooLong, LENGTH_AT));
    }
    let Some(rest) = rest.get(..length) else { return Ok(Step::Incomplete) };
    let header = &input[..HEAD_BYTES + length];
    let consumed = header.len();
    if is_local {
        return Ok(Step::Header { consumed, source: Source::Proxy });
    }
    let (addresses, _) = rest.split_at(address_bytes);
    check_tlvs(header, HEAD_BYTES + address_bytes)?;
    Ok(Step::Header { consumed, source: source(addresses) })
}

/// The addresses tell their family by their length.
fn source(addresses: &[u8]) -> Source {
    if let Some((client, server)) = pair::<4>(addresses) {
        Source::Internet { client, server }
    } else if let Some((client, server)) = pair::<16>(addresses) {
        Source::Internet { client, server }
    } else if addresses.is_empty() {
        Source::Unknown
    } else {
        Source::Unix
    }
}

/// Two addresses, then two ports.
fn pair<const BYTES: usize>(addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; BYTES]>,
{
    let (client, rest) = addresses.split_first_chunk::<BYTES>()?;
    let (server, ports) = rest.split_first_chunk::<BYTES>()?;
    let &[a, b, c, d] = ports else { return None };
    let at = |address: &[u8; BYTES], port| SocketAddr::new(IpAddr::from(*address), port);
    Some((at(client, u16::from_be_bytes([a, b])), at(server, u16::from_be_bytes([c, d]))))
}

/// Walks the TLVs (2.2, 2.2.3): each has to fit, and the checksum has to be right if there is one.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), Error> {
    let mut at = start;
    let mut checksum_at = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header[at..].first_chunk::<3>() else {
            return Err(error(ErrorKind::BadTlv, at));
        };
        let value_at = at + 3;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > header.len() - value_at {
            return Err(error(ErrorKind::BadTlv, at));
        }
        if kind == TYPE_CRC32C && (length != 4 || checksum_at.replace(value_at).is_some()) {
            return Err(error(ErrorKind::BadChecksumField, at));
        }
        at = value_at + length;
    }
    let Some(at) = checksum_at else { return Ok(()) };
    let sent = &header[at..at + 4];
    // The sum is over the whole header with zeros in place of itself.
    let sum = crc32c([&header[..at], &[0; 4], &header[at + 4..]]);
    if sent == sum.to_be_bytes() { Ok(()) } else { Err(error(ErrorKind::WrongChecksum, at)) }
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_AT: usize = 12;
const FAMILY_AT: usize = 13;
const LENGTH_AT: usize = 14;
const HEAD_BYTES: usize = 16;
/// PP2_TYPE_CRC32C.
const TYPE_CRC32C: u8 = 0x03;
