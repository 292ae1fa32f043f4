//! H.264 as live formats carry it: the decoder configuration record and length-prefixed NAL units
//! (ISO/IEC 14496-15 5, ITU-T H.264).
//!
//! In: the `avcC` bytes of an FLV sequence header, and access units whose NAL units each have a
//! length in front. Out: picture size, frame rate, colour, the codec string; an iterator over NAL
//! units; whether an access unit is a random access point. The record's bytes are kept unchanged
//! for the sample entry.
//!
//! Invariants: a parsed record has at least one sequence and one picture parameter set, a picture
//! of at least one sample, and a NAL unit length of 1, 2 or 4 bytes. Sequence parameter sets are
//! read by h264-reader when the configuration changes; the walk over each access unit is ours and
//! allocates nothing.
//!
//! Deliberately absent: slice data, Annex B start codes (no input of the server has them), and
//! random access by recovery point SEI: only IDR pictures start a segment.
#![forbid(unsafe_code)]

mod config;
mod nal;

pub use config::{
    AvcDecoderConfigurationRecord, Colour, DIMENSION_MAX, FrameRate, RECORD_BYTES_MAX,
};
pub use nal::{LengthSize, NalUnit, NalUnitType, NalUnits, is_random_access, nal_units};

/// Why bytes are not H.264 that this crate understands. Each is the sender's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record ends inside a field or a parameter set.
    #[error("avcC of {bytes} bytes ends inside the field at byte {offset}")]
    Truncated {
        /// Where the field that does not fit begins.
        offset: usize,
        /// The length of the record.
        bytes: usize,
    },
    /// More bytes than [`RECORD_BYTES_MAX`].
    #[error("avcC of {bytes} bytes is larger than {RECORD_BYTES_MAX}")]
    TooLong {
        /// How many there were.
        bytes: usize,
    },
    /// configurationVersion is not 1.
    #[error("avcC version {0} is unknown")]
    Version(u8),
    /// lengthSizeMinusOne is 2, which ISO/IEC 14496-15 forbids.
    #[error("NAL unit lengths of {0} bytes are not allowed")]
    LengthSize(u8),
    /// A record without a sequence or picture parameter set, as some encoders send before the
    /// real one. There is nothing to decode with until another record comes.
    #[error("no parameter sets")]
    NoParameterSets,
    /// A parameter set list holds a NAL unit of another type, or an empty one.
    #[error("avcC lists a NAL unit at byte {offset} that is no {expected}")]
    NotAParameterSet {
        /// Where the NAL unit begins.
        offset: usize,
        /// What it should have been.
        expected: &'static str,
    },
    /// The first sequence parameter set breaks the grammar of ITU-T H.264 7.3.2.1.1.
    #[error("sequence parameter set: {0}")]
    SequenceParameterSet(String),
    /// The picture is empty or larger than [`DIMENSION_MAX`].
    #[error("picture of {width} x {height} samples")]
    Dimensions {
        /// Width after cropping.
        width: u32,
        /// Height after cropping.
        height: u32,
    },
    /// An access unit's NAL unit is longer than what is left of it, or the rest is too short for
    /// a length.
    #[error("NAL unit at byte {offset} of the access unit: {needed} bytes needed, {left} left")]
    NalUnitLength {
        /// Where the length field begins.
        offset: usize,
        /// Bytes the field or the NAL unit needs.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
}

#[cfg(test)]
mod tests;
