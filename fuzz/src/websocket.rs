//! WebSocket frames in both roles, and the opening handshake.

use websocket::deflate::{self, Agreement, ClientWindow, Offer, Settings, WindowBits};
use websocket::encode::{write_close, write_frame, write_masked_frame, write_ping, write_pong};
use websocket::handshake::{self, Chosen, ClientRequest, Key};
use websocket::{Decoder, ErrorKind, Event, Kind, Limits, Opcode, Role, Step};

use crate::{Seed, cut};

/// What a session sees once the pieces of a message are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// Neither frames nor handshakes panic; messages keep to the limits, and text is UTF-8.
pub fn never_panics(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        for seen in read(role, &[data]).0 {
            match seen {
                Seen::Message(kind, bytes) => {
                    assert!(bytes.len() as u64 <= LIMITS.message_bytes_max);
                    assert!(kind == Kind::Binary || str::from_utf8(&bytes).is_ok());
                }
                Seen::Ping(bytes) | Seen::Pong(bytes) => assert!(bytes.len() <= 125),
                Seen::Close(code, reason) => {
                    assert!(code.is_some() || reason.is_empty());
                    assert!(code.is_none_or(websocket::is_valid_on_wire));
                }
            }
        }
    }
    let key = Key::from_nonce([7; 16]);
    if let Ok(Some(accepted)) = handshake::read_response(data, &ASKED, &key) {
        assert!(accepted.consumed <= data.len());
    }
    let lines = || {
        data.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        })
    };
    if let Err(refusal) = handshake::check(lines()) {
        assert!((400..500).contains(&refusal.status()) && !refusal.code().is_empty());
    }
    if let Ok(key) = handshake::check(lines()) {
        let mut out = Vec::new();
        let chosen = Chosen {
            subprotocol: handshake::choose_subprotocol(lines(), &["headwater.json"]),
            deflate: deflate::negotiate(lines(), &Settings::default()),
        };
        handshake::write_accept(&mut out, &key, &chosen);
        // A client that offered the most: no answer of ours may be one that it refuses.
        match handshake::read_response(&out, &ASKED, &key) {
            Ok(accepted) => {
                let accepted = accepted.expect("a whole answer");
                assert_eq!(accepted.consumed, out.len());
                assert_eq!(accepted.deflate, chosen.deflate);
            }
            Err(error) => panic!("our own answer: {error}"),
        }
    }
}

/// Any cut of the frames gives the same messages, and the same error.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    for role in [Role::Server, Role::Client] {
        assert_eq!(read(role, &[stream]), read(role, &pieces));
    }
    let key = Key::from_nonce([7; 16]);
    let mut arrived = Vec::new();
    let mut early = None;
    for piece in pieces {
        arrived.extend_from_slice(piece);
        match handshake::read_response(&arrived, &ASKED, &key) {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                early = Some(Ok(accepted.consumed));
                break;
            }
            Err(error) => {
                early = Some(Err(error));
                break;
            }
        }
    }
    let whole = handshake::read_response(stream, &ASKED, &key).transpose();
    assert_eq!(early, whole.map(|answer| answer.map(|accepted| accepted.consumed)));
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
    let (seen, error) = read(Role::Server, &[&stream]);
    assert_eq!(error, None);
    let messages: Vec<&Seen> = seen.iter().filter(|seen| !matches!(seen, Seen::Ping(_))).collect();
    assert_eq!(messages, [&Seen::Message(Kind::Binary, message.to_vec())]);
    assert_eq!(seen.len(), fragments.len() + 1);
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
    let (seen, error) = read(Role::Client, &[&stream]);
    assert_eq!(error, None);
    let control = message[..message.len().min(125)].to_vec();
    let close = match code.filter(|code| websocket::is_valid_on_wire(*code)) {
        Some(code) => Seen::Close(Some(code), reason[..reason.floor_char_boundary(123)].to_owned()),
        None => Seen::Close(None, String::new()),
    };
    let whole = Seen::Message(Kind::Binary, message.to_vec());
    assert_eq!(seen, [whole, Seen::Ping(control.clone()), Seen::Pong(control), close]);

    let mut nonce = [0; 16];
    let length = message.len().min(16);
    nonce[..length].copy_from_slice(&message[..length]);
    let (key, mut request) = (Key::from_nonce(nonce), Vec::new());
    handshake::write_request(&mut request, &ASKED, &key);
    let lines = request.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
    });
    let read = handshake::check(lines).expect("our own request");
    assert_eq!(read.as_bytes(), key.as_bytes());
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
    let key = Key::from_nonce([7; 16]);
    let agreement = Agreement {
        server_no_context_takeover: true,
        client_max_window_bits: WindowBits::new(10),
        ..Agreement::default()
    };
    let chosen = Chosen { subprotocol: Some("headwater.json"), deflate: Some(agreement) };
    let accept = server(&|out| handshake::write_accept(out, &key, &chosen));
    let request =
        b"\x00Upgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: a, headwater.json\n\
        Sec-WebSocket-Extensions: x; y=\"z\", permessage-deflate; client_max_window_bits=12; \
        server_max_window_bits=9; server_no_context_takeover; client_no_context_takeover\n";
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
        ("answer", accept[1..].to_vec()),
        ("answer-cut", accept),
        ("request", request.to_vec()),
        ("refused", b"\x02HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ]
}

