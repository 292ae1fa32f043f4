//! What publishers do, one stream each.

use super::harness::*;
use super::oracle::read_segment;
use crate::live::*;
use crate::memory::Payload;

fn both(millis: i64) -> Vec<Sent> {
    interleave([VIDEO.send(millis), AUDIO.send(millis)])
}

#[test]
fn both_tracks_are_shown_soon_and_end_together() {
    let mut stage = Stage::published(settings());
    let mut shown_at = None;
    for sent in both(30_000) {
        let at_ms = sent.at_ms;
        stage.clock_ms = 0;
        stage.send(vec![sent]);
        if stage.text("manifest.mpd").is_some() && stage.text("index.m3u8").is_some() {
            shown_at.get_or_insert(at_ms);
        }
    }
    let shown_at = shown_at.expect("it is shown");
    assert!(shown_at <= 2300, "shown after {shown_at} ms of media, with key frames each 2 s");
    let stage = stage.finish();
    assert_eq!(stage.stream.faults(), Faults::default());
    let [video, audio] = &stage.segments;
    assert_eq!((video.len(), audio.len()), (15, 15));
    for (video, audio) in video.iter().zip(audio) {
        assert!(video.independent);
        assert_eq!(video.sequence, audio.sequence);
        let apart = millis_of(video.time, 90_000) - millis_of(audio.time, 44_100);
        assert!(video.sequence == 1000 || (-24..=0).contains(&apart), "{apart} ms apart");
    }
}

#[test]
fn the_playlists_of_a_small_stream() {
    let mut stage = Stage::published(settings());
    stage.send(both(4300));
    assert_eq!(
        stage.text("index.m3u8").unwrap(),
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,\
         CHANNELS=\"2\",URI=\"audio.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=205048,AVERAGE-BANDWIDTH=203332,\
         CODECS=\"avc1.64000d,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=25.000,AUDIO=\"audio\",\
         CLOSED-CAPTIONS=NONE\nvideo.m3u8\n"
    );
    assert_eq!(
        stage.text("video.m3u8").unwrap(),
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:1000\n\
         #EXT-X-MAP:URI=\"video_init_1000_1.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.080Z\n\
         #EXTINF:2.000000,\nvideo_1000_0_7200.m4s\n\
         #EXTINF:2.000000,\nvideo_1000_0_187200.m4s\n"
    );
    let manifest = stage.text("manifest.mpd").unwrap();
    assert!(manifest.contains("<S t=\"7200\" d=\"180000\" r=\"1\"/>"), "{manifest}");
    assert!(manifest.contains("availabilityStartTime=\"2023-11-14T22:13:20.000Z\""));
    assert!(manifest.contains("media=\"audio_1000_0_$Time$.m4s\""));
    stage.finish();
}

#[test]
fn audio_that_begins_first_is_kept_from_its_first_frame() {
    for lead_ms in [20, 400, 900, 3000] {
        let mut stage = Stage::published(settings());
        let mut video = Video { start_ms: lead_ms, ..VIDEO }.send(9000);
        for sent in &mut video {
            sent.at_ms += lead_ms;
        }
        stage.send(interleave([AUDIO.send(9000 + lead_ms), video]));
        let stage = stage.finish();
        let [video, audio] = &stage.segments;
        assert!(video.iter().all(|segment| segment.independent));
        assert_eq!(audio[0].time, 0, "{lead_ms}");
        let periods = if lead_ms > 1000 { 2 } else { 1 };
        assert_eq!(audio.last().unwrap().period.number + 1, periods, "{lead_ms}");
    }
}

#[test]
fn video_before_its_first_random_access_unit_is_left_out_and_audio_is_not() {
    let mut stage = Stage::published(settings());
    let mut video = VIDEO.send(12_000).split_off(1);
    let early: Vec<Sent> = video.drain(..49).collect();
    let early_count = early.len() as u64;
    let mut audio = AUDIO.send(12_000);
    let with_video = audio.split_off(80);
    stage.send(audio);
    stage.clock_ms = 0;
    stage.send_in_vain(early);
    stage.clock_ms = 0;
    stage.send(interleave([with_video, video]));
    let stage = stage.finish();
    assert_eq!(stage.stream.faults().before_random_access, early_count);
    assert_eq!(stage.segments[1][0].time, 0);
}

