//! The Media Playlist (4.4.3 to 4.4.5): the segments of one rendition.
//!
//! In: [`MediaPlaylist`], which borrows what the window holds. Out: its text. Tags that apply to
//! all following segments (EXT-X-MAP) are written when their value changes; EXT-X-PROGRAM-DATE-TIME
//! stands where the description has one.

use crate::text::{DateTime, push, push_quoted, push_seconds, push_uri_line};

/// A Media Playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlaylist<'a> {
    /// EXT-X-TARGETDURATION in seconds. It must never change, and no segment may be longer when
    /// rounded to the nearest second (4.4.3.1).
    pub target_duration_s: u32,
    /// EXT-X-MEDIA-SEQUENCE: the number of the first segment below (4.4.3.2).
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE (4.4.3.3). Zero is left out, as is its meaning without the tag.
    pub discontinuity_sequence: u64,
    /// EXT-X-INDEPENDENT-SEGMENTS: each segment below can be decoded without another (4.4.2.1).
    pub independent_segments: bool,
    /// The segments, oldest first.
    pub segments: Vec<MediaSegment<'a>>,
    /// Parts of the segment that is not complete yet.
    pub open_parts: Vec<PartialSegment<'a>>,
    /// Whether there will be more.
    pub end: PlaylistEnd,
}

/// Whether a playlist will grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaylistEnd {
    /// More segments may come.
    #[default]
    Open,
    /// No more segments will come (EXT-X-ENDLIST, 4.4.3.4).
    Ended,
}

/// A media segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSegment<'a> {
    /// URI of its bytes.
    pub uri: &'a str,
    /// How long it is, in ticks.
    pub duration_ticks: u64,
    /// Ticks per second.
    pub timescale: u32,
    /// How many EXT-X-DISCONTINUITY tags stand before it (4.4.4.3). More than one when this
    /// rendition had no segment between two of them, so that the discontinuity sequence numbers of
    /// all renditions agree (6.2.4).
    pub discontinuities: u32,
    /// EXT-X-MAP: what a decoder needs before it (4.4.4.5).
    pub map: Option<MapSection<'a>>,
    /// EXT-X-PROGRAM-DATE-TIME: the date of its first sample (4.4.4.6).
    pub program_date_time: Option<DateTime>,
    /// Its parts; not written yet.
    pub parts: Vec<PartialSegment<'a>>,
}

/// A media initialization section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSection<'a> {
    /// URI of its bytes.
    pub uri: &'a str,
}

/// A partial segment (4.4.4.9): the place of what the low-latency tags will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSegment<'a> {
    /// URI of its bytes.
    pub uri: &'a str,
    /// How long it is, in ticks of its segment.
    pub duration_ticks: u64,
    /// Whether it holds an independent picture.
    pub independent: bool,
}

impl MediaPlaylist<'_> {
    /// Appends the playlist.
    pub fn write(&self, out: &mut String) {
        // EXT-X-MAP in a playlist that is not of I-frames needs version 6 (8).
        out.push_str("#EXTM3U\n#EXT-X-VERSION:6\n");
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        push(out, format_args!("#EXT-X-TARGETDURATION:{}\n", self.target_duration_s));
        push(out, format_args!("#EXT-X-MEDIA-SEQUENCE:{}\n", self.media_sequence));
        if self.discontinuity_sequence > 0 {
            push(
                out,
                format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}\n", self.discontinuity_sequence),
            );
        }
        let mut map = None;
        for segment in &self.segments {
            segment.write(&mut map, out);
        }
        if self.end == PlaylistEnd::Ended {
            out.push_str("#EXT-X-ENDLIST\n");
        }
    }
}

impl<'a> MediaSegment<'a> {
    /// Appends the segment; `map` is the section that applies so far.
    fn write(&self, map: &mut Option<MapSection<'a>>, out: &mut String) {
        for _ in 0..self.discontinuities {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.map != *map || self.discontinuities > 0 {
            // A discontinuity does not end what EXT-X-MAP says; it is said again because the
            // players that restart their decoder there then find it next to the segment.
            if let Some(section) = self.map {
                out.push_str("#EXT-X-MAP:URI=");
                push_quoted(out, section.uri);
                out.push('\n');
            }
            *map = self.map;
        }
        if let Some(date) = self.program_date_time {
            push(out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{date}\n"));
        }
        out.push_str("#EXTINF:");
        push_seconds(out, self.duration_ticks, self.timescale);
        out.push_str(",\n");
        push_uri_line(out, self.uri);
    }
}
