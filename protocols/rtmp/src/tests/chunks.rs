//! RTMP 5.3 and 5.4 by hand: headers, timestamps, control messages, bounds.

use super::*;
use crate::{Limits, Reason};

fn reason(server: &mut Server, bytes: &[u8]) -> Reason {
    server.feed(bytes).unwrap_err().reason
}

#[test]
fn every_form_of_chunk_stream_id() {
    for basic in [&[6][..], &[0, 0], &[0, 255], &[1, 0, 0], &[1, 255, 255], &[1, 1, 2]] {
        let mut server = Server::publishing();
        server.feed(&[basic, &full_header(5, 3, 9), b"abc"].concat()).unwrap();
        let expected = match *basic {
            [id] => u32::from(id),
            [_, low] => 64 + u32::from(low),
            [_, low, high] => 64 + u32::from(low) + 256 * u32::from(high),
            _ => unreachable!(),
        };
        assert!(matches!(&server.seen[0], Seen::Media { chunk_stream, timestamp: 5, payload, .. }
            if *chunk_stream == expected && payload == b"abc"));
    }
}

#[test]
fn the_first_chunk_may_be_of_type_1_but_not_2_or_3() {
    // As librtmp sends Set Chunk Size.
    let mut server = Server::shaken(Options::default());
    server.feed(&chunk(1, 2, &[0, 0, 0, 0, 0, 4, 1], &[0, 0, 0x10, 0])).unwrap();
    let long = vec![Value::Object(vec![("app".into(), Value::String("x".repeat(200).into()))])];
    let mut out = Vec::new();
    let payload = amf("connect", 1.0, &long);
    let sent = Outgoing {
        chunk_stream: 3,
        timestamp: 0,
        message_type: 20,
        message_stream: 0,
        payload: &payload,
    };
    write_message(&mut out, 4096, &sent);
    server.feed(&out).unwrap();
    assert_eq!(server.seen.len(), 1);

    for format in [2, 3] {
        let mut server = Server::publishing();
        let expected = Reason::MissingHeader { chunk_stream: 9, format };
        assert_eq!(reason(&mut server, &chunk(format, 9, &[0, 0, 0], &[])), expected);
    }
}

#[test]
fn deltas_and_their_repetition() {
    let mut server = Server::publishing();
    server.feed(&chunk(0, 6, &full_header(1000, 1, 9), b"a")).unwrap();
    server.feed(&chunk(1, 6, &[0, 0, 40, 0, 0, 2, 9], b"bb")).unwrap();
    server.feed(&chunk(2, 6, &[0, 0, 33], b"cc")).unwrap();
    server.feed(&chunk(3, 6, &[], b"dd")).unwrap();
    let times: Vec<i64> = server.media().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [1000, 1040, 1073, 1106]);
    // Type 3 behind type 0 repeats the timestamp as delta.
    server.feed(&chunk(0, 6, &full_header(2000, 1, 9), b"a")).unwrap();
    server.feed(&chunk(3, 6, &[], b"e")).unwrap();
    assert_eq!(server.media().last(), Some(&(4000, &b"e"[..])));
    // A step back written as a delta.
    let back = (-1000i32).to_be_bytes();
    let bytes = [&[0xff, 0xff, 0xff, 0, 0, 1, 9][..], &back].concat();
    server.feed(&chunk(1, 6, &bytes, b"f")).unwrap();
    assert_eq!(server.media().last(), Some(&(3000, &b"f"[..])));
}

#[test]
fn timestamps_go_on_past_24_and_32_bits() {
    let mut server = Server::publishing();
    for at in [0xff_fffe, 0xff_ffff, 0x100_0000, 0xffff_fff0, 0x10] {
        // 0xffff_fff0 is too far ahead to be told from a step back, so go there in steps.
        if at == 0xffff_fff0 {
            for step in [0x6000_0000, 0xc000_0000] {
                server.feed(&message(6, 9, 1, step, b"-")).unwrap();
            }
        }
        server.feed(&message(6, 9, 1, at, &[7; 300])).unwrap();
    }
    let times: Vec<i64> =
        server.media().iter().filter(|(_, payload)| payload.len() > 1).map(|(at, _)| *at).collect();
    assert_eq!(times, [0xff_fffe, 0xff_ffff, 0x100_0000, 0xffff_fff0, 0x1_0000_0010]);
    // Another chunk stream that begins behind the rollover is on the same clock.
    server.feed(&message(4, 8, 1, 0x20, b"a")).unwrap();
    assert_eq!(server.media().last(), Some(&(0x1_0000_0020, &b"a"[..])));
    // A first timestamp of any size stands as it is.
    let mut server = Server::publishing();
    server.feed(&message(6, 9, 1, 3_000_000_000, b"a")).unwrap();
    assert_eq!(server.media(), [(3_000_000_000, &b"a"[..])]);
}

