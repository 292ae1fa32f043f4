//! The init section of one track: a CMAF header (ISO/IEC 23000-19 7.3, 14496-12 8).
//!
//! In: a track's timescale and its codec's configuration. Out: `ftyp` and `moov`, always the same
//! bytes for the same input. Durations are 0 and the sample tables empty, since all samples come in
//! fragments. There is no edit list: samples are presented at their composition time, which version
//! 1 of `trun` lets lie before their decoding time.

use aac::AudioSpecificConfig;
use av1::Av1CodecConfigurationRecord;
use h264::AvcDecoderConfigurationRecord;

use crate::TRACK_ID;
use crate::sample_entry::write_sample_entry;
use crate::writer::BoxWriter;

/// What an init section says of its track.
#[derive(Clone, Copy, Debug)]
pub struct TrackDescription<'a> {
    /// Ticks per second of the fragments' times; above zero.
    pub timescale: u32,
    /// The codec and its configuration.
    pub codec: Codec<'a>,
}

/// The codecs a track can have, each with what configures its decoder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Codec<'a> {
    /// H.264 with parameter sets in the sample entry: `avc1`.
    Avc1(&'a AvcDecoderConfigurationRecord),
    /// AV1: `av01`.
    Av01(&'a Av1CodecConfigurationRecord),
    /// AAC: `mp4a`.
    Mp4a(&'a AudioSpecificConfig),
}

impl Codec<'_> {
    /// The codec string for playlists and manifests.
    #[must_use]
    pub fn codec_string(&self) -> String {
        match self {
            Self::Avc1(config) => config.codec_string(),
            Self::Av01(config) => config.codec_string(),
            Self::Mp4a(config) => config.codec_string(),
        }
    }

    /// Width and height in samples of what is coded; `None` for audio.
    #[must_use]
    pub fn picture_size(&self) -> Option<(u16, u16)> {
        match self {
            Self::Avc1(config) => Some((config.width(), config.height())),
            Self::Av01(config) => {
                let header = config.sequence_header();
                // AV1 allows 65536; the field of a sample entry ends one below.
                let fit = |value| u16::try_from(value).unwrap_or(u16::MAX);
                Some((fit(header.max_frame_width), fit(header.max_frame_height)))
            }
            Self::Mp4a(_) => None,
        }
    }

    /// Width to height of one picture sample, where the configuration says it.
    pub(crate) fn sample_aspect_ratio(&self) -> Option<(u16, u16)> {
        match self {
            Self::Avc1(config) => config.sample_aspect_ratio(),
            Self::Av01(_) | Self::Mp4a(_) => None,
        }
    }
}

/// Writes the init section.
///
/// # Panics
/// When the timescale is 0, which no track of ours has.
#[must_use]
pub fn header(track: &TrackDescription<'_>) -> Vec<u8> {
    assert!(track.timescale > 0, "a track needs a timescale");
    let mut out = BoxWriter::new();
    out.boxed(*b"ftyp", |out| {
        out.bytes(b"iso6");
        out.u32(0);
        out.bytes(b"iso6cmfcmp41");
    });
    out.boxed(*b"moov", |out| {
        write_mvhd(out, track.timescale);
        out.boxed(*b"trak", |out| {
            write_tkhd(out, &track.codec);
            out.boxed(*b"mdia", |out| write_mdia(out, track));
        });
        out.boxed(*b"mvex", |out| {
            // Every fragment gives every value, so the defaults are not used.
            out.full_box(*b"trex", 0, 0, |out| {
                out.u32(TRACK_ID);
                out.u32(SAMPLE_DESCRIPTION_INDEX);
                out.zeros(12);
            });
        });
    });
    out.finish()
}

fn write_mvhd(out: &mut BoxWriter, timescale: u32) {
    out.full_box(*b"mvhd", 0, 0, |out| {
        // creation_time, modification_time
        out.zeros(8);
        out.u32(timescale);
        // duration
        out.u32(0);
        // rate 1.0, volume 1.0, reserved
        out.u32(0x0001_0000);
        out.u16(0x0100);
        out.zeros(10);
        write_unity_matrix(out);
        // pre_defined
        out.zeros(24);
        // next_track_ID
        out.u32(TRACK_ID + 1);
    });
}

fn write_tkhd(out: &mut BoxWriter, codec: &Codec<'_>) {
    // enabled, in movie, in preview
    out.full_box(*b"tkhd", 0, 7, |out| {
        // creation_time, modification_time
        out.zeros(8);
        out.u32(TRACK_ID);
        // reserved, duration, reserved, layer, alternate_group
        out.zeros(4 + 4 + 8 + 2 + 2);
        // volume, reserved
        out.u16(if codec.picture_size().is_some() { 0 } else { 0x0100 });
        out.zeros(2);
        write_unity_matrix(out);
        let (width, height) = presentation_size(codec).unwrap_or((0, 0));
        // 16.16 fixed point
        out.u32(width << 16);
        out.u32(height << 16);
    });
}

/// The size to show the picture at: samples that are not square stretch its width, which stays
/// within 16 bits.
fn presentation_size(codec: &Codec<'_>) -> Option<(u32, u32)> {
    let (width, height) = codec.picture_size()?;
    let (horizontal, vertical) = codec.sample_aspect_ratio().unwrap_or((1, 1));
    let stretched = u32::from(width) * u32::from(horizontal) / u32::from(vertical.max(1));
    Some((stretched.clamp(1, u32::from(u16::MAX)), u32::from(height)))
}

fn write_mdia(out: &mut BoxWriter, track: &TrackDescription<'_>) {
    let is_video = track.codec.picture_size().is_some();
    out.full_box(*b"mdhd", 0, 0, |out| {
        // creation_time, modification_time
        out.zeros(8);
        out.u32(track.timescale);
        // duration
        out.u32(0);
        out.u16(LANGUAGE_UND);
        // pre_defined
        out.u16(0);
    });
    out.full_box(*b"hdlr", 0, 0, |out| {
        // pre_defined
        out.u32(0);
        out.bytes(if is_video { b"vide" } else { b"soun" });
        // reserved
        out.zeros(12);
        out.bytes(if is_video { b"video\0" } else { b"audio\0" });
    });
    out.boxed(*b"minf", |out| {
        if is_video {
            // graphicsmode, opcolor; the flag is 1 by definition
            out.full_box(*b"vmhd", 0, 1, |out| out.zeros(8));
        } else {
            // balance, reserved
            out.full_box(*b"smhd", 0, 0, |out| out.zeros(4));
        }
        out.boxed(*b"dinf", |out| {
            out.full_box(*b"dref", 0, 0, |out| {
                out.u32(1);
                // The flag says that the samples are in this file.
                out.full_box(*b"url ", 0, 1, |_| {});
            });
        });
        out.boxed(*b"stbl", |out| {
            out.full_box(*b"stsd", 0, 0, |out| {
                out.u32(1);
                write_sample_entry(out, &track.codec);
            });
            // entry_count; stsz has sample_size and sample_count
            out.full_box(*b"stts", 0, 0, |out| out.u32(0));
            out.full_box(*b"stsc", 0, 0, |out| out.u32(0));
            out.full_box(*b"stsz", 0, 0, |out| out.zeros(8));
            out.full_box(*b"stco", 0, 0, |out| out.u32(0));
        });
    });
}

fn write_unity_matrix(out: &mut BoxWriter) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        out.u32(value);
    }
}

const SAMPLE_DESCRIPTION_INDEX: u32 = 1;
/// "und" of ISO 639-2 in five bits each, less 0x60 (14496-12 8.4.2.3).
const LANGUAGE_UND: u16 = 0x55c4;
