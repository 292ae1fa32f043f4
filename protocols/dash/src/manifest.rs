//! The description of a presentation: MPD, Period, AdaptationSet (5.3), field for field.
//!
//! Each adaptation set has one representation, since a stream has one rendition of each kind so
//! far; the type has room for nothing that is not written.

/// An MPD (5.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// `@availabilityStartTime` in milliseconds since 1970-01-01T00:00:00Z. It must never change.
    pub availability_start_unix_millis: i64,
    /// `@publishTime`, likewise: when this version came to be.
    pub publish_unix_millis: i64,
    /// Whether more will come.
    pub availability: Availability,
    /// `@timeShiftBufferDepth` in milliseconds.
    pub time_shift_buffer_depth_ms: u64,
    /// `@suggestedPresentationDelay` in milliseconds.
    pub suggested_presentation_delay_ms: u64,
    /// `@minBufferTime` in milliseconds.
    pub min_buffer_time_ms: u64,
    /// `@maxSegmentDuration` in milliseconds.
    pub max_segment_duration_ms: u64,
    /// Where the time can be asked, tried in order (5.8.4.11).
    pub utc_timing: Vec<UtcTiming<'a>>,
    /// The periods, oldest first.
    pub periods: Vec<Period<'a>>,
}

/// Whether a presentation will grow (5.3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The manifest may change.
    Live {
        /// `@minimumUpdatePeriod` in milliseconds: how long this version is good for.
        minimum_update_period_ms: u64,
    },
    /// The manifest will not change any more.
    Ended {
        /// `@mediaPresentationDuration` in milliseconds, from the availability start on.
        media_presentation_duration_ms: u64,
    },
}

/// A way to learn the server's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtcTiming<'a> {
    /// A URL whose body is the time in the form of ISO 8601.
    HttpIso(&'a str),
    /// The time at which the manifest is sent, in milliseconds since the Unix epoch.
    Direct(i64),
}

/// A Period (5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period<'a> {
    /// `@id`, unique in the presentation and never another period's later.
    pub id: &'a str,
    /// `@start` in milliseconds after the availability start. It must never change.
    pub start_ms: u64,
    /// The adaptation sets, one of each kind.
    pub adaptation_sets: Vec<AdaptationSet<'a>>,
}

/// An AdaptationSet with its one Representation (5.3.3, 5.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptationSet<'a> {
    /// What it is.
    pub content: ContentType,
    /// Representation `@id`, unique in the period.
    pub representation_id: &'a str,
    /// `@codecs`.
    pub codecs: &'a str,
    /// `@bandwidth` in bits per second.
    pub bandwidth: u64,
    /// Whether every segment starts with a picture that can be decoded alone (`@startWithSAP`).
    pub independent_segments: bool,
    /// `@timescale`: ticks per second.
    pub timescale: u32,
    /// `@presentationTimeOffset`: the media time that is the period's start, in ticks.
    pub presentation_time_offset: u64,
    /// `@initialization`: URL of the init section, relative to the manifest.
    pub initialization: &'a str,
    /// `@media`: URL of a segment, with `$Time$` in the place of its start.
    pub media: &'a str,
    /// The SegmentTimeline (5.3.9.6), oldest first.
    pub segments: Vec<TimelineSegment>,
}

/// What an adaptation set shows, with the values that only this kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Pictures.
    Video {
        /// `@width` and `@height` in pixels.
        resolution: Option<(u32, u32)>,
        /// `@frameRate`.
        frame_rate: Option<FrameRate>,
    },
    /// Sound.
    Audio {
        /// `@audioSamplingRate` in Hz.
        sampling_rate: u32,
        /// AudioChannelConfiguration, as a number of channels.
        channels: u32,
    },
}

/// Pictures per second as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// Pictures in `denominator` seconds.
    pub numerator: u32,
    /// Above zero.
    pub denominator: u32,
}

/// A segment of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSegment {
    /// `@t`: its earliest presentation time, in ticks.
    pub time: u64,
    /// `@d`: how long it is, in ticks.
    pub duration: u64,
}
