//! FLV tag headers and files.

use flv::tag::{self, TagType};
use flv::{AudioTagHeader, HEADER_BYTES_MAX, VideoPacketType, VideoTagHeader};

use crate::{Seed, cut};

/// No message or file panics; a header is no longer than the message and the limit.
pub fn never_panics(data: &[u8]) {
    if let Ok(Some((header, length))) = VideoTagHeader::parse(data) {
        assert!(length <= data.len().min(HEADER_BYTES_MAX), "{header:?}");
        let _ = (header.is_coded(), header.is_key());
    }
    if let Ok(Some((header, length))) = AudioTagHeader::parse(data) {
        assert!(length <= data.len().min(HEADER_BYTES_MAX), "{header:?}");
        let _ = header.form();
    }
    let total: usize = tag::read_file(data).map(|(_, data)| data.len()).sum();
    assert!(total <= data.len());
}

/// A header that was read is written so that it reads the same; so is a file of tags.
pub fn roundtrip(data: &[u8]) {
    let kinds = [TagType::Audio, TagType::Video, TagType::ScriptData, TagType::Other(31)];
    let mut file = Vec::new();
    tag::write_file_header(&mut file);
    let (stream, pieces) = cut::pieces(data);
    for (at, piece) in (0_u32..).zip(&pieces) {
        tag::write_tag(&mut file, kinds[at as usize % 4], at.wrapping_mul(0x0101_0101), piece);
    }
    let mut read = Vec::new();
    for ((at, piece), (header, data)) in (0_u32..).zip(&pieces).zip(tag::read_file(&file)) {
        assert_eq!((header.tag_type, data), (kinds[at as usize % 4], *piece));
        assert_eq!(header.timestamp_ms, at.wrapping_mul(0x0101_0101));
        read.extend_from_slice(data);
    }
    assert_eq!(read, stream);
    if let Ok(Some((mut header, _))) = VideoTagHeader::parse(data) {
        if matches!(header.packet_type, VideoPacketType::Command(_)) {
            // A command has no picture whose time could be offset, so the offset is not written.
            header.timestamp_offset_nanos = 0;
        }
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(VideoTagHeader::parse(&out), Ok(Some((header, out.len()))));
    }
    if let Ok(Some((header, _))) = AudioTagHeader::parse(data) {
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(AudioTagHeader::parse(&out), Ok(Some((header, out.len()))));
    }
}

/// A prefix gives nothing yet, or what the whole gives.
pub fn split(data: &[u8]) {
    let (whole, prefix) = cut::prefix(data);
    let of_prefix = VideoTagHeader::parse(prefix);
    assert!(of_prefix == Ok(None) || of_prefix == VideoTagHeader::parse(whole), "{of_prefix:?}");
    let of_prefix = AudioTagHeader::parse(prefix);
    assert!(of_prefix == Ok(None) || of_prefix == AudioTagHeader::parse(whole), "{of_prefix:?}");
    let mut expected = tag::read_file(whole);
    for tag in tag::read_file(prefix) {
        assert_eq!(Some(tag), expected.next());
    }
}

/// Classic and enhanced headers of both kinds, with the extensions, and a small file.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut file = Vec::new();
    tag::write_file_header(&mut file);
    tag::write_tag(&mut file, TagType::ScriptData, 0, b"\x02\x00\x0aonMetaData\x05");
    tag::write_tag(&mut file, TagType::Video, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 13]);
    tag::write_tag(&mut file, TagType::Audio, 0x0100_0000, &[0xaf, 0, 0x12, 0x10]);
    let cut_file = [vec![200], file.clone()].concat();
    vec![
        ("avc", vec![0x17, 1, 0, 0, 80, 0, 0, 0, 1, 0x65]),
        ("avc-start", vec![0x17, 0, 0, 0, 0, 1, 100]),
        ("avc-negative", vec![0x27, 1, 0xff, 0xff, 0xd8]),
        ("command", vec![0x57, 1]),
        ("aac", vec![0xaf, 1, 0x21]),
        ("mp3", vec![0x2e, 0xff, 0xfb]),
        ("enhanced-hevc", b"\x91hvc1\x00\x00\x50\x00".to_vec()),
        ("enhanced-av1-start", b"\x90av01\x81\x00".to_vec()),
        ("enhanced-x", b"\xa3av01\x0a".to_vec()),
        ("enhanced-modex", b"\x97\x02\x00\x01\xf4\x01hvc1\x00\x00\x00".to_vec()),
        ("enhanced-multitrack", b"\x96\x01avc1\x02\x00\x00\x00".to_vec()),
        ("enhanced-opus", b"\x91Opus\x00".to_vec()),
        ("cut-avc", vec![4, 0x17, 1, 0, 0, 80, 0]),
        ("cut-modex", b"\x05\x97\x02\x00\x01\xf4\x01hvc1\x00\x00\x00".to_vec()),
        ("file", file),
        ("file-cut", cut_file),
    ]
}
