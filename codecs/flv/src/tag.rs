//! The tags of an FLV file (FLV 10.1 E.2 to E.4.1): what an RTMP message looks like at rest.
//!
//! In: bytes of a file; messages to write. Out: [`TagHeader`]s; bytes. The back-pointers between
//! tags are written right and ignored when read.

/// What a tag carries; the same numbers as RTMP's message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagType {
    /// 8.
    Audio,
    /// 9.
    Video,
    /// 18: AMF0 script data.
    ScriptData,
    /// Anything else.
    Other(u8),
}

/// The eleven bytes in front of a tag's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagHeader {
    /// What it carries.
    pub tag_type: TagType,
    /// Bytes of data that follow.
    pub data_size: u32,
    /// Decoding time in milliseconds; wraps.
    pub timestamp_ms: u32,
}

impl TagHeader {
    /// Reads a header; `None` if there are fewer than [`TAG_HEADER_BYTES`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [kind, s0, s1, s2, t0, t1, t2, extended, ..] =
            *bytes.first_chunk::<TAG_HEADER_BYTES>()?;
        Some(Self {
            tag_type: match kind & 0x1f {
                8 => TagType::Audio,
                9 => TagType::Video,
                18 => TagType::ScriptData,
                other => TagType::Other(other),
            },
            data_size: u32::from_be_bytes([0, s0, s1, s2]),
            timestamp_ms: u32::from_be_bytes([extended, t0, t1, t2]),
        })
    }
}

/// Appends the file header for a file with both audio and video, and the first back-pointer.
pub fn write_file_header(out: &mut Vec<u8>) {
    out.extend_from_slice(b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
}

/// Appends a tag and its back-pointer. `data` beyond 16 MiB, which a tag cannot carry, is cut.
pub fn write_tag(out: &mut Vec<u8>, tag_type: TagType, timestamp_ms: u32, data: &[u8]) {
    let data = &data[..data.len().min(DATA_BYTES_MAX)];
    let size = u32::try_from(data.len()).unwrap_or(0);
    let [extended, t0, t1, t2] = timestamp_ms.to_be_bytes();
    let [_, s0, s1, s2] = size.to_be_bytes();
    let number = match tag_type {
        TagType::Audio => 8,
        TagType::Video => 9,
        TagType::ScriptData => 18,
        TagType::Other(number) => number & 0x1f,
    };
    out.extend_from_slice(&[number, s0, s1, s2, t0, t1, t2, extended, 0, 0, 0]);
    out.extend_from_slice(data);
    out.extend_from_slice(&(size + 11).to_be_bytes());
}

/// The tags of a whole file in memory, up to the first that is cut short.
pub fn read_file(bytes: &[u8]) -> impl Iterator<Item = (TagHeader, &[u8])> {
    // E.2: the header says its own length at byte 5; a back-pointer follows.
    let start = match bytes.first_chunk() {
        Some(&[b'F', b'L', b'V', _, _, a, b, c, d]) => {
            usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    };
    let mut rest = bytes.get(start.saturating_add(4)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = TagHeader::parse(rest)?;
        let size = usize::try_from(header.data_size).ok()?;
        let data = rest.get(TAG_HEADER_BYTES..TAG_HEADER_BYTES + size)?;
        rest = rest.get(TAG_HEADER_BYTES + size + 4..).unwrap_or_default();
        Some((header, data))
    })
}

/// The length of [`TagHeader`] in a file.
pub const TAG_HEADER_BYTES: usize = 11;

/// DataSize is a UI24.
const DATA_BYTES_MAX: usize = 0xff_ffff;
