//! AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1) and what its first sequence parameter
//! set says.
//!
//! In: the record's bytes. Out: the bytes again, and the facts that playlists and sample entries
//! need.
//!
//! What encoders do, and what is done about it: the record's own profile and level bytes may differ
//! from those of the parameter set, which is what decoders obey, so the codec string is taken from
//! the set; a level too low for the picture size is left to the decoder's judgement; zero bytes may
//! trail a parameter set and are ignored when it is read; the fields that High profiles append are
//! often missing and are not read at all; records without parameter sets exist.

use h264_reader::nal::sps::{AspectRatioInfo, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

use crate::{Error, LengthSize, NalUnitType};

/// The most bytes a record may have: far above what encoders send, far below what lists of 31 and
/// 255 parameter sets of 64 KiB could declare.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The largest width or height in samples: a sample entry's field has 16 bits, and no level of
/// H.264 allows as much.
pub const DIMENSION_MAX: u32 = 16_384;

/// A decoder's configuration: the bytes as they came, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcDecoderConfigurationRecord {
    bytes: Vec<u8>,
    length_size: LengthSize,
    /// profile_idc, the constraint flags and level_idc of the first sequence parameter set.
    profile_and_level: [u8; 3],
    width: u16,
    height: u16,
    frame_rate: Option<FrameRate>,
    colour: Option<Colour>,
    sample_aspect_ratio: Option<(u16, u16)>,
}

/// Frames per second as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Frames in `denominator` seconds; above zero.
    pub numerator: u32,
    /// Above zero.
    pub denominator: u32,
}

/// How samples are to be seen: the code points of ISO/IEC 23091-2, as VUI (Annex E) carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// colour_primaries.
    pub primaries: u8,
    /// transfer_characteristics.
    pub transfer: u8,
    /// matrix_coefficients.
    pub matrix: u8,
    /// video_full_range_flag.
    pub full_range: bool,
}

impl AvcDecoderConfigurationRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// The sender's fault, by name; [`Error::NoParameterSets`] for an empty record too.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::NoParameterSets);
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let mut fields = Fields { bytes, offset: 0 };
        let [version, _profile, _compatibility, _level, length_size, sequence_sets] =
            fields.take_array()?;
        if version != 1 {
            return Err(Error::Version(version));
        }
        let length_size = match length_size & 3 {
            0 => LengthSize::One,
            1 => LengthSize::Two,
            3 => LengthSize::Four,
            other => return Err(Error::LengthSize(other + 1)),
        };
        let sequence_set =
            fields.parameter_sets(sequence_sets & 0x1f, NalUnitType::SequenceParameterSet)?;
        let [picture_sets] = fields.take_array()?;
        let picture_set = fields.parameter_sets(picture_sets, NalUnitType::PictureParameterSet)?;
        let (Some(sequence_set), Some(_)) = (sequence_set, picture_set) else {
            return Err(Error::NoParameterSets);
        };
        Self::describe(bytes, length_size, sequence_set)
    }

    /// Reads the first sequence parameter set.
    fn describe(bytes: &[u8], length_size: LengthSize, set: &[u8]) -> Result<Self, Error> {
        let Some(&[_header, profile, constraints, level]) = set.first_chunk() else {
            return Err(Error::SequenceParameterSet("shorter than its level".to_owned()));
        };
        let sps = read_sequence_parameter_set(set)?;
        let (width, height) = sps.pixel_dimensions().map_err(set_error)?;
        let dimension = |value: u32| match u16::try_from(value) {
            Ok(small) if small > 0 && value <= DIMENSION_MAX => Ok(small),
            _ => Err(Error::Dimensions { width, height }),
        };
        let vui = sps.vui_parameters.as_ref();
        let frame_rate = vui
            .and_then(|vui| vui.timing_info.as_ref())
            .and_then(|timing| FrameRate::of_ticks(timing.time_scale, timing.num_units_in_tick));
        let colour = vui.and_then(|vui| vui.video_signal_type.as_ref()).and_then(|signal| {
            signal.colour_description.as_ref().map(|description| Colour {
                primaries: description.colour_primaries,
                transfer: description.transfer_characteristics,
                matrix: description.matrix_coefficients,
                full_range: signal.video_full_range_flag,
            })
        });
        let sample_aspect_ratio = vui
            .and_then(|vui| vui.aspect_ratio_info.as_ref())
            .and_then(AspectRatioInfo::get)
            .filter(|(horizontal, vertical)| *horizontal > 0 && *vertical > 0);
        Ok(Self {
            bytes: bytes.to_vec(),
            length_size,
            profile_and_level: [profile, constraints, level],
            width: dimension(width)?,
            height: dimension(height)?,
            frame_rate,
            colour,
            sample_aspect_ratio,
        })
    }

    /// The record as it came, for the `avcC` of a sample entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The size of the length in front of each NAL unit.
    #[must_use]
    pub fn nal_length_size(&self) -> LengthSize {
        self.length_size
    }

    /// Width after cropping, in samples; above zero.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Height after cropping, in samples of a frame; above zero.
    #[must_use]
    pub fn height(&self) -> u16 {
        self.height
    }

    /// The frame rate, where VUI timing says one that can be true.
    #[must_use]
    pub fn frame_rate(&self) -> Option<FrameRate> {
        self.frame_rate
    }

    /// The colour description, where VUI has one.
    #[must_use]
    pub fn colour(&self) -> Option<Colour> {
        self.colour
    }

    /// Width to height of one sample, where VUI says it; both above zero.
    #[must_use]
    pub fn sample_aspect_ratio(&self) -> Option<(u16, u16)> {
        self.sample_aspect_ratio
    }

    /// The codec string of RFC 6381 3.3: `avc1.` and three bytes in hexadecimal.
    #[must_use]
    pub fn codec_string(&self) -> String {
        let [profile, constraints, level] = self.profile_and_level;
        format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
    }
}

