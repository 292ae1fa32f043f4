//! One track of one period: access units to parts and segments.
//!
//! In: access units in decode order. Out: [`Output`]: complete parts and segments.
//!
//! An access unit's duration is the time until the next one, so each waits for its successor; when
//! there is none, the duration before is repeated. Only then is it decided where it goes, knowing
//! how long it makes the part and the segment. Audio waits besides until video has passed it, so
//! that its segments end at the same presentation times (but never longer than
//! [`HELD_MILLIS_MAX`]).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::live::clock::{DecodeClock, Step};
use crate::live::part::{OpenPart, Part, PartPlace, PlacedUnit};
use crate::live::settings::Rules;
use crate::live::track::{AccessUnit, TrackDescription, TrackKind};
use crate::live::update::{Period, Segment};
use crate::live::{millis_of, ticks_of};

/// What a segmenter completed.
#[derive(Debug)]
pub(super) enum Output {
    Part(Arc<Part>),
    Segment(Arc<Segment>),
    /// A segment began at this presentation time, in ticks; not told of a period's first.
    Cut(i64),
    /// A segment ended without a random access unit, by its bounds.
    Forced(TrackKind),
}

/// Numbers that go on from period to period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Of the segment that is open or comes next.
    pub(super) sequence: u64,
    /// mfhd's sequence_number of the next fragment.
    pub(super) fragment: u32,
    /// The period of the segment before.
    pub(super) period: Option<u64>,
}

/// What a segmenter needs of its stream while it places access units.
pub(super) struct Context<'a> {
    pub(super) rules: &'a mut Rules,
    pub(super) numbers: &'a mut Numbers,
    pub(super) outputs: &'a mut Vec<Output>,
}

/// The segmenter of one track in one period.
#[derive(Debug)]
pub(super) struct Segmenter {
    period: Arc<Period>,
    track: Arc<TrackDescription>,
    clock: DecodeClock,
    boundaries: Boundaries,
    /// The newest access unit, whose duration is not known yet.
    newest: Option<PlacedUnit>,
    /// The duration of the one before.
    duration_before: Option<i64>,
    /// Access units that wait for video to pass them.
    held: VecDeque<PlacedUnit>,
    open: Option<OpenSegment>,
    part: OpenPart,
    /// `time` of the last segment.
    last_time: Option<i64>,
}

/// What decides where segments end, within their bounds.
#[derive(Debug)]
pub(super) enum Boundaries {
    /// Random access units.
    RandomAccess,
    /// The presentation times at which video segments began, oldest first.
    Following(VecDeque<i64>),
    /// Time alone.
    Duration,
}

#[derive(Debug)]
struct OpenSegment {
    /// Decode time of the first access unit.
    start: i64,
    time: i64,
    duration: i64,
    media_bytes: u64,
    access_units: usize,
    independent: bool,
    parts: Vec<Arc<Part>>,
}

impl Segmenter {
    pub(super) fn new(
        period: Arc<Period>,
        track: Arc<TrackDescription>,
        clock: DecodeClock,
        boundaries: Boundaries,
    ) -> Self {
        Self {
            period,
            track,
            clock,
            boundaries,
            newest: None,
            duration_before: None,
            held: VecDeque::new(),
            open: None,
            part: OpenPart::default(),
            last_time: None,
        }
    }

    pub(super) fn timescale(&self) -> u32 {
        self.track.timescale
    }

    /// Asks the clock for an access unit's time.
    pub(super) fn step(&mut self, dts: i64) -> Step {
        self.clock.step(dts)
    }

    /// Takes the next access unit, decoded at `time`.
    pub(super) fn push(&mut self, time: i64, unit: AccessUnit, context: &mut Context<'_>) {
        let newest = PlacedUnit { time, duration: 0, unit };
        if let Some(before) = self.newest.replace(newest) {
            let duration = time - before.time;
            self.duration_before = Some(duration);
            self.settle(PlacedUnit { duration, ..before }, context);
        }
    }

