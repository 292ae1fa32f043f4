//! WebSocket frames that no client may send, one by one, and the close code that says so.
//!
//! In: bytes after a correct upgrade. Out: the code of the server's Close frame, the end of the connection, and that
//! nothing of it was published. Each broken rule goes to a server in real use: a subscriber of the same channel sees
//! only what was sent correctly. What costs memory or time is in `attacks`.

use crate::client::{Received, WebSocket};
use crate::server::{Configuration, Server};
use std::thread;
use websocket::encode::{Opcode, write_masked_frame};

const MASK: [u8; 4] = [0x5a, 0x01, 0xfe, 0x80];

/// A masked frame.
fn frame(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, opcode, last, MASK, payload);
    frame
}

/// A masked frame of a control opcode that our encoder would refuse to write.
fn control(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Opcode::Binary, true, payload);
    bytes[0] = first;
    bytes
}

/// A whole header that declares `length` in eight bytes, with a mask.
fn declared(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], &length.to_be_bytes()[..], &MASK].concat()
}

/// Sends each case on a connection of its own and reads the server's Close with this code, then the end. A subscriber
/// of the same channel sees nothing of any of them.
#[track_caller]
fn are_closed(test: &str, cases: &[(&str, Vec<u8>, u16)]) {
    let server = Server::start(test, &Configuration::default());
    let mut witness = WebSocket::open(server.http, "/ws/violations");
    for (what, bytes, code) in cases {
        let mut socket = WebSocket::open(server.http, "/ws/violations?echo=0");
        socket.send_raw(bytes);
        assert_eq!(socket.receive(), Received::Close(Some(*code)), "{what}");
        assert_eq!(socket.receive(), Received::End, "{what}");
    }
    let mut socket = WebSocket::open(server.http, "/ws/violations?echo=0");
    socket.send(Opcode::Text, b"correct");
    assert_eq!(witness.text(), "correct", "something of a broken frame was published");
    let errors: u64 = server.metric("headwater_protocol_errors_total").iter().sum();
    assert_eq!(errors, cases.len() as u64);
    // A drain would wait for them to answer.
    drop((witness, socket));
    server.stop();
}

/// Bug class "Length arithmetic": 2^63, 2^64-1, lengths in more bytes than they need, and the one above the limit. None
/// of them waits for a payload.
#[test]
fn lengths_that_no_frame_may_have() {
    // `websocket.message_bytes_max` is 65,536 unless it is set.
    let too_big = 65_537;
    let short = |second: u8, length: u16| [&[0x82, second], &length.to_be_bytes()[..]].concat();
    are_closed(
        "lengths",
        &[
            ("2^63", declared(0x82, 1 << 63), 1002),
            ("2^64-1", declared(0x82, u64::MAX), 1002),
            ("2^63-1", declared(0x82, (1 << 63) - 1), 1009),
            ("2^32", declared(0x82, 1 << 32), 1009),
            ("2^63 in a first fragment", declared(0x01, 1 << 63), 1002),
            ("2^63-1 in a first fragment", declared(0x01, (1 << 63) - 1), 1009),
            (
                "2^63-1 behind a fragment",
                [frame(Opcode::Binary, false, b"abc"), declared(0x80, (1 << 63) - 1)].concat(),
                1009,
            ),
            ("above the limit", declared(0x82, too_big), 1009),
            ("0 in eight bytes", declared(0x82, 0), 1002),
            ("125 in eight bytes", declared(0x82, 125), 1002),
            ("65,535 in eight bytes", declared(0x82, 65_535), 1002),
            ("0 in two bytes", short(0xfe, 0), 1002),
            ("125 in two bytes", short(0xfe, 125), 1002),
            ("a ping of 126", vec![0x89, 0xfe, 0x00, 0x7e], 1002),
            ("a ping of 2^63", declared(0x89, 1 << 63), 1002),
        ],
    );
}

