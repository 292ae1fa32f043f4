//! Configurations of real encoders, the standard's own encodings, and hostile bytes.

use super::*;
use proptest::prelude::*;

/// `ffmpeg -f lavfi -i sine -c:a aac -ar 44100 -ac 2 out.mp4`, the DecoderSpecificInfo of its esds:
/// AAC LC and a trailing extension that says "no SBR".
const FFMPEG_STEREO: [u8; 5] = [0x12, 0x10, 0x56, 0xe5, 0x00];

/// `ffmpeg -f lavfi -i sine -c:a aac -ar 48000 -ac 6 out.adts`, first header.
const FFMPEG_ADTS: [u8; 8] = [0xff, 0xf1, 0x4d, 0x80, 0x2f, 0x3f, 0xfc, 0xde];

fn parse(bytes: &[u8]) -> AudioSpecificConfig {
    AudioSpecificConfig::parse(bytes).unwrap()
}

#[test]
fn a_real_encoder_s_configuration() {
    let config = parse(&FFMPEG_STEREO);
    assert_eq!(config.parameters(), Parameters::low_complexity(44_100, 2));
    assert_eq!((config.sample_rate(), config.channels()), (44_100, 2));
    assert_eq!(config.samples_per_frame(), 1024);
    assert_eq!(config.codec_string(), "mp4a.40.2");
    assert_eq!(config.bytes(), FFMPEG_STEREO);
    assert_eq!(config.parameters().encode().unwrap(), FFMPEG_STEREO[..2]);
}

/// Bytes, object type, core rate, output rate, channels out, samples per frame, codec string.
type SignallingCase<'a> = (&'a [u8], u8, u32, u32, u8, u32, &'a str);

#[test]
fn each_form_of_signalling() {
    let table: [SignallingCase<'_>; 9] = [
        (&[0x11, 0x90], 2, 48_000, 48_000, 2, 1024, "mp4a.40.2"),
        (&[0x11, 0x94], 2, 48_000, 48_000, 2, 960, "mp4a.40.2"),
        // channel configuration 7 is eight channels
        (&[0x11, 0xb8], 2, 48_000, 48_000, 8, 1024, "mp4a.40.2"),
        // object type 5: index 6 (24000), stereo, extension index 3 (48000), LC
        (&[0x2b, 0x11, 0x88, 0x00], 2, 24_000, 48_000, 2, 1024, "mp4a.40.5"),
        // object type 29: index 6, mono, extension index 3, LC
        (&[0xeb, 0x09, 0x88, 0x00], 2, 24_000, 48_000, 2, 1024, "mp4a.40.29"),
        // LC 22050 stereo, then 0x2b7, 5, present, index 4 (44100)
        (&[0x13, 0x90, 0x56, 0xe5, 0xa0], 2, 22_050, 44_100, 2, 1024, "mp4a.40.5"),
        // LC 22050 mono, the same, then 0x548 with PS
        (&[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80], 2, 22_050, 44_100, 2, 1024, "mp4a.40.29"),
        // escape: 24 bits of 44056 Hz (0x00ac18), stereo
        (&[0x17, 0x80, 0x56, 0x0c, 0x10], 2, 44_056, 44_056, 2, 1024, "mp4a.40.2"),
        // object type 23 (low delay), 48000, mono, frameLengthFlag 0, extensionFlag 1, three
        // resilience flags, extensionFlag3, epConfig 0
        (&[0xb9, 0x89, 0x00], 23, 48_000, 48_000, 1, 512, "mp4a.40.23"),
    ];
    for (bytes, object_type, core, output, channels, samples, codec) in table {
        let config = parse(bytes);
        assert_eq!(config.parameters().audio_object_type, object_type, "{bytes:x?}");
        assert_eq!(config.sampling_frequency(), core, "{bytes:x?}");
        assert_eq!(config.sample_rate(), output, "{bytes:x?}");
        assert_eq!(config.channels(), channels, "{bytes:x?}");
        assert_eq!(config.samples_per_frame(), samples, "{bytes:x?}");
        assert_eq!(config.codec_string(), codec, "{bytes:x?}");
    }
}

