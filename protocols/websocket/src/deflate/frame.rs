//! Frames of compressed messages: what `encode` writes, with RSV1 (RFC 7692 6.1).
//!
//! In: opcode and compressed payload. Out: bytes. Only the first frame of a message carries the bit;
//! the rest of a fragmented one are the continuations that `encode` writes. Control frames never do.

use crate::encode::{self, HEADER_BYTES_MAX, Opcode};

/// The header of an unmasked frame that holds a whole compressed message, and how many of its bytes
/// count.
pub const fn frame_header(opcode: Opcode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
    let (mut header, header_bytes) = encode::frame_header(opcode, payload_bytes);
    header[0] |= RSV1;
    (header, header_bytes)
}

/// Appends a whole compressed message, unmasked: the server's side.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, header_bytes) = frame_header(opcode, payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
}

/// Appends the first frame of a compressed message, masked: the client's side. `last` sets FIN.
pub fn write_masked_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    payload: &[u8],
) {
    debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
    let start = out.len();
    encode::write_masked_frame(out, opcode, last, mask, payload);
    out[start] |= RSV1;
}

/// The bit of the first byte that says the message is compressed.
const RSV1: u8 = 0x40;
