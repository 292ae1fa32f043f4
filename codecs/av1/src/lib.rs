//! AV1 as files and live formats carry it: OBUs, the sequence header, `av1C` (AV1 bitstream
//! specification 5, AV1 codec ISO media file format binding).
//!
//! In: temporal units of the low-overhead format (each OBU says its size), and `av1C` bytes. Out:
//! OBUs, what the sequence header says, the configuration record and the codec string, whether a
//! temporal unit is a random access point, and the temporal unit without its delimiter, which is
//! what a sample is.
//!
//! Invariants: an OBU's payload lies inside the temporal unit; a parsed sequence header has a
//! picture of at least one sample; a record built here parses to itself. Nothing but the record is
//! allocated.
//!
//! Deliberately absent: Annex B (length-delimited) framing, everything of a frame header behind
//! show_frame, and scalability: the first operating point is the stream.
#![forbid(unsafe_code)]

mod bits;
mod config;
mod obu;
mod sequence_header;
mod temporal_unit;

pub use config::{Av1CodecConfigurationRecord, RECORD_BYTES_MAX};
pub use obu::{Obu, ObuType, Obus, obus};
pub use sequence_header::{ChromaSubsampling, Colour, SequenceHeader};
pub use temporal_unit::{is_random_access, sample, sequence_header_obu};

/// Why bytes are not AV1 that this crate understands. Each is the sender's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An OBU header, size or payload goes past the end of the data.
    #[error("OBU at byte {offset} goes past the end: {needed} bytes needed, {left} left")]
    ObuLength {
        /// Where the OBU begins.
        offset: usize,
        /// Bytes it needs from there.
        needed: u64,
        /// Bytes there are.
        left: usize,
    },
    /// obu_forbidden_bit is set.
    #[error("OBU at byte {offset} has its forbidden bit set")]
    ForbiddenBit {
        /// Where the OBU begins.
        offset: usize,
    },
    /// A leb128 value above 32 bits, or longer than eight bytes (AV1 4.10.5).
    #[error("leb128 value at byte {offset} is too large")]
    Leb128 {
        /// Where the value begins.
        offset: usize,
    },
    /// An OBU's payload ends inside a field.
    #[error("OBU payload ends at bit {bit}, inside a field")]
    Truncated {
        /// The bit at which the field that does not fit begins.
        bit: usize,
    },
    /// seq_profile above 2.
    #[error("sequence profile {0} is reserved")]
    Profile(u8),
    /// A uvlc value above 32 bits.
    #[error("uvlc value is too large")]
    Uvlc,
    /// A second temporal delimiter: these are two temporal units.
    #[error("second temporal delimiter at byte {offset}")]
    TwoTemporalUnits {
        /// Where the second delimiter begins.
        offset: usize,
    },
    /// An av1C without its four bytes, or with a wrong marker or version.
    #[error("av1C does not begin with marker 1 and version 1")]
    Record,
    /// An av1C larger than [`RECORD_BYTES_MAX`].
    #[error("av1C of {bytes} bytes is larger than {RECORD_BYTES_MAX}")]
    RecordTooLong {
        /// How many there were.
        bytes: usize,
    },
    /// An av1C without a sequence header OBU. The four bytes do not give the picture's size.
    #[error("av1C has no sequence header OBU")]
    NoSequenceHeader,
}

#[cfg(test)]
mod tests;