/// Bug class "CLOSE / control handling": codes and reasons that may not be sent, a payload of one byte, control frames
/// that are long or in pieces.
#[test]
fn control_frames_that_break_a_rule() {
    let close = |payload: &[u8]| frame(Opcode::Close, true, payload);
    let mut cases = vec![
        ("a close of one byte", close(b"\x03"), 1002),
        ("a reason that is not UTF-8", close(b"\x03\xe8\xff"), 1007),
        ("a close in pieces", control(0x08, b""), 1002),
        ("a ping in pieces", control(0x09, b"p"), 1002),
        ("a pong in pieces", control(0x0a, b"p"), 1002),
        ("a ping of 126 bytes", control(0x89, &[b'p'; 126]), 1002),
        ("a close of 126 bytes", control(0x88, &[b'r'; 126]), 1002),
        (
            "a ping in pieces inside a message",
            [frame(Opcode::Text, false, b"a"), control(0x09, b"p")].concat(),
            1002,
        ),
    ];
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        cases.push(("a code that may not be sent", close(&code.to_be_bytes()), 1002));
    }
    are_closed("control", &cases);
}

/// Bug class "CLOSE / control handling": what comes after a close frame is not looked at, however correct; the code
/// goes back as it came, an empty close is answered by an empty one, and a close inside a message ends it too.
#[test]
fn data_after_close_is_nobodys() {
    let server = Server::start("after_close", &Configuration::default());
    let mut witness = WebSocket::open(server.http, "/ws/after");
    let after = frame(Opcode::Text, true, b"after the close");
    let cases: [(&[u8], Option<u16>); 4] = [
        (b"", None),
        (b"\x03\xe8", Some(1000)),
        (b"\x0f\xa0bye", Some(4000)),
        (b"\x03\xf5", Some(1013)),
    ];
    for (payload, code) in cases {
        for before in [vec![], frame(Opcode::Text, false, b"begun")] {
            let mut socket = WebSocket::open(server.http, "/ws/after?echo=0");
            let close = frame(Opcode::Close, true, payload);
            socket
                .send_raw(&[before, close.clone(), after.clone(), close, vec![0xff; 300]].concat());
            assert_eq!(socket.receive(), Received::Close(code));
            assert_eq!(socket.receive(), Received::End, "one close is answered once");
        }
    }
    let mut socket = WebSocket::open(server.http, "/ws/after?echo=0");
    socket.send(Opcode::Text, b"correct");
    assert_eq!(witness.text(), "correct", "something was published after a close");
    drop((witness, socket));
    server.stop();
}

