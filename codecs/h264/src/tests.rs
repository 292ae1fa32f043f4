//! Records of a real encoder, length prefixes of every size, and hostile bytes.

use super::*;
use proptest::prelude::*;

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v libx264 -preset fast -bf 3 -g 15
/// -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv`
const HIGH: [u8; 49] = [
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1c, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41,
    0x9f, 0x9f, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e,
    0x07, 0x8a, 0x14, 0xcb, 0x01, 0x00, 0x06, 0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
    0x00,
];

/// `ffmpeg -f lavfi -i testsrc2=size=1920x1080:rate=25 -c:v libx264 -profile:v baseline
/// -preset ultrafast -level 4.0 -pix_fmt yuv420p`: 1088 lines cropped to 1080.
const BASELINE: [u8; 40] = [
    0x01, 0x42, 0xc0, 0x28, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x28, 0xda, 0x01, 0xe0, 0x08,
    0x9f, 0x97, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83,
    0x2a, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

/// `ffmpeg -f lavfi -i testsrc2=size=720x576:rate=25 -c:v libx264 -flags +ildct+ilme
/// -x264opts tff=1 -profile:v main -pix_fmt yuv420p`: coded as fields.
const INTERLACED: [u8; 40] = [
    0x01, 0x4d, 0x40, 0x1e, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x4d, 0x40, 0x1e, 0xec, 0xa0, 0x5a, 0x12,
    0x6c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x87, 0xc5, 0x0a, 0x65, 0x80,
    0x01, 0x00, 0x05, 0x68, 0xfb, 0xa3, 0xcb, 0x20,
];

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v libx264 -profile:v high422
/// -pix_fmt yuv422p10le`
const HIGH_422: [u8; 47] = [
    0x01, 0x7a, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x7a, 0x00, 0x0d, 0xb6, 0xcd, 0x94, 0x14,
    0x19, 0xf8, 0xdc, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0f, 0x03, 0xc5, 0x0a,
    0x65, 0x80, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfe, 0xfa, 0xfa, 0x00,
];

fn parse(bytes: &[u8]) -> AvcDecoderConfigurationRecord {
    AvcDecoderConfigurationRecord::parse(bytes).unwrap()
}

#[test]
fn records_of_a_real_encoder() {
    let table: [(&[u8], u16, u16, &str, f64); 4] = [
        (&HIGH, 320, 180, "avc1.64000d", 30.0),
        (&BASELINE, 1920, 1080, "avc1.42c028", 25.0),
        (&INTERLACED, 720, 576, "avc1.4d401e", 25.0),
        (&HIGH_422, 320, 180, "avc1.7a000d", 30.0),
    ];
    for (bytes, width, height, codec, rate) in table {
        let record = parse(bytes);
        assert_eq!((record.width(), record.height()), (width, height), "{codec}");
        assert_eq!(record.codec_string(), codec);
        assert!((record.frame_rate().unwrap().as_f64() - rate).abs() < 1e-9, "{codec}");
        assert_eq!(record.nal_length_size(), LengthSize::Four);
        assert_eq!(record.sample_aspect_ratio(), Some((1, 1)), "{codec}");
        assert_eq!(record.bytes(), bytes);
    }
    let bt709 = Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false };
    assert_eq!(parse(&HIGH).colour(), Some(bt709));
    assert_eq!(parse(&BASELINE).colour(), None);
}

#[test]
fn the_codec_string_is_the_parameter_set_s() {
    let mut bytes = HIGH;
    bytes[1..4].copy_from_slice(&[0x42, 0x00, 0x1f]);
    assert_eq!(parse(&bytes).codec_string(), "avc1.64000d");
}

#[test]
fn a_level_too_low_for_the_picture_is_no_fault() {
    let mut bytes = BASELINE;
    // 1080 lines at level 1.0
    bytes[11] = 10;
    let record = parse(&bytes);
    assert_eq!((record.width(), record.height()), (1920, 1080));
    assert_eq!(record.codec_string(), "avc1.42c00a");
}

#[test]
fn zero_bytes_may_trail_a_parameter_set() {
    let mut bytes = HIGH.to_vec();
    bytes[7] += 2;
    bytes.splice(36..36, [0, 0]);
    assert_eq!(parse(&bytes).width(), 320);
}

#[test]
fn records_without_parameter_sets() {
    let no_sequence = [1, 0x64, 0, 0x0d, 0xff, 0xe0, 0];
    let no_picture = &HIGH[..37];
    let mut no_picture = no_picture.to_vec();
    no_picture[36] = 0;
    for bytes in [&[][..], &no_sequence, &no_picture] {
        assert_eq!(AvcDecoderConfigurationRecord::parse(bytes), Err(Error::NoParameterSets));
    }
    assert_eq!(Error::NoParameterSets.to_string(), "no parameter sets");
}

#[test]
fn faults_are_named() {
    let with = |at: usize, value: u8| {
        let mut bytes = HIGH;
        bytes[at] = value;
        AvcDecoderConfigurationRecord::parse(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 2), Error::Version(2));
    assert_eq!(with(4, 0xfe), Error::LengthSize(3));
    assert_eq!(
        with(8, 0x68),
        Error::NotAParameterSet { offset: 8, expected: "sequence parameter set" }
    );
    assert_eq!(
        with(39, 0x67),
        Error::NotAParameterSet { offset: 39, expected: "picture parameter set" }
    );
    assert_eq!(with(6, 0xff), Error::Truncated { offset: 8, bytes: 49 });
    assert!(matches!(with(35, 0x00), Error::SequenceParameterSet(_)));
    assert!(matches!(
        AvcDecoderConfigurationRecord::parse(&[1; RECORD_BYTES_MAX + 1]),
        Err(Error::TooLong { .. })
    ));
}

