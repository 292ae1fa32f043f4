//! What a request below `/live/{name}/` gets.
//!
//! In: a file name and the time. Out: [`Lookup`]: headers and ranges of payloads, or why there is
//! nothing. Playlists are rendered once per content version and shared from then on.
//!
//! Cache lifetimes follow RFC 8216bis B.1 and the practice of origins: playlists half a target
//! duration, media for ever, since its names never stand for other bytes.

use std::fmt;
use std::ops::Range;

use crate::live::render;
use crate::live::track::TrackKind;
use crate::live::update::Segment;
use crate::live::window::Window;
use crate::memory::Payload;
use crate::time::{Now, Wall};

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Here it is.
    Found(Resource),
    /// The name is right, or will be soon, but there is not enough media yet. Ask again in a second.
    NotYet,
    /// There is no such name.
    NotFound,
    /// There was such a segment.
    Gone,
}

/// A resource and its headers.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Content-Type.
    pub content_type: &'static str,
    /// Cache-Control.
    pub cache_control: CacheControl,
    /// ETag with its quotes; strong: equal only for equal bytes of this name. Empty for what has
    /// none.
    pub etag: String,
    /// Last-Modified.
    pub last_modified: Wall,
    /// The bytes.
    pub body: ResourceBody,
}

/// How long a cache may keep a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheControl {
    /// Until it changes, in so many seconds at the earliest.
    MaxAge {
        /// Seconds.
        seconds: u32,
    },
    /// For ever: it does not change.
    Immutable,
    /// Not at all.
    NoStore,
}

impl fmt::Display for CacheControl {
    /// The value of the header.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxAge { seconds } => write!(formatter, "public, max-age={seconds}"),
            Self::Immutable => {
                write!(formatter, "public, max-age={IMMUTABLE_SECONDS}, immutable")
            }
            Self::NoStore => formatter.write_str("no-store"),
        }
    }
}

/// Bytes as references, in order.
#[derive(Clone, Debug, Default)]
pub struct ResourceBody {
    pieces: Vec<Payload>,
    length: u64,
}

impl ResourceBody {
    /// The references, in order; none is empty.
    #[must_use]
    pub fn pieces(&self) -> &[Payload] {
        &self.pieces
    }

    /// The references, in order.
    #[must_use]
    pub fn into_pieces(self) -> Vec<Payload> {
        self.pieces
    }

    /// How many bytes they name.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes in `range`, as far as there are any.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut slice = Self::default();
        let mut start = 0;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                slice.push(&piece.slice((from - start) as usize..(to - start) as usize));
            }
            start = end;
        }
        slice
    }

    fn push(&mut self, piece: &Payload) {
        if piece.is_empty() {
            return;
        }
        self.length += piece.len() as u64;
        let joined = self.pieces.last().and_then(|last| last.joined(piece));
        match (self.pieces.last_mut(), joined) {
            (Some(last), Some(joined)) => *last = joined,
            _ => self.pieces.push(piece.clone()),
        }
    }
}

impl<'a> FromIterator<&'a Payload> for ResourceBody {
    fn from_iter<T: IntoIterator<Item = &'a Payload>>(pieces: T) -> Self {
        let mut body = Self::default();
        for piece in pieces {
            body.push(piece);
        }
        body
    }
}

impl Window {
    /// Answers a request for `path`, the part of the URL below `/live/{name}/`: `index.m3u8`,
    /// `video.m3u8`, `audio.m3u8`, `manifest.mpd`, `time`, and what those name.
    #[must_use]
    pub fn lookup(&mut self, path: &str, now: Now) -> Lookup {
        match path {
            "index.m3u8" => self.playlist(
                |rendered| &mut rendered.multivariant,
                render::multivariant,
                hls::CONTENT_TYPE,
                'i',
            ),
            "manifest.mpd" => self.playlist(
                |rendered| &mut rendered.manifest,
                render::manifest,
                dash::CONTENT_TYPE,
                'd',
            ),
            "video.m3u8" => self.media_playlist(TrackKind::Video),
            "audio.m3u8" => self.media_playlist(TrackKind::Audio),
            "time" => Lookup::Found(time(now)),
            _ => self.media(path),
        }
    }

    fn media_playlist(&mut self, kind: TrackKind) -> Lookup {
        if self.ready && self.listed(kind).next().is_none() {
            return Lookup::NotFound;
        }
        self.playlist(
            |rendered| &mut rendered.media[kind.index()],
            |window| render::media(window, kind),
            hls::CONTENT_TYPE,
            if kind == TrackKind::Video { 'v' } else { 'a' },
        )
    }

