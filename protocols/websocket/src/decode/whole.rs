//! A client's message in one frame that is whole in the input: nearly every frame there is.
//!
//! In: bytes at the beginning of a frame, while no message is open. Out: where the payload lies, or
//! nothing, and then the general path looks at every rule. Invariant: what is found here is what
//! the general path would find; it never fails, so that errors have one home.

use super::{Kind, Limits};
use crate::encode::{FIN, MASKED, Opcode};
use std::ops::Range;

/// Where such a frame's parts are.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    pub(super) kind: Kind,
    pub(super) mask: [u8; 4],
    pub(super) payload: Range<usize>,
}

impl Whole {
    /// Looks at a masked frame (RFC 6455 5.2) with a payload below 64 KiB.
    #[inline]
    pub(super) fn find(input: &[u8], limits: &Limits) -> Option<Self> {
        let &[first, second] = input.first_chunk()?;
        let kind = match first {
            LAST_TEXT => Kind::Text,
            LAST_BINARY => Kind::Binary,
            _ => return None,
        };
        let (start, length) = match second ^ MASKED {
            length @ 0..=125 => (6, usize::from(length)),
            126 => {
                let length = usize::from(u16::from_be_bytes(*input[2..].first_chunk()?));
                // A length that is not in its shortest form is the general path's to refuse.
                (8, Some(length).filter(|length| *length > 125)?)
            }
            _ => return None,
        };
        let mask = *input.get(start - 4..)?.first_chunk()?;
        let end = start + length;
        let fits = end <= input.len() && length as u64 <= limits.message_bytes_max;
        fits.then_some(Self { kind, mask, payload: start..end })
    }
}

const LAST_TEXT: u8 = FIN | Opcode::Text as u8;
const LAST_BINARY: u8 = FIN | Opcode::Binary as u8;