    /// No later video segment begins before this time, in ticks of this track: what lies before it
    /// can be placed.
    pub(super) fn pass(&mut self, frontier: i64, context: &mut Context<'_>) {
        let held_ticks_max = ticks_of(HELD_MILLIS_MAX, self.track.timescale);
        let newest_end = self.held.back().map_or(0, PlacedUnit::end);
        while let Some(oldest) = self.held.front() {
            let waited_enough = newest_end - oldest.time > held_ticks_max
                || self.held.len() > HELD_ACCESS_UNITS_MAX;
            if oldest.presentation_time() >= frontier && !waited_enough {
                break;
            }
            // `front` has just shown that there is one.
            let Some(placed) = self.held.pop_front() else { break };
            self.place(placed, context);
        }
    }

    /// A video segment begins at this presentation time, in ticks of this track.
    pub(super) fn follow(&mut self, cut: i64) {
        if let Boundaries::Following(cuts) = &mut self.boundaries {
            if cuts.len() == CUTS_MAX {
                cuts.pop_front();
            }
            cuts.push_back(cut);
        }
    }

    /// Ends the track: everything taken so far becomes part of a segment.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) {
        if let Some(newest) = self.newest.take() {
            let duration = self.duration_before.or(self.track.access_unit_ticks);
            let duration =
                duration.unwrap_or_else(|| ticks_of(LONE_PICTURE_MILLIS, self.track.timescale));
            self.settle(PlacedUnit { duration, ..newest }, context);
        }
        while let Some(placed) = self.held.pop_front() {
            self.place(placed, context);
        }
        self.close_segment(None, context);
    }

    /// The decode time of the newest access unit.
    pub(super) fn newest_time(&self) -> Option<i64> {
        self.newest.as_ref().map(|newest| newest.time)
    }

    /// How much lies between the beginning of the open segment and the newest access unit, in ms.
    pub(super) fn span_ms(&self) -> i64 {
        let start = self.open.as_ref().map(|open| open.start);
        let start = start.or_else(|| self.held.front().map(|oldest| oldest.time));
        match (start, self.newest_time()) {
            (Some(start), Some(newest)) => millis_of(newest - start, self.track.timescale),
            _ => 0,
        }
    }

    /// What has been placed ends here, in decode time.
    pub(super) fn end(&self) -> Option<i64> {
        self.newest.as_ref().map(|newest| newest.time + self.duration_before.unwrap_or(0))
    }

    fn settle(&mut self, placed: PlacedUnit, context: &mut Context<'_>) {
        if matches!(self.boundaries, Boundaries::Following(_)) {
            self.held.push_back(placed);
        } else {
            self.place(placed, context);
        }
    }

    fn place(&mut self, placed: PlacedUnit, context: &mut Context<'_>) {
        let size = placed.unit.payload.len() as u64;
        if self.begins_segment(&placed, context) {
            let presentation_time = placed.presentation_time();
            self.close_segment(Some(presentation_time), context);
            context.outputs.push(Output::Cut(presentation_time));
        } else if !self.part.is_empty() {
            let settings = &context.rules.settings;
            let ticks = self.part.duration() + placed.duration;
            if ticks > context.rules.part_ticks_max(self.track.timescale)
                || self.part.len() >= settings.part_access_units_max
                || self.part.media_bytes() + size > settings.part_bytes_max
            {
                self.close_part(context);
            }
        }
        let last_time = self.last_time;
        let open = self.open.get_or_insert_with(|| OpenSegment::begin(&placed, last_time));
        open.duration += placed.duration;
        open.media_bytes += size;
        open.access_units += 1;
        self.part.push(placed);
    }

    /// Whether the access unit cannot or should not be in the open segment.
    fn begins_segment(&mut self, placed: &PlacedUnit, context: &mut Context<'_>) -> bool {
        let timescale = self.track.timescale;
        let rules = &*context.rules;
        let presentation_time = placed.presentation_time();
        let due = match &mut self.boundaries {
            Boundaries::RandomAccess => self.open.as_ref().is_some_and(|open| {
                let long_enough = placed.time - open.start >= rules.segment_ticks_min(timescale);
                placed.unit.random_access && (long_enough || !open.independent)
            }),
            Boundaries::Following(cuts) => {
                let mut passed = false;
                while cuts.front().is_some_and(|cut| *cut <= presentation_time) {
                    cuts.pop_front();
                    passed = true;
                }
                passed
            }
            Boundaries::Duration => self.open.as_ref().is_some_and(|open| {
                let millis = millis_of(placed.time - open.start, timescale);
                millis >= i64::from(rules.settings.segment_duration_ms)
            }),
        };
        let Some(open) = &self.open else { return false };
        if due {
            return true;
        }
        let too_long =
            placed.end() - open.start > rules.segment_ticks_max(self.track.kind(), timescale);
        let size = placed.unit.payload.len() as u64;
        let too_large = open.media_bytes + size > rules.settings.segment_bytes_max;
        if too_long || too_large {
            context.outputs.push(Output::Forced(self.track.kind()));
        }
        too_long || too_large
    }

    fn close_part(&mut self, context: &mut Context<'_>) {
        let Some(open) = self.open.as_mut().filter(|_| !self.part.is_empty()) else { return };
        let part = Arc::new(self.part.finish(PartPlace {
            kind: self.track.kind(),
            sequence: context.numbers.sequence,
            index: open.parts.len(),
            fragment: context.numbers.fragment,
        }));
        context.numbers.fragment = context.numbers.fragment.wrapping_add(1);
        open.parts.push(Arc::clone(&part));
        context.outputs.push(Output::Part(part));
    }

    /// Completes the open segment; the next begins at `next_time`, in presentation order.
    fn close_segment(&mut self, next_time: Option<i64>, context: &mut Context<'_>) {
        self.close_part(context);
        let Some(open) = self.open.take() else { return };
        let numbers = &mut *context.numbers;
        let before = numbers.period.replace(self.period.number);
        let discontinuities = before.map_or(0, |before| self.period.number - before);
        let next_time = next_time.unwrap_or(open.time + open.duration).max(open.time + 1);
        let target_duration_s =
            context.rules.target_for(millis_of(open.duration, self.track.timescale));
        let segment = Segment {
            kind: self.track.kind(),
            period: Arc::clone(&self.period),
            track: Arc::clone(&self.track),
            sequence: numbers.sequence,
            discontinuities: discontinuities.min(DISCONTINUITIES_MAX) as u32,
            time: open.time,
            timeline_duration: next_time - open.time,
            duration: open.duration,
            access_units: open.access_units,
            independent: open.independent,
            target_duration_s,
            bytes: open.parts.iter().map(|part| part.bytes).sum(),
            parts: open.parts,
            name: segment_name(
                self.track.kind(),
                context.rules.settings.epoch,
                self.period.number,
                &open.time.to_string(),
            ),
        };
        self.last_time = Some(next_time - 1);
        numbers.sequence += 1;
        context.outputs.push(Output::Segment(Arc::new(segment)));
    }
}

