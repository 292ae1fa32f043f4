//! WebSocket frames in both roles, with and without permessage-deflate.

use websocket::deflate;
use websocket::encode::{
    frame_header, write_close, write_frame, write_masked_frame, write_ping, write_pong,
};
use websocket::{CloseState, Decoder, ErrorKind, Event, Kind, Limits, Opcode, Role, Step, Utf8};

use crate::{Seed, cut};

/// What a session sees once the pieces of a message are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message { kind: Kind, compressed: bool, bytes: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// No bytes make the decoder panic, in either role, with or without compression; messages keep to the limits, text is
/// UTF-8, and an error stays. Nor does any order of closing leave the states of RFC 6455 7.
pub fn never_panics(data: &[u8]) {
    let roomy = SETUPS.map(|setup| Setup { limits: Limits::default(), ..setup });
    for setup in SETUPS.into_iter().chain(roomy) {
        for seen in read(setup, &[data]).0 {
            match seen {
                Seen::Message { kind, compressed, bytes } => {
                    let most = setup.limits.message_bytes_max;
                    // Compression makes longer what it can't make shorter.
                    let most = if compressed { most + most / 7 + 16 } else { most };
                    assert!(bytes.len() as u64 <= most);
                    assert!(!compressed || setup.deflate);
                    assert!(compressed || kind == Kind::Binary || str::from_utf8(&bytes).is_ok());
                }
                Seen::Ping(bytes) | Seen::Pong(bytes) => assert!(bytes.len() <= 125),
                Seen::Close(code, reason) => {
                    assert!(code.is_some() || reason.is_empty());
                    assert!(code.is_none_or(websocket::is_valid_on_wire));
                }
            }
        }
    }
    let known = str::from_utf8(data).map_err(|error| error.valid_up_to());
    assert_eq!(Utf8::check(data), known.map(drop));
    closes(data);
}

/// What both sides do at the end, in any order, against what RFC 6455 7.1.4 calls clean.
fn closes(data: &[u8]) {
    let mut state = CloseState::default();
    let (mut sent, mut received, mut abnormal) = (false, false, false);
    for byte in data.iter().take(16) {
        match byte % 3 {
            0 => {
                state.on_sent();
                sent |= !abnormal;
            }
            1 => {
                state.on_received();
                received |= !abnormal;
            }
            _ => {
                state.on_end();
                abnormal |= !received;
            }
        }
        let is_closed = sent && received;
        assert_eq!(state.is_closed(), is_closed);
        assert_eq!(state.is_over(), is_closed || abnormal);
        assert_eq!(state.may_send(), !sent && !abnormal);
        assert_eq!(state.owes_answer(), received && !sent);
    }
}

/// Any cut of the frames gives the same messages, and the same error.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    for setup in SETUPS {
        assert_eq!(read(setup, &[stream]), read(setup, &pieces));
    }
    let mut text = Utf8::new();
    let dripped = pieces.iter().all(|piece| text.receive(piece).is_ok()) && text.is_complete();
    assert_eq!(dripped, str::from_utf8(stream).is_ok());
}

/// A message sent in any fragments, with a ping between them, arrives as it was.
pub fn roundtrip(data: &[u8]) {
    let (message, fragments) = cut::pieces(data);
    let fits = message.len() as u64 <= LIMITS.message_bytes_max
        && fragments.len() <= LIMITS.fragments_max as usize;
    if fragments.is_empty() || !fits {
        return;
    }
    server_roundtrip(message);
    let mask = [data[0], 0xa5, 0, 0xff];
    let mut stream = Vec::new();
    for (at, fragment) in fragments.iter().enumerate() {
        let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        write_masked_frame(&mut stream, opcode, at + 1 == fragments.len(), mask, fragment);
        write_masked_frame(
            &mut stream,
            Opcode::Ping,
            true,
            mask,
            &fragment[..fragment.len().min(125)],
        );
    }
    let (seen, error) = read(server(false), &[&stream]);
    assert_eq!(error, None);
    let messages: Vec<&Seen> = seen.iter().filter(|seen| !matches!(seen, Seen::Ping(_))).collect();
    assert_eq!(messages, [&binary(message)]);
    assert_eq!(seen.len(), fragments.len() + 1);
    compressed_roundtrip(&fragments, mask);
}

