//! The bytes in front of a fragment's samples (ISO/IEC 14496-12 8.8, 23000-19 7.3.2).
//!
//! In: a fragment's place in time and its samples' sizes and durations. Out, into room the caller
//! keeps in front of the samples:
//!
//! ```text
//! [styp 24]  moof { mfhd 16  traf { tfhd 16  tfdt 20  trun 20 + 16 n } }  mdat 8, then the samples
//! ```
//!
//! Every field has a fixed place, so nothing is allocated, measured or patched. `trun` gives all
//! four values of every sample, signed composition offsets included; a shorter form would save some
//! bytes and cost a length that depends on the values.
//!
//! Only the first fragment of a segment has `styp`. A fragment of none or too many samples, or of
//! more bytes than `mdat`'s 32-bit size can say, is our own fault and panics.

use crate::TRACK_ID;

/// One sample of a fragment, in decoding order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes in `mdat`.
    pub size: u32,
    /// Ticks until the next sample's decoding time.
    pub duration: u32,
    /// Composition time less decoding time, in ticks.
    pub composition_offset: i32,
    /// Whether decoding can begin here.
    pub sync: bool,
}

/// A fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Whether the fragment begins a segment.
    pub position: Position,
    /// mfhd's sequence_number, rising by one from fragment to fragment of a track.
    pub sequence_number: u32,
    /// Decoding time of the first sample in ticks: the sum of all durations before it.
    pub base_media_decode_time: u64,
}

/// Where in its segment a fragment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It begins the segment and carries its `styp`.
    First,
    /// It follows another fragment of the same segment.
    Later,
}

/// The most samples of one fragment: minutes of audio, and far below where `trun`'s data offset
/// would not fit.
pub const SAMPLES_MAX: usize = 16_384;

/// The length of the header that [`write_fragment_header`] writes for so many samples.
#[must_use]
pub const fn fragment_header_length(samples: usize, position: Position) -> usize {
    let styp = match position {
        Position::First => STYP.len(),
        Position::Later => 0,
    };
    styp + moof_length(samples) + MDAT_HEADER_BYTES
}

/// Writes a fragment's header at the start of `out`, and returns its length.
///
/// # Panics
/// When there is no sample or more than [`SAMPLES_MAX`], when the samples have 4 GiB or more, or
/// when `out` is shorter than [`fragment_header_length`].
pub fn write_fragment_header(out: &mut [u8], fragment: &Fragment, samples: &[Sample]) -> usize {
    assert!(!samples.is_empty() && samples.len() <= SAMPLES_MAX, "1 to {SAMPLES_MAX} samples");
    let length = fragment_header_length(samples.len(), fragment.position);
    let (header, _) = out.split_at_mut(length);
    let header = match fragment.position {
        Position::First => {
            let (styp, rest) = header.split_at_mut(STYP.len());
            styp.copy_from_slice(&STYP);
            rest
        }
        Position::Later => header,
    };
    let (fixed, rest) = header.split_at_mut(RUN_OFFSET);
    let (run, mdat) = rest.split_at_mut(samples.len() * SAMPLE_BYTES);
    write_fixed(fixed, fragment, samples.len());
    let media_bytes = write_run(run, samples);
    let mdat_size = u32::try_from(media_bytes + MDAT_HEADER_BYTES as u64);
    let mdat_size = mdat_size.expect("the samples of a fragment have less than 4 GiB");
    mdat[..4].copy_from_slice(&mdat_size.to_be_bytes());
    mdat[4..].copy_from_slice(b"mdat");
    length
}

/// The ticks a fragment lasts: the next one's base_media_decode_time is this one's plus these.
#[must_use]
pub fn duration(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| u64::from(sample.duration)).sum()
}

