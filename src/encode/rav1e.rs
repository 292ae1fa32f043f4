//! AV1 by rav1e, in software, on the calling thread and a bounded pool of helpers.
//!
//! Planes go in; temporal units come out as MP4 samples hold them (AV1-ISOBMFF 2.4: low-overhead
//! OBUs, the temporal delimiter left out, a sequence header in front of each key frame). Tuned for
//! a live source: fastest preset, no reordering, the shortest look-ahead rav1e has, no search for
//! scene cuts. About five pictures stay inside before the first packet comes out; a picture past
//! [`IN_FLIGHT_MAX`] is handed back, so nothing late is ever queued.
//!
//! What rav1e does not have and how it is made up for: it cannot change its rate inside a run, so a
//! new rate drains the context and starts another with a key frame; it writes level 31 ("no
//! limit") unless told, so the level is taken from the table of AV1 Annex A.3.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use ::rav1e::color::{
    ColorDescription, ColorPrimaries, MatrixCoefficients, TransferCharacteristics,
};
use ::rav1e::config::{Config, EncoderConfig, SpeedSettings};
use ::rav1e::data::{EncoderStatus, FrameParameters, FrameType, Rational};
use ::rav1e::prelude::{FrameTypeOverride, Opaque, SceneDetectionSpeed};
use bytes::Bytes;

use super::{
    BitRateError, Description, EncodeError, Encoder, EncoderOptions, Packet, Picture, Planes,
    Probe, SubmitError, SubmitOptions,
};

/// The name shown to people.
pub const NAME: &str = "rav1e";

/// The most pictures inside; rav1e needs five to produce the first packet.
pub const IN_FLIGHT_MAX: usize = 8;

const SPEED: u8 = 10;

/// What the planes are in; without it players guess by the size of the picture.
const BT709: ColorDescription = ColorDescription {
    color_primaries: ColorPrimaries::BT709,
    transfer_characteristics: TransferCharacteristics::BT709,
    matrix_coefficients: MatrixCoefficients::BT709,
};
const BITS_PER_SECOND_MIN: u32 = 10_000;
const BITS_PER_SECOND_MAX: u32 = 100_000_000;

/// The temporal delimiter OBU that every temporal unit starts with (AV1 5.6).
const TEMPORAL_DELIMITER: &[u8] = &[0x12, 0x00];

/// One rav1e run after another.
pub struct Rav1eEncoder {
    options: EncoderOptions,
    description: Description,
    context: ::rav1e::Context<u8>,
    /// What came out of a context that a new rate has ended.
    drained: VecDeque<Packet>,
    in_flight: usize,
    key_frame_wanted: bool,
    rate_changed: bool,
    flushed: bool,
    failed: Option<EncodeError>,
}

impl Rav1eEncoder {
    /// An encoder for pictures of this size.
    ///
    /// Codes one small run of black to learn the sequence header, which rav1e shows only inside a
    /// packet; that takes as long as one key frame.
    ///
    /// # Errors
    /// [`EncodeError::Options`] when rav1e refuses the options.
    pub fn new(options: EncoderOptions) -> Result<Self, EncodeError> {
        let description = describe(&options)?;
        Ok(Self {
            context: context(&options)?,
            options,
            description,
            drained: VecDeque::new(),
            in_flight: 0,
            key_frame_wanted: true,
            rate_changed: false,
            flushed: false,
            failed: None,
        })
    }

    fn check(&self, picture: Picture) -> Result<Planes, SubmitError> {
        let EncoderOptions { width, height, .. } = self.options;
        if self.flushed || self.failed.is_some() {
            return Err(SubmitError::Closed(picture));
        }
        if !matches!(picture, Picture::Planes(_)) {
            return Err(SubmitError::Unsupported { backend: NAME, picture });
        }
        if picture.size() != (width, height) {
            return Err(SubmitError::WrongSize { width, height, picture });
        }
        if self.in_flight + self.drained.len() >= IN_FLIGHT_MAX {
            return Err(SubmitError::Full(picture));
        }
        match picture {
            Picture::Planes(planes) => Ok(planes),
            other => Err(SubmitError::Unsupported { backend: NAME, picture: other }),
        }
    }

