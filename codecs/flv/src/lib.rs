//! FLV tag headers (Adobe FLV 10.1 annex E; Enhanced RTMP v2): what stands in front of the
//! bitstream in an RTMP audio or video message, and in a tag of an FLV file.
//!
//! In: the first bytes of a message, as many as have come. Out: the header and its length, so that
//! the caller can put what follows where it belongs without a copy; [`tag`] reads and writes the
//! tags of a file.
//!
//! Invariants: the result does not depend on how much of the message follows the header; a header
//! is at most [`HEADER_BYTES_MAX`] bytes, so a caller that collects a header from fragments needs
//! no more than that; every loop turn advances.
//!
//! Deliberately absent: the bitstreams themselves, `onMetaData`, multitrack messages with more than
//! one track.
#![forbid(unsafe_code)]

mod audio;
mod enhanced;
pub mod tag;
#[cfg(test)]
mod tests;
mod video;

pub use audio::{AudioCodec, AudioPacketType, AudioTagHeader, ClassicAudio};
pub use enhanced::FourCc;
pub use video::{FrameType, VideoCodec, VideoPacketType, VideoTagHeader};

/// The longest header that is read. Only ModEx extensions (E-RTMP) make one longer than 12 bytes,
/// and the only one defined adds 5.
pub const HEADER_BYTES_MAX: usize = 1024;

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// FLV 10.1: numbered codecs.
    Classic,
    /// Enhanced RTMP: codecs named by FourCC.
    Enhanced,
}

/// What the sender got wrong, or asked for that we lack. `at` is the offset in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A packet type that the codec or the format does not have.
    #[error("the sender's FLV packet type {packet_type} at byte {at} does not exist")]
    PacketType {
        /// Where it stands.
        at: usize,
        /// Its number.
        packet_type: u8,
    },
    /// The header is longer than [`HEADER_BYTES_MAX`].
    #[error("the sender's FLV header is longer than {HEADER_BYTES_MAX} bytes")]
    HeaderTooLong,
    /// A multitrack message inside a multitrack message (E-RTMP forbids it).
    #[error("the sender nests multitrack messages at byte {at}")]
    NestedMultitrack {
        /// Where the inner one begins.
        at: usize,
    },
    /// Several tracks in one message: legal, not supported.
    #[error("the sender's multitrack type {multitrack_type} at byte {at} is not supported")]
    UnsupportedMultitrack {
        /// Where the type stands.
        at: usize,
        /// 1 = ManyTracks, 2 = ManyTracksManyCodecs.
        multitrack_type: u8,
    },
}