/// Messages behind a byte that chooses their fragments.
#[must_use]
pub fn message_seeds() -> Vec<Seed> {
    vec![
        ("short", b"\x00abc".to_vec()),
        ("fragments", [&[3][..], &[b'x'; 400]].concat()),
        ("one-frame", [&[5][..], &[0; 1000]].concat()),
    ]
}

/// Presents the pieces as a connection does: what is left of before, and the new bytes behind it.
fn read(role: Role, pieces: &[&[u8]]) -> (Vec<Seen>, Option<ErrorKind>) {
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    let mut open: Option<(Kind, Vec<u8>)> = None;
    let mut inbox: Vec<u8> = Vec::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let event = match decoder.receive(&mut inbox[start..], &LIMITS) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event { consumed, event }) => {
                    start += consumed;
                    event
                }
                Err(error) => {
                    assert!(websocket::is_valid_on_wire(error.close_code()));
                    return (seen, Some(error.kind));
                }
            };
            match event {
                Event::Message { kind, data, .. } => {
                    assert!(open.is_none(), "a whole message inside another");
                    seen.push(Seen::Message(kind, data.to_vec()));
                }
                Event::Fragment { kind, data, first, last, .. } => {
                    assert_eq!(first, open.is_none(), "`first` marks exactly the first piece");
                    let message = open.get_or_insert((kind, Vec::new()));
                    message.1.extend_from_slice(data);
                    if last && let Some((kind, bytes)) = open.take() {
                        seen.push(Seen::Message(kind, bytes));
                    }
                }
                Event::Ping(data) => seen.push(Seen::Ping(data.to_vec())),
                Event::Pong(data) => seen.push(Seen::Pong(data.to_vec())),
                Event::Close { code, reason } => seen.push(Seen::Close(code, reason.to_owned())),
            }
        }
        inbox.drain(..start);
    }
    (seen, None)
}

/// A client that allows the server every parameter there is.
const ASKED: ClientRequest<'_> = ClientRequest {
    host: "a",
    target: "/",
    origin: Some("http://a"),
    subprotocols: Some("headwater.json"),
    deflate: Some(Offer {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: None,
        client_max_window_bits: ClientWindow::Limitable,
    }),
};

/// Small, so that inputs reach them; longer frames than `coalesce_bytes` stream.
const LIMITS: Limits = Limits { message_bytes_max: 2_048, fragments_max: 64, coalesce_bytes: 200 };