#[test]
fn extended_timestamps_on_type_3_may_be_there_or_not() {
    let at = 0x0100_0000_u32;
    for repeat in [true, false] {
        let between = if repeat { at.to_be_bytes().to_vec() } else { Vec::new() };
        let mut bytes = chunk(0, 6, &full_header(0xff_ffff, 257, 9), &at.to_be_bytes());
        bytes.extend_from_slice(&[1; 128]);
        bytes.extend_from_slice(&chunk(3, 6, &between, &[2; 128]));
        // The last chunk is shorter than an extended timestamp; nothing follows it.
        bytes.extend_from_slice(&chunk(3, 6, &between, &[3]));
        let mut server = Server::publishing();
        server.feed(&bytes).unwrap();
        let expected = [&[1; 128][..], &[2; 128], &[3]].concat();
        assert_eq!(server.media(), [(i64::from(at), &expected[..])], "repeat: {repeat}");
    }
    // An extended delta.
    let mut server = Server::publishing();
    server.feed(&message(6, 9, 1, 10, b"a")).unwrap();
    let header = [&[0xff, 0xff, 0xff, 0, 0, 1, 9][..], &at.to_be_bytes()].concat();
    server.feed(&chunk(1, 6, &header, b"b")).unwrap();
    assert_eq!(server.media()[1].0, 10 + i64::from(at));
}

#[test]
fn chunk_size_changes_from_the_next_chunk_of_every_stream() {
    let mut server = Server::publishing();
    server.feed(&chunk(0, 6, &full_header(0, 300, 9), &[1; 128])).unwrap();
    server.feed(&message(2, 1, 0, 0, &[0, 0, 0, 10])).unwrap();
    server.feed(&chunk(3, 6, &[], &[2; 10])).unwrap();
    server.feed(&message(2, 1, 0, 0, &[0x80, 0, 1, 0])).unwrap();
    server.feed(&chunk(3, 6, &[], &[3; 162])).unwrap();
    let expected = [&[1; 128][..], &[2; 10], &[3; 162]].concat();
    assert_eq!(server.media(), [(0, &expected[..])]);

    assert_eq!(reason(&mut server, &message(2, 1, 0, 0, &[0; 4])), Reason::ChunkSizeZero);
    assert!(server.connection.is_closed());
}

#[test]
fn a_huge_chunk_size_or_length_allocates_nothing() {
    let mut server = Server::publishing();
    server.feed(&message(2, 1, 0, 0, &[0x7f, 0xff, 0xff, 0xff])).unwrap();
    server.feed(&chunk(0, 6, &full_header(0, 10 << 20, 9), b"abc")).unwrap();
    server.feed(&chunk(0, 3, &full_header(0, 64 << 10, 20), b"")).unwrap_or_default();
    let held: usize =
        server.connection.reader_for_tests().iter().map(|stream| stream.assembly.capacity()).sum();
    assert!(held <= 1024, "{held} bytes are held");
}

#[test]
fn too_long_messages_are_refused_at_their_header() {
    for (message_type, length, max) in
        [(9, (10 << 20) + 1, 10 << 20), (20, (64 << 10) + 1, 64 << 10), (1, 65, 64), (4, 65, 64)]
    {
        let mut server = Server::publishing();
        let expected = Reason::MessageTooLong { message_type, length, max };
        let bytes = chunk(0, 6, &full_header(0, length, message_type), &[]);
        assert_eq!(reason(&mut server, &bytes), expected);
    }
}

#[test]
fn chunk_streams_are_bounded() {
    let mut server = Server::publishing();
    let mut reached = None;
    for id in 0..100 {
        if let Err(error) = server.feed(&message(64 + id, 9, 1, 0, b"a")) {
            reached = Some((id, error.reason));
            break;
        }
    }
    // Chunk stream 3 carried the commands.
    assert_eq!(reached, Some((63, Reason::TooManyChunkStreams { max: 64 })));
}

