//! A live stream at its home shard: one publisher's access units to updates.
//!
//! In: what a publisher does ([`LiveStream::open_publisher`], [`LiveStream::configure`],
//! [`LiveStream::push`], [`LiveStream::close_publisher`]). Out: [`Update`]s, to be drained with
//! [`LiveStream::poll_update`] after each call and applied by every shard with readers; a
//! [`LiveStream::snapshot`] for a shard that gets its first one. Taken between two calls with the
//! updates drained or not, a snapshot and the updates after it give the same window, since each
//! update is applied once.
//!
//! ```text
//! state       what happens                                           next
//! Collecting  access units suffice for a period                      Running
//! Running     gap or jump, configuration changed, a track came late  Collecting, open segments ended
//! either      the publisher leaves                                   Collecting, open segments ended
//! ```
//!
//! Deliberately absent: any judgement about who may publish, and any timer: the shard decides when
//! a stream without publisher ends.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::live::clock::{DTS_MAX, DecodeClock, Step};
use crate::live::collect::{Collecting, Opening};
use crate::live::name::StreamName;
use crate::live::rescale;
use crate::live::segmenter::{Boundaries, Context, Numbers, Output, Segmenter};
use crate::live::settings::{Rules, Settings};
use crate::live::track::{AccessUnit, TrackConfig, TrackDescription, TrackKind};
use crate::live::update::{Change, Period, Update};
use crate::live::window::Window;
use crate::time::{Now, Wall};

/// Who publishes, as the shard that holds its connection names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub u64);

/// Why a publisher is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefused {
    /// Someone else publishes.
    #[error("the stream has a publisher already")]
    Busy,
    /// The stream has ended; its playlists say so and cannot be taken back.
    #[error("the stream has ended")]
    Ended,
}

/// What a publisher did that it should not have, counted; each is worth a log line when it rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Access units before the configuration of their track, dropped.
    pub unconfigured: u64,
    /// Video before its first random access unit, dropped.
    pub before_random_access: u64,
    /// Access units without bytes, or with an impossible timestamp, dropped.
    pub unusable: u64,
    /// Access units of someone who is not the publisher, dropped.
    pub not_publishing: u64,
    /// Timestamps that did not rise.
    pub not_rising: u64,
    /// Timestamps that jumped, each the beginning of a new period.
    pub jumps: u64,
    /// Segments that had to end without a random access unit, since there was none for too long.
    pub forced_segments: u64,
}

/// A live stream at its home shard.
#[derive(Debug)]
pub struct LiveStream {
    name: StreamName,
    rules: Rules,
    publisher: Option<PublisherId>,
    ended: bool,
    state: State,
    /// What the present publisher has configured, by kind.
    configured: [Option<Arc<TrackDescription>>; 2],
    /// The last description of each kind, so that a publisher who returns with the same
    /// configuration gets the same init section.
    known: [Option<Arc<TrackDescription>>; 2],
    descriptions_made: u32,
    numbers: [Numbers; 2],
    periods: u64,
    /// The date at which the last period ended.
    previous_end: Option<Wall>,
    video_needs_random_access: bool,
    faults: Faults,
    window: Window,
    updates: VecDeque<Update>,
    version: u64,
    /// Access units to be taken next; filled and emptied within each call.
    input: VecDeque<(TrackKind, AccessUnit)>,
    outputs: Vec<Output>,
}

#[derive(Debug)]
enum State {
    Collecting(Collecting),
    Running(Box<Running>),
}

#[derive(Debug)]
struct Running {
    period: Arc<Period>,
    tracks: [Option<Segmenter>; 2],
}

