//! MPEG-DASH manifests of live streams (ISO/IEC 23009-1), written.
//!
//! In: a plain description of the presentation. Out: an MPD of the live profile with explicit
//! addressing (SegmentTemplate + SegmentTimeline with `$Time$`), appended to the caller's buffer.
//!
//! Invariants: equal descriptions give equal bytes; runs of equal durations become one `S` with
//! `@r`, and an `S` has `@t` only where it does not follow from the one before; text goes through
//! an XML writer that escapes it.
//!
//! What players do, and what is done about it: some take a live presentation's period with the
//! longest `@duration`, so periods have a start only; a `@r` of -1 is read differently by each, so
//! every segment is listed.
//!
//! Deliberately absent: reading manifests, `$Number$` addressing, and the low-latency signalling.
#![forbid(unsafe_code)]

mod manifest;
mod write;

pub use manifest::{
    AdaptationSet, Availability, ContentType, FrameRate, Manifest, Period, TimelineSegment,
    UtcTiming,
};

/// The media type of a manifest (C.1).
pub const CONTENT_TYPE: &str = "application/dash+xml";

#[cfg(test)]
mod tests;
