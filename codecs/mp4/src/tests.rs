//! Init sections and fragments read back by two independent libraries and by the walk of this
//! crate; lengths and hostile boxes as properties.

use std::io::Cursor;

use aac::{AudioSpecificConfig, Parameters};
use av1::Av1CodecConfigurationRecord;
use h264::AvcDecoderConfigurationRecord;
use mp4_atom::{Decode, Encode};
use proptest::prelude::*;

use crate::boxes::{self, BoxPlace, boxes, find};
use crate::fragment::{
    Fragment, Position, SAMPLES_MAX, Sample, duration, fragment_header_length,
    write_fragment_header,
};
use crate::header::{Codec, TrackDescription, header};

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v libx264 -preset fast -bf 3 -g 15
/// -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv`
const AVCC: [u8; 49] = [
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1c, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41,
    0x9f, 0x9f, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e,
    0x07, 0x8a, 0x14, 0xcb, 0x01, 0x00, 0x06, 0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
    0x00,
];

/// `ffmpeg -f lavfi -i testsrc2=size=64x64:rate=30 -c:v libaom-av1 -cpu-used 8 -crf 63 -usage realtime
/// -pix_fmt yuv420p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc`
const AV1C: [u8; 19] = [
    0x81, 0x00, 0x4c, 0x00, 0x0a, 0x0d, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x2a, 0x12,
    0x20, 0x12, 0x08,
];

fn avc() -> AvcDecoderConfigurationRecord {
    AvcDecoderConfigurationRecord::parse(&AVCC).unwrap()
}

fn aac_stereo() -> AudioSpecificConfig {
    AudioSpecificConfig::new(Parameters::low_complexity(44_100, 2)).unwrap()
}

fn header_of(timescale: u32, codec: Codec<'_>) -> Vec<u8> {
    header(&TrackDescription { timescale, codec })
}

/// Three pictures, the second shown last.
const SAMPLES: [Sample; 3] = [
    Sample { size: 1000, duration: 3000, composition_offset: 0, sync: true },
    Sample { size: 300, duration: 3000, composition_offset: 6000, sync: false },
    Sample { size: 20, duration: 3001, composition_offset: -3000, sync: false },
];

fn fragment_bytes(fragment: &Fragment, samples: &[Sample]) -> Vec<u8> {
    let mut out = vec![0xaa; fragment_header_length(samples.len(), fragment.position)];
    assert_eq!(write_fragment_header(&mut out, fragment, samples), out.len());
    out
}

/// With samples of zero bytes behind the header.
fn whole_fragment(fragment: &Fragment, samples: &[Sample]) -> Vec<u8> {
    let mut out = fragment_bytes(fragment, samples);
    let media: u32 = samples.iter().map(|sample| sample.size).sum();
    out.resize(out.len() + usize::try_from(media).unwrap(), 0);
    out
}

fn at(position: Position, sequence_number: u32, base_media_decode_time: u64) -> Fragment {
    Fragment { position, sequence_number, base_media_decode_time }
}

/// The part of `data` that a box's content covers.
fn content<'a>(data: &'a [u8], path: &[&[u8; 4]]) -> &'a [u8] {
    let place = find(data, path).unwrap_or_else(|| panic!("no {path:?}"));
    &data[place.content]
}