impl LiveStream {
    /// A stream without publisher.
    #[must_use]
    pub fn new(name: StreamName, settings: Settings, now: Now) -> Self {
        let numbers = Numbers { sequence: settings.epoch, fragment: 1, period: None };
        Self {
            name,
            rules: Rules { settings, target_duration_s: None, audio_span_ms: 0 },
            publisher: None,
            ended: false,
            state: State::Collecting(Collecting::default()),
            configured: [None, None],
            known: [None, None],
            descriptions_made: 0,
            numbers: [numbers; 2],
            periods: 0,
            previous_end: None,
            video_needs_random_access: true,
            faults: Faults::default(),
            window: Window::new(settings, now),
            updates: VecDeque::new(),
            version: 0,
            input: VecDeque::new(),
            outputs: Vec::new(),
        }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Who publishes.
    #[must_use]
    pub fn publisher(&self) -> Option<PublisherId> {
        self.publisher
    }

    /// What publishers did wrong so far.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Lets a publisher in. Its first access units begin a new period.
    ///
    /// # Errors
    /// There is one already, or the stream has ended.
    pub fn open_publisher(&mut self, id: PublisherId, now: Now) -> Result<(), PublishRefused> {
        if self.ended {
            return Err(PublishRefused::Ended);
        }
        if self.publisher.is_some() {
            return Err(PublishRefused::Busy);
        }
        self.publisher = Some(id);
        self.video_needs_random_access = true;
        self.update(Change::PublisherCame, now);
        Ok(())
    }

    /// The publisher is gone: what it sent becomes part of a segment. Does nothing for anyone else.
    pub fn close_publisher(&mut self, id: PublisherId, now: Now) {
        if self.publisher != Some(id) {
            return;
        }
        self.finish(now);
        self.publisher = None;
        self.configured = [None, None];
        self.update(Change::PublisherGone, now);
    }

    /// Ends the stream: its playlists say so. A publisher is closed first.
    pub fn end(&mut self, now: Now) {
        if let Some(publisher) = self.publisher {
            self.close_publisher(publisher, now);
        }
        if !self.ended {
            self.ended = true;
            self.update(Change::Ended, now);
        }
    }

    /// Takes a track's configuration. The same once more changes nothing; another one ends the
    /// period.
    pub fn configure(&mut self, id: PublisherId, config: TrackConfig, now: Now) {
        if self.publisher != Some(id) {
            self.faults.not_publishing += 1;
            return;
        }
        let kind = config.kind();
        let track = kind.index();
        if self.configured[track].as_ref().is_some_and(|before| before.config == config) {
            return;
        }
        match &mut self.state {
            State::Running(running) if running.tracks[track].is_some() => self.break_period(now),
            State::Running(_) => {}
            State::Collecting(collecting) => {
                self.faults.unconfigured += collecting.discard(kind) as u64;
            }
        }
        if kind == TrackKind::Video {
            self.video_needs_random_access = true;
        }
        let known = self.known[track].take().filter(|known| known.config == config);
        let description = known.unwrap_or_else(|| {
            self.descriptions_made += 1;
            let epoch = self.rules.settings.epoch;
            Arc::new(TrackDescription::new(config, epoch, self.descriptions_made))
        });
        self.known[track] = Some(Arc::clone(&description));
        self.configured[track] = Some(description);
    }

    /// Takes an access unit. Those of a track come in decode order.
    pub fn push(&mut self, id: PublisherId, kind: TrackKind, unit: AccessUnit, now: Now) {
        if self.publisher != Some(id) {
            self.faults.not_publishing += 1;
        } else if self.configured[kind.index()].is_none() {
            self.faults.unconfigured += 1;
        } else if unit.payload.is_empty() || unit.dts.checked_abs().is_none_or(|dts| dts > DTS_MAX)
        {
            self.faults.unusable += 1;
        } else {
            self.input.push_back((kind, unit));
            self.work(now);
        }
    }

    /// Memory is short: keeps at most about `bytes_max` bytes of segments. Says how many go.
    pub fn trim(&mut self, bytes_max: u64, now: Now) -> usize {
        let segments = self.window.segments_above(bytes_max);
        if segments > 0 {
            self.update(Change::Trimmed(bytes_max), now);
        }
        segments
    }

    /// Takes the next update. To be called until there is none after each of the calls above.
    pub fn poll_update(&mut self) -> Option<Update> {
        self.updates.pop_front()
    }

    /// The window as it is now, for a shard that begins to have readers.
    #[must_use]
    pub fn snapshot(&self) -> Window {
        self.window.clone()
    }

    /// The window of the home shard itself.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    fn update(&mut self, change: Change, now: Now) {
        self.version += 1;
        let update = Update { version: self.version, wall: now.wall, change };
        self.window.apply(update.clone());
        self.updates.push_back(update);
    }

