//! What bounds a stream, and the rules for where segments and parts end.
//!
//! In: configuration. Out: [`Settings`], and for the segmenter [`Rules`]: the same in ticks, with
//! the target duration once it is known.
//!
//! The target duration is chosen when the first segment is complete, from how long that one is (so
//! from the encoder's key frame interval), and never changes (RFC 8216bis 4.4.3.1). From then on a
//! segment that would become longer is ended at any access unit. An encoder that sends key frames
//! less often than that gets segments that cannot be decoded alone, which is said in the playlists
//! and counted as a fault.

use crate::live::ticks_of;
use crate::live::track::TrackKind;

/// The bounds of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What sets the names and numbers of this stream apart from those of an earlier stream of the
    /// same name: greater than that one's by at least the segments it had. Unix seconds at creation
    /// do, since segments last about a second or longer.
    pub epoch: u64,
    /// A segment ends at the first random access unit after this.
    pub segment_duration_ms: u32,
    /// The first segment ends after this without a random access unit.
    pub segment_duration_max_ms: u32,
    /// A part ends before it would be longer than this.
    pub part_duration_ms: u32,
    /// Segments listed per track; more while they last less than three target durations (6.2.2).
    pub window_segments: usize,
    /// Segments kept per track after they left the list (6.2.2).
    pub keep_segments: usize,
    /// Media bytes kept, over both tracks.
    pub window_bytes_max: u64,
    /// Media bytes in one segment; then it ends at any access unit.
    pub segment_bytes_max: u64,
    /// Media bytes in one part with more than one access unit.
    pub part_bytes_max: u64,
    /// Access units in one part.
    pub part_access_units_max: usize,
    /// How long a first track waits for the other to appear before it is shown alone.
    pub other_track_wait_ms: u32,
    /// How long audio waits for the first random access unit of video that is already arriving.
    pub random_access_wait_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epoch: 0,
            segment_duration_ms: 2000,
            segment_duration_max_ms: 4000,
            part_duration_ms: 500,
            window_segments: 10,
            keep_segments: 11,
            window_bytes_max: 256 << 20,
            segment_bytes_max: 64 << 20,
            part_bytes_max: 8 << 20,
            part_access_units_max: 512,
            other_track_wait_ms: 1000,
            random_access_wait_ms: 10_000,
        }
    }
}

impl Settings {
    /// The longest time between two access units of a track that is shown as one lasting long;
    /// above it a new period begins. As no segment's bound is below a segment's duration, an access
    /// unit always fits a segment.
    pub(super) fn gap_max_ms(&self) -> i64 {
        i64::from(self.segment_duration_ms)
    }
}

/// Where segments and parts of one stream end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) settings: Settings,
    /// The target duration in seconds, from the first complete segment on.
    pub(super) target_duration_s: Option<u32>,
    /// How much audio is in its open segment and waits for it, in ms.
    pub(super) audio_span_ms: i64,
}

impl Rules {
    /// The longest a segment may become, in ticks.
    pub(super) fn segment_ticks_max(&self, kind: TrackKind, timescale: u32) -> i64 {
        // Audio ends at the first access unit after a video segment did, so it has more room;
        // 500 ms would already be rounded up.
        let (known, unknown) = match kind {
            TrackKind::Video => (350, 0),
            TrackKind::Audio => (490, 400),
        };
        let millis = match self.target_duration_s {
            Some(seconds) => i64::from(seconds) * 1000 + known,
            None => i64::from(self.settings.segment_duration_max_ms) + unknown,
        };
        ticks_of(millis, timescale)
    }

    /// How long a video segment has to be before a random access unit ends it. Timestamps in
    /// milliseconds make a key frame interval look up to a picture shorter than it is.
    pub(super) fn segment_ticks_min(&self, timescale: u32) -> i64 {
        let duration_ms = i64::from(self.settings.segment_duration_ms);
        ticks_of(duration_ms - duration_ms / 20, timescale)
    }

    pub(super) fn part_ticks_max(&self, timescale: u32) -> i64 {
        ticks_of(i64::from(self.settings.part_duration_ms), timescale)
    }

    /// The target duration; chosen when the first segment is complete, `duration_ms` long.
    pub(super) fn target_for(&mut self, duration_ms: i64) -> u32 {
        if let Some(target) = self.target_duration_s {
            return target;
        }
        let least = i64::from(self.settings.segment_duration_ms.div_ceil(1000)).max(1);
        // A quarter of a second for key frame intervals that vary, rounded as players do.
        let video = (duration_ms + 250 + 500).div_euclid(1000);
        let audio = (self.audio_span_ms + 100 + 500).div_euclid(1000);
        let target = least.max(video).max(audio) as u32;
        self.target_duration_s = Some(target);
        target
    }
}
