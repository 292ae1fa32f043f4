//! NAL units of an access unit with a length in front of each (ISO/IEC 14496-15 5.3.4.2).
//!
//! In: the access unit and the size of its length fields. Out: each NAL unit, borrowed, or the one
//! error that ends the walk. Zero-length NAL units, which some encoders leave between the others,
//! are passed over. Nothing is allocated, and each step advances.

use crate::Error;

/// How many bytes the length in front of a NAL unit has: lengthSizeMinusOne + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthSize {
    /// One byte.
    One = 1,
    /// Two bytes.
    Two = 2,
    /// Four bytes, as every known encoder writes.
    Four = 4,
}

impl LengthSize {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// nal_unit_type, ITU-T H.264 table 7-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NalUnitType {
    /// 1: slice of a picture that is not IDR.
    NonIdrSlice,
    /// 2, 3, 4: a data partition.
    DataPartition,
    /// 5: slice of an IDR picture.
    IdrSlice,
    /// 6: supplemental enhancement information.
    Sei,
    /// 7: sequence parameter set.
    SequenceParameterSet,
    /// 8: picture parameter set.
    PictureParameterSet,
    /// 9: access unit delimiter.
    AccessUnitDelimiter,
    /// 10: end of sequence.
    EndOfSequence,
    /// 11: end of stream.
    EndOfStream,
    /// 12: filler data.
    FillerData,
    /// Extensions, auxiliary pictures, reserved and unspecified types.
    Other(u8),
}

impl NalUnitType {
    /// The type in a NAL unit header's byte.
    #[must_use]
    pub fn of_header(byte: u8) -> Self {
        match byte & 0x1f {
            1 => Self::NonIdrSlice,
            2..=4 => Self::DataPartition,
            5 => Self::IdrSlice,
            6 => Self::Sei,
            7 => Self::SequenceParameterSet,
            8 => Self::PictureParameterSet,
            9 => Self::AccessUnitDelimiter,
            10 => Self::EndOfSequence,
            11 => Self::EndOfStream,
            12 => Self::FillerData,
            other => Self::Other(other),
        }
    }
}

/// One NAL unit, header first, without its length field; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalUnit<'a> {
    /// nal_unit_type.
    pub kind: NalUnitType,
    /// Header, payload and emulation prevention bytes.
    pub bytes: &'a [u8],
}

/// Walks the NAL units of an access unit.
#[must_use]
pub fn nal_units(access_unit: &[u8], length_size: LengthSize) -> NalUnits<'_> {
    NalUnits { rest: access_unit, offset: 0, length_size }
}

/// The walk of [`nal_units`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
    offset: usize,
    length_size: LengthSize,
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<NalUnit<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.step() {
                Ok([]) => {}
                Ok(bytes) => {
                    return Some(Ok(NalUnit { kind: NalUnitType::of_header(bytes[0]), bytes }));
                }
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<'a> NalUnits<'a> {
    /// Takes one length field and the bytes behind it.
    fn step(&mut self) -> Result<&'a [u8], Error> {
        let field = self.length_size.bytes();
        let short = |needed, left| Error::NalUnitLength { offset: self.offset, needed, left };
        let (length, behind) =
            self.rest.split_at_checked(field).ok_or_else(|| short(field, self.rest.len()))?;
        let length = length.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        let (bytes, rest) =
            behind.split_at_checked(length).ok_or_else(|| short(length, behind.len()))?;
        self.rest = rest;
        self.offset += field + length;
        Ok(bytes)
    }
}

/// Whether the access unit is an IDR picture. The walk ends at its first slice, since all slices
/// of a primary coded picture are IDR or none is (ITU-T H.264 7.4.1.2.4); what lies behind is not
/// checked.
///
/// # Errors
/// The lengths in front of the first slice do not add up.
pub fn is_random_access(access_unit: &[u8], length_size: LengthSize) -> Result<bool, Error> {
    for unit in nal_units(access_unit, length_size) {
        match unit?.kind {
            NalUnitType::IdrSlice => return Ok(true),
            NalUnitType::NonIdrSlice | NalUnitType::DataPartition => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}
