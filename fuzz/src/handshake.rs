//! The opening handshake of WebSocket: a request's fields, the server's answer, and what both agree on about compression.

use websocket::deflate::{
    self, Agreement, ClientWindow, Level, MemoryLevel, Offer, Settings, WindowBits,
};
use websocket::handshake::{self, Chosen, ClientRequest, Key, ResponseError};

use crate::{Seed, cut};

/// Neither a request's fields nor an answer make us panic, and an answer of ours to any request is one that a client
/// takes that had asked for the most.
pub fn never_panics(data: &[u8]) {
    let key = Key::from_nonce([7; 16]);
    for asked in [ASKED, LIMITED, ClientRequest { deflate: None, subprotocols: None, ..ASKED }] {
        match handshake::read_response(data, &asked, &key) {
            Ok(Some(accepted)) => {
                assert!(accepted.consumed <= data.len());
                assert!(accepted.deflate.is_none() || asked.deflate.is_some());
                assert!(accepted.subprotocol.is_none() || asked.subprotocols.is_some());
            }
            Ok(None) => assert!(data.len() < 16 << 10),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    match handshake::check(fields(data)) {
        Err(refusal) => {
            assert!((400..500).contains(&refusal.status()) && !refusal.code().is_empty());
        }
        Ok(key) => {
            let chosen = Chosen {
                subprotocol: handshake::choose_subprotocol(fields(data), &["headwater.json"]),
                deflate: deflate::negotiate(fields(data), &Settings::default()),
            };
            let mut out = Vec::new();
            handshake::write_accept(&mut out, &key, &chosen);
            // A request that allows every parameter there is: no answer of ours may be one that it refuses.
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
}

/// Any cut of an answer is read as the whole is.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    let key = Key::from_nonce([7; 16]);
    let read = |bytes: &[u8]| {
        let answer = handshake::read_response(bytes, &ASKED, &key);
        answer.map(|accepted| accepted.map(|accepted| accepted.consumed)).transpose()
    };
    let mut arrived = Vec::new();
    let dripped = pieces.into_iter().find_map(|piece| {
        arrived.extend_from_slice(piece);
        read(&arrived)
    });
    assert_eq!(dripped, read(stream));
}

/// Whatever a client offers and an operator has set, the answer is one that the client takes, and both then know the
/// same; a client that offered nothing, or another, refuses it.
pub fn roundtrip(data: &[u8]) {
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    let (offer, settings) = (offer_of(byte(0), byte(1), byte(2)), settings_of(byte(3), byte(4)));
    let mut nonce = [0; 16];
    let rest = data.get(5..).unwrap_or(&[]);
    let length = rest.len().min(16);
    nonce[..length].copy_from_slice(&rest[..length]);
    let asked = ClientRequest { deflate: Some(offer), ..ASKED };

    let (key, mut request) = (Key::from_nonce(nonce), Vec::new());
    handshake::write_request(&mut request, &asked, &key);
    assert_eq!(handshake::check(fields(&request)), Ok(key), "our own request");
    let agreement = deflate::negotiate(fields(&request), &settings);
    assert_eq!(agreement.is_some(), settings.enabled, "our own offer");
    let subprotocol = handshake::choose_subprotocol(fields(&request), &["headwater.json"]);
    assert_eq!(subprotocol, asked.subprotocols);
    let mut answer = Vec::new();
    handshake::write_accept(&mut answer, &key, &Chosen { subprotocol, deflate: agreement });
    let read = |asked: &ClientRequest<'_>| {
        handshake::read_response(&answer, asked, &key).map(|accepted| accepted.expect("whole"))
    };
    let accepted = read(&asked).expect("our own answer").deflate;
    let known = agreement.map(|agreement| Agreement {
        client_no_context_takeover: agreement.client_no_context_takeover
            || offer.client_no_context_takeover,
        ..agreement
    });
    assert_eq!(accepted, known);
    if let Some(agreement) = accepted {
        agrees(&agreement, &offer, &settings);
        let bare = ClientRequest { deflate: None, ..asked };
        assert!(matches!(read(&bare), Err(ResponseError::Extensions(_))), "nothing was offered");
    }
    let other =
        handshake::read_response(&answer, &asked, &Key::from_nonce(nonce.map(|byte| !byte)));
    assert_eq!(other, Err(ResponseError::Accept));
}

/// RFC 7692 7.1: who was asked for something gives it, and nobody is asked who did not allow it.
fn agrees(agreement: &Agreement, offer: &Offer, settings: &Settings) {
    assert!(agreement.server_no_context_takeover || !offer.server_no_context_takeover);
    assert!(agreement.server_no_context_takeover || settings.server_context_takeover);
    assert!(agreement.client_no_context_takeover || settings.client_context_takeover);
    let server = agreement.server_window(settings);
    assert!(offer.server_max_window_bits.is_none_or(|asked| server <= asked));
    assert!(server <= settings.server_max_window_bits);
    let client = agreement.client_window(settings);
    match offer.client_max_window_bits {
        ClientWindow::Unsaid => assert_eq!(agreement.client_max_window_bits, None),
        ClientWindow::Limitable => assert_eq!(client, settings.client_max_window_bits),
        ClientWindow::AtMost(bits) => {
            assert!(agreement.client_max_window_bits.is_none_or(|window| window < bits));
            assert!(client <= settings.client_max_window_bits);
        }
    }
    if let Some(class) = agreement.window_class(settings) {
        assert_eq!(class.window(), server);
        assert!(class.index() < deflate::WindowClass::COUNT);
    }
}

/// Any offer there is.
fn offer_of(flags: u8, server: u8, client: u8) -> Offer {
    Offer {
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: WindowBits::new(server & 15),
        client_max_window_bits: match (client & 0x10 != 0, WindowBits::new(client & 15)) {
            (true, _) => ClientWindow::Limitable,
            (false, Some(bits)) => ClientWindow::AtMost(bits),
            (false, None) => ClientWindow::Unsaid,
        },
    }
}

/// Any settings that the negotiation looks at.
fn settings_of(flags: u8, windows: u8) -> Settings {
    let window = |number: u8| WindowBits::new(9 + number % 7).expect("9 to 15");
    Settings {
        enabled: flags & 4 == 0,
        server_context_takeover: flags & 1 != 0,
        client_context_takeover: flags & 2 != 0,
        server_max_window_bits: window(windows & 15),
        client_max_window_bits: window(windows >> 4),
        level: Level::new(1 + flags % 9).expect("1 to 9"),
        memory_level: MemoryLevel::new(1 + flags % 9).expect("1 to 9"),
        ..Settings::default()
    }
}

/// The fields in a text, one on each line.
fn fields(text: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
    })
}

