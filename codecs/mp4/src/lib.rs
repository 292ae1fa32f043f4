//! CMAF headers and fragments for one track (ISO/IEC 14496-12, 23000-19), and a walk over boxes.
//!
//! In: a codec's configuration, and lists of samples. Out: the init section ([`header`]), and for
//! each part the bytes in front of the samples ([`fragment`]): `[styp] moof`, and the eight bytes
//! that begin `mdat`. The samples themselves never pass through here: whoever sends a part sends
//! the bytes from here and then the samples from where they lie.
//!
//! Invariants: the length of a fragment's header depends only on the number of its samples and on
//! whether it begins a segment, so it can be written into room kept in front of the samples; every
//! box size is the number of bytes the box has; one track, whose id is 1.
//!
//! Deliberately absent: progressive files, edit lists, several tracks in one file, encryption, and
//! reading of samples. Codec configurations go into the sample entries byte for byte.
#![forbid(unsafe_code)]

pub mod boxes;
pub mod fragment;
pub mod header;
mod sample_entry;
mod writer;

/// The id of the one track.
pub const TRACK_ID: u32 = 1;

#[cfg(test)]
mod tests;
