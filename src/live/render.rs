//! From a window to playlists and manifests.
//!
//! In: a [`Window`] with at least one segment of each of its tracks. Out: bytes. What players
//! choose by (bit rates, frame rate) is measured over the listed segments.

use std::sync::Arc;

use dash::{Availability, ContentType, Manifest, TimelineSegment, UtcTiming};
use hls::{
    AudioRendition, DateTime, MapSection, MediaPlaylist, MediaSegment, MultivariantPlaylist,
    PlaylistEnd, Resolution, VariantStream,
};

use crate::live::millis_of;
use crate::live::segmenter::segment_name;
use crate::live::track::{TrackDescription, TrackKind};
use crate::live::update::{Period, Segment};
use crate::live::window::Window;
use crate::time::Wall;

/// `index.m3u8`
pub(super) fn multivariant(window: &Window) -> Vec<u8> {
    let video = Measured::of(window, TrackKind::Video);
    let audio = Measured::of(window, TrackKind::Audio);
    let tracks = || [&video, &audio].into_iter().flatten();
    let codecs: Vec<&str> = tracks().map(|track| track.description.codec_string.as_str()).collect();
    let main = VariantStream {
        bandwidth: tracks().map(|track| track.peak).sum(),
        average_bandwidth: Some(tracks().map(|track| track.average).sum()),
        codecs: &codecs,
        resolution: None,
        frame_rate_thousandths: None,
        audio_group: None,
        uri: "audio.m3u8",
    };
    let mut playlist = MultivariantPlaylist {
        independent_segments: tracks().all(|track| track.independent),
        ..MultivariantPlaylist::default()
    };
    let Some(video) = &video else {
        playlist.variants.push(main);
        return hls_text(|out| playlist.write(out));
    };
    let resolution = video.description.resolution;
    if let Some(audio) = &audio {
        playlist.audio.push(AudioRendition {
            group_id: AUDIO_GROUP,
            name: "Audio",
            channels: audio.description.audio.map(|(_, channels)| u32::from(channels)),
            uri: "audio.m3u8",
        });
    }
    playlist.variants.push(VariantStream {
        resolution: resolution.map(|(width, height)| Resolution {
            width: u32::from(width),
            height: u32::from(height),
        }),
        frame_rate_thousandths: Some(video.units_per_1000_s),
        audio_group: audio.as_ref().map(|_| AUDIO_GROUP),
        uri: "video.m3u8",
        ..main
    });
    hls_text(|out| playlist.write(out))
}

/// `video.m3u8`, `audio.m3u8`
pub(super) fn media(window: &Window, kind: TrackKind) -> Vec<u8> {
    let listed: Vec<&Arc<Segment>> = window.listed(kind).collect();
    let mut period = None;
    let segments = listed
        .iter()
        .map(|segment| {
            let first_of_period =
                period.replace(segment.period.number) != Some(segment.period.number);
            MediaSegment {
                uri: &segment.name,
                duration_ticks: segment.duration as u64,
                timescale: segment.track.timescale,
                discontinuities: segment.discontinuities,
                map: Some(MapSection { uri: &segment.track.init_name }),
                program_date_time: first_of_period
                    .then(|| DateTime { unix_millis: segment.date().unix_millis() }),
                parts: Vec::new(),
            }
        })
        .collect();
    let epoch = window.settings.epoch;
    let playlist = MediaPlaylist {
        target_duration_s: window.target_duration_s.unwrap_or(1),
        media_sequence: listed.first().map_or(epoch, |first| first.sequence),
        // The first segment's tags are still there; its period's number is what they lead to.
        discontinuity_sequence: listed
            .first()
            .map_or(0, |first| first.period.number - u64::from(first.discontinuities)),
        independent_segments: listed.iter().all(|segment| segment.independent),
        segments,
        open_parts: Vec::new(),
        end: if window.ended { PlaylistEnd::Ended } else { PlaylistEnd::Open },
    };
    hls_text(|out| playlist.write(out))
}

/// `manifest.mpd`
pub(super) fn manifest(window: &Window) -> Vec<u8> {
    let epoch = window.settings.epoch;
    let start = window.availability_start.unwrap_or_default();
    let since_start = |date: Wall| (date.unix_millis() - start.unix_millis()).max(0) as u64;
    let measured = TrackKind::ALL.map(|kind| Measured::of(window, kind));
    let periods = listed_periods(window);
    let names: Vec<PeriodNames> = periods
        .iter()
        .map(|(period, _)| PeriodNames {
            id: format!("{epoch}-{}", period.number),
            media: TrackKind::ALL.map(|kind| segment_name(kind, epoch, period.number, "$Time$")),
        })
        .collect();
    let target_ms = u64::from(window.target_duration_s.unwrap_or(1)) * 1000;
    let manifest = Manifest {
        availability_start_unix_millis: start.unix_millis(),
        publish_unix_millis: window.content_date.unix_millis(),
        availability: if window.ended {
            let end = periods.iter().flat_map(|(period, tracks)| {
                let ends = tracks.iter().filter_map(|segments| segments.last());
                ends.map(|last| period.date(last.time + last.duration, last.track.timescale))
            });
            Availability::Ended { media_presentation_duration_ms: end.max().map_or(0, since_start) }
        } else {
            Availability::Live {
                minimum_update_period_ms: u64::from(window.settings.segment_duration_ms),
            }
        },
        time_shift_buffer_depth_ms: target_ms * window.settings.window_segments as u64,
        suggested_presentation_delay_ms: 3 * target_ms,
        min_buffer_time_ms: target_ms,
        max_segment_duration_ms: target_ms + 500,
        utc_timing: vec![UtcTiming::HttpIso("time")],
        periods: periods
            .iter()
            .zip(&names)
            .map(|((period, tracks), names)| dash::Period {
                id: &names.id,
                start_ms: since_start(period.start),
                adaptation_sets: tracks
                    .iter()
                    .zip(&names.media)
                    .zip(&measured)
                    .filter_map(|((segments, media), measured)| {
                        adaptation_set(period, segments, media, measured.as_ref()?)
                    })
                    .collect(),
            })
            .collect(),
    };
    let mut out = Vec::new();
    manifest.write(&mut out);
    out
}