/// The server's frames of every kind, read by a client.
fn server_roundtrip(message: &[u8]) {
    let mut stream = Vec::new();
    write_frame(&mut stream, Opcode::Binary, message);
    write_ping(&mut stream, message);
    write_pong(&mut stream, message);
    let reason = String::from_utf8_lossy(message);
    let code = message.first_chunk().map(|code| u16::from_be_bytes(*code));
    write_close(&mut stream, code, &reason);
    let (seen, error) = read(client(false), &[&stream]);
    assert_eq!(error, None);
    let control = message[..message.len().min(125)].to_vec();
    let close = match code.filter(|code| websocket::is_valid_on_wire(*code)) {
        Some(code) => Seen::Close(Some(code), reason[..reason.floor_char_boundary(123)].to_owned()),
        None => Seen::Close(None, String::new()),
    };
    assert_eq!(seen, [binary(message), Seen::Ping(control.clone()), Seen::Pong(control), close]);
}

/// Any bytes as the payload of a compressed message (RFC 7692 6): the bit is on the first frame alone and is told of
/// the whole message; the payload arrives as it was.
fn compressed_roundtrip(fragments: &[&[u8]], mask: [u8; 4]) {
    let mut stream = Vec::new();
    for (at, fragment) in fragments.iter().enumerate() {
        let last = at + 1 == fragments.len();
        if at == 0 {
            deflate::write_masked_frame(&mut stream, Opcode::Text, last, mask, fragment);
        } else {
            write_masked_frame(&mut stream, Opcode::Continuation, last, mask, fragment);
        }
    }
    let whole = Seen::Message { kind: Kind::Text, compressed: true, bytes: fragments.concat() };
    assert_eq!(read(server(true), &[&stream]), (vec![whole], None));
    // Who did not negotiate it does not take it.
    assert_eq!(read(server(false), &[&stream]), (Vec::new(), Some(ErrorKind::ReservedBit)));
    let mut stream = Vec::new();
    deflate::write_frame(&mut stream, Opcode::Binary, fragments[0]);
    let whole =
        Seen::Message { kind: Kind::Binary, compressed: true, bytes: fragments[0].to_vec() };
    assert_eq!(read(client(true), &[&stream]), (vec![whole], None));
    if let [a, b, c, ..] = *fragments[0] {
        long_header(u64::from_be_bytes([a & 0x7f, b, c, a, b, c, a, b]) >> (c & 63));
    }
}

/// A header of any length says that length, however little of the payload is there.
fn long_header(length: u64) {
    let (header, header_bytes) =
        frame_header(Opcode::Binary, usize::try_from(length).expect("64 bits"));
    let mut input = [&header[..header_bytes], b"x"].concat();
    let limits = Limits { message_bytes_max: u64::MAX, fragments_max: 1, coalesce_bytes: 0 };
    let step = Decoder::new(Role::Client).receive(&mut input, &limits);
    let expected = match length {
        0 => Event::Message { kind: Kind::Binary, compressed: false, data: b"" },
        1 => Event::Message { kind: Kind::Binary, compressed: false, data: b"x" },
        _ => Event::Fragment {
            kind: Kind::Binary,
            compressed: false,
            data: b"x",
            first: true,
            last: false,
        },
    };
    let consumed = header_bytes + usize::from(length > 0);
    assert_eq!(step, Ok(Step::Event { consumed, event: expected }));
    let short = Limits { message_bytes_max: length.saturating_sub(1), ..limits };
    let step = Decoder::new(Role::Client).receive(&mut input, &short);
    assert_eq!(step.is_err(), length > 0, "one byte too long");
}