    /// Ends the run with the old rate and starts one with the new.
    fn restart(&mut self) -> Result<(), EncodeError> {
        let next = context(&self.options)?;
        self.context.flush();
        while let Some(packet) = receive(&mut self.context)? {
            self.drained.push_back(packet);
        }
        self.context = next;
        self.in_flight = 0;
        self.rate_changed = false;
        self.key_frame_wanted = true;
        Ok(())
    }
}

impl Encoder for Rav1eEncoder {
    fn probe() -> Probe {
        let assembly = if cfg!(feature = "av1-asm") { "with" } else { "without" };
        Probe::Available(format!("rav1e {}, {assembly} assembly", ::rav1e::version::short()))
    }

    fn description(&self) -> Description {
        self.description.clone()
    }

    fn submit(&mut self, picture: Picture, options: SubmitOptions) -> Result<(), SubmitError> {
        let planes = self.check(picture)?;
        if self.rate_changed
            && let Err(error) = self.restart()
        {
            self.failed = Some(error);
            return Err(SubmitError::Closed(Picture::Planes(planes)));
        }
        let force_key_frame = options.force_key_frame || self.key_frame_wanted;
        match send(&mut self.context, &planes, SubmitOptions { force_key_frame, ..options }) {
            Ok(()) => {
                self.key_frame_wanted = false;
                self.in_flight += 1;
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error);
                Err(SubmitError::Closed(Picture::Planes(planes)))
            }
        }
    }

    fn poll_packet(
        &mut self,
        _context: &mut Context<'_>,
    ) -> Poll<Result<Option<Packet>, EncodeError>> {
        if let Some(packet) = self.drained.pop_front() {
            return Poll::Ready(Ok(Some(packet)));
        }
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        match receive(&mut self.context) {
            Ok(Some(packet)) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                Poll::Ready(Ok(Some(packet)))
            }
            Ok(None) if self.flushed => Poll::Ready(Ok(None)),
            Ok(None) => Poll::Pending,
            Err(error) => {
                self.failed = Some(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }

    fn flush(&mut self) {
        if !self.flushed {
            self.flushed = true;
            self.context.flush();
        }
    }

    fn force_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    fn set_bit_rate(&mut self, bits_per_second: u32) -> Result<(), BitRateError> {
        let (min, max) = (BITS_PER_SECOND_MIN, BITS_PER_SECOND_MAX);
        if !(min..=max).contains(&bits_per_second) {
            return Err(BitRateError { asked: bits_per_second, min, max });
        }
        self.rate_changed |= bits_per_second != self.options.bits_per_second;
        self.options.bits_per_second = bits_per_second;
        Ok(())
    }
}

impl fmt::Debug for Rav1eEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Rav1eEncoder")
            .field("options", &self.options)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

fn context(options: &EncoderOptions) -> Result<::rav1e::Context<u8>, EncodeError> {
    let refused = |error: &dyn fmt::Display| EncodeError::Options(error.to_string());
    let bits = options.bits_per_second;
    if !(BITS_PER_SECOND_MIN..=BITS_PER_SECOND_MAX).contains(&bits) {
        let (min, max) = (BITS_PER_SECOND_MIN, BITS_PER_SECOND_MAX);
        return Err(refused(&BitRateError { asked: bits, min, max }));
    }
    let threads = options.threads.clamp(1, 64);
    let mut speed_settings = SpeedSettings::from_preset(SPEED);
    speed_settings.rdo_lookahead_frames = 1;
    speed_settings.scene_detection_mode = SceneDetectionSpeed::None;
    let config = EncoderConfig {
        width: options.width as usize,
        height: options.height as usize,
        time_base: Rational::new(1, u64::from(options.pictures_per_second.max(1))),
        low_latency: true,
        min_key_frame_interval: 0,
        max_key_frame_interval: u64::from(options.key_frame_interval.max(1)),
        bitrate: i32::try_from(bits).map_err(|error| refused(&error))?,
        level_idx: Some(level(options)),
        color_description: Some(BT709),
        tiles: threads,
        speed_settings,
        ..EncoderConfig::default()
    };
    Config::new()
        .with_encoder_config(config)
        .with_threads(threads)
        .new_context()
        .map_err(|error| refused(&error))
}

fn send(
    context: &mut ::rav1e::Context<u8>,
    planes: &Planes,
    options: SubmitOptions,
) -> Result<(), EncodeError> {
    let mut frame = context.new_frame();
    let width = planes.width() as usize;
    let strides = [width, width / 2, width / 2];
    for ((target, source), stride) in frame.planes.iter_mut().zip(planes.planes()).zip(strides) {
        target.copy_from_raw_u8(source, stride, 1);
    }
    let frame_type_override =
        if options.force_key_frame { FrameTypeOverride::Key } else { FrameTypeOverride::No };
    let parameters = FrameParameters {
        frame_type_override,
        opaque: Some(Opaque::new(options.pts)),
        ..FrameParameters::default()
    };
    context.send_frame((frame, parameters)).map_err(failure)
}

/// The next packet, or `None` when rav1e has nothing before more input or at all.
fn receive(context: &mut ::rav1e::Context<u8>) -> Result<Option<Packet>, EncodeError> {
    loop {
        let packet = match context.receive_packet() {
            Ok(packet) => packet,
            Err(EncoderStatus::Encoded) => continue,
            Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return Ok(None),
            Err(status) => return Err(failure(status)),
        };
        let pts = packet.opaque.and_then(|opaque| opaque.downcast::<i64>().ok());
        let Some(pts) = pts else {
            return Err(EncodeError::Failed("a packet came back without its picture".to_owned()));
        };
        let data = Bytes::from(packet.data);
        let data = match data.strip_prefix(TEMPORAL_DELIMITER) {
            Some(rest) => data.slice_ref(rest),
            None => data,
        };
        let key_frame = packet.frame_type == FrameType::KEY;
        return Ok(Some(Packet { data, pts: *pts, dts: *pts, key_frame }));
    }
}

fn failure(status: EncoderStatus) -> EncodeError {
    EncodeError::Failed(format!("rav1e says: {status}"))
}

/// Learns the sequence header from a picture of black and wraps it in an `av1C`.
fn describe(options: &EncoderOptions) -> Result<Description, EncodeError> {
    let EncoderOptions { width, height, .. } = *options;
    let planes = Planes::black(width, height).ok_or_else(|| {
        EncodeError::Options(format!("{width} x {height}: both sides must be even, 16 to 65534"))
    })?;
    let mut trial = context(options)?;
    send(&mut trial, &planes, SubmitOptions { pts: 0, force_key_frame: true })?;
    trial.flush();
    let packet = receive(&mut trial)?;
    let no_header = || EncodeError::Failed("the first packet has no sequence header".to_owned());
    let packet = packet.ok_or_else(no_header)?;
    let record = av1::Av1CodecConfigurationRecord::of_temporal_unit(&packet.data)
        .map_err(|error| EncodeError::Failed(format!("rav1e's sequence header: {error}")))?
        .ok_or_else(no_header)?;
    Ok(Description { configuration: Bytes::copy_from_slice(record.bytes()), width, height })
}

/// The lowest level whose picture size and display rate hold the options (AV1 Annex A.3); 31, "no
/// limit", above level 5.1.
fn level(options: &EncoderOptions) -> u8 {
    let size = u64::from(options.width) * u64::from(options.height);
    let rate = size * u64::from(options.pictures_per_second);
    LEVELS
        .iter()
        .find(|level| {
            size <= level.picture_max
                && rate <= level.display_rate_max
                && options.width <= level.width_max
                && options.height <= level.height_max
        })
        .map_or(31, |level| level.index)
}

struct Level {
    index: u8,
    picture_max: u64,
    width_max: u32,
    height_max: u32,
    display_rate_max: u64,
}

const fn level_row(
    index: u8,
    picture_max: u64,
    (width_max, height_max): (u32, u32),
    display_rate_max: u64,
) -> Level {
    Level { index, picture_max, width_max, height_max, display_rate_max }
}

const LEVELS: [Level; 8] = [
    level_row(0, 147_456, (2048, 1152), 4_423_680),
    level_row(1, 278_784, (2816, 1584), 8_363_520),
    level_row(4, 665_856, (4352, 2448), 19_975_680),
    level_row(5, 1_065_024, (5504, 3096), 31_950_720),
    level_row(8, 2_359_296, (6144, 3456), 70_778_880),
    level_row(9, 2_359_296, (6144, 3456), 141_557_760),
    level_row(12, 8_912_896, (8192, 4352), 267_386_880),
    level_row(13, 8_912_896, (8192, 4352), 534_773_760),
];

#[cfg(test)]
mod tests {
    use av1::{Av1CodecConfigurationRecord, ObuType, is_random_access, obus};

    use super::*;
    use crate::encode::contract;

    #[test]
    fn packets_are_samples_of_the_described_stream() {
        let mut encoder = Rav1eEncoder::new(contract::OPTIONS).unwrap();
        let record = Av1CodecConfigurationRecord::parse(&encoder.description().configuration);
        let record = record.unwrap();
        let header = record.sequence_header();
        assert_eq!((header.max_frame_width, header.max_frame_height), (64, 48));
        assert_eq!(record.codec_string(), "av01.0.00M.08");

        let packets = contract::encode(&mut encoder, 8, &[4]);
        assert!(packets[0].key_frame);
        for (index, packet) in packets.iter().enumerate() {
            assert_eq!(packet.key_frame, [0, 4].contains(&index));
            assert_eq!(is_random_access(&packet.data), Ok(packet.key_frame), "packet {index}");
            assert_eq!(av1::sample(&packet.data), Ok(&packet.data[..]), "no delimiter inside");
            let kinds: Vec<_> = obus(&packet.data).map(|obu| obu.unwrap().kind).collect();
            assert_eq!(kinds[0] == ObuType::SequenceHeader, packet.key_frame, "{kinds:?}");
            assert_eq!(kinds.last(), Some(&ObuType::Frame));
            if packet.key_frame {
                let again = Av1CodecConfigurationRecord::of_temporal_unit(&packet.data).unwrap();
                assert_eq!(again.as_ref(), Some(&record), "the header never changes");
            }
        }
    }

    #[test]
    fn levels_are_the_lowest_that_hold_the_picture() {
        let level_of = |width, height, pictures_per_second| {
            level(&EncoderOptions { width, height, pictures_per_second, ..contract::OPTIONS })
        };
        assert_eq!(level_of(320, 180, 20), 0);
        assert_eq!(level_of(640, 360, 30), 1);
        assert_eq!(level_of(960, 540, 30), 4);
        assert_eq!(level_of(1280, 720, 30), 5);
        assert_eq!(level_of(1280, 720, 60), 8);
        assert_eq!(level_of(16_384, 16, 1), 31);
    }

    #[test]
    fn options_that_rav1e_refuses_are_named() {
        for options in [
            EncoderOptions { width: 15, ..contract::OPTIONS },
            EncoderOptions { height: 8, ..contract::OPTIONS },
            EncoderOptions { bits_per_second: 0, ..contract::OPTIONS },
        ] {
            assert!(matches!(Rav1eEncoder::new(options), Err(EncodeError::Options(_))));
        }
    }
}
