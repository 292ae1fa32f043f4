//! What a shard knows of a stream: the segments that are listed, those that can still be fetched,
//! and the playlists made of them.
//!
//! In: [`Update`]s in order. Out: answers to requests (`lookup.rs`).
//!
//! Invariants: the first listed segment's number never falls; a listed segment can be fetched, and
//! stays so for `keep_segments` more (RFC 8216bis 6.2.2) unless the bytes' bound takes it; equal
//! updates give equal playlists and validators on every shard.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::live::millis_of;
use crate::live::part::Part;
use crate::live::settings::Settings;
use crate::live::track::TrackKind;
use crate::live::update::{Change, Period, Segment, Update};
use crate::memory::Payload;
use crate::time::{Now, Wall};

/// A stream as one shard knows it. Cloning it clones references.
#[derive(Clone, Debug)]
pub struct Window {
    pub(super) settings: Settings,
    /// Of the newest update applied.
    version: u64,
    /// Of the newest update that changed a playlist, and its date.
    pub(super) content_version: u64,
    pub(super) content_date: Wall,
    /// The date that a manifest counts from, once there is a period.
    pub(super) availability_start: Option<Wall>,
    pub(super) period: Option<Arc<Period>>,
    pub(super) tracks: [TrackWindow; 2],
    pub(super) target_duration_s: Option<u32>,
    /// Whether there has been a segment of every track.
    pub(super) ready: bool,
    pub(super) ended: bool,
    publishing: bool,
    pub(super) rendered: Rendered,
}

/// One track's part of a window.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackWindow {
    /// All segments that can be fetched, oldest first.
    pub(super) kept: VecDeque<Arc<Segment>>,
    /// How many of them, from the front, are not listed any more.
    unlisted: usize,
    listed_ms: i64,
    bytes: u64,
    /// Parts of the segment that is not complete.
    parts: Vec<Arc<Part>>,
}

/// Playlists of the present `content_version`, made when first asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered {
    pub(super) multivariant: Option<Payload>,
    pub(super) media: [Option<Payload>; 2],
    pub(super) manifest: Option<Payload>,
}