/// Conversations of both roles, behind a byte that chooses the cuts.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let client = |frames: &[(Opcode, bool, &[u8])]| {
        let mut out = vec![2];
        for (opcode, last, payload) in frames {
            write_masked_frame(&mut out, *opcode, *last, mask, payload);
        }
        out
    };
    let server = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = vec![1];
        write(&mut out);
        out
    };
    let long = [b'x'; 300];
    let compressed = |bit: u8, hello: &[u8]| {
        let mut out = client(&[(Opcode::Text, true, hello)]);
        out[1] |= bit;
        out
    };
    // RFC 7692 7.2.3.1.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    vec![
        ("text", client(&[(Opcode::Text, true, "h\u{e9}llo".as_bytes())])),
        (
            "fragments",
            client(&[
                (Opcode::Text, false, b"h\xc3"),
                (Opcode::Ping, true, b"p"),
                (Opcode::Continuation, true, b"\xa9llo"),
                (Opcode::Close, true, b"\x03\xe8bye"),
            ]),
        ),
        ("long", client(&[(Opcode::Binary, true, &long), (Opcode::Pong, true, b"")])),
        ("bad-utf8", client(&[(Opcode::Text, true, b"a\xff")])),
        ("bad-code", client(&[(Opcode::Close, true, b"\x03\xed")])),
        ("server-text", server(&|out| write_frame(out, Opcode::Text, b"hi"))),
        ("server-long", server(&|out| write_frame(out, Opcode::Binary, &long))),
        ("server-ping", server(&|out| write_ping(out, b"p"))),
        ("server-close", server(&|out| write_close(out, Some(1001), "away"))),
        ("huge-length", b"\x00\x82\xff\x80\0\0\0\0\0\0\0abcd".to_vec()),
        ("compressed", compressed(0x40, &hello)),
        ("compressed-long", compressed(0x40, &long)),
        ("reserved-2", compressed(0x20, &hello)),
        ("reserved-3", compressed(0x10, &hello)),
        (
            "compressed-fragments",
            [
                compressed(0xc0, &hello).iter().map(|byte| byte & 0x7f | 0x40).take(2).collect(),
                client(&[(Opcode::Continuation, true, &hello)]),
            ]
            .concat(),
        ),
        ("compressed-ping", b"\x00\xc9\x80abcd".to_vec()),
        ("compressed-continuation", b"\x00\x01\x80abcd\xc0\x80abcd".to_vec()),
        ("fragmented-ping", b"\x00\x09\x80abcd".to_vec()),
        ("long-ping", b"\x00\x89\xfe\x00\x7eabcd".to_vec()),
        ("reserved-opcode", b"\x00\x83\x80abcd".to_vec()),
        ("orphan", b"\x00\x80\x80abcd".to_vec()),
        ("interleaved", b"\x00\x01\x80abcd\x01\x80abcd".to_vec()),
        ("unmasked", b"\x00\x81\x01a".to_vec()),
        ("not-minimal-16", b"\x00\x82\xfe\x00\x01abcdx".to_vec()),
        ("not-minimal-64", b"\x00\x82\xff\0\0\0\0\0\0\0\x01abcdx".to_vec()),
        ("limit", b"\x00\x82\xff\0\0\0\0\0\x20\0\0abcdx".to_vec()),
        ("close-short", client(&[(Opcode::Close, true, b"\x03")])),
        ("close-not-utf8", client(&[(Opcode::Close, true, b"\x03\xe8\xff")])),
        ("close-then-text", client(&[(Opcode::Close, true, b""), (Opcode::Text, true, b"a")])),
        (
            "astral-cut",
            client(&[
                (Opcode::Text, false, b"\xf0\x9f"),
                (Opcode::Continuation, false, b"\x98"),
                (Opcode::Continuation, true, b"\x80"),
            ]),
        ),
        (
            "surrogate",
            client(&[(Opcode::Text, false, b"\xed"), (Opcode::Continuation, true, b"\xa0\x80")]),
        ),
        ("text-astral", "\u{1f600}\u{10ffff}".as_bytes().to_vec()),
        ("text-cut", b"\x00a\xf0\x9f".to_vec()),
        ("closes", b"\x00\x01\x02\x00".to_vec()),
        ("closes-without-theirs", b"\x00\x02\x01".to_vec()),
        ("closes-by-them", b"\x01\x00\x02\x01".to_vec()),
        ("ends", b"\x02\x00\x01\x02".to_vec()),
    ]
}