    /// Answers with a playlist of the present version, rendering it when no one has before.
    fn playlist(
        &mut self,
        slot: impl Fn(&mut crate::live::window::Rendered) -> &mut Option<Payload>,
        render: impl Fn(&Self) -> Vec<u8>,
        content_type: &'static str,
        letter: char,
    ) -> Lookup {
        if !self.ready {
            return if self.ended { Lookup::NotFound } else { Lookup::NotYet };
        }
        let payload = match slot(&mut self.rendered) {
            Some(payload) => payload.clone(),
            None => {
                let payload = Payload::copied_from(&render(self));
                *slot(&mut self.rendered) = Some(payload.clone());
                payload
            }
        };
        let half_target = (self.target_duration_s.unwrap_or(2) / 2).max(1);
        Lookup::Found(Resource {
            content_type,
            cache_control: CacheControl::MaxAge {
                seconds: if self.ended { ENDED_SECONDS } else { half_target },
            },
            etag: format!("\"{:x}-{:x}-{letter}\"", self.settings.epoch, self.content_version),
            last_modified: self.content_date,
            body: [&payload].into_iter().collect(),
        })
    }

    fn media(&self, path: &str) -> Lookup {
        let Some((kind, rest)) = split_kind(path) else { return Lookup::NotFound };
        if rest.starts_with("init_") {
            return self.init(kind, path);
        }
        let Some(place) = Place::parse(rest) else { return Lookup::NotFound };
        let kept = &self.tracks[kind.index()].kept;
        // `kept` is in the order of places.
        let found = kept.binary_search_by_key(&place, |segment| self.place_of(segment));
        if let Some(segment) = found.ok().and_then(|index| kept.get(index)) {
            // Numbers may be written in several ways, names in one.
            let same = segment.name == path;
            return if same { Lookup::Found(segment_resource(segment)) } else { Lookup::NotFound };
        }
        let passed = kept.front().is_some_and(|oldest| place < self.place_of(oldest));
        if passed || place.epoch < self.settings.epoch {
            Lookup::Gone
        } else if !self.ended && kept.back().is_some_and(|newest| self.comes_next(newest, place)) {
            Lookup::NotYet
        } else {
            Lookup::NotFound
        }
    }

    /// Whether a place is within a target duration of the end of the newest segment, or in the next period.
    /// A player may have read of it on a shard that is ahead of this one, and may ask for it here before the
    /// update has come.
    fn comes_next(&self, newest: &Segment, place: Place) -> bool {
        let period = newest.period.number;
        if place.epoch != self.settings.epoch || place.period != period {
            return place.epoch == self.settings.epoch && place.period == period + 1;
        }
        let target = i64::from(newest.target_duration_s) * i64::from(newest.track.timescale);
        let since_end = place.time - (newest.time + newest.timeline_duration);
        (0..target).contains(&since_end)
    }

    fn place_of(&self, segment: &Segment) -> Place {
        Place { epoch: self.settings.epoch, period: segment.period.number, time: segment.time }
    }

    fn init(&self, kind: TrackKind, path: &str) -> Lookup {
        let present = self.period.as_ref().and_then(|period| period.track(kind));
        let kept = self.tracks[kind.index()].kept.iter().rev().map(|segment| &segment.track);
        let Some(track) = present.into_iter().chain(kept).find(|track| track.init_name == path)
        else {
            return Lookup::NotFound;
        };
        Lookup::Found(Resource {
            content_type: kind.content_type(),
            cache_control: CacheControl::Immutable,
            etag: format!("\"{path}\""),
            last_modified: self.availability_start.unwrap_or(self.content_date),
            body: [&track.init].into_iter().collect(),
        })
    }
}

/// Where a segment lies, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: u64,
    period: u64,
    time: i64,
}

impl Place {
    /// Reads `{epoch}_{period}_{time}.m4s`.
    fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_suffix(".m4s")?.splitn(3, '_');
        Some(Self {
            epoch: numbers.next()?.parse().ok()?,
            period: numbers.next()?.parse().ok()?,
            time: numbers.next()?.parse().ok()?,
        })
    }
}

fn split_kind(path: &str) -> Option<(TrackKind, &str)> {
    TrackKind::ALL.into_iter().find_map(|kind| {
        let rest = path.strip_prefix(kind.as_str())?.strip_prefix('_')?;
        Some((kind, rest))
    })
}

fn segment_resource(segment: &Segment) -> Resource {
    Resource {
        content_type: segment.kind.content_type(),
        cache_control: CacheControl::Immutable,
        etag: format!("\"{}\"", segment.name),
        last_modified: segment.end_date(),
        body: segment.parts.iter().flat_map(|part| &part.pieces).collect(),
    }
}

/// The server's time for `urn:mpeg:dash:utc:http-iso:2014`.
fn time(now: Now) -> Resource {
    let text = render::iso_date(now.wall);
    Resource {
        content_type: "text/plain",
        cache_control: CacheControl::NoStore,
        etag: String::new(),
        last_modified: now.wall,
        body: [&Payload::copied_from(text.as_bytes())].into_iter().collect(),
    }
}

/// Two weeks, as origins do.
const IMMUTABLE_SECONDS: u32 = 14 * 24 * 3600;
/// Playlists that will not change, although a stream of the same name may follow.
const ENDED_SECONDS: u32 = 60;
