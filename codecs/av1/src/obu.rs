//! OBUs of the low-overhead format (AV1 5.3).
//!
//! In: bytes that begin with an OBU. Out: each OBU, borrowed, or the one error that ends the walk.
//! An OBU without a size reaches to the end of the data, which the file format allows for the last
//! one of a sample. Each step advances.

use crate::Error;

/// obu_type, AV1 6.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObuType {
    /// 1
    SequenceHeader,
    /// 2
    TemporalDelimiter,
    /// 3
    FrameHeader,
    /// 4
    TileGroup,
    /// 5
    Metadata,
    /// 6: a frame header and a tile group in one.
    Frame,
    /// 7
    RedundantFrameHeader,
    /// 8
    TileList,
    /// 15
    Padding,
    /// Reserved types, which decoders ignore.
    Reserved(u8),
}

impl ObuType {
    fn of_header(byte: u8) -> Self {
        match byte >> 3 & 15 {
            1 => Self::SequenceHeader,
            2 => Self::TemporalDelimiter,
            3 => Self::FrameHeader,
            4 => Self::TileGroup,
            5 => Self::Metadata,
            6 => Self::Frame,
            7 => Self::RedundantFrameHeader,
            8 => Self::TileList,
            15 => Self::Padding,
            other => Self::Reserved(other),
        }
    }
}

/// One OBU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obu<'a> {
    /// obu_type.
    pub kind: ObuType,
    /// Where it begins, counted from the start of the walk.
    pub offset: usize,
    /// Header, size and payload.
    pub bytes: &'a [u8],
    /// The payload: obu_size bytes.
    pub payload: &'a [u8],
    /// obu_has_size_field.
    pub has_size: bool,
    /// temporal_id and spatial_id, where the header has an extension.
    pub layer: Option<(u8, u8)>,
}

/// Walks the OBUs of a temporal unit.
#[must_use]
pub fn obus(data: &[u8]) -> Obus<'_> {
    Obus { rest: data, offset: 0 }
}

/// The walk of [`obus`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let step = self.step();
        match &step {
            Ok(obu) => {
                debug_assert!(!obu.bytes.is_empty());
                self.rest = &self.rest[obu.bytes.len()..];
                self.offset += obu.bytes.len();
            }
            Err(_) => self.rest = &[],
        }
        Some(step)
    }
}

impl<'a> Obus<'a> {
    /// open_bitstream_unit, AV1 5.3.1, at the start of `rest`.
    fn step(&self) -> Result<Obu<'a>, Error> {
        let (data, offset) = (self.rest, self.offset);
        let left = data.len();
        let short = |needed: usize| Error::ObuLength { offset, needed: needed as u64, left };
        let header = *data.first().ok_or_else(|| short(1))?;
        if header & 0x80 != 0 {
            return Err(Error::ForbiddenBit { offset });
        }
        let mut header_bytes = 1;
        let mut layer = None;
        if header & 4 != 0 {
            let extension = *data.get(1).ok_or_else(|| short(2))?;
            layer = Some((extension >> 5, extension >> 3 & 3));
            header_bytes = 2;
        }
        let has_size = header & 2 != 0;
        let mut end = left;
        if has_size {
            let (size, size_bytes) = leb128(&data[header_bytes..], offset + header_bytes)?
                .ok_or_else(|| short(left + 1))?;
            header_bytes += size_bytes;
            let needed = header_bytes as u64 + u64::from(size);
            end = usize::try_from(needed)
                .ok()
                .filter(|end| *end <= left)
                .ok_or(Error::ObuLength { offset, needed, left })?;
        }
        Ok(Obu {
            kind: ObuType::of_header(header),
            offset,
            bytes: &data[..end],
            payload: &data[header_bytes..end],
            has_size,
            layer,
        })
    }
}

/// leb128(), AV1 4.10.5: the value and how many bytes it has; `None` when the data ends first.
fn leb128(data: &[u8], offset: usize) -> Result<Option<(u32, usize)>, Error> {
    let mut value = 0u64;
    for (index, byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Error::Leb128 { offset })?;
            return Ok(Some((value, index + 1)));
        }
    }
    if data.len() >= 8 { Err(Error::Leb128 { offset }) } else { Ok(None) }
}

/// Appends a value as leb128 of the fewest bytes.
pub(crate) fn write_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
