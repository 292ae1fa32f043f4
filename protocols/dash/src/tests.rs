//! An exact snapshot, and a reader that expands timelines again.

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::*;

fn video(segments: Vec<TimelineSegment>) -> AdaptationSet<'static> {
    AdaptationSet {
        content: ContentType::Video {
            resolution: Some((1280, 720)),
            frame_rate: Some(FrameRate { numerator: 30_000, denominator: 1001 }),
        },
        representation_id: "video",
        codecs: "avc1.64001f",
        bandwidth: 2_000_000,
        independent_segments: true,
        timescale: 90_000,
        presentation_time_offset: 7200,
        initialization: "video_init_1.mp4",
        media: "video_1_$Time$.m4s",
        segments,
    }
}

fn manifest(periods: Vec<Period<'_>>) -> Manifest<'_> {
    Manifest {
        availability_start_unix_millis: 1_700_000_000_123,
        publish_unix_millis: 1_700_000_010_000,
        availability: Availability::Live { minimum_update_period_ms: 2000 },
        time_shift_buffer_depth_ms: 20_000,
        suggested_presentation_delay_ms: 6000,
        min_buffer_time_ms: 2000,
        max_segment_duration_ms: 2500,
        utc_timing: vec![UtcTiming::HttpIso("time?a=1&b=2")],
        periods,
    }
}

fn text(manifest: &Manifest<'_>) -> String {
    let mut out = Vec::new();
    manifest.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn segments(described: &[(u64, u64)]) -> Vec<TimelineSegment> {
    described
        .iter()
        .map(|(time, duration)| TimelineSegment { time: *time, duration: *duration })
        .collect()
}

#[test]
fn a_live_manifest() {
    let audio = AdaptationSet {
        content: ContentType::Audio { sampling_rate: 48_000, channels: 2 },
        representation_id: "audio",
        codecs: "mp4a.40.2",
        bandwidth: 128_000,
        timescale: 48_000,
        presentation_time_offset: 0,
        initialization: "audio_init_1.mp4",
        media: "audio_1_$Time$.m4s",
        segments: segments(&[(0, 96_256)]),
        ..video(Vec::new())
    };
    let timeline = segments(&[(7200, 180_000), (187_200, 180_000), (367_200, 180_180)]);
    let manifest = manifest(vec![Period {
        id: "p0",
        start_ms: 1500,
        adaptation_sets: vec![video(timeline), audio],
    }]);
    assert_eq!(text(&manifest), include_str!("live.mpd"));
}

#[test]
fn an_ended_manifest_says_how_long_it_is_and_promises_no_update() {
    let manifest = Manifest {
        availability: Availability::Ended { media_presentation_duration_ms: 61_250 },
        utc_timing: vec![UtcTiming::Direct(0)],
        ..manifest(Vec::new())
    };
    let text = text(&manifest);
    assert!(text.contains("mediaPresentationDuration=\"PT61.250S\""));
    assert!(!text.contains("minimumUpdatePeriod"));
    assert!(text.contains("value=\"1970-01-01T00:00:00.000Z\""));
}

#[test]
fn text_is_escaped() {
    let manifest =
        manifest(vec![Period { id: "\"><x a=\"&", start_ms: 0, adaptation_sets: Vec::new() }]);
    assert!(text(&manifest).contains("id=\"&quot;&gt;&lt;x a=&quot;&amp;\""));
}

/// Every `S` of the manifest, expanded by 5.3.9.6 alone.
fn expand(text: &str) -> Vec<TimelineSegment> {
    let mut reader = Reader::from_str(text);
    let mut expanded = Vec::new();
    let mut next = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Empty(element) if element.name().as_ref() == "S" => {
                let number = |name: &str| {
                    let attribute = element.try_get_attribute(name).unwrap()?;
                    Some(attribute.value.parse::<u64>().unwrap())
                };
                let duration = number("d").unwrap();
                let mut time = number("t").unwrap_or(next);
                for _ in 0..=number("r").unwrap_or(0) {
                    expanded.push(TimelineSegment { time, duration });
                    time += duration;
                }
                next = time;
            }
            Event::Eof => return expanded,
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn a_timeline_expands_to_what_was_described(
        start in 0..1_u64 << 50,
        described in proptest::collection::vec((0..3_u64, prop_oneof![Just(180_000), 1..5_u64]), 1..50),
    ) {
        let mut time = start;
        let mut timeline = Vec::new();
        for (gap, duration) in described {
            time += gap / 2;
            timeline.push(TimelineSegment { time, duration });
            time += duration;
        }
        let text = text(&manifest(vec![Period {
            id: "p0",
            start_ms: 0,
            adaptation_sets: vec![video(timeline.clone())],
        }]));
        prop_assert_eq!(expand(&text), timeline);
    }

    #[test]
    fn dates_are_real_and_rise(unix_millis in -1_i64 << 45..1_i64 << 45, later in 1..1_i64 << 40) {
        let write = |publish_unix_millis| {
            let text = text(&Manifest { publish_unix_millis, ..manifest(Vec::new()) });
            let (_, rest) = text.split_once("publishTime=\"").unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let first = write(unix_millis);
        prop_assert!(first < write(unix_millis + later));
        let day: u32 = first[8..10].parse().unwrap();
        let month: u32 = first[5..7].parse().unwrap();
        prop_assert!((1..=31).contains(&day) && (1..=12).contains(&month));
    }
}