impl Window {
    /// The window of a stream that has nothing yet.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            settings,
            version: 0,
            content_version: 0,
            content_date: now.wall,
            availability_start: None,
            period: None,
            tracks: [TrackWindow::default(), TrackWindow::default()],
            target_duration_s: None,
            ready: false,
            ended: false,
            publishing: false,
            rendered: Rendered::default(),
        }
    }

    /// Applies an update; one that was applied before changes nothing.
    pub fn apply(&mut self, update: Update) {
        if update.version <= self.version {
            return;
        }
        debug_assert_eq!(self.version + 1, update.version, "updates come in order, none is lost");
        self.version = update.version;
        match update.change {
            Change::Period(period) => {
                self.availability_start.get_or_insert(period.start);
                self.period = Some(period);
            }
            Change::Part(part) => self.tracks[part.kind.index()].parts.push(part),
            Change::Segment(segment) => {
                self.push_segment(segment);
                self.content_changed(&update.wall);
            }
            Change::PublisherCame => self.publishing = true,
            Change::PublisherGone => self.publishing = false,
            Change::Trimmed(bytes_max) => {
                self.trim(bytes_max);
                self.content_changed(&update.wall);
            }
            Change::Ended => {
                self.ended = true;
                self.content_changed(&update.wall);
            }
        }
    }

    /// The version of the newest update applied.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether someone publishes.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        self.publishing
    }

    /// Whether nothing will follow.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Media bytes that can be fetched.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tracks.iter().map(|track| track.bytes).sum()
    }

    /// The listed segments of a track, oldest first.
    pub fn listed(&self, kind: TrackKind) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        let track = &self.tracks[kind.index()];
        track.kept.iter().skip(track.unlisted)
    }

    /// The complete parts of the segment that is not complete, oldest first.
    #[must_use]
    pub fn open_parts(&self, kind: TrackKind) -> &[Arc<Part>] {
        &self.tracks[kind.index()].parts
    }

    fn content_changed(&mut self, wall: &Wall) {
        self.content_version = self.version;
        self.content_date = *wall;
        self.rendered = Rendered::default();
    }

    fn push_segment(&mut self, segment: Arc<Segment>) {
        self.target_duration_s.get_or_insert(segment.target_duration_s);
        let least_listed_ms = 3000 * i64::from(segment.target_duration_s);
        let period = Arc::clone(&segment.period);
        self.tracks[segment.kind.index()].push(segment, &self.settings, least_listed_ms);
        self.trim_bytes();
        if !self.ready {
            // Until each track has a segment, a player would take the first one for all there is.
            let complete = |kind: &TrackKind| {
                period.track(*kind).is_none() || self.listed(*kind).next().is_some()
            };
            self.ready = TrackKind::ALL.iter().all(complete);
        }
    }

    /// Drops the oldest segments while there are too many bytes, but never a track's newest.
    fn trim_bytes(&mut self) {
        while self.bytes() > self.settings.window_bytes_max
            && let Some(kind) = self.oldest_of(1)
        {
            self.tracks[kind.index()].drop_oldest();
        }
    }

    /// The same because memory is short, down to `bytes_max`: of each track a player's least is kept.
    fn trim(&mut self, bytes_max: u64) {
        while self.bytes() > bytes_max
            && let Some(kind) = self.oldest_of(SEGMENTS_NEEDED)
        {
            self.tracks[kind.index()].drop_oldest();
        }
    }

    /// How many segments would go if at most `bytes_max` bytes were to be kept.
    #[must_use]
    pub fn segments_above(&self, bytes_max: u64) -> usize {
        let mut trimmed = self.clone();
        trimmed.trim(bytes_max);
        let count =
            |window: &Self| window.tracks.iter().map(|track| track.kept.len()).sum::<usize>();
        count(self) - count(&trimmed)
    }

    /// The track with the oldest segment, of those that have more than `least`.
    fn oldest_of(&self, least: usize) -> Option<TrackKind> {
        let kept = |kind: TrackKind| &self.tracks[kind.index()].kept;
        TrackKind::ALL.into_iter().filter(|kind| kept(*kind).len() > least).min_by_key(|kind| {
            kept(*kind).front().map(|segment| (segment.period.number, segment.date()))
        })
    }
}

impl TrackWindow {
    fn push(&mut self, segment: Arc<Segment>, settings: &Settings, least_listed_ms: i64) {
        debug_assert!(self.kept.back().is_none_or(|last| last.sequence + 1 == segment.sequence));
        self.parts.retain(|part| part.sequence > segment.sequence);
        self.bytes += segment.bytes;
        self.listed_ms += duration_ms(&segment);
        self.kept.push_back(segment);
        loop {
            let listed = self.kept.len() - self.unlisted;
            let Some(first) = self.kept.get(self.unlisted) else { break };
            let long_enough = self.listed_ms - duration_ms(first) >= least_listed_ms;
            let spare = listed > settings.window_segments && long_enough;
            if !spare && listed <= settings.window_segments.saturating_mul(SHORT_SEGMENTS) {
                break;
            }
            self.listed_ms -= duration_ms(first);
            self.unlisted += 1;
        }
        while self.unlisted > settings.keep_segments {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(segment) = self.kept.pop_front() else { return };
        self.bytes -= segment.bytes;
        match self.unlisted.checked_sub(1) {
            Some(unlisted) => self.unlisted = unlisted,
            None => self.listed_ms -= duration_ms(&segment),
        }
    }
}

fn duration_ms(segment: &Segment) -> i64 {
    millis_of(segment.duration, segment.track.timescale)
}

/// Segments of a track without which a player cannot begin, with one more that it may be fetching
/// (RFC 8216bis 6.2.2 and 6.3.3: it begins three target durations before the end).
const SEGMENTS_NEEDED: usize = 4;
/// How many times `window_segments` may be listed when segments are too short for three target
/// durations (RFC 8216bis 6.2.2).
const SHORT_SEGMENTS: usize = 4;
