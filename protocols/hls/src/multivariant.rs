//! The Multivariant Playlist (4.4.6): which variant streams exist and what they need.
//!
//! In: [`MultivariantPlaylist`]. Out: its text. What a player selects by is measured by the caller;
//! nothing is invented here: an attribute whose value is not known is left out, except BANDWIDTH,
//! which the standard requires.

use crate::text::{push, push_quoted, push_thousandths, push_uri_line};

/// A Multivariant Playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultivariantPlaylist<'a> {
    /// Whether every segment of every listed playlist can be decoded without another
    /// (EXT-X-INDEPENDENT-SEGMENTS, 4.4.2.1).
    pub independent_segments: bool,
    /// EXT-X-MEDIA tags of type AUDIO (4.4.6.1).
    pub audio: Vec<AudioRendition<'a>>,
    /// EXT-X-STREAM-INF tags (4.4.6.2), the one to start with first.
    pub variants: Vec<VariantStream<'a>>,
}

/// An audio rendition with a playlist of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioRendition<'a> {
    /// GROUP-ID.
    pub group_id: &'a str,
    /// NAME, unique in the group.
    pub name: &'a str,
    /// CHANNELS: how many.
    pub channels: Option<u32>,
    /// URI of the media playlist.
    pub uri: &'a str,
}

/// A variant stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantStream<'a> {
    /// BANDWIDTH: the peak segment bit rate of all its renditions together, in bits per second.
    pub bandwidth: u64,
    /// AVERAGE-BANDWIDTH, in bits per second.
    pub average_bandwidth: Option<u64>,
    /// CODECS: one string of RFC 6381 for each sample format of the variant.
    pub codecs: &'a [&'a str],
    /// RESOLUTION of the picture.
    pub resolution: Option<Resolution>,
    /// FRAME-RATE, in pictures per 1000 seconds.
    pub frame_rate_thousandths: Option<u32>,
    /// AUDIO: the group that goes with it.
    pub audio_group: Option<&'a str>,
    /// URI of the media playlist.
    pub uri: &'a str,
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl MultivariantPlaylist<'_> {
    /// Appends the playlist.
    pub fn write(&self, out: &mut String) {
        out.push_str("#EXTM3U\n#EXT-X-VERSION:6\n");
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        for rendition in &self.audio {
            rendition.write(out);
        }
        for variant in &self.variants {
            variant.write(out);
        }
    }
}

impl AudioRendition<'_> {
    fn write(&self, out: &mut String) {
        out.push_str("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=");
        push_quoted(out, self.group_id);
        out.push_str(",NAME=");
        push_quoted(out, self.name);
        out.push_str(",DEFAULT=YES,AUTOSELECT=YES");
        if let Some(channels) = self.channels {
            push(out, format_args!(",CHANNELS=\"{channels}\""));
        }
        out.push_str(",URI=");
        push_quoted(out, self.uri);
        out.push('\n');
    }
}

impl VariantStream<'_> {
    fn write(&self, out: &mut String) {
        push(out, format_args!("#EXT-X-STREAM-INF:BANDWIDTH={}", self.bandwidth));
        if let Some(average) = self.average_bandwidth {
            push(out, format_args!(",AVERAGE-BANDWIDTH={average}"));
        }
        if !self.codecs.is_empty() {
            out.push_str(",CODECS=");
            push_quoted(out, &self.codecs.join(","));
        }
        if let Some(Resolution { width, height }) = self.resolution {
            push(out, format_args!(",RESOLUTION={width}x{height}"));
        }
        if let Some(frame_rate) = self.frame_rate_thousandths {
            out.push_str(",FRAME-RATE=");
            push_thousandths(out, frame_rate);
        }
        if let Some(group) = self.audio_group {
            out.push_str(",AUDIO=");
            push_quoted(out, group);
        }
        // No captions are in the stream unless someone says so (4.4.6.2, CLOSED-CAPTIONS).
        if self.resolution.is_some() {
            out.push_str(",CLOSED-CAPTIONS=NONE");
        }
        out.push('\n');
        push_uri_line(out, self.uri);
    }
}
