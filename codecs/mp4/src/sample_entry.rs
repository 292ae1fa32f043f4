//! Sample entries (ISO/IEC 14496-12 12.1.3 and 12.2.3; 14496-15 5.4.2; 14496-14 6.7; AV1 file
//! format binding 2.2).
//!
//! In: a codec's configuration. Out: `avc1`, `av01` or `mp4a` with the configuration byte for byte,
//! and what it says of colour and sample shape.

use crate::header::Codec;
use crate::writer::BoxWriter;

pub(crate) fn write_sample_entry(out: &mut BoxWriter, codec: &Codec<'_>) {
    match codec {
        Codec::Avc1(config) => out.boxed(*b"avc1", |out| {
            write_visual(out, codec);
            out.boxed(*b"avcC", |out| out.bytes(config.bytes()));
            if let Some(colour) = config.colour() {
                let h264::Colour { primaries, transfer, matrix, full_range } = colour;
                write_colr(out, [primaries, transfer, matrix], full_range);
            }
            write_pasp(out, codec);
        }),
        Codec::Av01(config) => out.boxed(*b"av01", |out| {
            write_visual(out, codec);
            out.boxed(*b"av1C", |out| out.bytes(config.bytes()));
            let colour = config.sequence_header().colour;
            if colour.description_present {
                let points = [colour.primaries, colour.transfer, colour.matrix];
                write_colr(out, points, colour.full_range);
            }
        }),
        Codec::Mp4a(config) => out.boxed(*b"mp4a", |out| {
            write_sample_entry_start(out);
            // reserved
            out.zeros(8);
            out.u16(u16::from(config.channels()));
            // samplesize, pre_defined, reserved
            out.u16(16);
            out.zeros(4);
            // 16.16 fixed point; a rate that does not fit is 0, and decoders read the configuration
            let rate = config.sampling_frequency();
            out.u32(if rate <= u32::from(u16::MAX) { rate << 16 } else { 0 });
            out.full_box(*b"esds", 0, 0, |out| write_es_descriptor(out, config.bytes()));
        }),
    }
}

/// SampleEntry: reserved and data_reference_index.
fn write_sample_entry_start(out: &mut BoxWriter) {
    out.zeros(6);
    out.u16(1);
}

/// VisualSampleEntry up to its boxes.
fn write_visual(out: &mut BoxWriter, codec: &Codec<'_>) {
    let (width, height) = codec.picture_size().unwrap_or((0, 0));
    write_sample_entry_start(out);
    // pre_defined, reserved, pre_defined
    out.zeros(16);
    out.u16(width);
    out.u16(height);
    // 72 dpi both ways, reserved
    out.u32(0x0048_0000);
    out.u32(0x0048_0000);
    out.u32(0);
    // frame_count
    out.u16(1);
    // compressorname: none
    out.zeros(32);
    // depth: colour without alpha; pre_defined -1
    out.u16(0x0018);
    out.u16(0xffff);
}

/// ColourInformationBox of type nclx, 14496-12 12.1.5.
fn write_colr(out: &mut BoxWriter, code_points: [u8; 3], full_range: bool) {
    out.boxed(*b"colr", |out| {
        out.bytes(b"nclx");
        for point in code_points {
            out.u16(u16::from(point));
        }
        out.u8(u8::from(full_range) << 7);
    });
}

/// PixelAspectRatioBox, 14496-12 12.1.4.
fn write_pasp(out: &mut BoxWriter, codec: &Codec<'_>) {
    if let Some((horizontal, vertical)) = codec.sample_aspect_ratio() {
        out.boxed(*b"pasp", |out| {
            out.u32(u32::from(horizontal));
            out.u32(u32::from(vertical));
        });
    }
}

/// ES_Descriptor, ISO/IEC 14496-1 7.2.6.5, with the values 14496-14 3.1.2 asks for.
fn write_es_descriptor(out: &mut BoxWriter, config: &[u8]) {
    let specific = descriptor(DECODER_SPECIFIC_INFO, config);
    // objectTypeIndication: 14496-3 audio; streamType audio, upStream 0, reserved 1; bufferSizeDB,
    // maxBitrate and avgBitrate are unknown.
    let mut decoder_config = vec![0x40, 0x15];
    decoder_config.resize(2 + 3 + 4 + 4, 0);
    decoder_config.extend(specific);
    // ES_ID 0, no flags
    let mut es = vec![0, 0, 0];
    es.extend(descriptor(DECODER_CONFIG, &decoder_config));
    // predefined: as MP4 files have it
    es.extend(descriptor(SL_CONFIG, &[2]));
    out.bytes(&descriptor(ES, &es));
}

/// A descriptor: tag, size in groups of seven bits, content (14496-1 8.3.3).
fn descriptor(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = content.len();
    assert!(size < 1 << 14, "an audio configuration is at most aac::CONFIG_BYTES_MAX");
    let mut bytes = vec![tag];
    let [.., high, low] = (size << 1 & 0x7f00 | size & 0x7f).to_be_bytes();
    if high > 0 {
        bytes.push(0x80 | high);
    }
    bytes.push(low);
    bytes.extend_from_slice(content);
    bytes
}

const ES: u8 = 3;
const DECODER_CONFIG: u8 = 4;
const DECODER_SPECIFIC_INFO: u8 = 5;
const SL_CONFIG: u8 = 6;