#[test]
fn one_track_alone() {
    let mut stage = Stage::new(settings());
    stage.open();
    stage.configure(aac(44_100));
    stage.send(AUDIO.send(10_000));
    let index = stage.text("index.m3u8").unwrap();
    assert!(index.ends_with(",CODECS=\"mp4a.40.2\"\naudio.m3u8\n"), "{index}");
    assert!(stage.text("video.m3u8").is_none());
    let stage = stage.finish();
    assert_eq!(stage.segments[1].len(), 5);

    let mut stage = Stage::new(settings());
    stage.open();
    stage.configure(avc());
    stage.send(VIDEO.send(10_000));
    let index = stage.text("index.m3u8").unwrap();
    assert!(index.contains("CODECS=\"avc1.64000d\",") && !index.contains("AUDIO"), "{index}");
    let stage = stage.finish();
    assert_eq!(stage.segments[0].len(), 5);
}

#[test]
fn a_late_track_begins_a_period() {
    let mut stage = Stage::new(settings());
    stage.open();
    stage.configure(avc());
    stage.send(VIDEO.send(5000));
    stage.configure(aac(44_100));
    let later = |sent: Vec<Sent>| {
        sent.into_iter()
            .filter(|sent| sent.at_ms >= 5000)
            .map(|sent| Sent { at_ms: sent.at_ms - 5000, ..sent })
    };
    stage.clock_ms = 5000;
    let rest =
        interleave([later(VIDEO.send(12_000)).collect(), later(AUDIO.send(12_000)).collect()]);
    stage.send(rest);
    let stage = stage.finish();
    assert_eq!(stage.segments[1][0].period.number, 1);
    let broken = stage.segments[0].iter().filter(|segment| !segment.independent).count();
    assert_eq!(broken, 1, "video goes on where it was, and at the next key frame alone");
}

#[test]
fn jitter_of_milliseconds_is_kept_in_video_and_counted_out_of_audio() {
    let mut stage = Stage::published(settings());
    let mut sent =
        interleave([Video { rate: 29_970, gop: 60, ..VIDEO }.send(20_000), AUDIO.send(20_000)]);
    for (index, sent) in sent.iter_mut().enumerate() {
        if sent.kind == TrackKind::Video {
            sent.unit.dts += [0, 90, -90, 180, 0][index % 5];
            sent.unit.composition_offset += 270;
        }
    }
    stage.send(sent);
    let stage = stage.finish();
    assert_eq!(stage.stream.faults().not_rising, 0);
    let durations: Vec<i64> = stage.segments[1]
        .iter()
        .flat_map(|segment| read_segment(segment))
        .map(|unit| unit.duration)
        .collect();
    assert!(durations.iter().all(|duration| *duration == 1024));
}