impl FrameRate {
    /// Of time_scale and num_units_in_tick, where a frame is two ticks (ITU-T H.264 E.2.1). Rates
    /// above 1000 are taken for nonsense, as is a tick of no length.
    pub(crate) fn of_ticks(time_scale: u32, num_units_in_tick: u32) -> Option<Self> {
        let (numerator, denominator) = if time_scale.is_multiple_of(2) {
            (time_scale / 2, num_units_in_tick)
        } else {
            (time_scale, num_units_in_tick.checked_mul(2)?)
        };
        let plausible = numerator > 0
            && denominator > 0
            && u64::from(numerator) <= 1000 * u64::from(denominator);
        plausible.then_some(Self { numerator, denominator })
    }

    /// As a number, for `FRAME-RATE` and the like.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

/// The record's bytes and how far they are read.
struct Fields<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let truncated = Error::Truncated { offset: self.offset, bytes: self.bytes.len() };
        let taken = self.bytes[self.offset..].get(..count).ok_or(truncated)?;
        self.offset += count;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Passes over a list of parameter sets and returns the first.
    fn parameter_sets(&mut self, count: u8, kind: NalUnitType) -> Result<Option<&'a [u8]>, Error> {
        let mut first = None;
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes(self.take_array()?));
            let offset = self.offset;
            let set = self.take(length)?;
            if set.first().map(|byte| NalUnitType::of_header(*byte)) != Some(kind) {
                let expected = match kind {
                    NalUnitType::SequenceParameterSet => "sequence parameter set",
                    _ => "picture parameter set",
                };
                return Err(Error::NotAParameterSet { offset, expected });
            }
            first = first.or(Some(set));
        }
        Ok(first)
    }
}

/// Reads a set with the highest level in place of its own: h264-reader refuses pictures larger than
/// the level allows, but decoders play them, and encoders that understate the level exist.
fn read_sequence_parameter_set(set: &[u8]) -> Result<SeqParameterSet, Error> {
    // trailing_zero_8bits belong to Annex B, not to the NAL unit (ITU-T H.264 7.4.1).
    let end = set.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut lenient = set[..end].to_vec();
    if let Some(level) = lenient.get_mut(LEVEL_OFFSET) {
        *level = LEVEL_6_2;
    }
    let nal = RefNal::new(&lenient, &[], true);
    SeqParameterSet::from_bits(nal.rbsp_bits()).map_err(set_error)
}

fn set_error(error: h264_reader::nal::sps::SpsError) -> Error {
    // The library's errors have no text of their own.
    Error::SequenceParameterSet(format!("{error:?}"))
}

/// NAL unit header, profile_idc, constraint flags, level_idc.
const LEVEL_OFFSET: usize = 3;
const LEVEL_6_2: u8 = 62;
