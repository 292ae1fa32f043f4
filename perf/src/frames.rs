//! The little of RFC 6455 that a load client needs: one masked frame out, unmasked frames in.
//!
//! In: payloads, and bytes from the server. Out: the frame, and the payloads found. Deliberately
//! absent: fragments, UTF-8, close rules: the server under test has its own conformance tests, and
//! a client that is cheaper than the server leaves the server the limit.

/// A text message as a client sends it (RFC 6455 5.2, masked as 5.3 demands).
pub(crate) fn client_text(payload: &[u8]) -> Vec<u8> {
    client_frame(TEXT, payload)
}

/// The answer to a ping with this payload (RFC 6455 5.5.3).
pub(crate) fn client_pong(payload: &[u8]) -> Vec<u8> {
    client_frame(PONG, payload)
}

fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, payload.len(), MASKED);
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

/// JSON of `length` bytes, such as a chat would send; `length` is at least 64.
pub(crate) fn json(length: usize) -> Vec<u8> {
    let head = r#"{"type":"chat","room":"lobby","from":"user-48151623","id":90210,"text":""#;
    let words = "what a goal, did you see that from the other side of the pitch? ";
    let mut text: Vec<u8> = head.bytes().chain(words.bytes().cycle()).take(length - 2).collect();
    text.extend_from_slice(b"\"}");
    text
}

/// A payload of `length` printable bytes, so that a server that checks UTF-8 has to read them.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// A server frame at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    /// RSV1, which means compressed where that was negotiated (RFC 7692 6).
    pub(crate) is_compressed: bool,
    pub(crate) payload: &'a [u8],
    /// Bytes it took.
    pub(crate) length: usize,
}

/// The first whole frame of `bytes`; `None` if it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (start, end) = extent(bytes)?;
    let first = bytes[0];
    Some(Frame {
        opcode: first & 0x0f,
        is_compressed: first & RSV1 != 0,
        payload: bytes.get(start..end)?,
        length: end,
    })
}

/// Bytes of the frame that begins with `bytes`; `None` if its header is not complete.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    extent(bytes).map(|(_, end)| end)
}

/// Where the payload of an unmasked frame begins and ends.
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&[_, second], rest) = bytes.split_first_chunk()?;
    let (size, start) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        small => (u64::from(small), 2),
    };
    Some((start, usize::try_from(size).ok()?.checked_add(start)?))
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
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
const PONG: u8 = 10;
/// Of a frame without masking key.
pub(crate) const HEADER_BYTES_MAX: usize = 10;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
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
            let frame = Frame { opcode: TEXT, is_compressed: false, payload: &payload, length };
            assert_eq!(parse(&bytes), Some(frame));
        }
    }
}
