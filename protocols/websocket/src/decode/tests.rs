//! The decoder against the standard's examples, its rules one by one, every cut of a conversation
//! and random conversations of an own client half.

use super::*;
use crate::encode::{self, write_frame, write_masked_frame};
use proptest::prelude::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a session would see once pieces are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

#[derive(Debug, Default)]
struct Reader {
    seen: Vec<Seen>,
    open: Option<(Kind, Vec<u8>)>,
    pieces: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Message { kind, compressed, data } => {
                assert!(!compressed);
                assert!(self.open.is_none(), "a whole message inside another");
                self.seen.push(Seen::Message(kind, data.to_vec()));
            }
            Event::Fragment { kind, compressed, data, first, last } => {
                assert!(!compressed);
                self.pieces += 1;
                assert_eq!(first, self.open.is_none(), "`first` marks exactly the first piece");
                let open = self.open.get_or_insert((kind, Vec::new()));
                assert_eq!(open.0, kind);
                open.1.extend_from_slice(data);
                if last {
                    let (kind, data) = self.open.take().unwrap();
                    self.seen.push(Seen::Message(kind, data));
                }
            }
            Event::Ping(data) => self.seen.push(Seen::Ping(data.to_vec())),
            Event::Pong(data) => self.seen.push(Seen::Pong(data.to_vec())),
            Event::Close { code, reason } => self.seen.push(Seen::Close(code, reason.to_owned())),
        }
    }
}

/// Presents the pieces as a connection would: tail plus new bytes.
fn read(role: Role, limits: &Limits, pieces: &[&[u8]]) -> (Reader, Result<(), Error>) {
    let mut decoder = Decoder::new(role);
    let mut reader = Reader::default();
    let mut inbox: Vec<u8> = Vec::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            let before = inbox.clone();
            match decoder.receive(&mut inbox, limits) {
                Ok(Step::Incomplete) => {
                    assert_eq!(inbox, before, "an incomplete step changed the input");
                    break;
                }
                Ok(Step::Event { consumed, event }) => {
                    reader.take(event);
                    inbox.drain(..consumed);
                }
                Err(error) => {
                    assert_eq!(decoder.receive(&mut inbox, limits), Err(error), "errors stay");
                    return (reader, Err(error));
                }
            }
        }
    }
    (reader, Ok(()))
}

fn seen(bytes: &[u8]) -> Vec<Seen> {
    let (reader, result) = read(Role::Server, &Limits::default(), &[bytes]);
    assert_eq!(result, Ok(()));
    assert!(reader.open.is_none());
    reader.seen
}

fn masked(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_masked_frame(&mut out, opcode, last, MASK, payload);
    out
}

fn fails(frames: &[Vec<u8>]) -> (ErrorKind, u64) {
    let error = read(Role::Server, &Limits::default(), &[&frames.concat()]).1.unwrap_err();
    (error.kind, error.position)
}

/// RFC 6455 5.7.
#[test]
fn the_examples_of_the_standard() {
    let hello = || Seen::Message(Kind::Text, b"Hello".to_vec());
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(seen(&bytes), [hello()]);

    let from_server: &[(&[u8], Seen)] = &[
        (&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], hello()),
        (&[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], hello()),
        (&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Seen::Ping(b"Hello".to_vec())),
    ];
    for (bytes, expected) in from_server {
        let (reader, result) = read(Role::Client, &Limits::default(), &[bytes]);
        assert_eq!((reader.seen, result), (vec![expected.clone()], Ok(())));
    }
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(seen(&pong), [Seen::Pong(b"Hello".to_vec())]);
}

