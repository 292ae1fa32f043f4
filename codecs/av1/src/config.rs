//! AV1CodecConfigurationRecord, the content of `av1C` (file format binding 2.3).
//!
//! In: a record's bytes, or the temporal unit of a key frame. Out: the bytes for a sample entry,
//! and the sequence header in them.
//!
//! A record without configOBUs is legal, but says neither picture size nor colour; the senders we
//! know put the sequence header there, so a record without it is refused by name. The four bytes in
//! front repeat the sequence header; when they disagree, the header is believed, as decoders do.

use crate::obu::write_leb128;
use crate::temporal_unit::sequence_header_obu;
use crate::{Error, SequenceHeader};

/// The most bytes a record may have: a sequence header has at most about 300, the rest is metadata.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// A decoder's configuration: the bytes for `av1C`, and the sequence header in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Av1CodecConfigurationRecord {
    bytes: Vec<u8>,
    sequence_header: SequenceHeader,
}

impl Av1CodecConfigurationRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// The sender's fault, by name.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Error::RecordTooLong { bytes: bytes.len() });
        }
        let Some((&[MARKER_AND_VERSION, _, _, _], config_obus)) = bytes.split_first_chunk() else {
            return Err(Error::Record);
        };
        let obu = sequence_header_obu(config_obus)?.ok_or(Error::NoSequenceHeader)?;
        let sequence_header = SequenceHeader::parse(obu.payload)?;
        Ok(Self { bytes: bytes.to_vec(), sequence_header })
    }

    /// Makes the record of a stream from a temporal unit; `None` when it has no sequence header,
    /// which only those of key frames have.
    ///
    /// # Errors
    /// The OBUs do not add up or the sequence header is broken.
    pub fn of_temporal_unit(temporal_unit: &[u8]) -> Result<Option<Self>, Error> {
        let Some(obu) = sequence_header_obu(temporal_unit)? else {
            return Ok(None);
        };
        let sequence_header = SequenceHeader::parse(obu.payload)?;
        let mut bytes = fixed_fields(&sequence_header).to_vec();
        if obu.has_size {
            bytes.extend_from_slice(obu.bytes);
        } else {
            // configOBUs must say their sizes.
            let (header, _) = obu.bytes.split_at(obu.bytes.len() - obu.payload.len());
            bytes.extend_from_slice(header);
            bytes[FIXED_BYTES] |= OBU_HAS_SIZE;
            write_leb128(&mut bytes, obu.payload.len());
            bytes.extend_from_slice(obu.payload);
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Error::RecordTooLong { bytes: bytes.len() });
        }
        Ok(Some(Self { bytes, sequence_header }))
    }

    /// The record, for the `av1C` of a sample entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sequence header among its OBUs.
    #[must_use]
    pub fn sequence_header(&self) -> &SequenceHeader {
        &self.sequence_header
    }

    /// The codec string, see [`SequenceHeader::codec_string`].
    #[must_use]
    pub fn codec_string(&self) -> String {
        self.sequence_header.codec_string()
    }
}

/// The four bytes in front of configOBUs.
fn fixed_fields(header: &SequenceHeader) -> [u8; FIXED_BYTES] {
    let colour = &header.colour;
    let bits = [
        (7, header.high_tier),
        (6, colour.bit_depth > 8),
        (5, colour.bit_depth > 10),
        (4, colour.monochrome),
        (3, colour.subsampling.x()),
        (2, colour.subsampling.y()),
    ];
    let flags = bits.iter().fold(0, |byte, (shift, set)| byte | u8::from(*set) << shift);
    // initial_presentation_delay is counted in samples and depends on the decoder model; without
    // one it is left out.
    [
        MARKER_AND_VERSION,
        header.profile << 5 | header.level,
        flags | colour.chroma_sample_position,
        0,
    ]
}

const FIXED_BYTES: usize = 4;
/// marker (1 bit) and version 1.
const MARKER_AND_VERSION: u8 = 0x81;
const OBU_HAS_SIZE: u8 = 2;
