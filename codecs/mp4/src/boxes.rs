//! A walk over boxes (ISO/IEC 14496-12 4.2), depth first.
//!
//! In: bytes that begin with a box. Out: each box's type, place and depth, or the one error that
//! ends the walk. The walk goes into the containers that init sections and fragments have, at most
//! [`DEPTH_MAX`] deep, and keeps its own small stack; deeper boxes are opaque. It reads no content.

use std::ops::Range;

/// How deep the walk goes; sample entries' boxes lie at depth 6.
pub const DEPTH_MAX: usize = 8;

/// One box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoxPlace {
    /// The type's four characters.
    pub kind: [u8; 4],
    /// How many boxes it lies in.
    pub depth: usize,
    /// All of it, as a range of the walked bytes.
    pub range: Range<usize>,
    /// Its content behind size and type: of a full box, version and flags come first.
    pub content: Range<usize>,
}

/// Why the bytes are not boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too few bytes for a box's header or a container's fields.
    #[error("box header at byte {offset} is cut off")]
    Truncated {
        /// Where the box begins.
        offset: usize,
    },
    /// A box smaller than its header or larger than what it lies in.
    #[error("box at byte {offset} says it has {size} bytes, {left} are left")]
    Size {
        /// Where the box begins.
        offset: usize,
        /// What it says.
        size: u64,
        /// Bytes there are.
        left: usize,
    },
}

/// Walks the boxes of `data`.
#[must_use]
pub fn boxes(data: &[u8]) -> Boxes<'_> {
    let mut ends = [0; DEPTH_MAX + 1];
    ends[0] = data.len();
    Boxes { data, offset: 0, ends, depth: 0 }
}

/// The first box at `path`, from the outermost type inward; `None` also when the bytes before it
/// are no boxes.
#[must_use]
pub fn find(data: &[u8], path: &[&[u8; 4]]) -> Option<BoxPlace> {
    let mut matched = 0;
    for place in boxes(data) {
        let place = place.ok()?;
        // A box that is not inside the last match forgets the matches at its depth and below.
        matched = matched.min(place.depth);
        if place.depth == matched && path.get(matched).is_some_and(|kind| **kind == place.kind) {
            matched += 1;
            if matched == path.len() {
                return Some(place);
            }
        }
    }
    None
}

/// The walk of [`boxes`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct Boxes<'a> {
    data: &'a [u8],
    offset: usize,
    /// The ends of the boxes we are in, the whole data first.
    ends: [usize; DEPTH_MAX + 1],
    depth: usize,
}

impl Iterator for Boxes<'_> {
    type Item = Result<BoxPlace, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset == self.ends[self.depth] {
            if self.depth == 0 {
                return None;
            }
            self.depth -= 1;
        }
        let step = self.step();
        if step.is_err() {
            self.depth = 0;
            self.offset = self.ends[0];
        }
        Some(step)
    }
}

impl Boxes<'_> {
    /// Reads the box at `offset` and moves behind it, or into it.
    fn step(&mut self) -> Result<BoxPlace, Error> {
        let (offset, depth) = (self.offset, self.depth);
        let end = self.ends[depth];
        let data = &self.data[offset..end];
        let truncated = Error::Truncated { offset };
        let (&[s0, s1, s2, s3, k0, k1, k2, k3], behind) =
            data.split_first_chunk().ok_or(truncated)?;
        let kind = [k0, k1, k2, k3];
        let mut header_bytes = 8;
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            // to the end of what it lies in
            0 => data.len() as u64,
            // largesize
            1 => {
                header_bytes = 16;
                u64::from_be_bytes(*behind.first_chunk().ok_or(truncated)?)
            }
            size => u64::from(size),
        };
        let wrong = Error::Size { offset, size, left: data.len() };
        let size = usize::try_from(size).map_err(|_| wrong)?;
        if size < header_bytes || size > data.len() {
            return Err(wrong);
        }
        let range = offset..offset + size;
        let content = offset + header_bytes..range.end;
        self.offset = range.end;
        if let Some(fields) = fields_before_children(kind)
            && depth < DEPTH_MAX
        {
            if content.len() < fields {
                return Err(truncated);
            }
            self.offset = content.start + fields;
            self.depth += 1;
            self.ends[self.depth] = range.end;
        }
        Ok(BoxPlace { kind, depth, range, content })
    }
}

/// How many bytes of fields a container has before its boxes; `None` for other boxes.
fn fields_before_children(kind: [u8; 4]) -> Option<usize> {
    match &kind {
        b"moov" | b"trak" | b"edts" | b"mdia" | b"minf" | b"dinf" | b"stbl" | b"mvex" | b"moof"
        | b"traf" => Some(0),
        // version and flags, entry_count
        b"stsd" | b"dref" => Some(8),
        // VisualSampleEntry, AudioSampleEntry
        b"avc1" | b"av01" => Some(78),
        b"mp4a" => Some(28),
        _ => None,
    }
}
