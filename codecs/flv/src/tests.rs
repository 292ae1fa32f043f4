//! Golden headers, round trips, every prefix, and the enhanced header's traps.

use proptest::prelude::*;

use super::*;

fn video(bytes: &[u8]) -> (VideoTagHeader, usize) {
    VideoTagHeader::parse(bytes).unwrap().expect("complete")
}

fn audio(bytes: &[u8]) -> (AudioTagHeader, usize) {
    AudioTagHeader::parse(bytes).unwrap().expect("complete")
}

fn classic_video(frame_type: FrameType, packet_type: VideoPacketType, ms: i32) -> VideoTagHeader {
    VideoTagHeader {
        form: Form::Classic,
        frame_type,
        codec: VideoCodec::Avc,
        packet_type,
        composition_time_ms: ms,
        timestamp_offset_nanos: 0,
        track: None,
    }
}

#[test]
fn classic_avc() {
    use VideoPacketType::{CodedFrames, SequenceEnd, SequenceStart};
    let cases: [(&[u8], VideoTagHeader); 5] = [
        (&[0x17, 0, 0, 0, 0], classic_video(FrameType::Key, SequenceStart, 0)),
        (&[0x27, 1, 0, 0, 80], classic_video(FrameType::Inter, CodedFrames, 80)),
        (&[0x27, 1, 0xff, 0xff, 0xd8], classic_video(FrameType::Inter, CodedFrames, -40)),
        (&[0x27, 1, 0x80, 0, 0], classic_video(FrameType::Inter, CodedFrames, -0x80_0000)),
        (&[0x17, 2, 0, 0, 0], classic_video(FrameType::Key, SequenceEnd, 0)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(video(bytes), (expected, 5));
    }
    assert!(video(&[0x17, 1, 0, 0, 0]).0.is_key());
    assert!(!video(&[0x17, 0, 0, 0, 0]).0.is_key(), "a configuration is not a picture");
    assert_eq!(
        VideoTagHeader::parse(&[0x17, 3, 0, 0, 0]),
        Err(Error::PacketType { at: 1, packet_type: 3 })
    );
}

#[test]
fn classic_hevc_and_flash_codecs() {
    assert_eq!(video(&[0x1c, 1, 0, 0, 1]).0.codec, VideoCodec::Hevc);
    let (header, length) = video(&[0x22, 0xaa]);
    assert_eq!((header.codec, length), (VideoCodec::OtherClassic(2), 1));
}

#[test]
fn command_frames_are_not_data() {
    for (bytes, codec) in
        [(&[0x57, 0][..], VideoCodec::Avc), (&[0x80 | 0x50 | 1, 0], VideoCodec::Unnamed)]
    {
        let (header, length) = video(bytes);
        assert_eq!(header.packet_type, VideoPacketType::Command(0));
        assert_eq!((header.codec, length, header.is_coded()), (codec, 2, false));
    }
    // Metadata ignores the frame type.
    let (header, length) = video(b"\xd4hvc1");
    assert_eq!((header.packet_type, length), (VideoPacketType::Metadata, 5));
}

#[test]
fn enhanced_video() {
    let (header, length) = video(b"\x90hvc1");
    assert_eq!((header.codec, length), (VideoCodec::Hevc, 5));
    assert_eq!(header.packet_type, VideoPacketType::SequenceStart);

    let (header, length) = video(b"\xa1avc1\xff\xff\xff");
    assert_eq!((header.composition_time_ms, length), (-1, 8));
    // No composition time for codecs that do not reorder.
    for four_cc in [b"av01", b"vp09"] {
        let bytes = [&[0x91], &four_cc[..], &[1, 2, 3]].concat();
        assert_eq!(video(&bytes).1, 5);
    }
    let (header, length) = video(b"\x93av01");
    assert_eq!((header.packet_type, length), (VideoPacketType::CodedFramesX, 5));
    assert!(header.is_key());
    let (header, _) = video(b"\x91wxyz");
    assert_eq!(header.codec, VideoCodec::Other(FourCc(*b"wxyz")));
    assert_eq!(
        VideoTagHeader::parse(b"\x98avc1"),
        Err(Error::PacketType { at: 0, packet_type: 8 })
    );
}

#[test]
fn classic_and_enhanced_audio() {
    let (header, length) = audio(&[0xaf, 0, 0x12, 0x10]);
    assert_eq!((header.codec, length), (AudioCodec::Aac, 2));
    assert_eq!(header.packet_type, AudioPacketType::SequenceStart);
    assert_eq!(header.form(), Form::Classic);
    assert_eq!(audio(&[0xaf, 1]).0.packet_type, AudioPacketType::CodedFrames);
    assert_eq!(audio(&[0x2f]).0.codec, AudioCodec::Mp3);
    assert_eq!(AudioTagHeader::parse(&[0xaf, 2]), Err(Error::PacketType { at: 1, packet_type: 2 }));

    let (header, length) = audio(b"\x90Opus");
    assert_eq!((header.codec, length), (AudioCodec::Opus, 5));
    assert_eq!(header.packet_type, AudioPacketType::SequenceStart);
    assert_eq!(audio(b"\x91mp4a\x21").0.packet_type, AudioPacketType::CodedFrames);
    assert_eq!(audio(b"\x94fLaC").0.packet_type, AudioPacketType::MultichannelConfig);
    assert_eq!(AudioTagHeader::parse(&[]), Ok(None));
}

#[test]
fn modifier_extensions_advance_and_escape_to_sixteen_bits() {
    // TimestampOffsetNano of 500,000.
    let (header, length) = video(b"\x97\x02\x07\xa1\x20\x01avc1\x00\x00\x05");
    assert_eq!((header.timestamp_offset_nanos, header.composition_time_ms), (500_000, 5));
    assert_eq!(length, 13);

    // An unknown extension of 300 bytes, then coded frames.
    let mut bytes = vec![0x97, 255, 1, 43];
    bytes.resize(4 + 300, 0);
    bytes.extend_from_slice(b"\x11av01");
    assert_eq!(video(&bytes).1, bytes.len());

    // The escape with the smallest size is one byte of data.
    assert_eq!(video(b"\x97\xff\0\0\xaa\x11av01").1, 10);

    // A loop without end meets the bound, as does a declared size, both without waiting for the
    // bytes.
    let endless = [&[0x97][..], &[0, 0, 0x17].repeat(10_000)].concat();
    assert_eq!(VideoTagHeader::parse(&endless), Err(Error::HeaderTooLong));
    assert_eq!(VideoTagHeader::parse(&[0x97, 255, 0xff, 0xff]), Err(Error::HeaderTooLong));
    assert_eq!(AudioTagHeader::parse(&[0x97, 255, 0xff, 0xff]), Err(Error::HeaderTooLong));
}

#[test]
fn multitrack_is_one_track_or_unsupported_and_never_nested() {
    let (header, length) = video(b"\x96\x01avc1\x03\x00\x00\x28");
    assert_eq!((header.track, header.composition_time_ms, length), (Some(3), 40, 10));
    let (header, length) = audio(b"\x95\x01mp4a\x02");
    assert_eq!((header.track, length), (Some(2), 7));
    for kind in 1..3 {
        let expected = Err(Error::UnsupportedMultitrack { at: 1, multitrack_type: kind });
        assert_eq!(VideoTagHeader::parse(&[0x96, kind << 4 | 1]), expected);
    }
    assert_eq!(VideoTagHeader::parse(&[0x96, 0x06]), Err(Error::NestedMultitrack { at: 1 }));
    assert_eq!(VideoTagHeader::parse(&[0x96, 0x07]), Err(Error::NestedMultitrack { at: 1 }));
    assert_eq!(AudioTagHeader::parse(&[0x95, 0x05]), Err(Error::NestedMultitrack { at: 1 }));
}

#[test]
fn file_tags_round_trip() {
    let mut file = Vec::new();
    tag::write_file_header(&mut file);
    tag::write_tag(&mut file, tag::TagType::Video, 0x0100_0002, b"abc");
    tag::write_tag(&mut file, tag::TagType::Audio, 7, b"");
    let tags: Vec<_> = tag::read_file(&file).collect();
    assert_eq!(tags.len(), 2);
    assert_eq!((tags[0].0.timestamp_ms, tags[0].1), (0x0100_0002, &b"abc"[..]));
    assert_eq!((tags[1].0.tag_type, tags[1].0.data_size), (tag::TagType::Audio, 0));
    for end in 0..file.len() {
        assert!(tag::read_file(&file[..end]).count() <= 2);
    }
    assert_eq!(tag::read_file(b"GIF89a...............").count(), 0);
}

/// What is read is written back as it was, and each prefix of a header asks for more.
fn check_prefixes(bytes: &[u8]) {
    if let Ok(Some((header, length))) = VideoTagHeader::parse(bytes) {
        for end in 0..length {
            assert_eq!(VideoTagHeader::parse(&bytes[..end]), Ok(None), "video, {end} bytes");
        }
        assert_eq!(VideoTagHeader::parse(&bytes[..length]), Ok(Some((header, length))));
        let mut out = Vec::new();
        header.encode(&mut out);
        // A command frame loses its nanoseconds, which mean nothing.
        let again = video(&out).0;
        assert_eq!(
            VideoTagHeader { timestamp_offset_nanos: 0, ..again },
            VideoTagHeader { timestamp_offset_nanos: 0, ..header }
        );
    }
    if let Ok(Some((header, length))) = AudioTagHeader::parse(bytes) {
        for end in 0..length {
            assert_eq!(AudioTagHeader::parse(&bytes[..end]), Ok(None), "audio, {end} bytes");
        }
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(audio(&out), (header, out.len()));
    }
}

#[test]
fn every_first_two_bytes_with_every_prefix() {
    for first in 0..=255 {
        for second in 0..=255 {
            check_prefixes(&[&[first, second][..], b"avc1\x01\x02\x03\x04\x05\x06"].concat());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check_prefixes(&bytes);
    }
}
