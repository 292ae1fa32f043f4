//! Records and temporal units of real encoders, and hostile bytes.

use super::*;
use proptest::prelude::*;

/// `ffmpeg -f lavfi -i testsrc2=size=64x64:rate=30 -c:v libaom-av1 -cpu-used 8 -crf 63 -usage realtime
/// -pix_fmt yuv420p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc out.mp4`
const AOM_HDR: [u8; 19] = [
    0x81, 0x00, 0x4c, 0x00, 0x0a, 0x0d, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x2a, 0x12,
    0x20, 0x12, 0x08,
];

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v librav1e -speed 10 -pix_fmt yuv420p out.mp4`:
/// a colour description that says "unspecified", and no level.
const RAV1E: [u8; 20] = [
    0x81, 0x1f, 0x0c, 0x00, 0x0a, 0x0e, 0x00, 0x00, 0x00, 0xfa, 0x1e, 0x7f, 0x66, 0x21, 0x0a, 0x88,
    0x10, 0x10, 0x10, 0xa0,
];

/// `ffmpeg -f lavfi -i testsrc2=size=64x64:rate=30 -c:v libsvtav1 -preset 12 -crf 63 out.mp4`
const SVT: [u8; 16] = [
    0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x80, 0x5f, 0x00, 0x08,
];

/// The start of the first temporal unit of `ffmpeg -f lavfi -i testsrc2=size=64x64:rate=30
/// -c:v librav1e -speed 10 -qp 255 out.obu`: delimiter, sequence header, key frame, which is cut to
/// its first twelve bytes (and its size made to match).
const KEY: [u8; 31] = [
    0x12, 0x00, 0x0a, 0x0d, 0x00, 0x00, 0x00, 0xf9, 0x57, 0xff, 0xc4, 0x21, 0x51, 0x02, 0x02, 0x02,
    0x14, 0x32, 0x0c, 0x10, 0x03, 0xd3, 0x27, 0xf6, 0xd7, 0xe0, 0xc5, 0x60, 0x00, 0x10, 0xa8,
];

fn parse(bytes: &[u8]) -> Av1CodecConfigurationRecord {
    Av1CodecConfigurationRecord::parse(bytes).unwrap()
}

/// Bytes, width, height, level, bit depth, codec string.
type RecordCase<'a> = (&'a [u8], u32, u32, u8, u8, &'a str);

#[test]
fn records_of_real_encoders() {
    let table: [RecordCase<'_>; 3] = [
        (&AOM_HDR, 64, 64, 0, 10, "av01.0.00M.10.0.110.09.16.09.0"),
        (&RAV1E, 320, 180, 31, 8, "av01.0.31M.08"),
        (&SVT, 64, 64, 0, 8, "av01.0.00M.08"),
    ];
    for (bytes, width, height, level, bit_depth, codec) in table {
        let record = parse(bytes);
        let header = record.sequence_header();
        assert_eq!((header.max_frame_width, header.max_frame_height), (width, height), "{codec}");
        assert_eq!((header.profile, header.level, header.high_tier), (0, level, false), "{codec}");
        assert_eq!(header.colour.bit_depth, bit_depth, "{codec}");
        assert_eq!(header.colour.subsampling, ChromaSubsampling::Both, "{codec}");
        assert!(!header.colour.monochrome && !header.film_grain, "{codec}");
        assert_eq!(record.codec_string(), codec);
        assert_eq!(record.bytes(), bytes);
    }
}

#[test]
fn a_record_built_from_the_stream_is_the_muxer_s() {
    for bytes in [&RAV1E[..], &SVT] {
        // The record's OBUs stand in for the temporal unit.
        let built = Av1CodecConfigurationRecord::of_temporal_unit(&bytes[4..]).unwrap().unwrap();
        assert_eq!(built, parse(bytes));
    }
    let built = Av1CodecConfigurationRecord::of_temporal_unit(&KEY).unwrap().unwrap();
    assert_eq!(built.bytes()[..4], [0x81, 0x1f, 0x0c, 0x00]);
    assert_eq!(built.bytes()[4..], KEY[2..17]);
    assert_eq!(parse(built.bytes()), built);
    // High bit depth is byte 2, bit 6.
    let built = Av1CodecConfigurationRecord::of_temporal_unit(&AOM_HDR[4..]).unwrap().unwrap();
    assert_eq!(built.bytes()[..4], AOM_HDR[..4]);
    assert_eq!(Av1CodecConfigurationRecord::of_temporal_unit(&KEY[17..]), Ok(None));
}

#[test]
fn a_sequence_header_without_a_size_gets_one() {
    let mut bare = vec![0x08];
    bare.extend_from_slice(&SVT[6..]);
    let built = Av1CodecConfigurationRecord::of_temporal_unit(&bare).unwrap().unwrap();
    assert_eq!(built.bytes(), SVT);
}