/// Bug class "Mask, UTF-8, reserved bits": also text whose wrong byte comes long before the end of its message, which
/// nobody waits for.
#[test]
fn masks_text_and_reserved_bits() {
    let unmasked = [&[0x81, 0x05][..], b"hello"].concat();
    let text = |payload: &[u8]| frame(Opcode::Text, true, payload);
    let next = |payload: &[u8]| frame(Opcode::Continuation, false, payload);
    let begin = |payload: &[u8]| frame(Opcode::Text, false, payload);
    let mut cases = vec![
        ("no mask", unmasked.clone(), 1002),
        ("no mask in an empty frame", vec![0x81, 0x00], 1002),
        ("no mask on a close", vec![0x88, 0x02, 0x03, 0xe8], 1002),
        ("no mask on a ping", vec![0x89, 0x00], 1002),
        ("no mask behind a fragment", [begin(b"a"), vec![0x80, 0x01, b'b']].concat(), 1002),
        ("a continuation of nothing", frame(Opcode::Continuation, true, b"a"), 1002),
        ("a message inside a message", [begin(b"a"), text(b"b")].concat(), 1002),
        ("an overlong slash", text(b"\xc0\xaf"), 1007),
        ("a surrogate", text(b"\xed\xa0\x80"), 1007),
        ("above U+10FFFF", text(b"\xf4\x90\x80\x80"), 1007),
        ("half a character at the end", text(b"ab\xc3"), 1007),
        (
            "half a character at the end of the last fragment",
            [begin(b"ab\xf0\x9f"), frame(Opcode::Continuation, true, b"\x98")].concat(),
            1007,
        ),
        // Neither of these messages ever ends.
        ("a surrogate cut in two", [begin(b"ok\xed"), next(b"\xa0")].concat(), 1007),
        (
            "early in a long frame",
            text(&[b"abc\xff", &[b'x'; 50_000][..]].concat())[..20_000].to_vec(),
            1007,
        ),
    ];
    for bits in [0x40, 0x20, 0x10, 0x70] {
        let mut reserved = text(b"x");
        reserved[0] |= bits;
        cases.push(("a reserved bit that was not negotiated", reserved, 1002));
        let mut reserved = frame(Opcode::Ping, true, b"x");
        reserved[0] |= bits;
        cases.push(("a reserved bit on a ping", reserved, 1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let mut reserved = frame(Opcode::Binary, true, b"x");
        reserved[0] = 0x80 | opcode;
        cases.push(("a reserved opcode", reserved, 1002));
    }
    are_closed("masks", &cases);
}

/// A character that is cut by every boundary there is (frames, and the segments they arrive in) is still one.
#[test]
fn split_characters_are_whole() {
    let server = Server::start("split_text", &Configuration::default());
    let mut socket = WebSocket::open(server.http, "/ws/split");
    let message = "añ€\u{1f600}".repeat(8);
    let bytes = message.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let opcode = if at == 0 { Opcode::Text } else { Opcode::Continuation };
        // Every byte of a frame by itself.
        for piece in frame(opcode, at + 1 == bytes.len(), &[*byte]).chunks(1) {
            socket.send_raw(piece);
        }
    }
    assert_eq!(socket.text(), message);
    drop(socket);
    server.stop();
}

/// Bug class "Uninitialised or reused memory leak": every connection sends only its own letter, in messages of all
/// sizes, in fragments, in pings, in messages that never end; who receives looks at every byte. Leases, blocks of the
/// arena, of logs and of histories go from one to the next all the time.
#[test]
fn canaries_stay_at_home() {
    const CHANNELS: usize = 26;
    const ROUNDS: usize = 60;
    let server = Server::start("canaries", &Configuration::default());
    let address = server.http;
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let letter = |channel: usize| b'a' + u8::try_from(channel).expect("26 of them");
                let target = |channel: usize| format!("/ws/canary-{channel}");
                let mine: Vec<usize> = (0..CHANNELS).filter(|one| one % 2 == thread).collect();
                let mut sockets: Vec<WebSocket> =
                    mine.iter().map(|one| WebSocket::open(address, &target(*one))).collect();
                for round in 0..ROUNDS {
                    // From nothing to beyond a lease, never the same for two neighbours.
                    let length = |channel: usize| (round * 997 + channel * 2_311) % 40_000;
                    for (channel, socket) in mine.iter().zip(&mut sockets) {
                        let canary = vec![letter(*channel); length(*channel)];
                        let half = canary.len() / 2;
                        socket.send(Opcode::Ping, &canary[..canary.len().min(125)]);
                        match round % 3 {
                            0 => socket.send(Opcode::Binary, &canary),
                            1 => socket.send(Opcode::Text, &canary),
                            _ => {
                                let first = frame(Opcode::Binary, false, &canary[..half]);
                                let rest = frame(Opcode::Continuation, true, &canary[half..]);
                                socket.send_raw(&[first, rest].concat());
                            }
                        }
                        // Somebody leaves in the middle of a message; the memory is given on.
                        let mut leaver = WebSocket::open(address, &target(*channel));
                        let unfinished = frame(Opcode::Binary, false, &[letter(*channel); 3_000]);
                        leaver.send_raw(&unfinished[..unfinished.len() - round % 7]);
                    }
                    for (channel, socket) in mine.iter().zip(&mut sockets) {
                        let mut left = 2;
                        while left > 0 {
                            let (data, expected) = match socket.receive() {
                                Received::Message(data) => (data, length(*channel)),
                                Received::Pong(data) => (data, length(*channel).min(125)),
                                other => panic!("{other:?}"),
                            };
                            left -= 1;
                            assert_eq!(data.len(), expected);
                            let canary = letter(*channel);
                            assert!(
                                data.iter().all(|byte| *byte == canary),
                                "somebody else's bytes"
                            );
                        }
                    }
                }
            });
        }
    });
    server.stop();
}