/// The table in `state.rs`, whole: the decoder itself is asked, so a change of either is seen.
#[test]
fn the_transition_table() {
    let open = |state| match state {
        State::Idle => Vec::new(),
        State::Text => masked(Opcode::Text, false, b"a"),
        State::Binary => masked(Opcode::Binary, false, b"a"),
        State::Closed => masked(Opcode::Close, true, b""),
    };
    let mut table = String::new();
    for state in [State::Idle, State::Text, State::Binary, State::Closed] {
        for (name, opcode, last) in [
            ("text more", Opcode::Text, false),
            ("text last", Opcode::Text, true),
            ("binary more", Opcode::Binary, false),
            ("binary last", Opcode::Binary, true),
            ("continuation more", Opcode::Continuation, false),
            ("continuation last", Opcode::Continuation, true),
            ("ping", Opcode::Ping, true),
            ("pong", Opcode::Pong, true),
            ("close", Opcode::Close, true),
        ] {
            let mut decoder = Decoder::new(Role::Server);
            for mut frame in [open(state), masked(opcode, last, b"")] {
                match decoder.receive(&mut frame, &Limits::default()) {
                    Ok(_) => {}
                    Err(error) => {
                        table.push_str(&format!("{state:?} + {name} = {:?}\n", error.kind));
                    }
                }
            }
            if decoder.failed.is_none() {
                table.push_str(&format!("{state:?} + {name} = {:?}\n", decoder.state));
            }
        }
    }
    assert_eq!(table, TRANSITIONS);
}

const TRANSITIONS: &str = "\
Idle + text more = Text
Idle + text last = Idle
Idle + binary more = Binary
Idle + binary last = Idle
Idle + continuation more = ContinuationWithoutMessage
Idle + continuation last = ContinuationWithoutMessage
Idle + ping = Idle
Idle + pong = Idle
Idle + close = Closed
Text + text more = MessageInsideMessage
Text + text last = MessageInsideMessage
Text + binary more = MessageInsideMessage
Text + binary last = MessageInsideMessage
Text + continuation more = Text
Text + continuation last = Idle
Text + ping = Text
Text + pong = Text
Text + close = Closed
Binary + text more = MessageInsideMessage
Binary + text last = MessageInsideMessage
Binary + binary more = MessageInsideMessage
Binary + binary last = MessageInsideMessage
Binary + continuation more = Binary
Binary + continuation last = Idle
Binary + ping = Binary
Binary + pong = Binary
Binary + close = Closed
Closed + text more = Closed
Closed + text last = Closed
Closed + binary more = Closed
Closed + binary last = Closed
Closed + continuation more = Closed
Closed + continuation last = Closed
Closed + ping = Closed
Closed + pong = Closed
Closed + close = Closed
";

/// Each rule with the fewest bytes that break it: nothing more needs to arrive.
#[test]
fn rules_fail_at_the_first_byte_that_breaks_them() {
    let cases: &[(&[u8], ErrorKind, u64, u16)] = &[
        (&[0xc1], ErrorKind::ReservedBit, 0, 1002),
        (&[0xa1], ErrorKind::ReservedBit, 0, 1002),
        (&[0x91], ErrorKind::ReservedBit, 0, 1002),
        (&[0xc9], ErrorKind::ReservedBit, 0, 1002),
        (&[0x83], ErrorKind::ReservedOpcode, 0, 1002),
        (&[0x87], ErrorKind::ReservedOpcode, 0, 1002),
        (&[0x8b], ErrorKind::ReservedOpcode, 0, 1002),
        (&[0x8f], ErrorKind::ReservedOpcode, 0, 1002),
        (&[0x09], ErrorKind::FragmentedControl, 0, 1002),
        (&[0x08], ErrorKind::FragmentedControl, 0, 1002),
        (&[0x80], ErrorKind::ContinuationWithoutMessage, 0, 1002),
        (&[0x81, 0x05], ErrorKind::NotMasked, 1, 1002),
        (&[0x89, 0xfe], ErrorKind::ControlTooLong, 1, 1002),
        (&[0x88, 0xff], ErrorKind::ControlTooLong, 1, 1002),
        (&[0x82, 0xfe, 0x00, 0x7d], ErrorKind::LengthNotMinimal, 2, 1002),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ErrorKind::LengthNotMinimal, 2, 1002),
        (&[0x82, 0xff, 0x80], ErrorKind::LengthHighBit, 2, 1002),
        (
            &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ErrorKind::MessageTooBig,
            1,
            1009,
        ),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1], ErrorKind::MessageTooBig, 1, 1009),
    ];
    for (bytes, kind, position, close_code) in cases {
        let error = read(Role::Server, &Limits::default(), &[bytes]).1.unwrap_err();
        assert_eq!((error.kind, error.position), (*kind, *position), "{bytes:x?}");
        assert_eq!(error.close_code(), *close_code);
        // One byte fewer is not yet wrong.
        let fewer = &bytes[..bytes.len() - 1];
        assert_eq!(read(Role::Server, &Limits::default(), &[fewer]).1, Ok(()), "{bytes:x?}");
    }
    let error = read(Role::Client, &Limits::default(), &[&[0x81, 0x85]]).1.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Masked);
}