#[test]
fn the_bytes_of_a_fragment() {
    let bytes = fragment_bytes(&at(Position::First, 7, 0x1_0000_0002), &SAMPLES[..2]);
    let mut expected: Vec<u8> = Vec::new();
    expected.extend(b"\0\0\0\x18stypmsdh\0\0\0\0msdhcmfs");
    expected.extend(b"\0\0\0\x78moof");
    expected.extend(b"\0\0\0\x10mfhd\0\0\0\0\0\0\0\x07");
    expected.extend(b"\0\0\0\x60traf");
    expected.extend(b"\0\0\0\x10tfhd\0\x02\0\0\0\0\0\x01");
    expected.extend(b"\0\0\0\x14tfdt\x01\0\0\0\0\0\0\x01\0\0\0\x02");
    expected.extend(b"\0\0\0\x34trun\x01\0\x0f\x01\0\0\0\x02\0\0\0\x80");
    expected.extend(b"\0\0\x0b\xb8\0\0\x03\xe8\x02\0\0\0\0\0\0\0");
    expected.extend(b"\0\0\x0b\xb8\0\0\x01\x2c\x01\x01\0\0\0\0\x17\x70");
    expected.extend(b"\0\0\x05\x1cmdat");
    assert_eq!(bytes, expected);
    let later = fragment_bytes(&at(Position::Later, 7, 0x1_0000_0002), &SAMPLES[..2]);
    assert_eq!(later, expected[24..]);
}

#[test]
fn mp4_atom_reads_every_field_of_a_fragment() {
    let bytes = fragment_bytes(&at(Position::First, 9, 90_000), &SAMPLES);
    let mut rest = &bytes[..];
    let styp = mp4_atom::Styp::decode(&mut rest).unwrap();
    assert_eq!(styp.major_brand, b"msdh".into());
    assert_eq!(styp.compatible_brands, [b"msdh".into(), b"cmfs".into()]);
    let moof = mp4_atom::Moof::decode(&mut rest).unwrap();
    assert_eq!(moof.mfhd.sequence_number, 9);
    let [traf] = &moof.traf[..] else { panic!("one traf") };
    assert_eq!(traf.tfhd.track_id, 1);
    assert!(traf.tfhd.default_base_is_moof);
    assert_eq!(traf.tfhd.base_data_offset, None);
    assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 90_000);
    let [trun] = &traf.trun[..] else { panic!("one trun") };
    assert_eq!(trun.data_offset, Some(i32::try_from(bytes.len() - 24).unwrap()));
    let read: Vec<_> = trun
        .samples
        .iter()
        .map(|entry| Sample {
            size: entry.size.unwrap(),
            duration: entry.duration.unwrap(),
            composition_offset: i32::try_from(entry.cts.unwrap()).unwrap(),
            sync: match entry.flags.unwrap() {
                0x0200_0000 => true,
                0x0101_0000 => false,
                other => panic!("flags {other:x}"),
            },
        })
        .collect();
    assert_eq!(read, SAMPLES);
    assert_eq!(rest, b"\0\0\x05\x30mdat");
    // Its writer agrees with ours, byte for byte.
    let mut again = Vec::new();
    moof.encode(&mut again).unwrap();
    assert_eq!(again, bytes[24..bytes.len() - 8]);
}

