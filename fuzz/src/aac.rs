//! AudioSpecificConfig and ADTS headers.

use aac::{AdtsHeader, AudioSpecificConfig, Parameters};

use crate::{Seed, cut};

/// No configuration or header panics, and what is accepted has channels and a rate.
pub fn never_panics(data: &[u8]) {
    if let Ok(config) = AudioSpecificConfig::parse(data) {
        assert_eq!(config.bytes(), data);
        assert!(config.sampling_frequency() > 0 && config.sample_rate() > 0, "{config:?}");
        assert!((1..=aac::CHANNELS_MAX).contains(&config.channels()), "{config:?}");
        assert!([480, 512, 960, 1024].contains(&config.samples_per_frame()), "{config:?}");
        assert!(config.codec_string().starts_with("mp4a.40."));
    }
    if let Ok(Some(header)) = AdtsHeader::parse(data) {
        assert!(header.header_bytes <= header.frame_bytes && header.raw_data_blocks >= 1);
        let _ = header.parameters().encode();
    }
}

/// What the fields say is what is read from the bytes made of them.
pub fn roundtrip(data: &[u8]) {
    let Ok(config) = AudioSpecificConfig::parse(data) else { return };
    let Ok(bytes) = config.parameters().encode() else { return };
    let again = AudioSpecificConfig::parse(&bytes).expect("our own bytes");
    assert_eq!(again.parameters(), config.parameters());
}

/// A header cut short is not there yet; whole, it does not depend on what follows.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    let read = AdtsHeader::parse(prefix);
    if prefix.len() < aac::ADTS_HEADER_BYTES {
        assert_eq!(read, Ok(None));
    } else {
        assert_eq!(read, AdtsHeader::parse(whole));
    }
}

/// Configurations: LC, one we make, SBR and PS announced in both ways, one with a program config element.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let made = Parameters::low_complexity(44_100, 1).encode().unwrap_or_default();
    let mut element = vec![0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4];
    element.extend_from_slice(b"\x0dLavc60.3.100\x56\xe5\x00");
    vec![
        ("lc", vec![0x12, 0x10]),
        ("lc-made", made),
        ("sbr", vec![0x2b, 0x11, 0x88, 0x00]),
        ("sbr-sync-extension", vec![0x13, 0x10, 0x56, 0xe5, 0x9d, 0x48, 0x00]),
        ("ps", vec![0xeb, 0x09, 0x88, 0x00]),
        ("short-frames", vec![0x12, 0x14]),
        ("explicit-rate", vec![0x17, 0x80, 0x5d, 0xc0, 0x10]),
        ("program-config-element", element),
        ("adts", ADTS.to_vec()),
    ]
}

/// Headers behind a byte that says where to cut.
#[must_use]
pub fn adts_seeds() -> Vec<Seed> {
    let cut = |at: u8, bytes: &[u8]| [&[at], bytes].concat();
    let mut protected = ADTS;
    protected[1] &= !1;
    vec![
        ("whole", cut(255, &ADTS)),
        ("cut", cut(6, &ADTS)),
        ("protected", cut(8, &protected)),
        ("no-syncword", cut(9, &[0; 9])),
    ]
}

/// LC, 44.1 kHz, stereo, a frame of 9 bytes.
const ADTS: [u8; 9] = [0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 0x21, 0x00];
