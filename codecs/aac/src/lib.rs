//! MPEG-4 audio configuration: AudioSpecificConfig and the ADTS header (ISO/IEC 14496-3).
//!
//! In: the bytes that configure an AAC decoder (an FLV audio sequence header, the
//! DecoderSpecificInfo of an `esds`, the first bytes of an ADTS frame). Out: what a packager needs
//! of them: rates, channels, the length of a frame and the codec string; and the same bytes again,
//! unchanged, for whoever configures the decoder.
//!
//! Invariants: a parsed configuration has a sampling frequency above zero and between 1 and
//! [`CHANNELS_MAX`] channels; parsing what [`Parameters::encode`] wrote gives the same parameters.
//!
//! Deliberately absent: the audio itself (no raw_data_block is read), LATM/LOAS, and the object
//! types that are not transform AAC (speech, ALS, USAC): those are refused by name.
#![forbid(unsafe_code)]

mod adts;
mod bits;
mod config;

pub use adts::{ADTS_HEADER_BYTES, AdtsHeader};
pub use config::{
    AudioSpecificConfig, CHANNELS_MAX, CONFIG_BYTES_MAX, FrameLength, Parameters,
    SpectralBandReplication,
};

/// Why bytes are not a configuration this crate understands. Each is the sender's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside a field.
    #[error("AAC configuration ends at bit {bit}, inside a field")]
    Truncated {
        /// The bit at which the field that does not fit begins.
        bit: usize,
    },
    /// More bytes than any configuration needs.
    #[error("AAC configuration of {bytes} bytes is larger than {CONFIG_BYTES_MAX}")]
    TooLong {
        /// How many there were.
        bytes: usize,
    },
    /// An object type that is not transform AAC, or is reserved.
    #[error("audio object type {0} is not supported")]
    ObjectType(u8),
    /// An index of the frequency table that is reserved (13, 14; 15 in ADTS).
    #[error("sampling frequency index {0} is reserved")]
    SamplingFrequencyIndex(u8),
    /// A frequency of 0 Hz, or one that does not fit the 24 bits of the escape.
    #[error("sampling frequency {0} Hz is impossible")]
    SamplingFrequency(u32),
    /// A channel configuration without a defined layout.
    #[error("channel configuration {0} has no defined layout")]
    ChannelConfiguration(u8),
    /// A program_config_element that names no channel, or more than [`CHANNELS_MAX`].
    #[error("program config element with {0} channels")]
    ProgramChannels(u8),
    /// An ADTS header that does not begin with the syncword and layer 0.
    #[error("no ADTS syncword")]
    Syncword,
    /// An ADTS frame shorter than its own header.
    #[error("ADTS frame length {0} is shorter than its header")]
    FrameLength(u16),
}

/// ISO/IEC 14496-3 table 1.18, by samplingFrequencyIndex.
const SAMPLING_FREQUENCIES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// ISO/IEC 14496-3 table 1.19 with its later additions, by channelConfiguration; 0 = undefined.
const CHANNELS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8, 0];

fn frequency_of_index(index: u8) -> Result<u32, Error> {
    SAMPLING_FREQUENCIES
        .get(usize::from(index))
        .copied()
        .ok_or(Error::SamplingFrequencyIndex(index))
}

fn channels_of_configuration(configuration: u8) -> Result<u8, Error> {
    match CHANNELS.get(usize::from(configuration)) {
        Some(&channels) if channels > 0 => Ok(channels),
        _ => Err(Error::ChannelConfiguration(configuration)),
    }
}

#[cfg(test)]
mod tests;
