//! A track: its kind, what configures its decoder, and its access units.
//!
//! In: parsed codec configurations. Out: [`TrackDescription`], made once per configuration, with
//! everything that playlists and init sections say of the track.

use aac::AudioSpecificConfig;
use av1::Av1CodecConfigurationRecord;
use fmp4::header::{Codec, header};
use h264::AvcDecoderConfigurationRecord;

use crate::memory::Payload;

/// What a track shows. A stream has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl TrackKind {
    /// Both kinds, video first.
    pub const ALL: [Self; 2] = [Self::Video, Self::Audio];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The word in file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// The media type of init sections and segments.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Video => "video/mp4",
            Self::Audio => "audio/mp4",
        }
    }
}

/// What configures a track's decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackConfig {
    /// H.264 video.
    H264(AvcDecoderConfigurationRecord),
    /// AV1 video.
    Av1(Av1CodecConfigurationRecord),
    /// AAC audio.
    Aac(AudioSpecificConfig),
}

impl TrackConfig {
    /// What it configures.
    #[must_use]
    pub const fn kind(&self) -> TrackKind {
        match self {
            Self::H264(_) | Self::Av1(_) => TrackKind::Video,
            Self::Aac(_) => TrackKind::Audio,
        }
    }

    /// Ticks per second of the track's access units: 90 000 for video, the sampling frequency for
    /// audio.
    #[must_use]
    pub fn timescale(&self) -> u32 {
        match self {
            Self::H264(_) | Self::Av1(_) => VIDEO_TIMESCALE,
            Self::Aac(config) => config.sampling_frequency().max(1),
        }
    }

    fn codec(&self) -> Codec<'_> {
        match self {
            Self::H264(config) => Codec::Avc1(config),
            Self::Av1(config) => Codec::Av01(config),
            Self::Aac(config) => Codec::Mp4a(config),
        }
    }
}

/// A coded picture or audio frame.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// When to decode it, in ticks of the track ([`TrackConfig::timescale`]).
    pub dts: i64,
    /// Composition time less decoding time, in ticks.
    pub composition_offset: i32,
    /// Whether decoding can begin here. Every audio frame is such a one.
    pub random_access: bool,
    /// The bytes as they lie in `mdat`.
    pub payload: Payload,
}

/// What is known of a track.
#[derive(Clone, Debug)]
pub struct TrackDescription {
    /// What configures its decoder.
    pub config: TrackConfig,
    /// Ticks per second.
    pub timescale: u32,
    /// The codec string of RFC 6381.
    pub codec_string: String,
    /// Width and height in pixels.
    pub resolution: Option<(u16, u16)>,
    /// The rate that leaves the audio decoder, and its channels.
    pub audio: Option<(u32, u8)>,
    /// Ticks of every access unit, where the codec fixes them.
    pub(super) access_unit_ticks: Option<i64>,
    /// The file name of the init section, which never stands for other bytes.
    pub init_name: String,
    /// The init section.
    pub init: Payload,
}

impl TrackDescription {
    /// Describes a track; `number` and `epoch` set the name of its init section apart.
    pub(super) fn new(config: TrackConfig, epoch: u64, number: u32) -> Self {
        let codec = config.codec();
        let timescale = config.timescale();
        let track = fmp4::header::TrackDescription { timescale, codec };
        let (audio, access_unit_ticks) = match &config {
            TrackConfig::Aac(config) => (
                Some((config.sample_rate(), config.channels())),
                Some(i64::from(config.samples_per_frame())),
            ),
            TrackConfig::H264(_) | TrackConfig::Av1(_) => (None, None),
        };
        Self {
            timescale,
            codec_string: codec.codec_string(),
            resolution: codec.picture_size(),
            audio,
            access_unit_ticks,
            init_name: format!("{}_init_{epoch}_{number}.mp4", config.kind().as_str()),
            init: Payload::copied_from(&header(&track)),
            config,
        }
    }

    /// What the track shows.
    #[must_use]
    pub fn kind(&self) -> TrackKind {
        self.config.kind()
    }
}

const VIDEO_TIMESCALE: u32 = 90_000;
