//! HLS playlists (draft-pantos-hls-rfc8216bis), written.
//!
//! In: plain descriptions of what exists, in the order in which a player reads it. Out: the text of
//! a [`MultivariantPlaylist`] or a [`MediaPlaylist`], appended to the caller's buffer.
//!
//! Invariants: equal descriptions give equal bytes; a line is never split or joined by what a
//! caller puts into a quoted string (line breaks and double quotes are left out, 4.2); the
//! EXT-X-VERSION is the lowest that the tags in use allow (8).
//!
//! Deliberately absent: reading playlists, deciding what is listed (that is the window's business),
//! encryption, and the low-latency tags. Parts already have their place in [`MediaSegment`] and are
//! not written yet.
#![forbid(unsafe_code)]

mod media;
mod multivariant;
mod text;

pub use media::{MapSection, MediaPlaylist, MediaSegment, PartialSegment, PlaylistEnd};
pub use multivariant::{AudioRendition, MultivariantPlaylist, Resolution, VariantStream};
pub use text::DateTime;

/// The media type of both kinds of playlist (4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

#[cfg(test)]
mod tests;