    /// Takes all input. A period that begins puts what was collected back in front of it, so that
    /// no call nests however often a publisher breaks off.
    fn work(&mut self, now: Now) {
        while let Some((kind, unit)) = self.input.pop_front() {
            match &mut self.state {
                State::Running(running) => {
                    let Some(segmenter) = &mut running.tracks[kind.index()] else {
                        self.late_track(kind, unit, now);
                        continue;
                    };
                    match segmenter.step(unit.dts) {
                        Step::At(time) => self.place(kind, time, unit, now),
                        Step::Pushed(time) => {
                            self.faults.not_rising += 1;
                            self.place(kind, time, unit, now);
                        }
                        Step::Jump => {
                            self.faults.jumps += 1;
                            self.break_period(now);
                            self.collect(kind, unit, now);
                        }
                    }
                }
                State::Collecting(_) => self.collect(kind, unit, now),
            }
        }
    }

    /// A track that the period does not have begins one that has it.
    fn late_track(&mut self, kind: TrackKind, unit: AccessUnit, now: Now) {
        if kind == TrackKind::Video && self.video_needs_random_access && !unit.random_access {
            self.faults.before_random_access += 1;
            return;
        }
        self.break_period(now);
        self.collect(kind, unit, now);
    }

    fn collect(&mut self, kind: TrackKind, unit: AccessUnit, now: Now) {
        let State::Collecting(collecting) = &mut self.state else {
            debug_assert!(false, "collecting happens between periods");
            return;
        };
        if kind == TrackKind::Video && self.video_needs_random_access {
            if !unit.random_access {
                collecting.note_video();
                self.faults.before_random_access += 1;
                return;
            }
            self.video_needs_random_access = false;
        }
        collecting.push(kind, unit, now);
        let timescales = timescales(&self.configured);
        if collecting.is_ready(timescales, &self.rules.settings, now)
            && let Some(opening) = collecting.open(timescales)
        {
            self.begin_period(opening, now);
        }
    }

    fn begin_period(&mut self, opening: Opening, now: Now) {
        let tracks = [0, 1].map(|track| {
            opening.offsets[track].and_then(|_| self.configured[track].as_ref().map(Arc::clone))
        });
        let arrived = opening.start.unix_millis();
        let start = match self.previous_end {
            // Not before the last period's end, and without a sliver between the two.
            Some(end) if arrived < end.unix_millis() + SLIVER_MS => end,
            _ => opening.start,
        };
        let period =
            Arc::new(Period { number: self.periods, origin_ms: opening.origin_ms, start, tracks });
        self.periods += 1;
        let gap_max_ms = self.rules.settings.gap_max_ms();
        let segmenter = |kind: TrackKind, boundaries| {
            let track = period.track(kind)?;
            let offset = opening.offsets[kind.index()]?;
            let clock =
                DecodeClock::new(track.timescale, track.access_unit_ticks, gap_max_ms, offset);
            Some(Segmenter::new(Arc::clone(&period), Arc::clone(track), clock, boundaries))
        };
        let audio_boundaries = if period.track(TrackKind::Video).is_some() {
            Boundaries::Following(VecDeque::new())
        } else {
            Boundaries::Duration
        };
        let mut tracks = [
            segmenter(TrackKind::Video, Boundaries::RandomAccess),
            segmenter(TrackKind::Audio, audio_boundaries),
        ];
        if let [Some(video), Some(audio)] = &mut tracks {
            // Audio that begins well before video gets a segment of its own, so that the next one
            // is as long as video's.
            let first = |kind: TrackKind| opening.first_presentation[kind.index()].unwrap_or(0);
            let from = rescale(first(TrackKind::Video), video.timescale(), audio.timescale());
            let lead = from - first(TrackKind::Audio);
            let lead_ms = i64::from(self.rules.settings.segment_duration_ms) / 4;
            if lead > super::ticks_of(lead_ms, audio.timescale()) {
                audio.follow(from);
            }
        }
        self.state = State::Running(Box::new(Running { period: Arc::clone(&period), tracks }));
        self.update(Change::Period(period), now);
        for unit in opening.units.into_iter().rev() {
            self.input.push_front(unit);
        }
    }