#[test]
fn a_program_config_element_gives_the_channels() {
    let mut writer = bits::BitWriter::default();
    // LC, 48000, channelConfiguration 0, GASpecificConfig of three zero bits
    for (width, value) in [(5, 2), (4, 3), (4, 0), (3, 0)] {
        writer.write(width, value);
    }
    // tag, object type, index; front 2, side 0, back 1, lfe 1, data 0, coupling 0; no mix-down
    for (width, value) in [(4, 0), (2, 1), (4, 3), (4, 2), (4, 0), (4, 1), (2, 1), (3, 0), (4, 0)] {
        writer.write(width, value);
    }
    writer.write(3, 0);
    // centre (one), front pair, back pair, lfe
    for (width, value) in [(1, 0), (4, 0), (1, 1), (4, 0), (1, 1), (4, 1), (4, 0)] {
        writer.write(width, value);
    }
    let mut bytes = writer.finish();
    // the comment, behind the alignment
    bytes.extend([3, b'a', b'b', b'c']);
    let config = parse(&bytes);
    assert_eq!(config.channels(), 6);
    assert_eq!(config.parameters().encode(), Err(Error::ChannelConfiguration(0)));
    for cut in 0..bytes.len() {
        assert!(AudioSpecificConfig::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn faults_are_named() {
    let table: [(&[u8], Error); 8] = [
        (&[], Error::Truncated { bit: 0 }),
        (&[0x12], Error::Truncated { bit: 5 }),
        // object type 0, 42 (USAC), index 13, escape of 0 Hz, configuration 8
        (&[0x02, 0x10], Error::ObjectType(0)),
        (&[0xf9, 0x46, 0x40, 0, 0, 0], Error::ObjectType(42)),
        (&[0x16, 0x90], Error::SamplingFrequencyIndex(13)),
        (&[0x17, 0x80, 0x00, 0x00, 0x10], Error::SamplingFrequency(0)),
        (&[0x12, 0x40], Error::ChannelConfiguration(8)),
        (&[0; CONFIG_BYTES_MAX + 1], Error::TooLong { bytes: CONFIG_BYTES_MAX + 1 }),
    ];
    for (bytes, error) in table {
        assert_eq!(AudioSpecificConfig::parse(bytes), Err(error), "{bytes:x?}");
    }
}

#[test]
fn padding_behind_the_configuration_changes_nothing() {
    let mut bytes = vec![0x12, 0x10];
    for _ in 0..40 {
        bytes.push(0);
        assert_eq!(parse(&bytes).parameters(), Parameters::low_complexity(44_100, 2));
    }
}

#[test]
fn a_sync_extension_cut_off_announces_nothing() {
    let whole = [0x13, 0x90, 0x56, 0xe5, 0xa0];
    for cut in 2..whole.len() {
        let config = parse(&whole[..cut]);
        assert_eq!(config.parameters(), Parameters::low_complexity(22_050, 2), "cut at {cut}");
    }
}

#[test]
fn adts_header_of_a_real_encoder() {
    let header = AdtsHeader::parse(&FFMPEG_ADTS).unwrap().unwrap();
    assert_eq!(header.parameters(), Parameters::low_complexity(48_000, 6));
    assert_eq!((header.frame_bytes, header.header_bytes, header.raw_data_blocks), (377, 7, 1));
    for cut in 0..ADTS_HEADER_BYTES {
        assert_eq!(AdtsHeader::parse(&FFMPEG_ADTS[..cut]), Ok(None));
    }
    let mut crc = FFMPEG_ADTS;
    crc[1] = 0xf0;
    assert_eq!(AdtsHeader::parse(&crc).unwrap().unwrap().header_bytes, 9);
    let mut layer = FFMPEG_ADTS;
    layer[1] |= 2;
    assert_eq!(AdtsHeader::parse(&layer), Err(Error::Syncword));
    let short = [0xff, 0xf1, 0x4d, 0x80, 0x00, 0xdf, 0xfc];
    assert_eq!(AdtsHeader::parse(&short), Err(Error::FrameLength(6)));
}

#[test]
fn every_flip_and_prefix_is_survived() {
    let seeds: [&[u8]; 4] = [
        &FFMPEG_STEREO,
        &[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80],
        &[0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4, 0x0d, 0x4c, 0x61, 0x76, 0x63],
        &FFMPEG_ADTS,
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            for value in 0..=255 {
                let mut bytes = seed.to_vec();
                bytes[at] = value;
                for cut in 0..=bytes.len() {
                    let _ = AudioSpecificConfig::parse(&bytes[..cut]);
                    let _ = AdtsHeader::parse(&bytes[..cut]);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn parse_of_encode_is_the_same(
        object_type in 1u8..=4,
        frequency in 1u32..(1 << 24),
        configuration in prop::sample::select(vec![1u8, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14]),
        short in any::<bool>(),
        sbr in prop::option::of((1u32..(1 << 24), any::<bool>())),
    ) {
        let parameters = Parameters {
            audio_object_type: object_type,
            sampling_frequency: frequency,
            channel_configuration: configuration,
            frame_length: if short { FrameLength::Short } else { FrameLength::Long },
            spectral_band_replication: sbr.map(|(frequency, ps)| SpectralBandReplication {
                extension_sampling_frequency: frequency,
                parametric_stereo: ps,
            }),
        };
        let made = AudioSpecificConfig::new(parameters).unwrap();
        prop_assert_eq!(&parse(made.bytes()), &made);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(config) = AudioSpecificConfig::parse(&bytes) {
            prop_assert!(config.sample_rate() > 0 && config.sampling_frequency() > 0);
            prop_assert!((1..=CHANNELS_MAX).contains(&config.channels()));
        }
        let _ = AdtsHeader::parse(&bytes);
    }
}
