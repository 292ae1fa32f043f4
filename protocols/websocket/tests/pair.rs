//! Our client half against our server half: opening, compressed messages both ways, closing, with
//! every combination of parameters and every cut of the bytes.

use headwater_websocket::deflate::{
    self, Agreement, ClientWindow, Compressor, Decompressor, Offer, Outcome, Part, Settings,
    Status, WindowBits,
};
use headwater_websocket::encode::{Opcode, close_payload, write_frame, write_masked_frame};
use headwater_websocket::handshake::{
    self, Chosen, ClientRequest, Key, choose_subprotocol, read_response, write_accept,
    write_request,
};
use headwater_websocket::{CloseState, Decoder, Event, Kind, Limits, Role, Step, Utf8};

const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Splits a request head as an HTTP parser does.
fn fields(head: &[u8]) -> Vec<(&str, &[u8])> {
    let lines = head.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    let split = |line: &'_ [u8]| line.iter().position(|byte| *byte == b':');
    lines
        .filter_map(|line| {
            let colon = split(line)?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        })
        .collect()
}

/// The whole opening handshake.
fn open(offer: Option<Offer>, settings: &Settings) -> Option<Agreement> {
    let key = Key::from_nonce([9; 16]);
    let request = ClientRequest {
        host: "localhost",
        target: "/",
        subprotocols: Some("other, headwater.json"),
        deflate: offer,
        ..ClientRequest::default()
    };
    let mut asked = Vec::new();
    write_request(&mut asked, &request, &key);
    let headers = fields(&asked);
    let received = handshake::check(headers.iter().copied()).expect("our own request");
    let chosen = Chosen {
        subprotocol: choose_subprotocol(headers.iter().copied(), &["headwater.json"]),
        deflate: deflate::negotiate(headers.iter().copied(), settings),
    };
    let mut answer = Vec::new();
    write_accept(&mut answer, &received, &chosen);
    let accepted = read_response(&answer, &request, &key).expect("our own answer");
    let accepted = accepted.expect("a whole answer");
    assert_eq!((accepted.consumed, accepted.deflate), (answer.len(), chosen.deflate));
    assert_eq!(accepted.subprotocol, Some(&b"headwater.json"[..]));
    accepted.deflate
}

/// One side of the conversation, with what it read.
struct Side {
    role: Role,
    decoder: Decoder,
    compressor: Option<Compressor>,
    decompressor: Option<Decompressor>,
    /// Inflates piece by piece as bytes come, else collects a message and inflates it whole.
    streams: bool,
    collected: Vec<u8>,
    utf8: Utf8,
    close: CloseState,
    read: Vec<(Kind, Vec<u8>)>,
    message: Vec<u8>,
    /// Frames in which the compressor was of use.
    compressed: usize,
}

impl Side {
    fn new(role: Role, agreement: Option<Agreement>, settings: &Settings, streams: bool) -> Self {
        let mut side = Self {
            role,
            decoder: Decoder::new(role),
            compressor: None,
            decompressor: None,
            streams,
            collected: Vec::new(),
            utf8: Utf8::new(),
            close: CloseState::Open,
            read: Vec::new(),
            message: Vec::new(),
            compressed: 0,
        };
        let Some(agreement) = agreement else { return side };
        let server = (agreement.server_no_context_takeover, agreement.server_window(settings));
        let client = (agreement.client_no_context_takeover, agreement.client_window(settings));
        let ((ours_alone, window), (theirs_alone, _)) = match role {
            Role::Server => (server, client),
            Role::Client => (client, server),
        };
        side.decoder = Decoder::with_deflate(role);
        side.compressor = Some(if ours_alone {
            Compressor::new(settings, deflate::WindowClass::new(window))
        } else {
            Compressor::with_takeover(settings, window)
        });
        side.decompressor = Some(if theirs_alone {
            Decompressor::new(MESSAGE_BYTES_MAX)
        } else {
            Decompressor::with_takeover(MESSAGE_BYTES_MAX)
        });
        side
    }

    fn write(&mut self, out: &mut Vec<u8>, opcode: Opcode, message: &[u8]) {
        let mut payload = Vec::new();
        let outcome = self.compressor.as_mut().map(|c| c.compress(message, &mut payload));
        let (compressed, payload) = match outcome {
            Some(Outcome::Compressed) => (true, &payload[..]),
            Some(Outcome::DoesNotPay) | None => (false, message),
        };
        self.compressed += usize::from(compressed);
        match (self.role, compressed) {
            (Role::Server, true) => deflate::write_frame(out, opcode, payload),
            (Role::Server, false) => write_frame(out, opcode, payload),
            (Role::Client, _) => {
                // In two fragments, with a ping between them.
                let (first, second) = payload.split_at(payload.len() / 2);
                if compressed {
                    deflate::write_masked_frame(out, opcode, false, MASK, first);
                } else {
                    write_masked_frame(out, opcode, false, MASK, first);
                }
                write_masked_frame(out, Opcode::Ping, true, MASK, b"between");
                write_masked_frame(out, Opcode::Continuation, true, MASK, second);
            }
        }
    }