#[test]
fn close_payloads() {
    let close = |payload: &[u8]| masked(Opcode::Close, true, payload);
    assert_eq!(seen(&close(b"")), [Seen::Close(None, String::new())]);
    assert_eq!(seen(&close(b"\x03\xe8")), [Seen::Close(Some(1000), String::new())]);
    assert_eq!(seen(&close(b"\x0f\xa0bye")), [Seen::Close(Some(4000), "bye".into())]);
    let longest = [b"\x03\xe8", "x".repeat(123).as_bytes()].concat();
    assert_eq!(seen(&close(&longest)), [Seen::Close(Some(1000), "x".repeat(123))]);
    assert_eq!(fails(&[close(b"\x03")]), (ErrorKind::CloseLength, 6));
    assert_eq!(fails(&[close(b"\x03\xe8\xff")]), (ErrorKind::NotUtf8, 6));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(fails(&[close(&code.to_be_bytes())]), (ErrorKind::CloseCode, 6), "{code}");
    }
}

#[test]
fn bytes_after_close_are_ignored() {
    let bytes = [masked(Opcode::Close, true, b"\x03\xe8"), vec![0xff; 40]].concat();
    assert_eq!(seen(&bytes), [Seen::Close(Some(1000), String::new())]);
}

#[test]
fn a_small_frame_is_waited_for_and_a_large_one_streams() {
    let limits = Limits { coalesce_bytes: 200, ..Limits::default() };
    let small = masked(Opcode::Binary, true, &[1; 200]);
    let pieces: Vec<&[u8]> = small.chunks(7).collect();
    let (reader, _) = read(Role::Server, &limits, &pieces);
    assert_eq!((reader.seen.len(), reader.pieces), (1, 0));

    let large = masked(Opcode::Binary, true, &[1; 201]);
    let pieces: Vec<&[u8]> = large.chunks(7).collect();
    let (reader, _) = read(Role::Server, &limits, &pieces);
    assert_eq!(reader.seen, [Seen::Message(Kind::Binary, vec![1; 201])]);
    // 8 header bytes: one payload byte comes with the second piece of 7, the rest piece by piece.
    assert_eq!(reader.pieces, pieces.len() - 1);
    // A header alone is no piece.
    let (reader, _) = read(Role::Server, &limits, &[&large[..8]]);
    assert_eq!(reader.pieces, 0);
    // All at once it is a message after all.
    let (reader, _) = read(Role::Server, &limits, &[&large]);
    assert_eq!((reader.seen.len(), reader.pieces), (1, 0));
}

/// RFC 6455 5.4, 5.5: control frames may stand between the fragments of a message.
#[test]
fn control_frames_between_fragments() {
    let bytes = [
        masked(Opcode::Text, false, b"\xf0\x9f"),
        masked(Opcode::Ping, true, b"1"),
        masked(Opcode::Continuation, false, b""),
        masked(Opcode::Pong, true, b"2"),
        masked(Opcode::Continuation, true, b"\x98\x80"),
        masked(Opcode::Binary, true, b"after"),
    ]
    .concat();
    assert_eq!(
        seen(&bytes),
        [
            Seen::Ping(b"1".to_vec()),
            Seen::Pong(b"2".to_vec()),
            Seen::Message(Kind::Text, "\u{1f600}".into()),
            Seen::Message(Kind::Binary, b"after".to_vec()),
        ]
    );
}

