//! AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1) with GASpecificConfig (4.4.1).
//!
//! In: the configuration as it stands in an FLV sequence header or an `esds`. Out:
//! [`AudioSpecificConfig`], which keeps the bytes and answers for them. [`Parameters`] is the part
//! that can be written back.
//!
//! What senders do: SBR is announced in front (object type 5 or 29), behind (sync extension 0x2b7,
//! then 0x548 for PS) or not at all. Only the first two can be seen here; with the third the
//! decoder finds it in the frames and doubles the rate by itself, which changes no timestamp.
//! Zero bytes behind the configuration are common and mean nothing.

use crate::bits::{BitReader, BitWriter};
use crate::{Error, SAMPLING_FREQUENCIES, channels_of_configuration, frequency_of_index};

/// The most bytes a configuration may have. A program config element with the longest comment
/// stays below.
pub const CONFIG_BYTES_MAX: usize = 512;

/// The most channels a configuration may have: 22.2, the largest defined layout (configuration 13),
/// and room for the program config elements of 13818-7.
pub const CHANNELS_MAX: u8 = 48;

/// A decoder's configuration: the bytes as they came, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    bytes: Vec<u8>,
    parameters: Parameters,
    core_channels: u8,
}

/// The fields of an AudioSpecificConfig, named as in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// audioObjectType of the core coder: 2 for AAC LC, also when SBR lies on top.
    pub audio_object_type: u8,
    /// samplingFrequency of the core coder, in Hz.
    pub sampling_frequency: u32,
    /// channelConfiguration; 0 says that a program config element gives the channels.
    pub channel_configuration: u8,
    /// frameLengthFlag.
    pub frame_length: FrameLength,
    /// SBR, where the configuration announces it.
    pub spectral_band_replication: Option<SpectralBandReplication>,
}

/// SBR as announced by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpectralBandReplication {
    /// extensionSamplingFrequency: the rate that leaves the decoder, in Hz.
    pub extension_sampling_frequency: u32,
    /// Whether PS makes two channels of the core's one.
    pub parametric_stereo: bool,
}

/// Samples per frame and channel of the core coder (frameLengthFlag).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameLength {
    /// 1024, or 512 for low delay (object type 23).
    #[default]
    Long,
    /// 960, or 480 for low delay; used by broadcast radio.
    Short,
}

impl AudioSpecificConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// The sender's fault, by name; nothing is guessed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CONFIG_BYTES_MAX {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let mut reader = BitReader::new(bytes);
        let (parameters, core_channels) = Parameters::read(&mut reader)?;
        Ok(Self { bytes: bytes.to_vec(), parameters, core_channels })
    }

    /// Makes a configuration from its fields.
    ///
    /// # Errors
    /// As [`Parameters::encode`].
    pub fn new(parameters: Parameters) -> Result<Self, Error> {
        let core_channels = channels_of_configuration(parameters.channel_configuration)?;
        Ok(Self { bytes: parameters.encode()?, parameters, core_channels })
    }

    /// The configuration as it came, for the DecoderSpecificInfo of an `esds`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// The rate of the core coder in Hz. A track in this timescale gives every frame
    /// [`samples_per_frame`](Self::samples_per_frame) ticks, with and without SBR.
    #[must_use]
    pub fn sampling_frequency(&self) -> u32 {
        self.parameters.sampling_frequency
    }

    /// The rate that leaves the decoder, in Hz: with SBR usually twice the core's.
    #[must_use]
    pub fn sample_rate(&self) -> u32 {
        self.parameters
            .spectral_band_replication
            .map_or(self.parameters.sampling_frequency, |sbr| sbr.extension_sampling_frequency)
    }

    /// The channels that leave the decoder: two where PS lies on a mono core.
    #[must_use]
    pub fn channels(&self) -> u8 {
        match self.parameters.spectral_band_replication {
            Some(sbr) if sbr.parametric_stereo && self.core_channels == 1 => 2,
            _ => self.core_channels,
        }
    }

    /// Samples per frame and channel at the core's rate: 1024 or 960, for low delay 512 or 480. At
    /// the output rate of SBR a frame has twice as many, and lasts exactly as long.
    #[must_use]
    pub fn samples_per_frame(&self) -> u32 {
        let whole = match self.parameters.frame_length {
            FrameLength::Long => 1024,
            FrameLength::Short => 960,
        };
        if self.parameters.audio_object_type == ER_AAC_LD { whole / 2 } else { whole }
    }

    /// The codec string of RFC 6381 3.3: `mp4a.40.` and the object type, where 5 says SBR and 29
    /// says SBR with PS.
    #[must_use]
    pub fn codec_string(&self) -> String {
        let object_type = match self.parameters.spectral_band_replication {
            Some(sbr) if sbr.parametric_stereo => PS,
            Some(_) => SBR,
            None => self.parameters.audio_object_type,
        };
        format!("mp4a.40.{object_type}")
    }
}