#[test]
fn unfinished_commands_are_bounded_in_sum() {
    let mut server = Server::publishing();
    server.feed(&message(2, 1, 0, 0, &[0, 0, 0xff, 0xff])).unwrap();
    let mut result = Ok(());
    for id in 10..20 {
        result = server.feed(&chunk(0, id, &full_header(0, 65_536, 20), &[2; 65_535]));
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result.unwrap_err().reason, Reason::TooMuchUnfinished { max: 128 << 10 });
}

#[test]
fn audio_and_video_interleave_and_so_do_two_of_a_kind() {
    let mut server = Server::publishing();
    for (id, message_type) in [(6, 9), (4, 8), (7, 9)] {
        server
            .feed(&chunk(0, id, &full_header(u32::from(id), 200, message_type), &[id; 128]))
            .unwrap();
    }
    for id in [4, 7, 6] {
        server.feed(&chunk(3, id, &[], &[id; 72])).unwrap();
    }
    let expected: Vec<(i64, Vec<u8>)> = [4, 7, 6].map(|id| (i64::from(id), vec![id; 200])).to_vec();
    let media: Vec<_> =
        server.media().iter().map(|(at, payload)| (*at, payload.to_vec())).collect();
    assert_eq!(media, expected);
}

#[test]
fn an_abort_voids_the_message_and_the_stream_goes_on() {
    let mut server = Server::publishing();
    server.feed(&chunk(0, 6, &full_header(5, 200, 9), &[1; 128])).unwrap();
    server.feed(&message(2, 2, 0, 0, &[0, 0, 0, 6])).unwrap();
    // A type 3 now begins a message.
    server.feed(&chunk(3, 6, &[], &[2; 128])).unwrap();
    server.feed(&chunk(3, 6, &[], &[2; 72])).unwrap();
    assert_eq!(server.seen[0], Seen::Aborted(MediaKind::Video, 6));
    assert_eq!(server.media(), [(10, &[2; 200][..])]);
    // Nothing to abort, no such chunk stream.
    server.feed(&message(2, 2, 0, 0, &[0, 0, 0, 6])).unwrap();
    server.feed(&message(2, 2, 0, 0, &[0, 0, 1, 6])).unwrap();
    assert_eq!(server.seen.len(), 2);
    // An aborted command is forgotten.
    server.feed(&chunk(0, 3, &full_header(0, 200, 20), &[2; 128])).unwrap();
    server.feed(&message(2, 2, 0, 0, &[0, 0, 0, 3])).unwrap();
    server.feed(&command(0, "createStream", 9.0, &[Value::Null])).unwrap();
    assert_eq!(server.replies().len(), 1);
}

#[test]
fn a_header_inside_a_message_voids_it_and_its_length() {
    for header in [&full_header(9, 3, 9)[..], &[0, 0, 4, 0, 0, 3, 9]] {
        let mut server = Server::publishing();
        server.feed(&chunk(0, 6, &full_header(5, 1000, 9), &[1; 128])).unwrap();
        let format = if header.len() == 11 { 0 } else { 1 };
        server.feed(&chunk(format, 6, header, b"new")).unwrap();
        assert_eq!(server.seen[0], Seen::Aborted(MediaKind::Video, 6));
        assert_eq!(server.media(), [(9, &b"new"[..])]);
    }
    // Two events from one header: the void one, and one without bytes.
    let mut server = Server::publishing();
    server.feed(&chunk(0, 6, &full_header(5, 1000, 9), &[1; 128])).unwrap();
    server.feed(&chunk(0, 6, &full_header(5, 0, 9), &[])).unwrap();
    assert_eq!(server.seen.len(), 2);
}

#[test]
fn a_message_without_bytes_is_an_event() {
    let mut server = Server::publishing();
    server.feed(&message(4, 8, 1, 7, &[])).unwrap();
    assert_eq!(server.media(), [(7, &[][..])]);
}

#[test]
fn control_messages_without_their_fields_are_refused() {
    for (message_type, payload) in [(1, &[0, 0, 1][..]), (2, &[0]), (5, &[0; 3]), (4, &[0])] {
        let mut server = Server::publishing();
        let expected = Reason::ControlTooShort { message_type, length: payload.len() };
        assert_eq!(reason(&mut server, &message(2, message_type, 0, 0, payload)), expected);
    }
    let mut server = Server::publishing();
    let expected = Reason::ControlTooShort { message_type: 4, length: 5 };
    assert_eq!(reason(&mut server, &message(2, 4, 0, 0, &[0, 6, 0, 0, 0])), expected);
}