    fn write_close(&mut self, out: &mut Vec<u8>, code: u16) {
        let (payload, length) = close_payload(Some(code), "bye");
        match self.role {
            Role::Server => write_frame(out, Opcode::Close, &payload[..length]),
            Role::Client => write_masked_frame(out, Opcode::Close, true, MASK, &payload[..length]),
        }
        self.close.on_sent();
    }

    fn receive(&mut self, pieces: &[&[u8]]) {
        let limits = Limits { coalesce_bytes: 100, ..Limits::default() };
        let mut inbox: Vec<u8> = Vec::new();
        for piece in pieces {
            inbox.extend_from_slice(piece);
            let mut start = 0;
            loop {
                let mut decoder = self.decoder.clone();
                match decoder.receive(&mut inbox[start..], &limits).expect("our own frames") {
                    Step::Incomplete => break,
                    Step::Event { consumed, event } => {
                        start += consumed;
                        self.on_event(event);
                    }
                }
                self.decoder = decoder;
            }
            inbox.drain(..start);
        }
        assert!(inbox.is_empty());
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { kind, compressed, data } => {
                self.on_piece(kind, compressed, data, Part::Last);
            }
            Event::Fragment { kind, compressed, data, last, .. } => {
                self.on_piece(kind, compressed, data, if last { Part::Last } else { Part::More });
            }
            Event::Ping(data) => assert_eq!(data, b"between"),
            Event::Pong(_) => {}
            Event::Close { code, reason } => {
                assert_eq!((code, reason), (Some(1000), "bye"));
                self.close.on_received();
            }
        }
    }

    fn on_piece(&mut self, kind: Kind, compressed: bool, data: &[u8], part: Part) {
        if !compressed {
            // The decoder has checked the text.
            self.message.extend_from_slice(data);
        } else if self.streams {
            self.inflate(kind, data, part);
        } else {
            self.collected.extend_from_slice(data);
            if part == Part::Last {
                let decompressor = self.decompressor.as_mut().expect("negotiated");
                decompressor.message(&self.collected, &mut self.message).expect("our own message");
                self.collected.clear();
                assert!(kind == Kind::Binary || Utf8::check(&self.message).is_ok());
            }
        }
        if part == Part::Last {
            assert!(self.utf8.is_complete());
            self.read.push((kind, std::mem::take(&mut self.message)));
        }
    }

    fn inflate(&mut self, kind: Kind, data: &[u8], part: Part) {
        let decompressor = self.decompressor.as_mut().expect("negotiated");
        let (mut rest, mut output) = (data, [0; 50]);
        loop {
            let progress = decompressor.step(rest, part, &mut output).expect("our own message");
            rest = &rest[progress.consumed..];
            let piece = &output[..progress.produced];
            if kind == Kind::Text {
                self.utf8.receive(piece).expect("our own text");
            }
            self.message.extend_from_slice(piece);
            if progress.status != Status::OutputFull {
                return;
            }
        }
    }
}

fn messages(count: u32) -> Vec<(Kind, Vec<u8>)> {
    (0..count)
        .map(|n| match n % 5 {
            0 => (Kind::Text, format!("{{\"n\":{n},\"text\":\"{}\"}}", "grüße ".repeat(20))),
            1 => (Kind::Text, String::new()),
            2 => (Kind::Binary, "short".into()),
            3 => (Kind::Text, format!("{{\"n\":{n},\"price\":{}}}", n * 7919).repeat(4)),
            _ => (Kind::Binary, "\u{20ac}".repeat(300 + n as usize)),
        })
        .map(|(kind, text)| (kind, text.into_bytes()))
        .collect()
}

/// How the bytes arrive.
#[derive(Clone, Copy)]
enum Cut {
    /// In pieces of so many.
    Every(usize),
    /// In two.
    Once(usize),
}

/// Sends the messages from one side to the other, which must read just those; gives their bytes on
/// the wire.
fn converse(from: &mut Side, to: &mut Side, messages: &[(Kind, Vec<u8>)], cut: Cut) -> usize {
    let mut bytes = Vec::new();
    for (kind, message) in messages {
        let opcode = if *kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
        from.write(&mut bytes, opcode, message);
    }
    match cut {
        Cut::Every(piece_bytes) => to.receive(&bytes.chunks(piece_bytes).collect::<Vec<_>>()),
        Cut::Once(at) => {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            to.receive(&[first, second]);
        }
    }
    assert_eq!(std::mem::take(&mut to.read), messages);
    bytes.len()
}

