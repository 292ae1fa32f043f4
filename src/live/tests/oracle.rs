//! Reads back what a stream made, knowing only the formats: boxes, playlists.

use std::collections::HashMap;
use std::sync::Arc;

use fmp4::boxes::boxes;

use super::harness::{Sent, found};
use crate::live::*;
use crate::time::Now;

/// What has been sent, and what every playlist so far has said.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Payload and timestamp of each access unit that has to be found, by kind.
    expected: [Vec<(Vec<u8>, i64)>; 2],
    /// Of each playlist, what may not fall or change.
    playlists: HashMap<&'static str, Seen>,
    /// Lets decode times differ from the publisher's, for streams that are faulty on purpose.
    pub(super) times_may_differ: bool,
}

#[derive(Debug, Default)]
struct Seen {
    media_sequence: u64,
    target_duration: Option<u64>,
    /// Number, discontinuity number and duration of each segment ever listed, by name.
    segments: HashMap<String, (u64, u64, String)>,
}

/// An access unit as a player reads it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Vec<u8>,
    pub(super) time: i64,
    pub(super) duration: i64,
    pub(super) sync: bool,
}

impl Oracle {
    pub(super) fn expect(&mut self, sent: &Sent) {
        let unit = &sent.unit;
        self.expected[sent.kind.index()].push((unit.payload.to_vec(), unit.dts));
    }

    /// Checks the playlists against each other and against every earlier version.
    pub(super) fn check_playlists(&mut self, window: &mut Window, now: Now) {
        for path in ["video.m3u8", "audio.m3u8"] {
            let Some((_, text)) = found(window, path, now) else { continue };
            let listed = self.check_playlist(path, &String::from_utf8(text).unwrap());
            for name in listed {
                let answer = window.lookup(&name, now);
                assert!(matches!(answer, Lookup::Found(_)), "{name} is listed but not there");
            }
        }
    }

    fn check_playlist(&mut self, path: &'static str, text: &str) -> Vec<String> {
        let seen = self.playlists.entry(path).or_default();
        let value = |tag: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(tag));
            line.map(|value| value.parse::<u64>().unwrap())
        };
        let target = value("#EXT-X-TARGETDURATION:").unwrap();
        assert_eq!(*seen.target_duration.get_or_insert(target), target, "never changes");
        let mut number = value("#EXT-X-MEDIA-SEQUENCE:").unwrap();
        assert!(number >= seen.media_sequence, "the media sequence never falls");
        seen.media_sequence = number;
        let mut discontinuity = value("#EXT-X-DISCONTINUITY-SEQUENCE:").unwrap_or(0);
        let mut names = Vec::new();
        let mut duration = String::new();
        for line in text.lines() {
            if line == "#EXT-X-DISCONTINUITY" {
                discontinuity += 1;
            } else if let Some(value) = line.strip_prefix("#EXTINF:") {
                duration = value.trim_end_matches(',').to_owned();
                let seconds: f64 = duration.parse().unwrap();
                assert!(seconds.round() as u64 <= target, "{seconds} s above {target} s");
                assert!(seconds > 0.0);
            } else if !line.starts_with('#') {
                let said = (number, discontinuity, duration.clone());
                let before = seen.segments.entry(line.to_owned()).or_insert_with(|| said.clone());
                assert_eq!(*before, said, "{line} was something else before");
                names.push(line.to_owned());
                number += 1;
            }
        }
        names
    }

    /// Checks that the segments hold every access unit once and in order, at its time.
    pub(super) fn check_segments(&self, segments: &[Vec<Arc<Segment>>; 2]) {
        for kind in TrackKind::ALL {
            let mut found = Vec::new();
            let mut end: Option<(u64, i64)> = None;
            for segment in &segments[kind.index()] {
                let units = read_segment(segment);
                let first = units.first().expect("a segment has an access unit");
                let last = units.last().expect("a segment has an access unit");
                if let Some((period, end)) = end
                    && period == segment.period.number
                {
                    assert_eq!(first.time, end, "{}: decode times are contiguous", segment.name);
                }
                assert_eq!(segment.independent, first.sync, "{}", segment.name);
                end = Some((segment.period.number, last.time + last.duration));
                found.extend(units);
            }
            let expected = &self.expected[kind.index()];
            for (index, (read, (bytes, dts))) in found.iter().zip(expected).enumerate() {
                let text = String::from_utf8_lossy(&bytes[..16]);
                assert!(read.bytes == *bytes, "access unit {index} should be {text}");
                let timescale = if kind == TrackKind::Video { 90_000 } else { 44_100 };
                let off_us = (read.time - dts).abs() * 1_000_000 / timescale;
                assert!(self.times_may_differ || off_us <= 1000, "{text} is {off_us} us off");
            }
            assert_eq!(found.len(), expected.len(), "{kind:?} access units");
        }
    }
}

/// The access units of a segment, from its bytes.
pub(super) fn read_segment(segment: &Segment) -> Vec<Read> {
    let parts = segment.parts.iter().flat_map(|part| &part.pieces);
    let bytes: Vec<u8> = parts.flat_map(|piece| piece.to_vec()).collect();
    assert_eq!(bytes.len() as u64, segment.bytes);
    let all: Vec<_> = boxes(&bytes).map(|place| place.unwrap()).collect();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&all[0].kind, b"styp");
    assert_eq!(all.iter().filter(|place| &place.kind == b"styp").count(), 1);
    let (mut units, mut time, mut moof, mut run) = (Vec::new(), 0, 0, 0..0);
    for place in &all {
        let content = place.content.start;
        match &place.kind {
            b"moof" => moof = place.range.start,
            b"tfdt" => {
                let base = i64::from(word(content + 4)) << 32 | i64::from(word(content + 8));
                assert!(units.is_empty() || base == time, "parts are contiguous");
                time = base;
            }
            b"trun" => run = place.content.clone(),
            b"mdat" => {
                let mut at = moof + word(run.start + 8) as usize;
                assert_eq!(at, content, "the data offset leads to the media");
                for sample in (run.start + 12..run.end).step_by(16) {
                    let (duration, size) = (word(sample), word(sample + 4) as usize);
                    units.push(Read {
                        bytes: bytes[at..at + size].to_vec(),
                        time,
                        duration: i64::from(duration),
                        sync: word(sample + 8) & 0x1_0000 == 0,
                    });
                    time += i64::from(duration);
                    at += size;
                }
                assert_eq!(at, place.range.end, "the media ends with its samples");
            }
            _ => {}
        }
    }
    assert_eq!(units.len(), segment.access_units);
    assert_eq!(units.iter().map(|unit| unit.duration).sum::<i64>(), segment.duration);
    units
}
