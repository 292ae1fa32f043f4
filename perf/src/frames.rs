//! The little of RFC 6455 that a load client needs: one masked frame out, unmasked frames in.
//!
//! In: payloads, and bytes from the server. Out: the frame, and the payloads found. Deliberately
//! absent: fragments, UTF-8, close rules: the server under test has its own conformance tests, and
//! a client that is cheaper than the server leaves the server the limit.

/// A text message as a client sends it (RFC 6455 5.2, masked as 5.3 demands).
pub(crate) fn client_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(TEXT, payload.len(), MASKED);
    frame.extend_from_slice(&MASKING_KEY);
    frame.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The same message as a server sends it.
pub(crate) fn server_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(TEXT, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// A payload of `length` printable bytes, so that a server that checks UTF-8 has to read them.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// A server frame at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes it took.
    pub(crate) length: usize,
}

/// The first whole frame of `bytes`; `None` if it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (size, start) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        small => (u64::from(small), 2),
    };
    let end = usize::try_from(size).ok()?.checked_add(start)?;
    Some(Frame { opcode: first & 0x0f, payload: bytes.get(start..end)?, length: end })
}

fn header(opcode: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut frame = vec![FIN | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(small @ ..=125), _) => frame.push(mask_bit | small),
        (_, Ok(medium)) => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const PING: u8 = 9;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Fixed: the client prepares its one frame once, and no byte of the key is zero.
const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[cfg(test)]
mod tests {
    use super::{Frame, TEXT, client_text, parse, payload, server_text};

    #[test]
    fn sizes_on_the_wire_of_the_standard_echo() {
        assert_eq!(client_text(&payload(20)).len(), 26);
        assert_eq!(server_text(&payload(20)).len(), 22);
    }

    /// The examples of RFC 6455 5.7.
    #[test]
    fn hello() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(client_text(b"Hello"), masked);
        assert_eq!(server_text(b"Hello"), [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = payload(size);
            let mut bytes = server_text(&payload);
            let length = bytes.len();
            bytes.push(0x89);
            for cut in (0..length).step_by(if size > 200 { 997 } else { 1 }) {
                assert_eq!(parse(&bytes[..cut]), None, "{size} cut at {cut}");
            }
            assert_eq!(parse(&bytes), Some(Frame { opcode: TEXT, payload: &payload, length }));
        }
    }
}
