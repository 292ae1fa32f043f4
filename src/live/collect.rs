//! The beginning of a period: which tracks it has, and where its time starts.
//!
//! In: the first access units of a publisher, or those after a break. Out: whether there is enough
//! to begin, and then [`Opening`]: the offsets that put both tracks on one timeline. Nothing is
//! lost while waiting but video before its first random access unit, which nobody could decode.
//!
//! What publishers do, and what is done about it: one track comes later than the other (wait a
//! bounded time, then go on without; a late track begins a new period); timestamps begin anywhere
//! (kept, so that decode times are the publisher's); below zero (both tracks are moved up);
//! audio and video count from different epochs (audio is moved to where video is).

use std::collections::VecDeque;

use crate::live::settings::Settings;
use crate::live::track::{AccessUnit, TrackKind};
use crate::live::{millis_of, rescale, ticks_of};
use crate::time::{Now, Wall};

/// Access units that wait for their period to begin.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    units: VecDeque<(TrackKind, AccessUnit)>,
    bytes: u64,
    first_arrival: Option<Now>,
    spans: [Option<Span>; 2],
    /// Video arrives, but no random access unit has yet.
    video_is_coming: bool,
}

/// What one track has sent so far, in its ticks.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: i64,
    newest: i64,
    /// The earliest time in it, decoding or presentation.
    earliest: i64,
    first_presentation: i64,
}

/// Where the tracks of a new period lie.
#[derive(Debug)]
pub(super) struct Opening {
    /// To be added to the timestamps of each track; `None` for a track that is not there.
    pub(super) offsets: [Option<i64>; 2],
    /// First presentation time of each track on the common timeline, in its ticks.
    pub(super) first_presentation: [Option<i64>; 2],
    /// The earliest presentation time, in ms.
    pub(super) origin_ms: i64,
    /// The date of that time by the arrival of the first access unit.
    pub(super) start: Wall,
    /// What has been collected, to be pushed now.
    pub(super) units: VecDeque<(TrackKind, AccessUnit)>,
}

impl Collecting {
    /// Notes that video arrives which cannot begin a track.
    pub(super) fn note_video(&mut self) {
        self.video_is_coming = true;
    }

    pub(super) fn push(&mut self, kind: TrackKind, unit: AccessUnit, now: Now) {
        let presentation = unit.dts + i64::from(unit.composition_offset);
        let earliest = unit.dts.min(presentation);
        let span = self.spans[kind.index()].get_or_insert(Span {
            first: unit.dts,
            newest: unit.dts,
            earliest,
            first_presentation: presentation,
        });
        span.newest = span.newest.max(unit.dts);
        span.earliest = span.earliest.min(earliest);
        self.first_arrival.get_or_insert(now);
        self.bytes += unit.payload.len() as u64;
        self.units.push_back((kind, unit));
    }

    /// Takes back all access units of a kind; returns how many there were.
    pub(super) fn discard(&mut self, kind: TrackKind) -> usize {
        let before = self.units.len();
        self.units.retain(|(other, _)| *other != kind);
        self.bytes = self.units.iter().map(|(_, unit)| unit.payload.len() as u64).sum();
        self.spans[kind.index()] = None;
        before - self.units.len()
    }

    /// Whether the period can begin with what there is.
    pub(super) fn is_ready(&self, timescales: [u32; 2], settings: &Settings, now: Now) -> bool {
        let Some(first_arrival) = self.first_arrival else { return false };
        if self.units.is_empty() {
            return false;
        }
        if self.spans.iter().all(Option::is_some)
            || self.units.len() >= COLLECTED_ACCESS_UNITS_MAX
            || self.bytes >= COLLECTED_BYTES_MAX
        {
            return true;
        }
        let waits_for_picture = self.video_is_coming && self.spans[0].is_none();
        let wait_ms = i64::from(if waits_for_picture {
            settings.random_access_wait_ms
        } else {
            settings.other_track_wait_ms
        });
        let spans = self.spans.iter().zip(timescales);
        let media_ms = spans
            .filter_map(|(span, timescale)| Some(millis_of(span_ticks(span.as_ref()?), timescale)))
            .max()
            .unwrap_or(0);
        let waited_ms = now.monotonic.since(first_arrival.monotonic).as_millis() as i64;
        media_ms.max(waited_ms) >= wait_ms
    }

    /// Puts the tracks on one timeline and gives out what was collected.
    pub(super) fn open(&mut self, timescales: [u32; 2]) -> Option<Opening> {
        let Self { units, first_arrival, spans, .. } = std::mem::take(self);
        let (first_kind, first_unit) = units.front()?;
        let mut offsets = [0; 2];
        if let [Some(video), Some(audio)] = &spans {
            let apart_ms =
                millis_of(video.first, timescales[0]) - millis_of(audio.first, timescales[1]);
            if apart_ms.abs() > EPOCHS_APART_MS {
                offsets[1] = rescale(video.first, timescales[0], timescales[1]) - audio.first;
            }
        }
        let tracks = || [0, 1].into_iter().filter_map(|track| Some((track, spans[track]?)));
        let earliest_ms = tracks()
            .map(|(track, span)| millis_of(span.earliest + offsets[track], timescales[track]))
            .min()?;
        if earliest_ms < 0 {
            for (offset, timescale) in offsets.iter_mut().zip(timescales) {
                *offset += ticks_of(-earliest_ms, timescale) + 1;
            }
        }
        let first_presentation =
            [0, 1].map(|track| Some(spans[track]?.first_presentation + offsets[track]));
        let origin_ms = [0, 1]
            .into_iter()
            .filter_map(|track| Some(millis_of(first_presentation[track]?, timescales[track])))
            .min()?
            .max(0);
        let first = first_kind.index();
        let first_ms = millis_of(first_unit.dts + offsets[first], timescales[first]);
        let arrival = first_arrival.unwrap_or_default().wall.unix_millis();
        Some(Opening {
            offsets: [0, 1].map(|track| spans[track].map(|_| offsets[track])),
            first_presentation,
            origin_ms,
            start: Wall::from_unix_millis(arrival - (first_ms - origin_ms)),
            units,
        })
    }
}

fn span_ticks(span: &Span) -> i64 {
    span.newest - span.first
}

/// Audio and video further apart than this count from different epochs.
const EPOCHS_APART_MS: i64 = 10_000;
/// Access units collected before a period begins whatever is missing: ten seconds of audio twice
/// over.
const COLLECTED_ACCESS_UNITS_MAX: usize = 1024;
/// Media bytes collected likewise.
const COLLECTED_BYTES_MAX: u64 = 32 << 20;