impl Parameters {
    /// AAC LC with frames of 1024 samples, the configuration of nearly every live stream.
    #[must_use]
    pub fn low_complexity(sampling_frequency: u32, channel_configuration: u8) -> Self {
        Self {
            audio_object_type: AAC_LC,
            sampling_frequency,
            channel_configuration,
            frame_length: FrameLength::Long,
            spectral_band_replication: None,
        }
    }

    /// Writes the configuration; SBR and PS are announced in front (hierarchical signalling).
    ///
    /// # Errors
    /// An object type that is not transform AAC or needs more fields than these, a frequency that
    /// does not fit, and channel configuration 0, whose program config element is not kept.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        if !matches!(self.audio_object_type, 1..=4) {
            return Err(Error::ObjectType(self.audio_object_type));
        }
        channels_of_configuration(self.channel_configuration)?;
        let mut writer = BitWriter::default();
        let announced = match self.spectral_band_replication {
            Some(sbr) if sbr.parametric_stereo => PS,
            Some(_) => SBR,
            None => self.audio_object_type,
        };
        writer.write(5, u32::from(announced));
        write_frequency(&mut writer, self.sampling_frequency)?;
        writer.write(4, u32::from(self.channel_configuration));
        if let Some(sbr) = self.spectral_band_replication {
            write_frequency(&mut writer, sbr.extension_sampling_frequency)?;
            writer.write(5, u32::from(self.audio_object_type));
        }
        writer.write(1, u32::from(self.frame_length == FrameLength::Short));
        // dependsOnCoreCoder and extensionFlag are 0.
        writer.write(2, 0);
        Ok(writer.finish())
    }

    /// Returns the fields and the core's number of channels.
    fn read(reader: &mut BitReader<'_>) -> Result<(Self, u8), Error> {
        let mut audio_object_type = read_object_type(reader)?;
        let sampling_frequency = read_frequency(reader)?;
        let channel_configuration = reader.read_u8(4)?;
        let mut spectral_band_replication = None;
        if matches!(audio_object_type, SBR | PS) {
            spectral_band_replication = Some(SpectralBandReplication {
                extension_sampling_frequency: read_frequency(reader)?,
                parametric_stereo: audio_object_type == PS,
            });
            audio_object_type = read_object_type(reader)?;
            if audio_object_type == ER_BSAC {
                // extensionChannelConfiguration
                reader.skip(4)?;
            }
        }
        let (frame_length, core_channels) =
            read_general_audio(reader, audio_object_type, channel_configuration)?;
        if matches!(audio_object_type, 17 | 19..=23) {
            // epConfig: 0 and 1 have no more fields, 2 and 3 describe an error protection that no
            // file or live format carries.
            if reader.read(2)? > 1 {
                return Err(Error::ObjectType(audio_object_type));
            }
        }
        if spectral_band_replication.is_none() {
            // A sync extension that is cut off announces nothing: the core alone is still right.
            spectral_band_replication = read_sync_extension(reader).unwrap_or(None);
        }
        let parameters = Self {
            audio_object_type,
            sampling_frequency,
            channel_configuration,
            frame_length,
            spectral_band_replication,
        };
        Ok((parameters, core_channels))
    }
}

/// GetAudioObjectType, 1.6.2.1.
fn read_object_type(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    match reader.read_u8(5)? {
        31 => Ok(32 + reader.read_u8(6)?),
        object_type => Ok(object_type),
    }
}

