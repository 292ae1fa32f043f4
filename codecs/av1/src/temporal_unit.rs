//! Questions about one temporal unit (AV1 7.5, file format binding 2.4).
//!
//! In: the OBUs of one presentation time, with or without the temporal delimiter in front. Out:
//! its sequence header, whether it is a random access point, and the sample to store.

use crate::bits::BitReader;
use crate::{Error, Obu, ObuType, SequenceHeader, obus};

/// The first sequence header OBU, if there is one.
///
/// # Errors
/// The OBUs in front of it do not add up.
pub fn sequence_header_obu(temporal_unit: &[u8]) -> Result<Option<Obu<'_>>, Error> {
    obus(temporal_unit)
        .find(|obu| !matches!(obu, Ok(obu) if obu.kind != ObuType::SequenceHeader))
        .transpose()
}

/// Whether the temporal unit is a sync sample: a sequence header, and behind it as its first frame a
/// key frame that is shown (file format binding 2.4). What lies behind that frame's header is not
/// checked.
///
/// # Errors
/// The OBUs up to the first frame header do not add up, or the sequence header is broken.
pub fn is_random_access(temporal_unit: &[u8]) -> Result<bool, Error> {
    let mut reduced_still_picture_header = None;
    for obu in obus(temporal_unit) {
        let obu = obu?;
        match obu.kind {
            ObuType::SequenceHeader => {
                let header = SequenceHeader::parse(obu.payload)?;
                reduced_still_picture_header = Some(header.reduced_still_picture_header);
            }
            ObuType::FrameHeader | ObuType::Frame => {
                return match reduced_still_picture_header {
                    None => Ok(false),
                    Some(true) => Ok(true),
                    Some(false) => is_shown_key_frame(obu.payload),
                };
            }
            _ => {}
        }
    }
    Ok(false)
}

/// The start of uncompressed_header, AV1 5.9.2, where the header is not reduced.
fn is_shown_key_frame(payload: &[u8]) -> Result<bool, Error> {
    let mut reader = BitReader::new(payload);
    let show_existing_frame = reader.flag()?;
    if show_existing_frame {
        return Ok(false);
    }
    let frame_type = reader.read(2)?;
    let show_frame = reader.flag()?;
    Ok(frame_type == KEY_FRAME && show_frame)
}

/// The temporal unit as a sample: without the temporal delimiter, which the file format keeps out
/// (binding 2.4). A temporal unit has at most one, and at its start (AV1 7.5), so what remains is
/// one slice. It is empty when there was nothing else.
///
/// # Errors
/// The OBUs do not add up, or a delimiter behind other OBUs shows that there are two units.
pub fn sample(temporal_unit: &[u8]) -> Result<&[u8], Error> {
    let mut start = 0;
    for obu in obus(temporal_unit) {
        let obu = obu?;
        if obu.kind == ObuType::TemporalDelimiter {
            if obu.offset > 0 {
                return Err(Error::TwoTemporalUnits { offset: obu.offset });
            }
            start = obu.bytes.len();
        }
    }
    Ok(&temporal_unit[start..])
}

const KEY_FRAME: u32 = 0;