struct PeriodNames {
    id: String,
    media: [String; 2],
}

/// The listed segments of one period, by kind.
type PeriodSegments<'a> = (&'a Arc<Period>, [Vec<&'a Segment>; 2]);

fn listed_periods(window: &Window) -> Vec<PeriodSegments<'_>> {
    let mut periods: Vec<PeriodSegments<'_>> = Vec::new();
    for kind in TrackKind::ALL {
        for segment in window.listed(kind) {
            let number = segment.period.number;
            let index = periods.partition_point(|(period, _)| period.number < number);
            if periods.get(index).is_none_or(|(period, _)| period.number != number) {
                periods.insert(index, (&segment.period, [Vec::new(), Vec::new()]));
            }
            periods[index].1[kind.index()].push(segment);
        }
    }
    periods
}

fn adaptation_set<'a>(
    period: &Period,
    segments: &[&'a Segment],
    media: &'a str,
    measured: &Measured<'_>,
) -> Option<dash::AdaptationSet<'a>> {
    let first = segments.first()?;
    let track = &first.track;
    let content = match first.kind {
        TrackKind::Video => ContentType::Video {
            resolution: track.resolution.map(|(width, height)| (width.into(), height.into())),
            frame_rate: Some(match measured.units_per_1000_s {
                whole if whole % 1000 == 0 => {
                    dash::FrameRate { numerator: whole / 1000, denominator: 1 }
                }
                numerator => dash::FrameRate { numerator, denominator: 1000 },
            }),
        },
        TrackKind::Audio => {
            let (sampling_rate, channels) = track.audio.unwrap_or((track.timescale, 2));
            ContentType::Audio { sampling_rate, channels: channels.into() }
        }
    };
    Some(dash::AdaptationSet {
        content,
        representation_id: first.kind.as_str(),
        codecs: &track.codec_string,
        bandwidth: measured.peak,
        independent_segments: segments.iter().all(|segment| segment.independent),
        timescale: track.timescale,
        presentation_time_offset: period.origin_ticks(track.timescale).max(0) as u64,
        initialization: &track.init_name,
        media,
        segments: segments
            .iter()
            .map(|segment| TimelineSegment {
                time: segment.time as u64,
                duration: segment.timeline_duration as u64,
            })
            .collect(),
    })
}

/// What the listed segments of a track say of it.
struct Measured<'a> {
    description: &'a TrackDescription,
    /// Bits per second of the segment with the most, and over all.
    peak: u64,
    average: u64,
    units_per_1000_s: u32,
    independent: bool,
}

impl<'a> Measured<'a> {
    fn of(window: &'a Window, kind: TrackKind) -> Option<Self> {
        let last = window.listed(kind).next_back()?;
        let target_ms = i64::from(last.target_duration_s) * 1000;
        // Peaks are those of segments of half a target duration or longer, where there are any
        // (RFC 8216bis 4.4.6.2).
        let is_long = |segment: &&Arc<Segment>| {
            2 * millis_of(segment.duration, segment.track.timescale) >= target_ms
        };
        let peak = window.listed(kind).filter(is_long).map(|segment| segment.bit_rate()).max();
        let peak = peak.or_else(|| window.listed(kind).map(|segment| segment.bit_rate()).max())?;
        let (mut bits, mut units, mut micros) = (0_u128, 0_u128, 0_u128);
        for segment in window.listed(kind) {
            bits += u128::from(segment.bytes) * 8;
            units += segment.access_units as u128;
            micros +=
                segment.duration.max(0) as u128 * 1_000_000 / u128::from(segment.track.timescale);
        }
        let per_second = |count: u128, scale: u128| count * scale * 1_000_000 / micros.max(1);
        Some(Self {
            description: &last.track,
            peak,
            average: per_second(bits, 1) as u64,
            units_per_1000_s: per_second(units, 1000).clamp(1, 1_000_000) as u32,
            independent: window.listed(kind).all(|segment| segment.independent),
        })
    }
}

/// A date in the form of ISO 8601, as playlists have it.
pub(super) fn iso_date(wall: Wall) -> String {
    DateTime { unix_millis: wall.unix_millis() }.to_string()
}

fn hls_text(write: impl FnOnce(&mut String)) -> Vec<u8> {
    let mut text = String::new();
    write(&mut text);
    text.into_bytes()
}

const AUDIO_GROUP: &str = "audio";