#[test]
fn text_fails_at_the_first_wrong_fragment() {
    let text = |payload: &[u8]| masked(Opcode::Text, false, payload);
    let next = |payload: &[u8]| masked(Opcode::Continuation, false, payload);
    // A surrogate cut over two fragments: the third never needs to arrive.
    assert_eq!(fails(&[text(b"ok\xed"), next(b"\xa0")]), (ErrorKind::NotUtf8, 9 + 6));
    // Ends inside a character.
    let end = masked(Opcode::Continuation, true, b"\xc3");
    assert_eq!(fails(&[text(b"a"), end]), (ErrorKind::NotUtf8, 7 + 7));
    assert_eq!(fails(&[masked(Opcode::Text, true, b"ab\xc3")]), (ErrorKind::NotUtf8, 6 + 2));
    // Within a long frame that is still arriving.
    let limits = Limits { coalesce_bytes: 0, ..Limits::default() };
    let frame = masked(Opcode::Text, true, &[b"abc\xff", &[b'x'; 500][..]].concat());
    let error = read(Role::Server, &limits, &[&frame[..12]]).1.unwrap_err();
    assert_eq!((error.kind, error.position, error.close_code()), (ErrorKind::NotUtf8, 11, 1007));
    // Binary is not looked at.
    assert_eq!(seen(&masked(Opcode::Binary, true, b"\xff")).len(), 1);
}

#[test]
fn limits_hold_over_fragments() {
    let limits = Limits { message_bytes_max: 10, fragments_max: 3, coalesce_bytes: 0 };
    let run = |frames: &[Vec<u8>]| read(Role::Server, &limits, &[&frames.concat()]);
    let first = |payload: &[u8]| masked(Opcode::Binary, false, payload);
    let next = |payload: &[u8]| masked(Opcode::Continuation, false, payload);
    let last = |payload: &[u8]| masked(Opcode::Continuation, true, payload);

    assert_eq!(run(&[first(&[0; 5]), last(&[0; 5])]).1, Ok(()));
    // The count starts again with each message.
    let two = [first(&[0; 5]), last(&[0; 5]), first(&[0; 9]), next(b""), last(b"1")];
    assert_eq!(run(&two).0.seen.len(), 2);
    let error = run(&[first(&[0; 5]), last(&[0; 6])]).1.unwrap_err();
    assert_eq!((error.kind, error.position), (ErrorKind::MessageTooBig, 11 + 1));
    assert_eq!(error.close_code(), 1009);
    let error = run(&[first(b""), next(b""), next(b""), next(b"")]).1.unwrap_err();
    assert_eq!((error.kind, error.position), (ErrorKind::TooManyFragments, 18));
    assert_eq!(error.close_code(), 1008);
    // A control frame between does not count.
    let ping = || masked(Opcode::Ping, true, &[9; 125]);
    assert_eq!(run(&[first(&[0; 10]), ping(), ping(), last(b"")]).1, Ok(()));
}

/// 1,000 fragments of one byte are 1,000 pieces, and the decoder holds none of them.
#[test]
fn one_byte_fragments_to_the_limit() {
    let limits = Limits { fragments_max: 1000, ..Limits::default() };
    let mut bytes = masked(Opcode::Text, false, b"x");
    for _ in 0..998 {
        bytes.extend(masked(Opcode::Continuation, false, b"x"));
    }
    bytes.extend(masked(Opcode::Continuation, true, b"x"));
    let (reader, result) = read(Role::Server, &limits, &[&bytes]);
    assert_eq!(result, Ok(()));
    assert_eq!(reader.seen, [Seen::Message(Kind::Text, vec![b'x'; 1000])]);
    assert_eq!(reader.pieces, 1000);
}

fn conversation() -> Vec<u8> {
    [
        masked(Opcode::Text, true, "grüße".as_bytes()),
        masked(Opcode::Ping, true, b"p"),
        masked(Opcode::Text, false, "a\u{1f600}".as_bytes()),
        masked(Opcode::Continuation, false, &"\u{20ac}".repeat(50).as_bytes()[..149]),
        masked(Opcode::Pong, true, b""),
        masked(Opcode::Continuation, true, &"\u{20ac}".as_bytes()[2..]),
        masked(Opcode::Binary, true, b""),
        masked(Opcode::Binary, true, &[0xa5; 130]),
        masked(Opcode::Close, true, b"\x03\xe9bye"),
    ]
    .concat()
}