impl OpenSegment {
    /// The next segment begins with `first`. Its time rises above `last_time` whatever the
    /// composition offsets say, since it names the segment.
    fn begin(first: &PlacedUnit, last_time: Option<i64>) -> Self {
        let time = first.presentation_time().max(0);
        Self {
            start: first.time,
            time: last_time.map_or(time, |last| time.max(last + 1)),
            duration: 0,
            media_bytes: 0,
            access_units: 0,
            independent: first.unit.random_access,
            parts: Vec::new(),
        }
    }
}

/// The file name of a segment; `time` may be the placeholder of a template.
pub(super) fn segment_name(kind: TrackKind, epoch: u64, period: u64, time: &str) -> String {
    format!("{}_{epoch}_{period}_{time}.m4s", kind.as_str())
}

/// How far audio may run ahead of video before it stops waiting, in ms.
pub(super) const HELD_MILLIS_MAX: i64 = 1000;
/// The same in access units.
const HELD_ACCESS_UNITS_MAX: usize = 256;
/// Video segments that audio may be behind.
const CUTS_MAX: usize = 64;
/// EXT-X-DISCONTINUITY tags before one segment, however many periods its track was missing from.
const DISCONTINUITIES_MAX: u64 = 64;
/// How long a picture without another before or after it is shown.
const LONE_PICTURE_MILLIS: i64 = 40;