#[test]
fn every_prefix_up_to_the_last_parameter_set_is_an_error() {
    // The four bytes that High appends may be missing.
    for cut in 0..HIGH.len() - 4 {
        assert!(AvcDecoderConfigurationRecord::parse(&HIGH[..cut]).is_err(), "cut at {cut}");
    }
    for cut in HIGH.len() - 4..=HIGH.len() {
        assert_eq!(parse(&HIGH[..cut]).width(), 320);
    }
}

#[test]
fn every_byte_value_at_every_place_is_survived() {
    for seed in [&HIGH[..], &BASELINE, &INTERLACED, &HIGH_422] {
        for at in 0..seed.len() {
            for value in 0..=255 {
                let mut bytes = seed.to_vec();
                bytes[at] = value;
                if let Ok(record) = AvcDecoderConfigurationRecord::parse(&bytes) {
                    assert!(record.width() > 0 && record.height() > 0);
                }
            }
        }
    }
}

/// An access unit of the given NAL units.
fn access_unit(units: &[&[u8]], size: LengthSize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in units {
        let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
        bytes.extend_from_slice(&length[4 - size.bytes()..]);
        bytes.extend_from_slice(unit);
    }
    bytes
}

#[test]
fn nal_units_of_every_length_size() {
    let units: [&[u8]; 4] = [&[0x09, 0xf0], &[], &[0x67, 1, 2, 3], &[0x65, 9]];
    for size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
        let bytes = access_unit(&units, size);
        let found: Vec<_> = nal_units(&bytes, size).map(Result::unwrap).collect();
        // The empty one is passed over.
        assert_eq!(
            found,
            [
                NalUnit { kind: NalUnitType::AccessUnitDelimiter, bytes: units[0] },
                NalUnit { kind: NalUnitType::SequenceParameterSet, bytes: units[2] },
                NalUnit { kind: NalUnitType::IdrSlice, bytes: units[3] },
            ]
        );
        for cut in 0..bytes.len() {
            let walked: Vec<_> = nal_units(&bytes[..cut], size).collect();
            assert!(walked.len() <= 4);
            let errors = walked.iter().filter(|unit| unit.is_err()).count();
            let whole: usize = walked.iter().flatten().map(|unit| unit.bytes.len()).sum();
            assert!(errors == 1 || whole < 8, "a cut inside a unit is an error, once");
        }
    }
}

#[test]
fn a_length_past_the_end_says_where() {
    let mut walk = nal_units(&[0, 0, 0, 1, 0x41, 0, 0, 0, 5, 0x41], LengthSize::Four);
    assert!(walk.next().unwrap().is_ok());
    assert_eq!(walk.next(), Some(Err(Error::NalUnitLength { offset: 5, needed: 5, left: 1 })));
    assert_eq!(walk.next(), None);
    let huge = [0xff, 0xff, 0xff, 0xff, 0x65];
    assert!(is_random_access(&huge, LengthSize::Four).is_err());
}

#[test]
fn random_access_is_an_idr_slice() {
    let table: [(&[&[u8]], bool); 6] = [
        (&[&[0x65, 1]], true),
        (&[&[0x25, 1]], true),
        (&[&[0x09, 0xf0], &[0x67, 1], &[0x68, 1], &[0x06, 1], &[0x65, 1]], true),
        (&[&[0x41, 1]], false),
        (&[&[0x67, 1], &[0x68, 1], &[0x06, 1], &[0x41, 1]], false),
        (&[], false),
    ];
    for (units, expected) in table {
        let bytes = access_unit(units, LengthSize::Four);
        assert_eq!(is_random_access(&bytes, LengthSize::Four), Ok(expected), "{units:x?}");
    }
}

#[test]
fn frame_rates_that_can_be_true() {
    let rate = |numerator, denominator| Some(FrameRate { numerator, denominator });
    let table = [
        ((60, 1), rate(30, 1)),
        ((60_000, 1_001), rate(30_000, 1_001)),
        ((25, 1), rate(25, 2)),
        ((2_000, 1), rate(1_000, 1)),
        ((2_002, 1), None),
        ((0, 1), None),
        ((60, 0), None),
        ((25, 0), None),
        ((u32::MAX, u32::MAX), None),
        ((u32::MAX, u32::MAX / 2), rate(u32::MAX, u32::MAX - 1)),
    ];
    for ((time_scale, num_units_in_tick), expected) in table {
        assert_eq!(FrameRate::of_ticks(time_scale, num_units_in_tick), expected, "{time_scale}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_parameter_set_is_survived(
        profile in prop::sample::select(vec![66u8, 77, 100, 110, 122, 244, 44, 118, 128]),
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
        let mut bytes = vec![1, profile, 0, 31, 0xff, 0xe1, length[0], length[1]];
        bytes.extend([0x67, profile, 0, 31]);
        bytes.extend(body);
        bytes.extend([1, 0, 1, 0x68]);
        let _ = AvcDecoderConfigurationRecord::parse(&bytes);
    }

    #[test]
    fn any_access_unit_is_walked_to_its_end(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        size in prop::sample::select(vec![LengthSize::One, LengthSize::Two, LengthSize::Four]),
    ) {
        let walked: Vec<_> = nal_units(&bytes, size).collect();
        let taken: usize = walked.iter().flatten().map(|unit| unit.bytes.len()).sum();
        prop_assert!(taken <= bytes.len());
        prop_assert!(walked.iter().rev().skip(1).all(Result::is_ok));
        let _ = is_random_access(&bytes, size);
    }
}
