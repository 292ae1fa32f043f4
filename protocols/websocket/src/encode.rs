//! Frames to bytes (RFC 6455 5.2).
//!
//! In: opcode, payload and, for the client role, a masking key that the caller drew. Out: bytes in
//! a small array or appended to the caller's vector. Invariants: lengths take their shortest form;
//! control payloads fit 125 bytes; a Close frame carries only codes valid on the wire and a reason
//! cut at a character boundary. It does not decide when a frame may be sent ([`crate::CloseState`]
//! does).

use crate::close::is_valid_on_wire;

/// What a frame is (RFC 6455 5.2; 3 to 7 and 11 to 15 are reserved).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Bytes, or their first fragment.
    Binary = 2,
    /// The peer ends the conversation.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or shows life.
    Pong = 10,
}

impl Opcode {
    /// The opcode with this number; `None` if it is reserved.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame: never fragmented, at most 125 bytes (RFC 6455 5.5).
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The longest payload of a control frame (RFC 6455 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest header of an unmasked frame.
pub const HEADER_BYTES_MAX: usize = 10;

/// The header of a whole, unmasked frame and how many of its bytes count.
///
/// Made for payloads encoded once and sent to many: the payload follows by reference.
pub const fn frame_header(opcode: Opcode, payload_bytes: usize) -> ([u8; 10], usize) {
    fragment_header(opcode, true, payload_bytes)
}

/// The header of an unmasked frame that is one fragment; `last` sets FIN (RFC 6455 5.4).
#[allow(clippy::cast_possible_truncation, reason = "each arm has checked the range")]
pub const fn fragment_header(
    opcode: Opcode,
    last: bool,
    payload_bytes: usize,
) -> ([u8; 10], usize) {
    debug_assert!(!opcode.is_control() || (last && payload_bytes <= CONTROL_BYTES_MAX));
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = opcode as u8 | if last { FIN } else { 0 };
    match payload_bytes {
        0..=125 => {
            header[1] = payload_bytes as u8;
            (header, 2)
        }
        126..=0xffff => {
            let [a, b] = (payload_bytes as u16).to_be_bytes();
            (header[1], header[2], header[3]) = (126, a, b);
            (header, 4)
        }
        _ => {
            header[1] = 127;
            let length = (payload_bytes as u64).to_be_bytes();
            let mut index = 0;
            while index < length.len() {
                header[2 + index] = length[index];
                index += 1;
            }
            (header, 10)
        }
    }
}

/// Appends a whole, unmasked frame: the server's side (RFC 6455 5.1).
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, header_bytes) = frame_header(opcode, payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
}

/// Appends a masked frame: the client's side (RFC 6455 5.3). The key must be fresh and not
/// predictable; drawing it is the caller's business.
pub fn write_masked_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    payload: &[u8],
) {
    let (mut header, header_bytes) = fragment_header(opcode, last, payload.len());
    header[1] |= MASKED;
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    simd::unmask(&mut out[start..], mask, 0);
}

/// Appends an unmasked Ping; what is past 125 bytes of `data` is left out.
pub fn write_ping(out: &mut Vec<u8>, data: &[u8]) {
    write_frame(out, Opcode::Ping, &data[..data.len().min(CONTROL_BYTES_MAX)]);
}

/// Appends an unmasked Pong; it carries the ping's payload (RFC 6455 5.5.3).
pub fn write_pong(out: &mut Vec<u8>, data: &[u8]) {
    write_frame(out, Opcode::Pong, &data[..data.len().min(CONTROL_BYTES_MAX)]);
}

/// Appends an unmasked Close frame. See [`close_payload`] for what it carries.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let (payload, payload_bytes) = close_payload(code, reason);
    write_frame(out, Opcode::Close, &payload[..payload_bytes]);
}

/// The payload of a Close frame and how many of its bytes count (RFC 6455 5.5.1).
///
/// Without a code, or with one that is not valid on the wire, it is empty. The reason is cut at a
/// character boundary to the 123 bytes that fit.
pub fn close_payload(code: Option<u16>, reason: &str) -> ([u8; CONTROL_BYTES_MAX], usize) {
    let mut payload = [0; CONTROL_BYTES_MAX];
    let Some(code) = code.filter(|code| is_valid_on_wire(*code)) else { return (payload, 0) };
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    (payload, 2 + reason.len())
}

/// The bit of the first byte that marks the last fragment.
pub(crate) const FIN: u8 = 0x80;
/// The bit of the second byte that says a masking key follows.
pub(crate) const MASKED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 5.7, the examples that need no extension.
    #[test]
    fn the_examples_of_the_standard() {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

        out.clear();
        write_masked_frame(&mut out, Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(out, masked);

        assert_eq!(fragment_header(Opcode::Text, false, 3).0[..2], [0x01, 0x03]);
        assert_eq!(fragment_header(Opcode::Continuation, true, 2).0[..2], [0x80, 0x02]);
        out.clear();
        write_ping(&mut out, b"Hello");
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

        assert_eq!(frame_header(Opcode::Binary, 256).0[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(frame_header(Opcode::Binary, 65536).0, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (payload_bytes, header_bytes) in
            [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (usize::MAX >> 1, 10)]
        {
            assert_eq!(frame_header(Opcode::Binary, payload_bytes).1, header_bytes);
        }
    }

    #[test]
    fn control_payloads_are_cut_to_fit() {
        let mut out = Vec::new();
        write_pong(&mut out, &[7; 200]);
        assert_eq!(out.len(), 127);
        out.clear();
        // 62 characters of two bytes: the 62nd would end at byte 124 of 123.
        write_close(&mut out, Some(1001), &"é".repeat(62));
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn a_close_frame_without_a_sendable_code_is_empty() {
        for code in [None, Some(1005), Some(1006), Some(1015), Some(999)] {
            let mut out = Vec::new();
            write_close(&mut out, code, "reason");
            assert_eq!(out, [0x88, 0x00], "{code:?}");
        }
    }

    #[test]
    fn reserved_opcodes_have_no_name() {
        let named: Vec<u8> = (0..=255).filter(|n| Opcode::from_number(*n).is_some()).collect();
        assert_eq!(named, [0, 1, 2, 8, 9, 10]);
    }
}