#[test]
fn the_mp4_crate_reads_video_fragments() {
    let config = avc();
    let mut file = header_of(90_000, Codec::Avc1(&config));
    let first = at(Position::First, 1, 0);
    let second = at(Position::Later, 2, duration(&SAMPLES));
    file.extend(whole_fragment(&first, &SAMPLES));
    file.extend(whole_fragment(&second, &SAMPLES));
    let size = file.len() as u64;
    let reader = mp4::Mp4Reader::read_header(Cursor::new(&file), size).unwrap();
    let track = &reader.tracks()[&1];
    assert_eq!(track.track_type().unwrap(), mp4::TrackType::Video);
    assert_eq!(track.media_type().unwrap(), mp4::MediaType::H264);
    assert_eq!((track.width(), track.height(), track.timescale()), (320, 180, 90_000));
    assert_eq!(track.sequence_parameter_set().unwrap(), &AVCC[8..36]);
    assert_eq!(track.picture_parameter_set().unwrap(), &AVCC[39..45]);
    assert_eq!(track.language(), "und");
    let decode_times: Vec<_> = reader
        .moofs
        .iter()
        .map(|moof| moof.trafs[0].tfdt.as_ref().unwrap().base_media_decode_time)
        .collect();
    assert_eq!(decode_times, [0, 9001], "tfdt continues where the durations end");
    assert_eq!(reader.sample_count(1).unwrap(), 6);
    // Its read_sample takes no account of data_offset, so the samples are found by hand.
    let mut moof_start = header_of(90_000, Codec::Avc1(&config)).len() + 24;
    for moof in &reader.moofs {
        let trun = moof.trafs[0].trun.as_ref().unwrap();
        assert_eq!(trun.sample_count, 3);
        assert_eq!(trun.sample_sizes, [1000, 300, 20]);
        assert_eq!(trun.sample_durations, [3000, 3000, 3001]);
        assert_eq!(trun.sample_flags, [0x0200_0000, 0x0101_0000, 0x0101_0000]);
        assert_eq!(trun.sample_cts, [0, 6000, (-3000i32).cast_unsigned()]);
        let media_start = moof_start + usize::try_from(trun.data_offset.unwrap()).unwrap();
        assert_eq!(file[media_start - 4..media_start], *b"mdat");
        assert!(file[media_start..][..1320].iter().all(|byte| *byte == 0));
        moof_start = media_start + 1320;
    }
    assert_eq!(moof_start, file.len());
}

#[test]
fn the_mp4_crate_reads_audio() {
    let config = aac_stereo();
    let file = header_of(44_100, Codec::Mp4a(&config));
    let size = file.len() as u64;
    let reader = mp4::Mp4Reader::read_header(Cursor::new(file), size).unwrap();
    let track = &reader.tracks()[&1];
    assert_eq!(track.media_type().unwrap(), mp4::MediaType::AAC);
    assert_eq!(track.audio_profile().unwrap(), mp4::AudioObjectType::AacLowComplexity);
    assert_eq!(track.sample_freq_index().unwrap().freq(), 44_100);
    assert_eq!(track.channel_config().unwrap(), mp4::ChannelConfig::Stereo);
    assert_eq!(track.timescale(), 44_100);
    assert_eq!(reader.moov.mvex.as_ref().unwrap().trex.track_id, 1);
}

/// ftyp and moov, with nothing left over.
fn read_header(bytes: &[u8]) -> mp4_atom::Moov {
    let mut rest = bytes;
    let ftyp = mp4_atom::Ftyp::decode(&mut rest).unwrap();
    assert_eq!(ftyp.major_brand, b"iso6".into());
    assert_eq!(ftyp.compatible_brands, [b"iso6".into(), b"cmfc".into(), b"mp41".into()]);
    let moov = mp4_atom::Moov::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!((moov.mvhd.duration, moov.trak[0].tkhd.duration), (0, 0));
    assert_eq!(moov.trak[0].mdia.mdhd.duration, 0);
    assert_eq!(moov.trak[0].tkhd.track_id, 1);
    assert!(moov.trak[0].tkhd.enabled && moov.trak[0].tkhd.in_movie);
    assert!(moov.trak[0].edts.is_none());
    assert_eq!(moov.mvex.as_ref().unwrap().trex[0].default_sample_description_index, 1);
    moov
}