fn offers() -> Vec<Offer> {
    let windows = [None, WindowBits::new(9), WindowBits::new(12), WindowBits::new(15)];
    let client_windows = [
        ClientWindow::Unsaid,
        ClientWindow::Limitable,
        ClientWindow::AtMost(WindowBits::MIN),
        ClientWindow::AtMost(WindowBits::MAX),
    ];
    let mut offers = Vec::new();
    for server_no_context_takeover in [false, true] {
        for client_no_context_takeover in [false, true] {
            for server_max_window_bits in windows {
                for client_max_window_bits in client_windows {
                    offers.push(Offer {
                        server_no_context_takeover,
                        client_no_context_takeover,
                        server_max_window_bits,
                        client_max_window_bits,
                    });
                }
            }
        }
    }
    offers
}

fn every_setting() -> Vec<Settings> {
    let window = |bits| WindowBits::new(bits).expect("9 to 15");
    let mut all = Vec::new();
    for server_context_takeover in [false, true] {
        for client_context_takeover in [false, true] {
            for (server_max_window_bits, client_max_window_bits) in
                [(window(15), window(15)), (window(9), window(11))]
            {
                all.push(Settings {
                    server_context_takeover,
                    client_context_takeover,
                    server_max_window_bits,
                    client_max_window_bits,
                    ..Settings::default()
                });
            }
        }
    }
    all
}

/// 64 offers under 8 settings: 100 messages each way, in one piece, in single bytes and in pieces
/// of 61, inflated whole and as they come.
#[test]
fn every_combination_converses() {
    let messages = messages(100);
    for (index, settings) in every_setting().iter().enumerate() {
        for (at, offer) in offers().into_iter().enumerate() {
            let agreement = open(Some(offer), settings);
            assert!(agreement.is_some(), "{offer} is acceptable");
            let streams = (index + at) % 2 == 0;
            let mut server = Side::new(Role::Server, agreement, settings, streams);
            let mut client = Side::new(Role::Client, agreement, settings, streams);
            let piece_bytes = [usize::MAX, 61, 1][at % 3];
            let cut = Cut::Every(piece_bytes);
            converse(&mut server, &mut client, &messages, cut);
            converse(&mut client, &mut server, &messages, cut);
            // Three of five are long enough, and all of those have a pattern.
            assert_eq!((server.compressed, client.compressed), (60, 60));
        }
    }
}

#[test]
fn without_an_offer_or_with_deflate_off_nothing_is_compressed() {
    let off = Settings { enabled: false, ..Settings::default() };
    for agreement in [open(None, &Settings::default()), open(Some(Offer::default()), &off)] {
        assert_eq!(agreement, None);
        let mut server = Side::new(Role::Server, agreement, &off, true);
        let mut client = Side::new(Role::Client, agreement, &off, true);
        converse(&mut server, &mut client, &messages(10), Cut::Every(usize::MAX));
        converse(&mut client, &mut server, &messages(10), Cut::Every(usize::MAX));
    }
}

/// Every cut of a short conversation into two, with takeover and without.
#[test]
fn every_split_gives_the_same_messages() {
    let messages = messages(4);
    for server_context_takeover in [false, true] {
        let settings = Settings {
            server_context_takeover,
            client_context_takeover: server_context_takeover,
            ..Settings::default()
        };
        let agreement = open(Some(Offer::default()), &settings);
        for streams in [false, true] {
            for at in 0..700 {
                let mut server = Side::new(Role::Server, agreement, &settings, streams);
                let mut client = Side::new(Role::Client, agreement, &settings, streams);
                let cut = Cut::Once(at);
                assert!(converse(&mut server, &mut client, &messages, cut) < 700);
                assert!(converse(&mut client, &mut server, &messages, cut) < 700);
            }
        }
    }
}

/// Both closing orders (RFC 6455 7.1.2): whoever begins, both end closed, and nothing is sent after.
#[test]
fn both_sides_close() {
    for begins in [Role::Server, Role::Client] {
        let settings = Settings::default();
        let mut server = Side::new(Role::Server, None, &settings, false);
        let mut client = Side::new(Role::Client, None, &settings, false);
        let (first, second) = match begins {
            Role::Server => (&mut server, &mut client),
            Role::Client => (&mut client, &mut server),
        };
        let mut bytes = Vec::new();
        first.write_close(&mut bytes, 1000);
        assert!(!first.close.may_send());
        second.receive(&[&bytes]);
        assert!(second.close.owes_answer() && second.close.may_send());
        bytes.clear();
        second.write_close(&mut bytes, 1000);
        assert!(second.close.is_closed());
        first.receive(&[&bytes]);
        assert!(first.close.is_closed() && first.decoder.is_closed());
    }
}