#[test]
fn every_split_gives_the_same_events() {
    let bytes = conversation();
    let whole = seen(&bytes);
    assert_eq!(whole.len(), 7);
    for coalesce_bytes in [0, 100, 4096] {
        let limits = Limits { coalesce_bytes, ..Limits::default() };
        for cut in 0..=bytes.len() {
            let (reader, result) = read(Role::Server, &limits, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!((result, &reader.seen), (Ok(()), &whole), "cut {cut} of {coalesce_bytes}");
        }
        for piece_bytes in 1..20 {
            let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
            let (reader, result) = read(Role::Server, &limits, &pieces);
            assert_eq!((result, &reader.seen), (Ok(()), &whole), "pieces of {piece_bytes}");
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<(u8, bool, Vec<u8>)>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::collection::vec(any::<u8>(), 120..135),
        "\\PC{0,40}".prop_map(String::into_bytes),
    ];
    prop::collection::vec((0_u8..11, any::<bool>(), payload), 0..8)
}

proptest! {
    /// Frames in any order, most of them wrong somewhere: any cut gives the same events and the
    /// same error. Positions of text errors may differ by where the piece began.
    #[test]
    fn any_frames_any_cut_same_answer(frames in frames(), piece_bytes in 1_usize..50, coalesce_bytes in 0_u64..200) {
        let mut bytes = Vec::new();
        for (opcode, last, payload) in &frames {
            let (mut header, header_bytes) = encode::fragment_header(Opcode::Binary, *last, payload.len());
            header[0] = header[0] & 0x80 | opcode;
            header[1] |= 0x80;
            bytes.extend_from_slice(&header[..header_bytes]);
            bytes.extend_from_slice(&MASK);
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            simd::unmask(&mut bytes[start..], MASK, 0);
        }
        let limits = Limits { coalesce_bytes, ..Limits::default() };
        let (whole, whole_result) = read(Role::Server, &limits, &[&bytes]);
        let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
        let (cut, cut_result) = read(Role::Server, &limits, &pieces);
        prop_assert_eq!(cut.seen, whole.seen);
        prop_assert_eq!(cut_result.map_err(|error| error.kind), whole_result.map_err(|error| error.kind));
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), role in prop::bool::ANY) {
        let role = if role { Role::Server } else { Role::Client };
        let _ = read(role, &Limits::default(), &[&bytes]);
    }

    #[test]
    fn what_a_server_encodes_a_client_reads(payload in prop::collection::vec(any::<u8>(), 0..70_000)) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Binary, &payload);
        let (reader, result) = read(Role::Client, &Limits::default(), &[&bytes]);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(reader.seen, [Seen::Message(Kind::Binary, payload)]);
    }
}

/// The short way reads what the general one reads, into another place, and leaves the rest to it.
#[test]
fn a_whole_frame_is_the_same_on_the_short_way() {
    use crate::encode::write_masked_frame;
    let texts: [&[u8]; 6] =
        [b"", b"short", &[b'a'; 125], &[b'b'; 126], &[b'c'; 3000], "é".as_bytes()];
    for text in texts {
        for opcode in [Opcode::Text, Opcode::Binary] {
            let mut frame = Vec::new();
            write_masked_frame(&mut frame, opcode, true, [9, 8, 7, 6], text);
            let mut decoder = Decoder::new(Role::Server);
            let mut got = vec![0; text.len()];
            let limits = Limits::default();
            let refused = decoder.receive_whole_into(&frame, &limits, |_, _| false);
            assert_eq!((refused, decoder.position()), (None, 0));
            let read = decoder.receive_whole_into(&frame, &limits, |kind, masked| {
                assert_eq!((masked.len(), masked.is_empty()), (text.len(), text.is_empty()));
                masked.unmask_into(&mut got, kind)
            });
            assert_eq!((read, &got[..]), (Some(frame.len()), text));
            assert_eq!(decoder.position(), frame.len() as u64);
            for cut in 0..frame.len() {
                let none = decoder.receive_whole_into(&frame[..cut], &limits, |_, _| true);
                assert_eq!(none, None, "{cut}");
            }
        }
    }
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, true, [9, 8, 7, 6], b"ab\xff");
    let mut decoder = Decoder::new(Role::Server);
    let mut got = [0; 3];
    let limits = Limits::default();
    let read = decoder
        .receive_whole_into(&frame, &limits, |kind, masked| masked.unmask_into(&mut got, kind));
    assert_eq!(read, None);
    let error = decoder.receive(&mut frame, &limits).unwrap_err();
    assert_eq!((error.kind, error.position), (ErrorKind::NotUtf8, 8));
}
