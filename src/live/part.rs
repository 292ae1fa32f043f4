//! A part: a CMAF chunk, as a header of its own and references to the access units.
//!
//! In: access units whose durations are known. Out: [`Part`]. The bytes of access units that lie
//! one after the other in their block become one reference.

use fmp4::fragment::{Fragment, Position, Sample, fragment_header_length, write_fragment_header};

use crate::live::track::{AccessUnit, TrackKind};
use crate::memory::Payload;

/// An access unit with its place in the period's timeline.
#[derive(Clone, Debug)]
pub(super) struct PlacedUnit {
    /// Decode time, in ticks.
    pub(super) time: i64,
    pub(super) duration: i64,
    pub(super) unit: AccessUnit,
}

impl PlacedUnit {
    /// When it is shown or heard.
    pub(super) fn presentation_time(&self) -> i64 {
        self.time + i64::from(self.unit.composition_offset)
    }

    pub(super) fn end(&self) -> i64 {
        self.time + self.duration
    }
}

/// A complete part.
#[derive(Clone, Debug)]
pub struct Part {
    /// The track it is of.
    pub kind: TrackKind,
    /// The number of the segment it belongs to.
    pub sequence: u64,
    /// Its place in that segment, from 0.
    pub index: usize,
    /// Decode time of its first access unit, in ticks.
    pub start: i64,
    /// The sum of its access units' durations, in ticks.
    pub duration: i64,
    /// How many access units it has.
    pub access_units: usize,
    /// Whether it begins with a random access unit.
    pub independent: bool,
    /// `moof` and `mdat`, in order.
    pub pieces: Vec<Payload>,
    /// The bytes of all pieces.
    pub bytes: u64,
}

/// The part that is being filled.
#[derive(Debug, Default)]
pub(super) struct OpenPart {
    samples: Vec<Sample>,
    pieces: Vec<Payload>,
    start: i64,
    duration: i64,
    media_bytes: u64,
    independent: bool,
}

/// What a part has to know to be finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartPlace {
    pub(super) kind: TrackKind,
    pub(super) sequence: u64,
    pub(super) index: usize,
    /// mfhd's sequence_number.
    pub(super) fragment: u32,
}

impl OpenPart {
    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn duration(&self) -> i64 {
        self.duration
    }

    pub(super) fn media_bytes(&self) -> u64 {
        self.media_bytes
    }

    pub(super) fn push(&mut self, placed: PlacedUnit) {
        let unit = placed.unit;
        if self.samples.is_empty() {
            self.start = placed.time;
            self.independent = unit.random_access;
        }
        debug_assert_eq!(self.start + self.duration, placed.time, "decode times are contiguous");
        self.samples.push(Sample {
            size: unit.payload.len() as u32,
            duration: placed.duration as u32,
            composition_offset: unit.composition_offset,
            sync: unit.random_access,
        });
        self.duration += placed.duration;
        self.media_bytes += unit.payload.len() as u64;
        let joined = self.pieces.last().and_then(|last| last.joined(&unit.payload));
        match (self.pieces.last_mut(), joined) {
            (Some(last), Some(joined)) => *last = joined,
            _ => self.pieces.push(unit.payload),
        }
    }

    /// The part as it stands; an empty one begins.
    pub(super) fn finish(&mut self, place: PartPlace) -> Part {
        let open = std::mem::take(self);
        let position = if place.index == 0 { Position::First } else { Position::Later };
        let fragment = Fragment {
            position,
            sequence_number: place.fragment,
            // Offsets are chosen so that no time is negative (`collect::Collecting::open`).
            base_media_decode_time: open.start.max(0) as u64,
        };
        let mut header = vec![0; fragment_header_length(open.samples.len(), position)];
        write_fragment_header(&mut header, &fragment, &open.samples);
        let mut pieces = Vec::with_capacity(1 + open.pieces.len());
        pieces.push(Payload::copied_from(&header));
        pieces.extend(open.pieces);
        Part {
            kind: place.kind,
            sequence: place.sequence,
            index: place.index,
            start: open.start,
            duration: open.duration,
            access_units: open.samples.len(),
            independent: open.independent,
            bytes: header.len() as u64 + open.media_bytes,
            pieces,
        }
    }
}