#[test]
fn mp4_atom_reads_the_sample_entries() {
    let config = avc();
    let moov = read_header(&header_of(90_000, Codec::Avc1(&config)));
    assert_eq!(moov.trak[0].mdia.mdhd.timescale, 90_000);
    let stbl = &moov.trak[0].mdia.minf.stbl;
    let [mp4_atom::Codec::Avc1(avc1)] = &stbl.stsd.codecs[..] else { panic!("avc1") };
    assert_eq!((avc1.visual.width, avc1.visual.height), (320, 180));
    assert_eq!(avc1.avcc.sequence_parameter_sets, [&AVCC[8..36]]);
    assert!(avc1.colr.is_some() && avc1.pasp.is_some());

    let config = Av1CodecConfigurationRecord::parse(&AV1C).unwrap();
    let moov = read_header(&header_of(30_000, Codec::Av01(&config)));
    let stbl = &moov.trak[0].mdia.minf.stbl;
    let [mp4_atom::Codec::Av01(av01)] = &stbl.stsd.codecs[..] else { panic!("av01") };
    assert_eq!((av01.visual.width, av01.visual.height), (64, 64));
    assert!(av01.av1c.high_bitdepth && !av01.av1c.monochrome);
    assert_eq!(av01.av1c.config_obus, AV1C[4..]);
    assert!(av01.colr.is_some());

    let config = aac_stereo();
    let moov = read_header(&header_of(44_100, Codec::Mp4a(&config)));
    let stbl = &moov.trak[0].mdia.minf.stbl;
    let [mp4_atom::Codec::Mp4a(mp4a)] = &stbl.stsd.codecs[..] else { panic!("mp4a") };
    assert_eq!((mp4a.audio.channel_count, mp4a.audio.sample_rate.integer()), (2, 44_100));
    let decoder = &mp4a.esds.es_desc.dec_config;
    assert_eq!((decoder.object_type_indication, decoder.stream_type), (0x40, 5));
    assert_eq!(decoder.dec_specific.as_ref().unwrap().raw, config.bytes());
}