fn read_frequency(reader: &mut BitReader<'_>) -> Result<u32, Error> {
    match reader.read_u8(4)? {
        FREQUENCY_ESCAPE => match reader.read(24)? {
            0 => Err(Error::SamplingFrequency(0)),
            frequency => Ok(frequency),
        },
        index => frequency_of_index(index),
    }
}

fn write_frequency(writer: &mut BitWriter, frequency: u32) -> Result<(), Error> {
    if let Some(index) = (0u32..).zip(SAMPLING_FREQUENCIES).find(|(_, f)| *f == frequency) {
        writer.write(4, index.0);
        return Ok(());
    }
    if frequency == 0 || frequency >= 1 << 24 {
        return Err(Error::SamplingFrequency(frequency));
    }
    writer.write(4, u32::from(FREQUENCY_ESCAPE));
    writer.write(24, frequency);
    Ok(())
}

/// GASpecificConfig, 4.4.1. Returns the frame length and the number of channels.
fn read_general_audio(
    reader: &mut BitReader<'_>,
    object_type: u8,
    channel_configuration: u8,
) -> Result<(FrameLength, u8), Error> {
    if !matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23) {
        return Err(Error::ObjectType(object_type));
    }
    let frame_length = if reader.flag()? { FrameLength::Short } else { FrameLength::Long };
    if reader.flag()? {
        // coreCoderDelay
        reader.skip(14)?;
    }
    let extension_flag = reader.flag()?;
    let channels = if channel_configuration == 0 {
        read_program_config_element(reader)?
    } else {
        channels_of_configuration(channel_configuration)?
    };
    if matches!(object_type, 6 | 20) {
        // layerNr
        reader.skip(3)?;
    }
    if extension_flag {
        match object_type {
            // numOfSubFrame, layer_length
            ER_BSAC => reader.skip(16)?,
            // the three resilience flags
            17 | 19 | 20 | 23 => reader.skip(3)?,
            _ => {}
        }
        // extensionFlag3
        reader.skip(1)?;
    }
    Ok((frame_length, channels))
}

/// program_config_element, 4.5.2.1 (table 4.2). Returns the number of channels.
fn read_program_config_element(reader: &mut BitReader<'_>) -> Result<u8, Error> {
    // element_instance_tag, object_type, sampling_frequency_index
    reader.skip(10)?;
    let front = reader.read_u8(4)?;
    let side = reader.read_u8(4)?;
    let back = reader.read_u8(4)?;
    let low_frequency = reader.read_u8(2)?;
    let associated_data = reader.read_u8(3)?;
    let coupling = reader.read_u8(4)?;
    // mono, stereo and matrix mix-down, each behind a flag
    for width in [4, 4, 3] {
        if reader.flag()? {
            reader.skip(width)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..front + side + back {
        channels += 1 + u8::from(reader.flag()?);
        reader.skip(4)?;
    }
    reader.skip(usize::from(low_frequency + associated_data) * 4 + usize::from(coupling) * 5)?;
    reader.align();
    let comment_bytes = reader.read_u8(8)?;
    reader.skip(usize::from(comment_bytes) * 8)?;
    if channels == 0 || channels > CHANNELS_MAX {
        return Err(Error::ProgramChannels(channels));
    }
    Ok(channels)
}

/// The backward compatible signalling behind the configuration, 1.6.6. Bytes that are no such
/// extension are padding.
fn read_sync_extension(
    reader: &mut BitReader<'_>,
) -> Result<Option<SpectralBandReplication>, Error> {
    if reader.remaining() < 16 || reader.read(11)? != SYNC_EXTENSION_SBR {
        return Ok(None);
    }
    if read_object_type(reader)? != SBR || !reader.flag()? {
        return Ok(None);
    }
    let extension_sampling_frequency = read_frequency(reader)?;
    let parametric_stereo =
        reader.remaining() >= 12 && reader.read(11)? == SYNC_EXTENSION_PS && reader.flag()?;
    Ok(Some(SpectralBandReplication { extension_sampling_frequency, parametric_stereo }))
}

const AAC_LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;
const ER_BSAC: u8 = 22;
const ER_AAC_LD: u8 = 23;
const FREQUENCY_ESCAPE: u8 = 15;
const SYNC_EXTENSION_SBR: u32 = 0x2b7;
const SYNC_EXTENSION_PS: u32 = 0x548;
