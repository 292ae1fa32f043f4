//! The header of one frame (RFC 6455 5.2), checked byte by byte as it arrives.
//!
//! In: the bytes of a frame from its first. Out: the header, or nothing while it is not whole.
//! Invariant: a header that breaks a rule fails at the first byte that shows it, however few bytes
//! are present. It reads no payload.

use super::state::State;
use super::{ErrorKind, Fallible, Kind, Role};
use crate::encode::{CONTROL_BYTES_MAX, FIN, MASKED, Opcode};

/// A frame header that obeys every rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    /// FIN.
    pub(super) is_last: bool,
    /// RSV1 with permessage-deflate; only ever on the first frame of a message (RFC 7692 6).
    pub(super) compressed: bool,
    /// The message the frame belongs to; means nothing for a control frame.
    pub(super) kind: Kind,
    pub(super) payload_bytes: u64,
    /// All zero for an unmasked frame: unmasking then changes nothing.
    pub(super) mask: [u8; 4],
    pub(super) header_bytes: usize,
}

impl Header {
    /// Reads a header. `deflate` says whether RSV1 has its meaning of RFC 7692; `room` is how many
    /// payload bytes the current message may still take.
    #[inline]
    pub(super) fn parse(
        input: &[u8],
        role: Role,
        deflate: bool,
        state: State,
        room: u64,
    ) -> Fallible<Option<Self>> {
        let Some(&first) = input.first() else { return Ok(None) };
        let at = |offset| move |kind| (kind, offset);
        let (opcode, is_last, compressed) = first_byte(first, deflate).map_err(at(0))?;
        let kind = state.kind_of(opcode).map_err(at(0))?;

        let Some(&second) = input.get(1) else { return Ok(None) };
        match (role, second & MASKED != 0) {
            (Role::Server, false) => return Err((ErrorKind::NotMasked, 1)),
            (Role::Client, true) => return Err((ErrorKind::Masked, 1)),
            (Role::Server, true) | (Role::Client, false) => {}
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err((ErrorKind::ControlTooLong, 1));
        }
        let Some((payload_bytes, length_end)) = length(short, &input[2..]).map_err(at(2))? else {
            return Ok(None);
        };
        if !opcode.is_control() && payload_bytes > room {
            return Err((ErrorKind::MessageTooBig, 1));
        }
        let (mask, header_bytes) = match role {
            Role::Client => ([0; 4], length_end),
            Role::Server => {
                let Some(mask) = input[length_end..].first_chunk::<4>() else { return Ok(None) };
                (*mask, length_end + 4)
            }
        };
        Ok(Some(Self { opcode, is_last, compressed, kind, payload_bytes, mask, header_bytes }))
    }
}

/// Opcode, FIN, and whether the frame begins a compressed message.
fn first_byte(byte: u8, deflate: bool) -> Result<(Opcode, bool, bool), ErrorKind> {
    let meaningful = if deflate { RSV1 } else { 0 };
    if byte & RESERVED_BITS & !meaningful != 0 {
        return Err(ErrorKind::ReservedBit);
    }
    let opcode = Opcode::from_number(byte & 0x0f).ok_or(ErrorKind::ReservedOpcode)?;
    let compressed = byte & RSV1 != 0;
    // RFC 7692 6: neither a continuation nor a control frame (6.1) carries the bit.
    if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(ErrorKind::ReservedBit);
    }
    let is_last = byte & FIN != 0;
    if opcode.is_control() && !is_last {
        return Err(ErrorKind::FragmentedControl);
    }
    Ok((opcode, is_last, compressed))
}

/// The payload's length and where it ends in the frame; `None` while bytes are missing.
fn length(short: u8, extended: &[u8]) -> Result<Option<(u64, usize)>, ErrorKind> {
    let (length, smallest, end) = match short {
        126 => {
            let Some(bytes) = extended.first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), 126, 4)
        }
        127 => {
            if extended.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(ErrorKind::LengthHighBit);
            }
            let Some(bytes) = extended.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), 0x1_0000, 10)
        }
        _ => return Ok(Some((u64::from(short), 2))),
    };
    if length < smallest {
        return Err(ErrorKind::LengthNotMinimal);
    }
    Ok(Some((length, end)))
}

/// What RFC 7692 gives a meaning.
pub(super) const RSV1: u8 = 0x40;
/// RSV1 to RSV3.
const RESERVED_BITS: u8 = 0x70;