#[test]
fn a_publisher_who_returns_goes_on_behind_a_discontinuity() {
    let mut stage = Stage::published(settings());
    stage.send(both(7000));
    let init = stage.segments[0][0].track.init_name.clone();
    stage.close();
    assert!(!stage.reader.is_publishing());
    let listed = stage.text("video.m3u8").unwrap();
    assert!(!listed.contains("ENDLIST"));
    stage.clock_ms += 20_000;
    stage.open();
    stage.configure(avc());
    stage.configure(aac(44_100));
    stage.send(both(7000));
    let listed = stage.text("video.m3u8").unwrap();
    assert_eq!(listed.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert_eq!(listed.matches(&init).count(), 2, "the same init section: {listed}");
    let manifest = stage.text("manifest.mpd").unwrap();
    assert!(manifest.contains("<Period id=\"1000-1\" start=\"PT26.9"), "{manifest}");
    let stage = stage.finish();
    assert_eq!(stage.segments[0].len(), 8);
}

#[test]
fn a_second_publisher_is_refused_and_cannot_do_anything() {
    let other = PublisherId(8);
    let mut stage = Stage::published(settings());
    assert_eq!(stage.stream.open_publisher(other, now(0)), Err(PublishRefused::Busy));
    let sent = VIDEO.send(40).remove(0);
    stage.stream.push(other, sent.kind, sent.unit, now(0));
    stage.stream.close_publisher(other, now(0));
    assert_eq!(stage.stream.publisher(), Some(ME));
    assert_eq!(stage.stream.faults().not_publishing, 1);
    let mut stage = stage.finish();
    assert_eq!(stage.stream.open_publisher(ME, now(0)), Err(PublishRefused::Ended));
    assert!(matches!(stage.reader.lookup("index.m3u8", now(0)), Lookup::NotFound));
}

#[test]
fn an_ended_stream_says_so() {
    let mut stage = Stage::published(settings());
    stage.send(both(5000));
    let mut stage = stage.finish();
    assert!(stage.text("audio.m3u8").unwrap().ends_with("#EXT-X-ENDLIST\n"));
    let manifest = stage.text("manifest.mpd").unwrap();
    assert!(manifest.contains("mediaPresentationDuration=\"PT5.0"), "{manifest}");
}

#[test]
fn a_new_configuration_is_a_new_period_and_the_same_is_not() {
    let mut stage = Stage::published(settings());
    stage.send(both(5000));
    stage.configure(avc());
    stage.send(interleave([
        Video { start_ms: 5000, ..VIDEO }.send(5000),
        Audio { start_ms: 4992, ..AUDIO }.send(5000),
    ]));
    assert_eq!(stage.segments[0].last().unwrap().period.number, 0);
    stage.configure(avc_1080());
    stage.oracle.times_may_differ = true;
    stage.send(interleave([
        Video { start_ms: 10_000, ..VIDEO }.send(5000),
        Audio { start_ms: 9984, ..AUDIO }.send(5000),
    ]));
    let stage = stage.finish();
    let last = stage.segments[0].last().unwrap();
    assert_eq!((last.period.number, last.track.resolution), (1, Some((1920, 1080))));
    assert_eq!(stage.segments[1].last().unwrap().period.number, 1);
    assert_ne!(last.track.init_name, stage.segments[0][0].track.init_name);
}

#[test]
fn gaps_and_jumps_begin_periods() {
    // To 6 s: a short pause, a long one, a jump back, and far ahead (33 days).
    for (to_ms, periods, jumps) in
        [(7500, 1, 0), (20_000, 2, 2), (1000, 2, 2), (33 * 86_400_000, 2, 2)]
    {
        let mut stage = Stage::published(settings());
        stage.send(both(6000));
        stage.send(interleave([
            Video { start_ms: to_ms, ..VIDEO }.send(6000),
            Audio { start_ms: to_ms, ..AUDIO }.send(6000),
        ]));
        let stage = stage.finish();
        let last = stage.segments[0].last().unwrap();
        let numbers = if jumps > 0 { 2..=3 } else { periods..=periods };
        assert!(numbers.contains(&(last.period.number + 1)), "{to_ms}: {}", last.period.number);
        assert!(stage.stream.faults().jumps <= jumps, "{to_ms}");
    }
}

#[test]
fn timestamps_may_begin_anywhere_and_wrap_nothing() {
    for start_ms in [33 * 86_400_000, 60 * 86_400_000, -5000] {
        let mut stage = Stage::published(settings());
        stage.oracle.times_may_differ = start_ms < 0;
        stage.send(interleave([
            Video { start_ms, ..VIDEO }.send(6000),
            Audio { start_ms, ..AUDIO }.send(6000),
        ]));
        let stage = stage.finish();
        assert_eq!(stage.stream.faults(), Faults::default());
        assert_eq!(stage.segments[0].last().unwrap().period.number, 0);
    }
}

#[test]
fn tracks_that_count_from_different_epochs_are_put_together() {
    let mut stage = Stage::published(settings());
    stage.oracle.times_may_differ = true;
    stage.send(interleave([VIDEO.send(6000), Audio { start_ms: 3_000_000, ..AUDIO }.send(6000)]));
    let stage = stage.finish();
    let [video, audio] = &stage.segments;
    let apart = video[1].date().unix_millis() - audio[1].date().unix_millis();
    assert!(apart.abs() < 25, "{apart}");
    assert_eq!(audio.last().unwrap().period.number, 0);
}

#[test]
fn timestamps_that_stand_still_do_not_stop_the_stream() {
    let mut stage = Stage::published(settings());
    stage.oracle.times_may_differ = true;
    let mut sent = both(6000);
    for (index, sent) in sent.iter_mut().enumerate() {
        if index % 7 == 0 {
            sent.unit.dts -= 4000;
        }
        sent.unit.dts = sent.unit.dts.max(0);
    }
    stage.send(sent);
    let stage = stage.finish();
    assert!(stage.stream.faults().not_rising > 0);
}

#[test]
fn key_frames_that_come_seldom_are_a_fault_that_keeps_the_target_duration() {
    let mut stage = Stage::published(settings());
    stage.send(interleave([Video { gop: 250, ..VIDEO }.send(30_000), AUDIO.send(30_000)]));
    let listed = stage.text("video.m3u8").unwrap();
    assert!(listed.contains("#EXT-X-TARGETDURATION:4\n"), "{listed}");
    assert!(!listed.contains("INDEPENDENT"));
    let stage = stage.finish();
    assert!(stage.stream.faults().forced_segments >= 5);
    let independent = stage.segments[0].iter().filter(|segment| segment.independent).count();
    assert_eq!(independent, 3, "every key frame begins a segment");
}

#[test]
fn intervals_that_grow_after_the_first_are_cut_to_the_target_duration() {
    let mut stage = Stage::published(settings());
    let mut video = VIDEO.send(20_000);
    for (index, sent) in video.iter_mut().enumerate() {
        sent.unit.random_access = index == 0 || index == 50 || index % 130 == 0;
    }
    stage.send(interleave([video, AUDIO.send(20_000)]));
    assert!(stage.text("video.m3u8").unwrap().contains("#EXT-X-TARGETDURATION:2\n"));
    stage.finish();
}

#[test]
fn a_huge_access_unit_is_a_part_of_its_own() {
    let mut stage = Stage::published(Settings {
        part_bytes_max: 100_000,
        segment_bytes_max: 1 << 20,
        window_bytes_max: 4 << 20,
        ..settings()
    });
    let mut sent = both(20_000);
    for sent in sent.iter_mut().filter(|sent| sent.kind == TrackKind::Video).step_by(20) {
        let mut bytes = sent.unit.payload.to_vec();
        bytes.resize(900_000, 7);
        sent.unit.payload = Payload::copied_from(&bytes);
    }
    stage.send(sent);
    assert!(stage.reader.bytes() <= 4 << 20);
    stage.finish();
}

#[test]
fn a_segment_can_be_fetched_until_it_is_gone() {
    let mut stage = Stage::published(settings());
    stage.send(both(70_000));
    let listed = stage.text("video.m3u8").unwrap();
    assert_eq!(listed.matches("#EXTINF").count(), 10);
    let [video, _] = &stage.segments;
    let first_listed = video.len() - 10;
    let mut states = Vec::new();
    for (index, segment) in video.iter().enumerate() {
        let state = stage.reader.lookup(&segment.name, now(0));
        match &state {
            Lookup::Found(resource) => {
                assert!(index >= first_listed - 11, "{index}");
                assert_eq!(resource.body.len(), segment.bytes);
                assert_eq!(resource.cache_control, CacheControl::Immutable);
                let tail = resource.body.slice(10..u64::MAX);
                assert_eq!(tail.len(), segment.bytes - 10);
            }
            Lookup::Gone => assert!(index < first_listed - 11, "{index}"),
            other => panic!("{other:?}"),
        }
        states.push(matches!(state, Lookup::Found(_)));
    }
    assert_eq!(states.iter().filter(|found| **found).count(), 21);
    for (path, gone) in [
        ("video_999_0_7200.m4s", true),
        ("video_1000_0_7201.m4s", true),
        ("video_1000_0_007200.m4s", true),
        ("video_1000_9_7200.m4s", false),
        ("video_1001_0_7200.m4s", false),
        ("video_1000_0_7200.mp4", false),
        ("video_1000_0.m4s", false),
        ("video_init_1000_9.mp4", false),
        ("", false),
        ("../index.m3u8", false),
    ] {
        let state = stage.reader.lookup(path, now(0));
        let right =
            if gone { matches!(state, Lookup::Gone) } else { matches!(state, Lookup::NotFound) };
        assert!(right, "{path}: {state:?}");
    }
    let name = stage.segments[0].last().unwrap().track.init_name.clone();
    assert!(found(&mut stage.reader, &name, now(0)).is_some());
}

#[test]
fn a_segment_that_comes_next_is_waited_for_where_an_update_is_late() {
    let mut stage = Stage::published(settings());
    let (before, after): (Vec<_>, Vec<_>) =
        both(20_000).into_iter().partition(|sent| sent.at_ms < 9_000);
    stage.send(before);
    let told = stage.segments.each_ref().map(Vec::len);
    let mut behind = stage.stream.snapshot();
    stage.send(after);
    for (segments, told) in stage.segments.iter().zip(told) {
        assert!(told > 1 && segments.len() > told + 3);
        let mut state = |index: usize| behind.lookup(&segments[index].name, now(0));
        assert!(matches!(state(told - 1), Lookup::Found(_)));
        assert!(matches!(state(told), Lookup::NotYet), "{:?}", segments[told].name);
        assert!(
            matches!(state(told + 2), Lookup::NotFound),
            "it is not waited for all there will be"
        );
    }
    assert!(matches!(behind.lookup("video_1000_1_0.m4s", now(0)), Lookup::NotYet), "a new period");
    assert!(matches!(behind.lookup("video_1000_2_0.m4s", now(0)), Lookup::NotFound));
}

#[test]
fn a_snapshot_taken_at_any_moment_becomes_the_same_window() {
    let mut stream = Stage::published(settings()).stream;
    let (mut early, mut late) = (stream.snapshot(), Vec::new());
    for sent in both(12_000) {
        let before = stream.window().version();
        stream.push(ME, sent.kind, sent.unit, now(sent.at_ms));
        if stream.window().version() > before {
            // The updates of this push are not drained yet, so they come again.
            late.push(stream.snapshot());
        }
        while let Some(update) = stream.poll_update() {
            for window in late.iter_mut().chain([&mut early]) {
                window.apply(update.clone());
            }
        }
    }
    assert!(late.len() > 20);
    for path in ["index.m3u8", "video.m3u8", "audio.m3u8", "manifest.mpd"] {
        let expected = found(&mut early, path, now(0));
        assert!(expected.is_some());
        for late in &mut late {
            assert_eq!(found(late, path, now(0)), expected);
        }
    }
    assert!(late.iter().all(|late| late.bytes() == early.bytes()));
}

#[test]
fn audio_that_runs_ahead_waits_to_end_with_video() {
    let mut stage = Stage::published(settings());
    let mut video = Video { b_frames: false, ..VIDEO }.send(12_000);
    for sent in &mut video {
        sent.at_ms += 300;
    }
    stage.send(interleave([video, AUDIO.send(12_000)]));
    let stage = stage.finish();
    let [video, audio] = &stage.segments;
    for (video, audio) in video.iter().zip(audio) {
        let late_ms = millis_of(audio.time, 44_100) - millis_of(video.time, 90_000);
        assert!((0..=24).contains(&late_ms), "{late_ms} ms behind video's beginning");
    }
}

#[test]
fn nothing_is_shown_before_each_track_has_a_segment() {
    let mut stage = Stage::published(settings());
    assert!(matches!(stage.reader.lookup("index.m3u8", now(0)), Lookup::NotYet));
    stage.send(both(1500));
    assert!(matches!(stage.reader.lookup("manifest.mpd", now(0)), Lookup::NotYet));
    assert!(found(&mut stage.reader, "time", now(0)).is_some());
    stage.finish();
}

#[test]
fn access_units_that_cannot_be_used_are_counted() {
    let mut stage = Stage::new(settings());
    stage.open();
    let mut sent = VIDEO.send(200);
    stage.send_in_vain(vec![sent[0].clone()]);
    stage.configure(avc());
    sent[1].unit.payload = Payload::copied_from(b"");
    sent[2].unit.dts = i64::MIN;
    sent[3].unit.dts = i64::MAX;
    stage.send_in_vain(sent[1..4].to_vec());
    let faults = stage.stream.faults();
    assert_eq!((faults.unconfigured, faults.unusable), (1, 3));
}

#[test]
fn a_publisher_who_jumps_with_every_access_unit_is_survived() {
    let mut stage = Stage::published(settings());
    stage.oracle.times_may_differ = true;
    let mut sent = both(3000);
    for (index, sent) in sent.iter_mut().enumerate() {
        let timescale = if sent.kind == TrackKind::Video { 90_000 } else { 44_100 };
        sent.unit.dts += (index as i64 * 7919 % 13) * 60 * timescale;
    }
    stage.send(sent);
    let stage = stage.finish();
    assert!(stage.stream.faults().jumps > 50);
}

#[test]
fn a_publisher_who_leaves_at_once_leaves_what_it_sent() {
    for count in [0, 1, 2, 3, 7] {
        let mut stage = Stage::published(settings());
        stage.send(both(1000).into_iter().take(count).collect());
        stage.finish();
    }
}

#[test]
fn a_stream_gives_up_old_segments_for_memory_and_no_player_notices() {
    let mut stage = Stage::published(settings());
    stage.send(both(60_000));
    let whole = stage.stream.window().bytes();
    assert_eq!(stage.stream.trim(whole, now(stage.clock_ms)), 0, "it fits");
    let gone = stage.stream.trim(whole / 2, now(stage.clock_ms));
    stage.drain();
    assert!(gone > 10 && stage.reader.bytes() <= whole / 2);
    // What a player needs stays, whatever is asked for.
    assert!(stage.stream.trim(0, now(stage.clock_ms)) > 0);
    stage.drain();
    for kind in TrackKind::ALL {
        assert_eq!(stage.reader.listed(kind).count(), 4);
    }
    assert_eq!(stage.stream.trim(0, now(stage.clock_ms)), 0);
    // Playlists go on where they were, on every shard alike.
    stage.send_in_vain(Vec::new());
    stage.finish();
}
