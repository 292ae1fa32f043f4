//! The walk over MP4 boxes, and what we write against it.

use fmp4::boxes::{boxes, find};
use fmp4::fragment::{
    Fragment, Position, Sample, duration, fragment_header_length, write_fragment_header,
};
use fmp4::header::{Codec, TrackDescription, header};

use crate::{Seed, cut};

/// No bytes make the walk panic or go on forever; each box lies in the data, behind the one before it, and in its parent.
pub fn never_panics(data: &[u8]) {
    let everything = 0..data.len();
    let mut open = vec![everything];
    let mut count = 0;
    let mut start = 0;
    for place in boxes(data).map_while(Result::ok) {
        count += 1;
        open.truncate(place.depth + 1);
        let parent = open.last().expect("the data holds everything");
        assert!(parent.start <= place.range.start && place.range.end <= parent.end, "{place:?}");
        assert!(count == 1 || place.range.start > start, "{place:?}");
        assert!(place.range.start < place.content.start && place.content.end == place.range.end);
        start = place.range.start;
        open.push(place.range);
    }
    assert!(count <= data.len() / 8);
    let _ = find(data, &[b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]);
}

/// A prefix gives the same boxes until the first that is cut.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    let mut expected = boxes(whole);
    for place in boxes(prefix).map_while(Result::ok) {
        let Some(Ok(whole_place)) = expected.next() else {
            panic!("{place:?} is not in the whole")
        };
        assert_eq!((place.kind, place.depth), (whole_place.kind, whole_place.depth));
        assert_eq!(place.range.start, whole_place.range.start);
        // A box of size 0 reaches to the end of what there is.
        assert!(place.range.end == whole_place.range.end || place.range.end == prefix.len());
    }
}

/// What is written is boxes to the last byte: the sample entry holds the configuration, the fragment's header is as long as
/// announced, and its samples add up.
pub fn roundtrip(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let timescale = 1 + u32::from(choice);
    let audio = aac::AudioSpecificConfig::parse(bytes);
    let avc = h264::AvcDecoderConfigurationRecord::parse(bytes);
    let av1 = av1::Av1CodecConfigurationRecord::parse(bytes);
    let codecs = [
        audio.as_ref().ok().map(|config| (Codec::Mp4a(config), b"mp4a", b"esds")),
        avc.as_ref().ok().map(|config| (Codec::Avc1(config), b"avc1", b"avcC")),
        av1.as_ref().ok().map(|config| (Codec::Av01(config), b"av01", b"av1C")),
    ];
    for (codec, entry, configuration) in codecs.into_iter().flatten() {
        let init = header(&TrackDescription { timescale, codec });
        assert!(boxes(&init).all(|place| place.is_ok()));
        let path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry, configuration];
        let place = find(&init, &path).expect("the configuration in its sample entry");
        assert!(init[place.content].windows(bytes.len().max(1)).any(|window| window == bytes));
        assert!(!codec.codec_string().is_empty());
    }
    let samples: Vec<Sample> = bytes
        .chunks_exact(4)
        .map(|sample| Sample {
            size: u32::from(sample[0]),
            duration: u32::from(sample[1]),
            composition_offset: i32::from(sample[2]) - 128,
            sync: sample[3] & 1 == 1,
        })
        .collect();
    if samples.is_empty() {
        return;
    }
    let position = if choice & 1 == 0 { Position::First } else { Position::Later };
    let place =
        Fragment { position, sequence_number: 1, base_media_decode_time: u64::from(choice) << 40 };
    let length = fragment_header_length(samples.len(), position);
    let mut out = vec![0; length];
    assert_eq!(write_fragment_header(&mut out, &place, &samples), length);
    out.extend(samples.iter().flat_map(|sample| vec![7; sample.size as usize]));
    assert!(boxes(&out).all(|place| place.is_ok()));
    let mdat = find(&out, &[b"mdat"]).expect("a fragment has media data");
    assert_eq!(mdat.content, length..out.len());
    let total: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
    assert_eq!(duration(&samples), total);
}

/// Configurations and samples behind a byte for timescale and position.
#[must_use]
pub fn written_seeds() -> Vec<Seed> {
    let behind = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    let of = |seeds: Vec<Seed>, name: &str| {
        seeds.into_iter().find(|(seed, _)| *seed == name).map_or_else(Vec::new, |(_, bytes)| bytes)
    };
    vec![
        ("aac", behind(0, &[0x12, 0x10])),
        ("aac-sbr", behind(1, &[0x2b, 0x11, 0x88, 0x00])),
        ("avc", behind(2, &of(crate::h264::seeds(), "record-high"))),
        ("avc-interlaced", behind(3, &of(crate::h264::seeds(), "record-interlaced"))),
        ("av1", behind(4, &of(crate::av1::seeds(), "record"))),
        ("samples", behind(5, &[9, 10, 128, 1, 9, 10, 100, 0, 9, 10, 200, 0])),
    ]
}

/// An init section, fragments, and the two unusual ways to say a size.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let audio = aac::AudioSpecificConfig::parse(&[0x12, 0x10]).expect("a constant");
    let init = header(&TrackDescription { timescale: 44_100, codec: Codec::Mp4a(&audio) });
    let samples = [Sample { size: 4, duration: 1024, composition_offset: 0, sync: true }; 3];
    let place =
        |position| Fragment { position, sequence_number: 1, base_media_decode_time: 1 << 33 };
    let fragment = |position| {
        let mut out = vec![0; fragment_header_length(samples.len(), position)];
        write_fragment_header(&mut out, &place(position), &samples);
        out.extend_from_slice(&[7; 12]);
        out
    };
    let segment = [fragment(Position::First), fragment(Position::Later)].concat();
    let large = [&[0, 0, 0, 1][..], b"mdat", &[0, 0, 0, 0, 0, 0, 0, 20], &[1; 4]].concat();
    let open = [&[0, 0, 0, 0][..], b"mdat", &[1; 4]].concat();
    let cut = |at: u8, bytes: &[u8]| [&[at], bytes].concat();
    vec![
        ("init-cut", cut(200, &init)),
        ("segment-cut", cut(128, &segment)),
        ("large-cut", cut(255, &large)),
        ("open-cut", cut(9, &open)),
        ("init", init),
        ("segment", segment),
        ("large", large),
        ("open", open),
    ]
}
