//! The ADTS frame header (ISO/IEC 14496-3 1.A.3.2).
//!
//! In: the first bytes of a frame. Out: its length and configuration, or nothing yet when the
//! header is not whole. It does not search for a syncword: framing belongs to the caller.

use crate::{Error, FrameLength, Parameters, frequency_of_index};

/// The bytes of a header without a checksum.
pub const ADTS_HEADER_BYTES: usize = 7;

/// The header of one ADTS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsHeader {
    /// profile_ObjectType + 1: the object type of the core coder.
    pub audio_object_type: u8,
    /// The core's rate in Hz.
    pub sampling_frequency: u32,
    /// channel_configuration; 0 says that the frame itself carries a program config element.
    pub channel_configuration: u8,
    /// aac_frame_length: header and payload, in bytes.
    pub frame_bytes: u16,
    /// Header bytes before the payload: 7, with a checksum 9 (and for several blocks their
    /// positions).
    pub header_bytes: u16,
    /// number_of_raw_data_blocks_in_frame + 1.
    pub raw_data_blocks: u8,
}

impl AdtsHeader {
    /// Reads a header; `None` while fewer than [`ADTS_HEADER_BYTES`] bytes are there.
    ///
    /// # Errors
    /// The bytes are not an ADTS header, whatever may follow.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&[b0, b1, b2, b3, b4, b5, b6]) = bytes.first_chunk::<ADTS_HEADER_BYTES>() else {
            return Ok(None);
        };
        // syncword (12), ID (1), layer (2) which is always 0, protection_absent (1)
        if b0 != 0xff || b1 & 0xf6 != 0xf0 {
            return Err(Error::Syncword);
        }
        let raw_data_blocks = (b6 & 3) + 1;
        let header_bytes = match (b1 & 1 == 1, raw_data_blocks) {
            (true, _) => 7,
            // crc_check, and raw_data_block_position for each block but the first
            (false, blocks) => 9 + 2 * u16::from(blocks - 1),
        };
        let frame_bytes = u16::from(b3 & 3) << 11 | u16::from(b4) << 3 | u16::from(b5 >> 5);
        if frame_bytes < header_bytes {
            return Err(Error::FrameLength(frame_bytes));
        }
        Ok(Some(Self {
            audio_object_type: (b2 >> 6) + 1,
            sampling_frequency: frequency_of_index(b2 >> 2 & 15)?,
            channel_configuration: (b2 & 1) << 2 | b3 >> 6,
            frame_bytes,
            header_bytes,
            raw_data_blocks,
        }))
    }

    /// The configuration a decoder of the bare payload needs.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        Parameters {
            audio_object_type: self.audio_object_type,
            sampling_frequency: self.sampling_frequency,
            channel_configuration: self.channel_configuration,
            frame_length: FrameLength::Long,
            spectral_band_replication: None,
        }
    }
}