#[test]
fn obus_of_a_real_temporal_unit() {
    let found: Vec<_> = obus(&KEY).map(Result::unwrap).collect();
    let kinds: Vec<_> = found.iter().map(|obu| (obu.kind, obu.offset, obu.payload.len())).collect();
    assert_eq!(
        kinds,
        [
            (ObuType::TemporalDelimiter, 0, 0),
            (ObuType::SequenceHeader, 2, 13),
            (ObuType::Frame, 17, 12),
        ]
    );
    for cut in 0..KEY.len() {
        let walked: Vec<_> = obus(&KEY[..cut]).collect();
        let whole = [0, 2, 17].contains(&cut);
        assert_eq!(walked.iter().all(Result::is_ok), whole, "cut at {cut}");
        assert!(walked.iter().rev().skip(1).all(Result::is_ok), "an error ends the walk");
    }
}

#[test]
fn forms_of_obu_headers() {
    // extension: temporal 2, spatial 1; size in two bytes although one would do; the last without
    let data = [0x36, 0x48, 0x82, 0x00, 0xaa, 0xbb, 0x30, 0xcc];
    let found: Vec<_> = obus(&data).map(Result::unwrap).collect();
    assert_eq!(found[0].layer, Some((2, 1)));
    assert_eq!(found[0].payload, [0xaa, 0xbb]);
    assert_eq!((found[1].has_size, found[1].payload), (false, &[0xcc][..]));

    let first = |data: &[u8]| obus(data).next().unwrap().unwrap_err();
    assert_eq!(first(&[0x92]), Error::ForbiddenBit { offset: 0 });
    assert_eq!(first(&[0x12, 5, 0]), Error::ObuLength { offset: 0, needed: 7, left: 3 });
    assert_eq!(
        first(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Error::ObuLength { offset: 0, needed: 6 + u64::from(u32::MAX), left: 6 }
    );
    assert_eq!(
        first(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x1f]),
        Error::Leb128 { offset: 1 },
        "33 bits"
    );
    assert_eq!(
        first(&[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
        Error::Leb128 { offset: 1 }
    );
    assert!(matches!(first(&[0x12, 0x80]), Error::ObuLength { .. }));
    assert!(matches!(first(&[0x36]), Error::ObuLength { .. }));
}

#[test]
fn random_access_needs_a_sequence_header_and_a_shown_key_frame() {
    assert_eq!(is_random_access(&KEY), Ok(true));
    assert_eq!(is_random_access(&KEY[2..]), Ok(true), "the delimiter does not matter");
    assert_eq!(is_random_access(&KEY[17..]), Ok(false), "no sequence header");
    assert_eq!(is_random_access(&KEY[..17]), Ok(false), "no frame");
    assert_eq!(is_random_access(&[]), Ok(false));
    // show_existing_frame, inter frame shown, key frame not shown, switch frame
    for first in [0x80, 0x30, 0x00, 0x70] {
        let mut unit = KEY;
        unit[19] = first;
        assert_eq!(is_random_access(&unit), Ok(false), "{first:x}");
    }
}

#[test]
fn a_sample_has_no_delimiter() {
    assert_eq!(sample(&KEY), Ok(&KEY[2..]));
    assert_eq!(sample(&KEY[2..]), Ok(&KEY[2..]));
    assert_eq!(sample(&KEY[..2]), Ok(&[][..]));
    assert_eq!(sample(&[]), Ok(&[][..]));
    let two = [&KEY[..], &KEY].concat();
    assert_eq!(sample(&two), Err(Error::TwoTemporalUnits { offset: KEY.len() }));
    assert!(sample(&KEY[..30]).is_err());
}

/// Writes a sequence header bit by bit, independent of the reader.
fn sequence_header(fields: &[(u32, u32)]) -> Vec<u8> {
    let bits: Vec<bool> = fields
        .iter()
        .flat_map(|(width, value)| (0..*width).rev().map(move |shift| value >> shift & 1 == 1))
        .collect();
    bits.chunks(8)
        .map(|byte| (0u8..).zip(byte).fold(0, |sum, (at, bit)| sum | u8::from(*bit) << (7 - at)))
        .collect()
}

#[test]
fn a_header_with_timing_and_two_operating_points() {
    let fields = [
        // profile 2, not still, not reduced
        (3, 2),
        (1, 0),
        (1, 0),
        // timing: tick, scale, equal interval, uvlc 2 = 011
        (1, 1),
        (32, 1),
        (32, 50),
        (1, 1),
        (3, 0b011),
        // decoder model: delays of ten bits
        (1, 1),
        (5, 9),
        (32, 7),
        (10, 0x3ff),
        // initial display delay, two points
        (1, 1),
        (5, 1),
        // level 13 high tier, model present, delay 8
        (12, 0x101),
        (5, 13),
        (1, 1),
        (1, 1),
        (10, 1),
        (10, 2),
        (1, 0),
        (1, 1),
        (4, 7),
        // level 5, no tier, no model, no delay
        (12, 0x100),
        (5, 5),
        (1, 0),
        (1, 0),
        // 12 and 11 bits: 3840 x 1600
        (4, 11),
        (4, 10),
        (12, 3839),
        (11, 1599),
        // frame ids
        (1, 1),
        (7, 0),
        // tools: order hint off, screen content not chosen and not forced
        (3, 7),
        (4, 15),
        (1, 0),
        (1, 0),
        (1, 0),
        (3, 7),
        // 12 bits, no mono, description BT.2020 HLG, full range, 4:2:2
        (1, 1),
        (1, 1),
        (1, 0),
        (1, 1),
        (24, 0x09_12_09),
        (1, 1),
        (2, 0b10),
        (1, 0),
        // film grain
        (1, 1),
    ];
    let bytes = sequence_header(&fields);
    let header = SequenceHeader::parse(&bytes).unwrap();
    assert_eq!((header.max_frame_width, header.max_frame_height), (3840, 1600));
    assert_eq!((header.level, header.high_tier), (13, true));
    assert_eq!(header.initial_display_delay_minus_1, Some(7));
    assert!(header.film_grain);
    assert_eq!(header.colour.subsampling, ChromaSubsampling::Horizontal);
    assert_eq!(header.codec_string(), "av01.2.13H.12.0.100.09.18.09.1");
    for cut in 0..bytes.len() {
        assert!(SequenceHeader::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_reduced_header_and_the_colours_of_each_profile() {
    let still = |profile: u32, colour: &[(u32, u32)]| {
        let mut fields = vec![(3, profile), (1, 1), (1, 1), (5, 4)];
        fields.extend([(4, 7), (4, 7), (8, 99), (8, 49)]);
        fields.extend([(3, 0), (3, 0)]);
        fields.extend_from_slice(colour);
        fields.push((1, 0));
        SequenceHeader::parse(&sequence_header(&fields)).unwrap()
    };
    let mono = still(0, &[(1, 0), (1, 1), (1, 0), (1, 0)]);
    assert!(mono.reduced_still_picture_header && mono.colour.monochrome);
    assert_eq!((mono.max_frame_width, mono.max_frame_height), (100, 50));
    assert_eq!(mono.codec_string(), "av01.0.04M.08.1.110.02.02.02.0");
    let srgb = still(1, &[(1, 0), (1, 1), (24, 0x01_0d_00), (1, 0)]);
    assert_eq!(srgb.colour.subsampling, ChromaSubsampling::None);
    assert_eq!(srgb.codec_string(), "av01.1.04M.08.0.000.01.13.00.1");
    let bt709 = still(0, &[(1, 0), (1, 0), (1, 1), (24, 0x01_01_01), (1, 0), (2, 1), (1, 0)]);
    assert_eq!(bt709.codec_string(), "av01.0.04M.08");
    let full = still(0, &[(1, 1), (1, 0), (1, 0), (1, 1), (2, 1), (1, 0)]);
    assert_eq!(full.codec_string(), "av01.0.04M.10.0.111.02.02.02.1");
    let twelve_420 = still(2, &[(2, 3), (1, 0), (1, 0), (1, 0), (2, 3), (2, 0), (1, 0)]);
    assert_eq!(twelve_420.colour.subsampling, ChromaSubsampling::Both);
    assert_eq!(SequenceHeader::parse(&[0x60, 0]), Err(Error::Profile(3)));
}

#[test]
fn records_that_are_none() {
    let parse = Av1CodecConfigurationRecord::parse;
    for bytes in [&[][..], &[0x81, 0, 0x0c], &[0x01, 0, 0x0c, 0], &[0x82, 0, 0x0c, 0]] {
        assert_eq!(parse(bytes), Err(Error::Record));
    }
    assert_eq!(parse(&[0x81, 0, 0x0c, 0]), Err(Error::NoSequenceHeader));
    let bytes = RECORD_BYTES_MAX + 1;
    assert_eq!(parse(&vec![0x81; bytes]), Err(Error::RecordTooLong { bytes }));
}

#[test]
fn every_flip_and_prefix_is_survived() {
    for seed in [&AOM_HDR[..], &RAV1E, &SVT, &KEY] {
        for at in 0..seed.len() {
            for value in 0..=255 {
                let mut bytes = seed.to_vec();
                bytes[at] = value;
                for cut in 0..=bytes.len() {
                    let _ = Av1CodecConfigurationRecord::parse(&bytes[..cut]);
                    let _ = Av1CodecConfigurationRecord::of_temporal_unit(&bytes[..cut]);
                    let _ = is_random_access(&bytes[..cut]);
                    let _ = sample(&bytes[..cut]);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SequenceHeader::parse(&bytes);
        let walked: Vec<_> = obus(&bytes).collect();
        let taken: usize = walked.iter().flatten().map(|obu| obu.bytes.len()).sum();
        let failed = walked.iter().any(Result::is_err);
        prop_assert!(failed || taken == bytes.len());
        if let Ok(Some(record)) = Av1CodecConfigurationRecord::of_temporal_unit(&bytes) {
            prop_assert_eq!(&parse(record.bytes()), &record);
        }
    }
}