#[test]
fn configurations_are_kept_byte_for_byte() {
    let entry = |kind| [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", kind];
    let avc = avc();
    let bytes = header_of(90_000, Codec::Avc1(&avc));
    assert_eq!(content(&bytes, &[&entry(b"avc1")[..], &[b"avcC"]].concat()), AVCC);
    let colr = content(&bytes, &[&entry(b"avc1")[..], &[b"colr"]].concat());
    assert_eq!(colr, b"nclx\0\x01\0\x01\0\x01\0");
    assert_eq!(content(&bytes, &[b"moov", b"trak", b"tkhd"])[..4], [0, 0, 0, 7]);
    let av1 = Av1CodecConfigurationRecord::parse(&AV1C).unwrap();
    let bytes = header_of(90_000, Codec::Av01(&av1));
    assert_eq!(content(&bytes, &[&entry(b"av01")[..], &[b"av1C"]].concat()), AV1C);
}

#[test]
fn a_long_audio_configuration_has_longer_descriptor_sizes() {
    // Trailing bytes are kept, and make the descriptors longer than 127 bytes.
    let mut bytes = vec![0x12, 0x10];
    bytes.resize(300, 0);
    let config = AudioSpecificConfig::parse(&bytes).unwrap();
    let moov = read_header(&header_of(44_100, Codec::Mp4a(&config)));
    let stbl = &moov.trak[0].mdia.minf.stbl;
    let [mp4_atom::Codec::Mp4a(mp4a)] = &stbl.stsd.codecs[..] else { panic!("mp4a") };
    assert_eq!(mp4a.esds.es_desc.dec_config.dec_specific.as_ref().unwrap().raw, bytes);
}

#[test]
fn samples_that_are_not_square_stretch_the_width() {
    // One flipped bit of the set's aspect_ratio_idc makes it another than 1:1.
    let mut found = false;
    for at in 14..22 {
        for bit in 0..8 {
            let mut bytes = AVCC;
            bytes[at] ^= 1 << bit;
            if let Ok(config) = AvcDecoderConfigurationRecord::parse(&bytes)
                && let Some((horizontal, vertical)) = config.sample_aspect_ratio()
                && horizontal != vertical
            {
                let bytes = header_of(90_000, Codec::Avc1(&config));
                let tkhd = content(&bytes, &[b"moov", b"trak", b"tkhd"]);
                let width = u16::from_be_bytes([tkhd[76], tkhd[77]]);
                let expected =
                    u32::from(config.width()) * u32::from(horizontal) / u32::from(vertical);
                assert_eq!(u32::from(width), expected);
                found = true;
            }
        }
    }
    assert!(found, "some flip gives another aspect ratio");
}

#[test]
fn boxes_are_walked_in_order() {
    let config = aac_stereo();
    let bytes = header_of(44_100, Codec::Mp4a(&config));
    let walked: Vec<BoxPlace> = boxes(&bytes).map(Result::unwrap).collect();
    let outline: Vec<String> = walked
        .iter()
        .map(|place| format!("{}{}", place.depth, String::from_utf8_lossy(&place.kind)))
        .collect();
    assert_eq!(
        outline.join(" "),
        "0ftyp 0moov 1mvhd 1trak 2tkhd 2mdia 3mdhd 3hdlr 3minf 4smhd 4dinf 5dref 6url  4stbl 5stsd \
         6mp4a 7esds 5stts 5stsc 5stsz 5stco 1mvex 2trex"
    );
    for place in &walked {
        let size = u32::from_be_bytes(bytes[place.range.clone()][..4].try_into().unwrap());
        assert_eq!(usize::try_from(size).unwrap(), place.range.len());
    }
    assert!(find(&bytes, &[b"moov", b"esds"]).is_none());
    assert!(find(&bytes, &[]).is_none());
}

#[test]
fn sizes_of_boxes() {
    // size 0 reaches to the end; size 1 is followed by 64 bits
    let to_the_end = *b"\0\0\0\0free1234";
    let place = boxes(&to_the_end).next().unwrap().unwrap();
    assert_eq!((place.range, place.content), (0..12, 8..12));
    let large = *b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12ab";
    let place = boxes(&large).next().unwrap().unwrap();
    assert_eq!((place.range, place.content), (0..18, 16..18));
    let error = |bytes: &[u8]| boxes(bytes).find_map(Result::err).unwrap();
    let size = |size, left| boxes::Error::Size { offset: 0, size, left };
    assert_eq!(error(b"\0\0\0\x07free"), size(7, 8));
    assert_eq!(error(b"\0\0\0\x09free"), size(9, 8));
    assert_eq!(error(b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff"), size(u64::MAX, 16));
    assert_eq!(error(b"\0\0\0\x01mdat\0\0"), boxes::Error::Truncated { offset: 0 });
    assert_eq!(error(b"\0\0\0\x0cstsd\0\0\0\0"), boxes::Error::Truncated { offset: 0 });
    // A child may not reach past its parent.
    let child = *b"\0\0\0\x10moof\0\0\0\x09free\0";
    assert_eq!(error(&child), boxes::Error::Size { offset: 8, size: 9, left: 8 });
}

#[test]
fn nesting_is_bounded() {
    let mut bytes = b"\0\0\0\x08moov".to_vec();
    for _ in 0..1000 {
        let size = u32::try_from(bytes.len() + 8).unwrap();
        let mut outer = size.to_be_bytes().to_vec();
        outer.extend(b"moov");
        outer.extend(&bytes);
        bytes = outer;
    }
    let deepest = boxes(&bytes).map(|place| place.unwrap().depth).max().unwrap();
    assert_eq!(deepest, boxes::DEPTH_MAX);
}

#[test]
fn every_flip_and_prefix_of_boxes_is_survived() {
    let config = avc();
    let mut seed = header_of(90_000, Codec::Avc1(&config));
    seed.extend(fragment_bytes(&at(Position::First, 1, 0), &SAMPLES));
    for cut in 0..seed.len() {
        assert!(boxes(&seed[..cut]).count() < 40);
    }
    for at in 0..seed.len() {
        for value in [0, 1, 7, 0x7f, 0xff, !seed[at]] {
            let mut bytes = seed.clone();
            bytes[at] = value;
            let walked: Vec<_> = boxes(&bytes).collect();
            assert!(walked.iter().rev().skip(1).all(Result::is_ok), "an error ends the walk");
        }
    }
}

#[test]
#[should_panic(expected = "1 to 16384 samples")]
fn a_fragment_of_nothing_is_our_fault() {
    write_fragment_header(&mut [0; 200], &at(Position::First, 1, 0), &[]);
}

#[test]
#[should_panic(expected = "less than 4 GiB")]
fn a_fragment_of_four_gibibytes_is_our_fault() {
    let sample = Sample { size: u32::MAX - 7, duration: 1, composition_offset: 0, sync: true };
    write_fragment_header(&mut [0; 200], &at(Position::First, 1, 0), &[sample]);
}

#[test]
fn the_largest_mdat_and_the_longest_run() {
    let sample = Sample { size: u32::MAX - 8, duration: 1, composition_offset: 0, sync: true };
    let bytes = fragment_bytes(&at(Position::Later, 1, 0), &[sample]);
    assert_eq!(bytes[bytes.len() - 8..][..4], [0xff; 4]);
    let sample = Sample { size: 1, ..sample };
    let samples = vec![sample; SAMPLES_MAX];
    let bytes = fragment_bytes(&at(Position::Later, 1, 0), &samples);
    assert_eq!(bytes.len(), 88 + 16 * SAMPLES_MAX + 8);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    (0u32..1 << 20, any::<u32>(), any::<i32>(), any::<bool>()).prop_map(
        |(size, duration, composition_offset, sync)| Sample {
            size,
            duration,
            composition_offset,
            sync,
        },
    )
}

proptest! {
    #[test]
    fn any_fragment_is_as_long_as_promised_and_reads_back(
        samples in prop::collection::vec(any_sample(), 1..60),
        first in any::<bool>(),
        sequence_number in any::<u32>(),
        time in 0u64..1 << 63,
    ) {
        let position = if first { Position::First } else { Position::Later };
        let length = fragment_header_length(samples.len(), position);
        // Room behind the header is left as it was.
        let mut room = vec![0xaa; length + 5];
        let written = write_fragment_header(&mut room, &at(position, sequence_number, time), &samples);
        prop_assert_eq!(written, length);
        prop_assert_eq!(&room[length..], &[0xaa; 5]);
        let bytes = &room[..length];

        let styp = if first { 24 } else { 0 };
        let moof = find(&bytes[..length - 8], &[b"moof"]).unwrap();
        prop_assert_eq!(moof.range.clone(), styp..length - 8);
        let trun = content(&bytes[..length - 8], &[b"moof", b"traf", b"trun"]);
        let data_offset = u32::from_be_bytes(trun[8..12].try_into().unwrap());
        prop_assert_eq!(usize::try_from(data_offset).unwrap(), moof.range.len() + 8);
        let tfdt = content(&bytes[..length - 8], &[b"moof", b"traf", b"tfdt"]);
        prop_assert_eq!(u64::from_be_bytes(tfdt[4..12].try_into().unwrap()), time);

        let mut rest = &bytes[styp..];
        let read = mp4_atom::Moof::decode(&mut rest).unwrap();
        prop_assert_eq!(read.mfhd.sequence_number, sequence_number);
        let entries: Vec<_> = read.traf[0].trun[0].samples.iter().collect();
        prop_assert_eq!(entries.len(), samples.len());
        let mut media = 0;
        for (entry, sample) in entries.iter().zip(&samples) {
            prop_assert_eq!(entry.size, Some(sample.size));
            prop_assert_eq!(entry.duration, Some(sample.duration));
            prop_assert_eq!(entry.cts, Some(i64::from(sample.composition_offset)));
            media += sample.size;
        }
        prop_assert_eq!(&rest[..4], &(media + 8).to_be_bytes());
        prop_assert_eq!(&rest[4..], b"mdat");
    }

    #[test]
    fn any_bytes_are_walked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(boxes(&bytes).count() <= bytes.len() / 8 + 1);
        let _ = find(&bytes, &[b"moov", b"trak"]);
    }
}
