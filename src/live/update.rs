//! What the home shard tells the others: periods, parts, segments.
//!
//! In: what the segmenter completed. Out: [`Update`], small and cheap to clone, numbered so that a
//! window applies each once.

use std::sync::Arc;

use crate::live::part::Part;
use crate::live::track::{TrackDescription, TrackKind};
use crate::live::{millis_of, ticks_of};
use crate::time::Wall;

/// One change of a stream.
#[derive(Clone, Debug)]
pub struct Update {
    /// Rises by one with every update of a stream.
    pub version: u64,
    /// When the home shard made it.
    pub wall: Wall,
    /// What changed.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new timeline began, or the configuration of a track changed: what follows is not
    /// continuous with what came before.
    Period(Arc<Period>),
    /// A part of the open segment is complete.
    Part(Arc<Part>),
    /// A segment is complete; its parts were told before.
    Segment(Arc<Segment>),
    /// A publisher began, or came back.
    PublisherCame,
    /// The publisher left; it may come back.
    PublisherGone,
    /// Memory is short: the oldest segments go until there are at most so many bytes, except what
    /// players need.
    Trimmed(u64),
    /// Nothing will follow.
    Ended,
}

/// A stretch of contiguous media with one configuration: a DASH Period, and what lies between two
/// EXT-X-DISCONTINUITY tags.
#[derive(Clone, Debug)]
pub struct Period {
    /// Counts from 0.
    pub number: u64,
    /// The media time that is the period's start, in ms: the earliest presentation time.
    pub origin_ms: i64,
    /// The date of that time.
    pub start: Wall,
    /// Its tracks, by kind.
    pub(super) tracks: [Option<Arc<TrackDescription>>; 2],
}

impl Period {
    /// The track of a kind.
    #[must_use]
    pub fn track(&self, kind: TrackKind) -> Option<&Arc<TrackDescription>> {
        self.tracks[kind.index()].as_ref()
    }

    /// The period's start in ticks of a track.
    pub(super) fn origin_ticks(&self, timescale: u32) -> i64 {
        ticks_of(self.origin_ms, timescale)
    }

    /// The date of a media time.
    pub(super) fn date(&self, ticks: i64, timescale: u32) -> Wall {
        let since_start = millis_of(ticks, timescale) - self.origin_ms;
        Wall::from_unix_millis(self.start.unix_millis() + since_start)
    }
}

/// A complete segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The track it is of.
    pub kind: TrackKind,
    /// Its period.
    pub period: Arc<Period>,
    /// Its track.
    pub track: Arc<TrackDescription>,
    /// Its number, rising by one from segment to segment of a track.
    pub sequence: u64,
    /// EXT-X-DISCONTINUITY tags before it.
    pub discontinuities: u32,
    /// Presentation time of its first access unit in ticks, rising within a period.
    pub time: i64,
    /// Ticks until the next segment's `time`, in presentation order.
    pub timeline_duration: i64,
    /// The sum of its access units' durations, in ticks.
    pub duration: i64,
    /// How many access units it has.
    pub access_units: usize,
    /// Whether it begins with a random access unit.
    pub independent: bool,
    /// The target duration of the stream, in seconds.
    pub target_duration_s: u32,
    /// Its parts.
    pub parts: Vec<Arc<Part>>,
    /// The bytes of all parts.
    pub bytes: u64,
    /// Its file name, which never stands for other bytes.
    pub name: String,
}

impl Segment {
    /// The date of its beginning, by the media clock.
    #[must_use]
    pub fn date(&self) -> Wall {
        self.period.date(self.time, self.track.timescale)
    }

    /// The date of its end, by the media clock: when it was complete, or close to it.
    #[must_use]
    pub fn end_date(&self) -> Wall {
        self.period.date(self.time + self.duration, self.track.timescale)
    }

    /// Bits per second over its own length.
    pub(super) fn bit_rate(&self) -> u64 {
        let bits = u128::from(self.bytes) * 8 * u128::from(self.track.timescale);
        u64::try_from(bits / self.duration.max(1) as u128).unwrap_or(u64::MAX)
    }
}