/// Requests, good and bad answers.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let key = Key::from_nonce([7; 16]);
    let agreement = Agreement {
        server_no_context_takeover: true,
        client_max_window_bits: WindowBits::new(10),
        ..Agreement::default()
    };
    let mut accept = Vec::new();
    let chosen = Chosen { subprotocol: Some("headwater.json"), deflate: Some(agreement) };
    handshake::write_accept(&mut accept, &key, &chosen);
    let mut bare = Vec::new();
    handshake::write_accept(&mut bare, &key, &Chosen::default());
    let with = |lines: &str| [&bare[..bare.len() - 2], lines.as_bytes(), b"\r\n"].concat();
    let extension = |value: &str| with(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
    let request = |lines: &str| {
        let fields = "Upgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
        format!("{fields}{lines}\n").into_bytes()
    };
    let offer = |value: &str| request(&format!("Sec-WebSocket-Extensions: {value}"));
    vec![
        ("answer", accept),
        ("answer-bare", bare.clone()),
        (
            "answer-two-subprotocols",
            with("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n"),
        ),
        ("answer-not-offered", with("Sec-WebSocket-Protocol: a\r\n")),
        ("answer-malformed", extension(";")),
        ("answer-other", extension("x")),
        (
            "answer-limited",
            extension(
                "permessage-deflate; server_no_context_takeover; \
            server_max_window_bits=9; client_no_context_takeover; client_max_window_bits=9",
            ),
        ),
        ("answer-no-window", extension("permessage-deflate; server_no_context_takeover")),
        (
            "answer-large-window",
            extension(
                "permessage-deflate; server_no_context_takeover; \
            server_max_window_bits=12",
            ),
        ),
        ("answer-client-window", extension("permessage-deflate; client_max_window_bits")),
        ("answer-client-8", extension("permessage-deflate; client_max_window_bits=8")),
        ("answer-server-8", extension("permessage-deflate; server_max_window_bits=8")),
        ("answer-unknown", extension("permessage-deflate; x=y")),
        (
            "answer-no-accept",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
        ("answer-no-upgrade", b"HTTP/1.1 101 x\r\n\r\n".to_vec()),
        ("answer-folded", b"HTTP/1.1 101 x\r\nA: b\r\n c: d\r\n\r\n".to_vec()),
        ("answer-http-1.0", b"HTTP/1.0 101 x\r\n\r\n".to_vec()),
        ("answer-1010", b"HTTP/1.1 1010 x\r\n\r\n".to_vec()),
        ("answer-long", vec![b'x'; 16 << 10]),
        ("refused", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()),
        (
            "request",
            offer(
                "x; y=\"z\", permessage-deflate; client_max_window_bits=12; \
            server_max_window_bits=9; server_no_context_takeover; client_no_context_takeover",
            ),
        ),
        ("request-subprotocols", request("Sec-WebSocket-Protocol: a, headwater.json")),
        ("request-bad-subprotocols", request("Sec-WebSocket-Protocol: a b")),
        ("request-no-subprotocols", request("Sec-WebSocket-Protocol: ,")),
        ("request-two-keys", request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        ("request-two-versions", request("Sec-WebSocket-Version: 8")),
        (
            "request-old",
            b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 8\n".to_vec(),
        ),
        (
            "request-no-key",
            b"Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n".to_vec(),
        ),
        ("request-no-list", offer("a;")),
        ("request-no-element", offer(" , ")),
        ("request-two-in-one", offer("a b")),
        ("request-quoted", offer("permessage-deflate; server_max_window_bits=\"1\\0\"; x=\"a")),
        ("request-bare-server", offer("permessage-deflate; server_max_window_bits")),
        ("request-bare-client", offer("permessage-deflate; client_max_window_bits")),
        (
            "request-numbers",
            offer(
                "permessage-deflate; client_max_window_bits=08, \
            permessage-deflate; client_max_window_bits=16, permessage-deflate; \
            client_max_window_bits=999, permessage-deflate; server_max_window_bits=8",
            ),
        ),
        (
            "request-twice",
            offer(
                "permessage-deflate; client_max_window_bits; client_max_window_bits, \
            permessage-deflate; server_no_context_takeover=1, permessage-deflate",
            ),
        ),
        ("request-then-broken", offer("permessage-deflate, a b")),
    ]
}

/// The same behind a byte that chooses the cuts.
#[must_use]
pub fn cut_seeds() -> Vec<Seed> {
    seeds().into_iter().map(|(name, bytes)| (name, [&[5], &bytes[..]].concat())).collect()
}

/// Offers and settings.
#[must_use]
pub fn offer_seeds() -> Vec<Seed> {
    vec![
        ("plain", vec![0, 0, 0, 0, 0x66]),
        ("no-takeover", vec![3, 0, 16, 0, 0x66, 1, 2, 3]),
        ("takeover", vec![0, 0, 16, 3, 0x66]),
        ("windows", vec![0, 10, 12, 3, 0x13]),
        ("small-windows", vec![1, 9, 9, 0, 0x66]),
        ("limitable", vec![0, 15, 16, 0, 0x00]),
        ("off", vec![0, 0, 0, 4, 0x66]),
    ]
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

/// One that asks the server for the most and allows it nothing.
const LIMITED: ClientRequest<'_> = ClientRequest {
    deflate: Some(Offer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: Some(WindowBits::MIN),
        client_max_window_bits: ClientWindow::Unsaid,
    }),
    ..ASKED
};