    /// Puts an access unit into the period's timeline.
    fn place(&mut self, kind: TrackKind, time: i64, unit: AccessUnit, now: Now) {
        let State::Running(running) = &mut self.state else { return };
        let [video, audio] = &mut running.tracks;
        let (rules, outputs) = (&mut self.rules, &mut self.outputs);
        let [video_numbers, audio_numbers] = &mut self.numbers;
        rules.audio_span_ms = audio.as_ref().map_or(0, Segmenter::span_ms);
        match (kind, video, audio) {
            (TrackKind::Video, Some(video), audio) => {
                let from = outputs.len();
                video.push(time, unit, &mut Context { rules, numbers: video_numbers, outputs });
                if let Some(audio) = audio {
                    follow(audio, video, &outputs[from..]);
                    pass(audio, video, &mut Context { rules, numbers: audio_numbers, outputs });
                }
            }
            (TrackKind::Audio, video, Some(audio)) => {
                let mut context = Context { rules, numbers: audio_numbers, outputs };
                audio.push(time, unit, &mut context);
                if let Some(video) = video {
                    pass(audio, video, &mut context);
                }
            }
            // `work` has just found the track of this kind.
            _ => debug_assert!(false, "a track is placed that the period does not have"),
        }
        self.publish(now);
    }

    /// Ends the period: all that was taken becomes part of segments.
    fn break_period(&mut self, now: Now) {
        let collecting = State::Collecting(Collecting::default());
        let State::Running(running) = std::mem::replace(&mut self.state, collecting) else {
            return;
        };
        let [mut video, mut audio] = running.tracks;
        let (rules, outputs) = (&mut self.rules, &mut self.outputs);
        let [video_numbers, audio_numbers] = &mut self.numbers;
        rules.audio_span_ms = audio.as_ref().map_or(0, Segmenter::span_ms);
        let ends = [&video, &audio].into_iter().flatten().filter_map(|track| {
            Some(running.period.date(track.end()?, track.timescale()).unix_millis() + 1)
        });
        let end = ends.chain([running.period.start.unix_millis()]).max().unwrap_or(0);
        self.previous_end = Some(Wall::from_unix_millis(end));
        if let Some(video) = &mut video {
            let from = outputs.len();
            video.flush(&mut Context { rules, numbers: video_numbers, outputs });
            if let Some(audio) = &mut audio {
                follow(audio, video, &outputs[from..]);
            }
        }
        if let Some(audio) = &mut audio {
            audio.flush(&mut Context { rules, numbers: audio_numbers, outputs });
        }
        self.publish(now);
    }

    /// Ends whatever is open, also what waits for a period to begin.
    fn finish(&mut self, now: Now) {
        // What was collected may break off again, into several periods; each round takes at least
        // one access unit.
        while let State::Collecting(collecting) = &mut self.state {
            let Some(opening) = collecting.open(timescales(&self.configured)) else { break };
            self.begin_period(opening, now);
            self.work(now);
        }
        self.break_period(now);
    }

    /// Turns what segmenters completed into updates.
    fn publish(&mut self, now: Now) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Part(part) => self.update(Change::Part(part), now),
                Output::Segment(segment) => self.update(Change::Segment(segment), now),
                Output::Cut(_) => {}
                Output::Forced(TrackKind::Video) => self.faults.forced_segments += 1,
                Output::Forced(TrackKind::Audio) => {}
            }
        }
        self.outputs = outputs;
    }
}

/// Tells audio where video segments begin.
fn follow(audio: &mut Segmenter, video: &Segmenter, outputs: &[Output]) {
    for output in outputs {
        if let Output::Cut(time) = output {
            // Rounded up, so that audio of exactly this time or later belongs to the new segment.
            let cut = -rescale(-*time, video.timescale(), audio.timescale());
            audio.follow(cut);
        }
    }
}

/// Lets audio go as far as video has come.
fn pass(audio: &mut Segmenter, video: &Segmenter, context: &mut Context<'_>) {
    let Some(newest) = video.newest_time() else { return };
    audio.pass(rescale(newest, video.timescale(), audio.timescale()), context);
}

fn timescales(configured: &[Option<Arc<TrackDescription>>; 2]) -> [u32; 2] {
    [0, 1].map(|track| configured[track].as_ref().map_or(1, |track| track.timescale))
}

/// A gap between two periods that is too short to be shown as one, in ms.
const SLIVER_MS: i64 = 500;
