//! Exact snapshots, and a small reader that must find again what was described.

use proptest::prelude::*;

use crate::*;

fn segment(uri: &str, duration_ticks: u64) -> MediaSegment<'_> {
    MediaSegment {
        uri,
        duration_ticks,
        timescale: 90_000,
        discontinuities: 0,
        map: Some(MapSection { uri: "video_init_1.mp4" }),
        program_date_time: None,
        parts: Vec::new(),
    }
}

fn playlist(segments: Vec<MediaSegment<'_>>) -> MediaPlaylist<'_> {
    MediaPlaylist {
        target_duration_s: 2,
        media_sequence: 7,
        discontinuity_sequence: 0,
        independent_segments: true,
        segments,
        open_parts: Vec::new(),
        end: PlaylistEnd::Open,
    }
}

fn text(playlist: &MediaPlaylist<'_>) -> String {
    let mut out = String::new();
    playlist.write(&mut out);
    out
}

#[test]
fn a_multivariant_playlist_with_an_audio_group() {
    let playlist = MultivariantPlaylist {
        independent_segments: true,
        audio: vec![AudioRendition {
            group_id: "audio",
            name: "Audio",
            channels: Some(2),
            uri: "audio.m3u8",
        }],
        variants: vec![VariantStream {
            bandwidth: 2_128_000,
            average_bandwidth: Some(1_900_000),
            codecs: &["avc1.64001f", "mp4a.40.2"],
            resolution: Some(Resolution { width: 1280, height: 720 }),
            frame_rate_thousandths: Some(29_970),
            audio_group: Some("audio"),
            uri: "video.m3u8",
        }],
    };
    let mut out = String::new();
    playlist.write(&mut out);
    assert_eq!(
        out,
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2128000,AVERAGE-BANDWIDTH=1900000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
         video.m3u8\n"
    );
}

#[test]
fn an_audio_only_variant_says_nothing_of_pictures() {
    let playlist = MultivariantPlaylist {
        variants: vec![VariantStream {
            bandwidth: 128_000,
            average_bandwidth: None,
            codecs: &["mp4a.40.2"],
            resolution: None,
            frame_rate_thousandths: None,
            audio_group: None,
            uri: "audio.m3u8",
        }],
        ..MultivariantPlaylist::default()
    };
    let mut out = String::new();
    playlist.write(&mut out);
    assert_eq!(
        out,
        "#EXTM3U\n#EXT-X-VERSION:6\n\
         #EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\naudio.m3u8\n"
    );
}

#[test]
fn a_media_playlist_with_a_discontinuity_and_an_end() {
    let mut first = segment("video_1.m4s", 180_000);
    first.program_date_time = Some(DateTime { unix_millis: 1_700_000_000_123 });
    let second = segment("video_2.m4s", 180_180);
    let mut third = segment("video_3.m4s", 90_001);
    third.discontinuities = 2;
    third.map = Some(MapSection { uri: "video_init_2.mp4" });
    third.program_date_time = Some(DateTime { unix_millis: 1_700_000_010_000 });
    let mut playlist = playlist(vec![first, second, third]);
    playlist.discontinuity_sequence = 3;
    playlist.end = PlaylistEnd::Ended;
    assert_eq!(
        text(&playlist),
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:7\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:3\n\
         #EXT-X-MAP:URI=\"video_init_1.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.123Z\n\
         #EXTINF:2.000000,\n\
         video_1.m4s\n\
         #EXTINF:2.002000,\n\
         video_2.m4s\n\
         #EXT-X-DISCONTINUITY\n\
         #EXT-X-DISCONTINUITY\n\
         #EXT-X-MAP:URI=\"video_init_2.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:30.000Z\n\
         #EXTINF:1.000011,\n\
         video_3.m4s\n\
         #EXT-X-ENDLIST\n"
    );
}

#[test]
fn dates_follow_the_calendar() {
    for (unix_millis, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(DateTime { unix_millis }.to_string(), expected);
    }
}

#[test]
fn a_quote_or_a_line_break_in_a_name_cannot_add_a_tag() {
    let playlist = MultivariantPlaylist {
        audio: vec![AudioRendition {
            group_id: "a\"\n#EXT-X-ENDLIST",
            name: "b\r\n",
            channels: None,
            uri: "audio.m3u8",
        }],
        ..MultivariantPlaylist::default()
    };
    let mut out = String::new();
    playlist.write(&mut out);
    assert_eq!(out.lines().count(), 3);
    assert!(out.contains("GROUP-ID=\"a#EXT-X-ENDLIST\",NAME=\"b\""));
}

/// What a player takes from a playlist: number, discontinuity number, map, duration and URI.
type Read = (u64, u64, String, u64, String);

/// Reads a playlist by the rules of 4.4 alone.
fn read(text: &str) -> Vec<Read> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"));
    let (mut number, mut discontinuity) = (0, 0);
    let (mut map, mut micros) = (String::new(), 0);
    let mut segments = Vec::new();
    for line in lines {
        if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            number = value.parse().unwrap();
        } else if let Some(value) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
            discontinuity = value.parse().unwrap();
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity += 1;
        } else if let Some(value) = line.strip_prefix("#EXT-X-MAP:URI=") {
            map = value.trim_matches('"').to_owned();
        } else if let Some(value) = line.strip_prefix("#EXTINF:") {
            let (seconds, fraction) = value.trim_end_matches(',').split_once('.').unwrap();
            assert_eq!(fraction.len(), 6);
            micros = seconds.parse::<u64>().unwrap() * 1_000_000 + fraction.parse::<u64>().unwrap();
        } else if !line.starts_with('#') {
            segments.push((number, discontinuity, map.clone(), micros, line.to_owned()));
            number += 1;
        }
    }
    segments
}

proptest! {
    #[test]
    fn a_reader_finds_what_was_described(
        sequence in 0..1_u64 << 40,
        discontinuity_sequence in 0..5_u64,
        described in proptest::collection::vec((0..20_000_000_u64, 0..3_u32, 0..2_usize), 0..30),
    ) {
        let maps = ["init_1.mp4", "init_2.mp4"];
        let names: Vec<String> = (0..described.len()).map(|index| format!("{index}.m4s")).collect();
        let segments = described
            .iter()
            .zip(&names)
            .map(|((ticks, discontinuities, map), name)| MediaSegment {
                duration_ticks: *ticks,
                discontinuities: *discontinuities,
                map: Some(MapSection { uri: maps[*map] }),
                ..segment(name, 0)
            })
            .collect();
        let playlist = MediaPlaylist {
            media_sequence: sequence,
            discontinuity_sequence,
            ..playlist(segments)
        };
        let mut discontinuity = discontinuity_sequence;
        let expected: Vec<Read> = described
            .iter()
            .zip(&names)
            .enumerate()
            .map(|(index, ((ticks, discontinuities, map), name))| {
                discontinuity += u64::from(*discontinuities);
                let micros = (ticks * 1_000_000 + 45_000) / 90_000;
                let number = sequence + index as u64;
                (number, discontinuity, maps[*map].to_owned(), micros, name.clone())
            })
            .collect();
        prop_assert_eq!(read(&text(&playlist)), expected);
    }
}
