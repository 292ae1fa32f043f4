//! AVC configuration records and length-prefixed NAL units.

use h264::{AvcDecoderConfigurationRecord, LengthSize, is_random_access, nal_units};

use crate::{Seed, cut};

/// Neither a record nor an access unit panics; NAL units are not empty and lie within the access unit.
pub fn never_panics(data: &[u8]) {
    if let Ok(record) = AvcDecoderConfigurationRecord::parse(data) {
        assert_eq!(record.bytes(), data);
        assert!(record.width() > 0 && record.height() > 0);
        assert!(record.codec_string().starts_with("avc1."));
        assert!(record.frame_rate().is_none_or(|rate| rate.as_f64() > 0.0));
        let _ = (record.nal_length_size(), record.colour(), record.sample_aspect_ratio());
    }
    for size in SIZES {
        let units: Vec<_> = nal_units(data, size).map_while(Result::ok).collect();
        assert!(units.iter().all(|unit| !unit.bytes.is_empty()));
        let total: usize = units.iter().map(|unit| unit.bytes.len() + size.bytes()).sum();
        assert!(total <= data.len());
        let _ = is_random_access(data, size);
    }
}

/// A prefix gives the NAL units that are whole in it.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    for size in SIZES {
        let mut expected = nal_units(whole, size);
        for unit in nal_units(prefix, size).map_while(Result::ok) {
            assert_eq!(Some(Ok(unit)), expected.next());
        }
        if let Ok(true) = is_random_access(prefix, size) {
            assert_eq!(is_random_access(whole, size), Ok(true));
        }
    }
}

/// Records of x264 and an access unit.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let unit =
        [&[0, 0, 0, 2, 9, 0xf0][..], &[0, 0, 0, 0], &[0, 0, 0, 4, 0x65, 0x88, 0x84, 0]].concat();
    let cut = |at: u8| [&[at], &unit[..]].concat();
    vec![
        ("record-high", HIGH.to_vec()),
        ("record-baseline", BASELINE.to_vec()),
        ("record-interlaced", INTERLACED.to_vec()),
        ("unit", unit.clone()),
        ("unit-cut-at-end", cut(255)),
        ("unit-cut-inside", cut(8)),
    ]
}

const SIZES: [LengthSize; 3] = [LengthSize::One, LengthSize::Two, LengthSize::Four];

/// x264, High, 320x180, with colour and timing.
const HIGH: [u8; 49] = [
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1c, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41,
    0x9f, 0x9f, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e,
    0x07, 0x8a, 0x14, 0xcb, 0x01, 0x00, 0x06, 0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
    0x00,
];

/// x264, baseline, 1920x1080, cropped.
const BASELINE: [u8; 40] = [
    0x01, 0x42, 0xc0, 0x28, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x28, 0xda, 0x01, 0xe0, 0x08,
    0x9f, 0x97, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83,
    0x2a, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

/// x264, main, 720x576, fields.
const INTERLACED: [u8; 40] = [
    0x01, 0x4d, 0x40, 0x1e, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x4d, 0x40, 0x1e, 0xec, 0xa0, 0x5a, 0x12,
    0x6c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x87, 0xc5, 0x0a, 0x65, 0x80,
    0x01, 0x00, 0x05, 0x68, 0xfb, 0xa3, 0xcb, 0x20,
];