/// Messages behind a byte that chooses their fragments.
#[must_use]
pub fn message_seeds() -> Vec<Seed> {
    vec![
        ("short", b"\x00abc".to_vec()),
        ("fragments", [&[3][..], &[b'x'; 400]].concat()),
        ("one-frame", [&[5][..], &[0; 1000]].concat()),
        ("long-header", b"\x05\x00\x01\x0f".to_vec()),
        ("huge-header", b"\x05\x7f\xff\x00".to_vec()),
        ("no-payload-header", b"\x05\x00\x00\x3f".to_vec()),
        ("close-1000", b"\x05\x03\xe8bye".to_vec()),
    ]
}

/// How a decoder is set up.
#[derive(Debug, Clone, Copy)]
struct Setup {
    role: Role,
    deflate: bool,
    limits: Limits,
}

const fn server(deflate: bool) -> Setup {
    Setup { role: Role::Server, deflate, limits: LIMITS }
}

const fn client(deflate: bool) -> Setup {
    Setup { role: Role::Client, deflate, limits: LIMITS }
}

/// Every way; the limits are another thing.
const SETUPS: [Setup; 4] = [server(false), server(true), client(false), client(true)];

fn binary(message: &[u8]) -> Seen {
    Seen::Message { kind: Kind::Binary, compressed: false, bytes: message.to_vec() }
}

/// Presents the pieces as a connection does: what is left of before, and the new bytes behind it.
fn read(setup: Setup, pieces: &[&[u8]]) -> (Vec<Seen>, Option<ErrorKind>) {
    let Setup { role, deflate, limits } = setup;
    let mut decoder = if deflate { Decoder::with_deflate(role) } else { Decoder::new(role) };
    let mut seen = Vec::new();
    let mut open: Option<(Kind, bool, Vec<u8>)> = None;
    let mut inbox: Vec<u8> = Vec::new();
    let mut position = 0;
    for piece in pieces {
        inbox.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let event = match decoder.receive(&mut inbox[start..], &limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event { consumed, event }) => {
                    start += consumed;
                    position += consumed as u64;
                    event
                }
                Err(error) => {
                    assert!(websocket::is_valid_on_wire(error.close_code()));
                    assert!((position..=position + inbox.len() as u64).contains(&error.position));
                    assert_eq!(decoder.receive(&mut inbox, &limits), Err(error), "an error stays");
                    return (seen, Some(error.kind));
                }
            };
            match event {
                Event::Message { kind, compressed, data } => {
                    assert!(open.is_none(), "a whole message inside another");
                    seen.push(Seen::Message { kind, compressed, bytes: data.to_vec() });
                }
                Event::Fragment { kind, compressed, data, first, last } => {
                    assert_eq!(first, open.is_none(), "`first` marks exactly the first piece");
                    let message = open.get_or_insert((kind, compressed, Vec::new()));
                    assert_eq!((message.0, message.1), (kind, compressed), "the same throughout");
                    message.2.extend_from_slice(data);
                    if last && let Some((kind, compressed, bytes)) = open.take() {
                        seen.push(Seen::Message { kind, compressed, bytes });
                    }
                }
                Event::Ping(data) => seen.push(Seen::Ping(data.to_vec())),
                Event::Pong(data) => seen.push(Seen::Pong(data.to_vec())),
                Event::Close { code, reason } => seen.push(Seen::Close(code, reason.to_owned())),
            }
        }
        inbox.drain(..start);
        assert_eq!(decoder.position(), position);
    }
    assert_eq!(decoder.is_closed(), matches!(seen.last(), Some(Seen::Close(..))));
    (seen, None)
}

/// Small, so that inputs reach them; longer frames than `coalesce_bytes` stream.
const LIMITS: Limits = Limits { message_bytes_max: 2_048, fragments_max: 64, coalesce_bytes: 200 };