/// Everything of `moof` up to the samples of `trun`.
fn write_fixed(out: &mut [u8], fragment: &Fragment, samples: usize) {
    // SAMPLES_MAX samples are 256 KiB of moof (const assert below).
    let word = |value: usize| u32::try_from(value).expect("bounded by SAMPLES_MAX").to_be_bytes();
    let moof_bytes = moof_length(samples);
    let traf_bytes = moof_bytes - TRAF_OFFSET;
    let trun_bytes = moof_bytes - TRUN_OFFSET;
    let time = fragment.base_media_decode_time.to_be_bytes();
    let words: [[u8; 4]; RUN_OFFSET / 4] = [
        word(moof_bytes),
        *b"moof",
        word(MFHD_BYTES),
        *b"mfhd",
        [0; 4],
        fragment.sequence_number.to_be_bytes(),
        word(traf_bytes),
        *b"traf",
        word(TFHD_BYTES),
        *b"tfhd",
        TFHD_DEFAULT_BASE_IS_MOOF.to_be_bytes(),
        TRACK_ID.to_be_bytes(),
        word(TFDT_BYTES),
        *b"tfdt",
        VERSION_1.to_be_bytes(),
        [time[0], time[1], time[2], time[3]],
        [time[4], time[5], time[6], time[7]],
        word(trun_bytes),
        *b"trun",
        (VERSION_1 | TRUN_FLAGS).to_be_bytes(),
        word(samples),
        // data_offset counts from the first byte of moof: the media follows mdat's header.
        word(moof_bytes + MDAT_HEADER_BYTES),
    ];
    for (place, word) in out.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word);
    }
}

/// The samples of `trun`; returns the sum of their sizes.
fn write_run(out: &mut [u8], samples: &[Sample]) -> u64 {
    debug_assert_eq!(out.len(), samples.len() * SAMPLE_BYTES);
    let mut media_bytes = 0;
    for (place, sample) in out.chunks_exact_mut(SAMPLE_BYTES).zip(samples) {
        let flags = if sample.sync { FLAGS_SYNC } else { FLAGS_NON_SYNC };
        place[0..4].copy_from_slice(&sample.duration.to_be_bytes());
        place[4..8].copy_from_slice(&sample.size.to_be_bytes());
        place[8..12].copy_from_slice(&flags.to_be_bytes());
        place[12..16].copy_from_slice(&sample.composition_offset.to_be_bytes());
        media_bytes += u64::from(sample.size);
    }
    media_bytes
}

const fn moof_length(samples: usize) -> usize {
    RUN_OFFSET + samples * SAMPLE_BYTES
}

/// SegmentTypeBox: a media segment, in CMAF's form.
const STYP: [u8; 24] = *b"\0\0\0\x18stypmsdh\0\0\0\0msdhcmfs";

const BOX_HEADER_BYTES: usize = 8;
const MFHD_BYTES: usize = 16;
const TFHD_BYTES: usize = 16;
const TFDT_BYTES: usize = 20;
/// Header, version and flags, sample_count, data_offset.
const TRUN_FIXED_BYTES: usize = 20;
/// sample_duration, sample_size, sample_flags, sample_composition_time_offset.
const SAMPLE_BYTES: usize = 16;
const MDAT_HEADER_BYTES: usize = 8;

/// Places within `moof`.
const TRAF_OFFSET: usize = BOX_HEADER_BYTES + MFHD_BYTES;
const TRUN_OFFSET: usize = TRAF_OFFSET + BOX_HEADER_BYTES + TFHD_BYTES + TFDT_BYTES;
const RUN_OFFSET: usize = TRUN_OFFSET + TRUN_FIXED_BYTES;

const VERSION_1: u32 = 1 << 24;
const TFHD_DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
/// data_offset, and all four values of each sample (8.8.8.2).
const TRUN_FLAGS: u32 = 0x01 | 0x100 | 0x200 | 0x400 | 0x800;
/// sample_depends_on 2: on no other sample (8.8.3.1).
const FLAGS_SYNC: u32 = 2 << 24;
/// sample_depends_on 1, sample_is_non_sync_sample.
const FLAGS_NON_SYNC: u32 = 1 << 24 | 1 << 16;

const _: () = assert!(RUN_OFFSET == 88);
// data_offset is a signed 32-bit value.
const _: () = assert!(moof_length(SAMPLES_MAX) + MDAT_HEADER_BYTES < i32::MAX as usize);
const _: () = assert!(size_of::<Sample>() == 16);
