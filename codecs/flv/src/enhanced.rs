//! What enhanced audio and video headers share (E-RTMP v2, "Enhanced Audio", "Enhanced Video"): a
//! reader over bytes that may not all be there yet, the ModEx loop, and the multitrack prefix.

use std::fmt;

use crate::{Error, HEADER_BYTES_MAX};

/// Four printable characters that name a codec.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Debug for FourCc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FourCc({})", self.0.escape_ascii())
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(formatter)
    }
}

/// Why a header could not be read: it is wrong, or not all there.
pub(crate) enum Stop {
    Incomplete,
    Wrong(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

/// Turns "not all there" into `None`, unless what is there is already more than a header may be.
pub(crate) fn outcome<T>(result: Result<T, Stop>, have: usize) -> Result<Option<T>, Error> {
    match result {
        Ok(header) => Ok(Some(header)),
        Err(Stop::Incomplete) if have < HEADER_BYTES_MAX => Ok(None),
        Err(Stop::Incomplete) => Err(Error::HeaderTooLong),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// A cursor that never reads past [`HEADER_BYTES_MAX`].
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: &bytes[..bytes.len().min(HEADER_BYTES_MAX)], at: 0 }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let array = self.bytes[self.at..].first_chunk().ok_or(Stop::Incomplete)?;
        self.at += N;
        Ok(*array)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn four_cc(&mut self) -> Result<FourCc, Stop> {
        self.array().map(FourCc)
    }

    /// SI24: composition time offsets are negative in real streams, so the sign matters.
    pub(crate) fn signed_24(&mut self) -> Result<i32, Stop> {
        let [a, b, c] = self.array()?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    fn skip(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let skipped = self.bytes[self.at..].get(..count).ok_or(Stop::Incomplete)?;
        self.at += count;
        Ok(skipped)
    }
}

/// The packet type once ModEx extensions are behind, and what they said.
pub(crate) struct Extended {
    pub(crate) packet_type: u8,
    pub(crate) timestamp_offset_nanos: u32,
}

/// Reads extensions while the packet type is ModEx. Each turn consumes at least three bytes.
pub(crate) fn modifier_extensions(
    reader: &mut Reader<'_>,
    packet_type: u8,
) -> Result<Extended, Stop> {
    let mut extended = Extended { packet_type, timestamp_offset_nanos: 0 };
    while extended.packet_type == MOD_EX {
        // A size of 256 is the escape to sixteen bits.
        let mut size = usize::from(reader.byte()?) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(reader.array()?)) + 1;
        }
        if reader.at + size >= HEADER_BYTES_MAX {
            return Err(Error::HeaderTooLong.into());
        }
        let data = reader.skip(size)?;
        let next = reader.byte()?;
        if let (TIMESTAMP_OFFSET_NANO, Some([a, b, c])) = (next >> 4, data.first_chunk()) {
            // At most one millisecond; a sender that says more is clamped, not refused.
            let nanos = u32::from_be_bytes([0, *a, *b, *c]);
            extended.timestamp_offset_nanos = nanos.min(TIMESTAMP_OFFSET_NANOS_MAX);
        }
        extended.packet_type = next & 0x0f;
    }
    Ok(extended)
}

/// The packet type, codec and track behind an optional multitrack prefix.
pub(crate) struct Track {
    pub(crate) packet_type: u8,
    pub(crate) four_cc: FourCc,
    pub(crate) track: Option<u8>,
}

/// Reads the FourCC, and before it the multitrack prefix where `packet_type` says there is one.
pub(crate) fn track(
    reader: &mut Reader<'_>,
    packet_type: u8,
    multitrack: u8,
) -> Result<Track, Stop> {
    if packet_type != multitrack {
        return Ok(Track { packet_type, four_cc: reader.four_cc()?, track: None });
    }
    let at = reader.at;
    let byte = reader.byte()?;
    let (multitrack_type, packet_type) = (byte >> 4, byte & 0x0f);
    if packet_type == multitrack || packet_type == MOD_EX {
        return Err(Error::NestedMultitrack { at }.into());
    }
    if multitrack_type != ONE_TRACK {
        return Err(Error::UnsupportedMultitrack { at, multitrack_type }.into());
    }
    Ok(Track { packet_type, four_cc: reader.four_cc()?, track: Some(reader.byte()?) })
}

/// Appends the ModEx and multitrack parts, with the FourCC; `first` is the first byte without its
/// packet type.
pub(crate) fn encode(out: &mut Vec<u8>, first: u8, nanos: u32, multitrack: u8, track: &Track) {
    let outer = if track.track.is_some() { multitrack } else { track.packet_type };
    if nanos == 0 {
        out.push(first | outer);
    } else {
        let [_, a, b, c] = nanos.min(TIMESTAMP_OFFSET_NANOS_MAX).to_be_bytes();
        let next = TIMESTAMP_OFFSET_NANO << 4 | outer;
        out.extend_from_slice(&[first | MOD_EX, 2, a, b, c, next]);
    }
    if track.track.is_some() {
        out.push(ONE_TRACK << 4 | track.packet_type);
    }
    out.extend_from_slice(&track.four_cc.0);
    out.extend(track.track);
}

const MOD_EX: u8 = 7;
const ONE_TRACK: u8 = 0;
const TIMESTAMP_OFFSET_NANO: u8 = 0;
const TIMESTAMP_OFFSET_NANOS_MAX: u32 = 999_999;