#[test]
fn pings_are_answered_and_acknowledgements_swallowed() {
    let mut server = Server::publishing();
    for number in 0..1000u32 {
        server.feed(&message(2, 3, 0, 0, &number.to_be_bytes())).unwrap();
    }
    for event in [0u16, 1, 2, 3, 4, 7, 31, 32, 999] {
        let payload = [&event.to_be_bytes()[..], &[0; 8]].concat();
        server.feed(&message(2, 4, 0, 0, &payload)).unwrap();
    }
    server.feed(&message(2, 6, 0, 0, &[0, 0, 0, 1, 2])).unwrap();
    // Shared objects and unknown types.
    for message_type in [7, 16, 19, 99] {
        server.feed(&message(8, message_type, 1, 0, &[1; 300])).unwrap();
    }
    assert_eq!((&server.out[..], &server.seen[..]), (&[][..], &[][..]));
    server.feed(&message(2, 4, 0, 0, &[0, 6, 1, 2, 3, 4])).unwrap();
    assert_eq!(messages(&server.out), [(4, 0, vec![0, 7, 1, 2, 3, 4])]);
}

#[test]
fn a_tiny_window_does_not_make_us_an_amplifier() {
    let mut server = Server::publishing();
    server.feed(&message(2, 5, 0, 0, &[0, 0, 0, 1])).unwrap();
    for _ in 0..1000 {
        server.feed(&message(6, 9, 1, 0, b"a")).unwrap();
    }
    let acknowledgements = messages(&server.out).len();
    assert!((1..=5).contains(&acknowledgements), "{acknowledgements}");
    let sum: usize = Limits::default().acknowledgement_window_bytes_min as usize;
    assert!(server.out.len() < 13_000 / sum * 16 + 32);
}

fn inner(message_type: u8, at: u32, payload: &[u8]) -> Vec<u8> {
    let [extended, t0, t1, t2] = at.to_be_bytes();
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [message_type, l0, l1, l2, t0, t1, t2, extended, 0, 0, 0];
    [&header[..], payload, &[0xee; 4]].concat()
}

#[test]
fn aggregates_are_split_and_rebased_in_any_cut() {
    let mut payload = inner(9, 1_000_000, &[1; 200]);
    payload.extend(inner(18, 1_000_000, b"skipped"));
    payload.extend(inner(8, 1_000_020, b""));
    payload.extend(inner(9, 999_990, b"b"));
    // Without its last back-pointer.
    payload.extend(inner(8, 1_000_040, b"a"));
    payload.truncate(payload.len() - 4);
    let bytes = message(6, 22, 1, 50, &payload);
    for step in [1, 3, 11, bytes.len()] {
        let mut server = Server::publishing();
        for part in bytes.chunks(step) {
            server.feed(part).unwrap();
        }
        let expected: [(i64, &[u8]); 4] = [(50, &[1; 200]), (70, b""), (40, b"b"), (90, b"a")];
        assert_eq!(server.media(), expected);
    }
}

#[test]
fn an_aggregate_cannot_claim_more_than_it_has() {
    let mut server = Server::publishing();
    let mut payload = inner(9, 0, &[1; 50]);
    payload[3] = 200;
    let expected = Reason::Aggregate { length: 200, left: 54 };
    assert_eq!(reason(&mut server, &message(6, 22, 1, 0, &payload)), expected);
    // An abort inside an inner message names its kind.
    let mut server = Server::publishing();
    let payload = inner(8, 0, &[1; 300]);
    let bytes = message(6, 22, 1, 0, &payload);
    server.feed(&bytes[..140]).unwrap();
    server.feed(&message(2, 2, 0, 0, &[0, 0, 0, 6])).unwrap();
    assert_eq!(server.seen, [Seen::Aborted(MediaKind::Audio, 6)]);
}

#[test]
fn errors_say_where() {
    let mut server = Server::publishing();
    let before = server.connection.received_bytes();
    let bytes = [message(6, 9, 1, 0, b"abc"), chunk(3, 9, &[], &[])].concat();
    let error = server.feed(&bytes).unwrap_err();
    assert_eq!(error.at, before + 15);
    assert_eq!(
        error.to_string(),
        format!("at byte {}: the peer began chunk stream 9 with chunk type 3", before + 15)
    );
}
