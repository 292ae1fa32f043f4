//! permessage-deflate and large messages from outside: shared compression, bombs, corrupt data, takeover, and what the
//! echo streams.
//!
//! In: offers of a client of our own. Out: what each peer gets, close codes, counters, and the server's memory, which
//! stays bounded. One shard where the point is that peers share its states.

use crate::client::{DEADLINE, Http, connect};
use crate::server::{Configuration, Server};
use crate::tools::{exclusive, scratch};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use websocket::deflate::{
    Agreement, Compressor, Decompressor, Offer, Settings, WindowBits, WindowClass,
    write_masked_frame as write_compressed_frame,
};
use websocket::encode::{Opcode, write_masked_frame};
use websocket::handshake::{ClientRequest, Key, read_response, write_request};
use websocket::{Decoder, Event, Limits, Role, Step};

const MIB: usize = 1 << 20;
const MASK: [u8; 4] = [0x51, 0x0e, 0xc3, 0x77];
const STANDING_ALONE: Offer = Offer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: websocket::deflate::ClientWindow::Limitable,
};

/// A WebSocket with or without permessage-deflate.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    pending: Vec<u8>,
    agreement: Option<Agreement>,
    compressor: Compressor,
    decompressor: Decompressor,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Message { data: Vec<u8>, compressed: bool },
    Close(Option<u16>),
    End,
}

impl Peer {
    fn open(address: SocketAddr, target: &str, offer: Option<Offer>) -> Self {
        let mut stream = connect(address);
        let host = address.to_string();
        let key = Key::from_nonce(*b"e2e-deflate-test");
        let request =
            ClientRequest { host: &host, target, deflate: offer, ..ClientRequest::default() };
        let mut bytes = Vec::new();
        write_request(&mut bytes, &request, &key);
        stream.write_all(&bytes).expect("the server reads");
        let mut pending = Vec::new();
        let agreement = loop {
            if let Some(accepted) = read_response(&pending, &request, &key).expect("an upgrade") {
                let (consumed, agreement) = (accepted.consumed, accepted.deflate);
                pending.drain(..consumed);
                break agreement;
            }
            assert!(fill(&mut stream, &mut pending) > 0, "closed during the handshake");
        };
        let decoder = match agreement {
            Some(_) => Decoder::with_deflate(Role::Client),
            None => Decoder::new(Role::Client),
        };
        let settings = Settings { threshold_bytes: 1, ..Settings::default() };
        let compressor = if agreement.is_some_and(|agreed| !agreed.client_no_context_takeover) {
            Compressor::with_takeover(&settings, WindowBits::MAX)
        } else {
            Compressor::new(&settings, WindowClass::new(WindowBits::MAX))
        };
        // Right whether the server takes over its context or not.
        let decompressor = Decompressor::with_takeover(32 * MIB as u64);
        Self { stream, decoder, pending, agreement, compressor, decompressor }
    }

    fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, Opcode::Text, true, MASK, text.as_bytes());
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// How many bytes the payload had.
    fn send_compressed(&mut self, text: &str) -> usize {
        let mut payload = Vec::new();
        self.compressor.compress_always(text.as_bytes(), &mut payload);
        self.send_payload(Opcode::Text, &payload, payload.len().max(1));
        payload.len()
    }

    /// A payload that is said to be compressed, in frames of so many bytes. What the server no longer reads does not
    /// matter.
    fn send_payload(&mut self, opcode: Opcode, payload: &[u8], frame_bytes: usize) {
        let mut out = Vec::new();
        let count = payload.len().div_ceil(frame_bytes);
        for (number, piece) in payload.chunks(frame_bytes).enumerate() {
            let last = number + 1 == count;
            if number == 0 {
                write_compressed_frame(&mut out, opcode, last, MASK, piece);
            } else {
                write_masked_frame(&mut out, Opcode::Continuation, last, MASK, piece);
            }
        }
        let _ = self.stream.write_all(&out);
    }

    fn receive(&mut self) -> Got {
        let mut message = Vec::new();
        let limits = Limits {
            message_bytes_max: 32 * MIB as u64,
            fragments_max: 1 << 20,
            ..Limits::default()
        };
        let mut start = 0;
        let is_compressed = loop {
            let step = self.decoder.receive(&mut self.pending[start..], &limits);
            let Step::Event { consumed, event } = step.expect("correct frames") else {
                self.pending.drain(..start);
                start = 0;
                if fill(&mut self.stream, &mut self.pending) == 0 {
                    return Got::End;
                }
                continue;
            };
            start += consumed;
            let (data, compressed, last) = match event {
                Event::Message { compressed, data, .. } => (data, compressed, true),
                Event::Fragment { compressed, data, last, .. } => (data, compressed, last),
                Event::Close { code, .. } => return Got::Close(code),
                other => panic!("unexpected {other:?}"),
            };
            message.extend_from_slice(data);
            if last {
                break compressed;
            }
        };
        self.pending.drain(..start);
        if is_compressed {
            let payload = std::mem::take(&mut message);
            self.decompressor.message(&payload, &mut message).expect("DEFLATE");
        }
        Got::Message { data: message, compressed: is_compressed }
    }

    fn echoes(&mut self, text: &str) {
        self.send_compressed(text);
        assert_eq!(
            self.receive(),
            Got::Message { data: text.as_bytes().to_vec(), compressed: true }
        );
    }
}

/// Reads what is there; 0 at the end of the stream.
fn fill(stream: &mut TcpStream, pending: &mut Vec<u8>) -> usize {
    let start = pending.len();
    pending.resize(start + 64 * 1024, 0);
    let count = match stream.read(&mut pending[start..]) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("the server did not answer in time: {error}"),
    };
    pending.truncate(start + count);
    count
}

/// One shard with an echo, and these lines of `[websocket]`.
fn echo_server(test: &str, websocket: &str) -> Server {
    let file = scratch("e2e").join(format!("{test}.toml"));
    let text = format!(
        "shards = 1\n[http]\naddr = [\"127.0.0.1:0\"]\necho = true\n[rtmp]\naddr = [\"127.0.0.1:0\"]\n\
         [websocket]\n{websocket}\n"
    );
    std::fs::write(&file, text).expect("the target directory is writable");
    Server::from_file(&file)
}

const LARGE: &str = "message_bytes_max = 16777216";

fn json(number: usize) -> String {
    let user = |n: usize| format!("{{\"id\":{n},\"name\":\"user {n}\",\"online\":true}}");
    let users: Vec<String> = (number..number + 12).map(user).collect();
    format!("{{\"number\":{number},\"users\":[{}]}}", users.join(","))
}

#[test]
fn a_publication_is_compressed_once_on_each_shard_for_all_its_subscribers() {
    const SUBSCRIBERS: usize = 200;
    const PUBLICATIONS: usize = 20;
    let _alone = exclusive();
    let server = Server::start("deflate", &Configuration::default());
    let open = |number: usize| {
        Peer::open(server.http, "/ws/many", number.is_multiple_of(2).then_some(STANDING_ALONE))
    };
    let mut peers: Vec<Peer> = (0..SUBSCRIBERS).map(open).collect();
    let mut publisher = Http::connect(server.http);
    for number in 0..PUBLICATIONS {
        assert_eq!(publisher.post("/pub/many", json(number).as_bytes()).status, 200);
    }
    for (index, peer) in peers.iter_mut().enumerate() {
        let agreed = peer.agreement.is_some_and(|agreed| agreed.server_no_context_takeover);
        assert_eq!(agreed, index.is_multiple_of(2));
        for number in 0..PUBLICATIONS {
            let data = json(number).into_bytes();
            assert_eq!(peer.receive(), Got::Message { data, compressed: agreed });
        }
    }
    let once = vec![PUBLICATIONS as u64; 2];
    assert_eq!(server.metric("headwater_deflate_compressions_total"), once);
    let bytes_in: u64 = server.metric("headwater_deflate_bytes_in_total").iter().sum();
    let bytes_out: u64 = server.metric("headwater_deflate_bytes_out_total").iter().sum();
    assert!(bytes_out < bytes_in / 2, "{bytes_in} bytes became {bytes_out}");
    drop((peers, publisher));
    server.stop();
}

#[test]
fn bombs_end_with_1009_and_touch_nobody_else() {
    let _alone = exclusive();
    // As many blocks after each other as make a GiB; each stands alone.
    let mut block = Vec::new();
    let class = WindowClass::new(WindowBits::MAX);
    Compressor::new(&Settings::default(), class).compress_always(&vec![b' '; MIB], &mut block);
    block.extend_from_slice(&[0, 0, 0xff, 0xff]);
    let small = block.clone();
    let large = block.repeat(1024);
    assert!(small.len() < 1100 && large.len() < MIB + MIB / 10, "{}", large.len());

    for (test, websocket, bomb) in [("bomb-small", "", small), ("bomb-large", LARGE, large)] {
        let server = echo_server(test, websocket);
        let mut other = Peer::open(server.http, "/echo", Some(STANDING_ALONE));
        other.echoes(&json(1));
        let before = server.resident_bytes();
        for target in ["/echo", "/ws/any"] {
            for frame_bytes in [bomb.len(), bomb.len().div_ceil(100), 16_000] {
                let mut peer = Peer::open(server.http, target, Some(STANDING_ALONE));
                peer.send_payload(Opcode::Text, &bomb, frame_bytes);
                assert_eq!(peer.receive(), Got::Close(Some(1009)), "{test} {target} {frame_bytes}");
                other.echoes(&json(2));
            }
        }
        let grown = server.resident_bytes().saturating_sub(before);
        eprintln!("{test}: {grown} bytes more");
        // On each of two shards a message at its limit of 16 MiB and the half of it from which it grew,
        // which the allocator may keep for a while; the bomb is a GiB.
        assert!(grown < 2 * (16 + 8) * MIB as u64 + 16 * MIB as u64, "{test}: {grown} bytes more");
        let failures: u64 = server.metric("headwater_inflate_failures_total").iter().sum();
        assert_eq!(failures, 6, "{test}");
        drop(other);
        server.stop();
    }
}

#[test]
fn what_cannot_be_inflated_ends_with_1007_and_the_next_message_is_read() {
    let _alone = exclusive();
    let server = echo_server("corrupt", "");
    let mut other = Peer::open(server.http, "/echo", Some(STANDING_ALONE));
    let mut not_text = Vec::new();
    let class = WindowClass::new(WindowBits::MAX);
    Compressor::new(&Settings::default(), class).compress_always(&[0xff; 100], &mut not_text);
    let cut = &not_text[..not_text.len() / 2];
    for payload in [&[0xff, 0xff, 0xff, 0xff][..], &[0x06; 40], cut, &not_text] {
        for frame_bytes in [payload.len(), 3] {
            let mut peer = Peer::open(server.http, "/echo", Some(STANDING_ALONE));
            peer.send_payload(Opcode::Text, payload, frame_bytes);
            assert_eq!(peer.receive(), Got::Close(Some(1007)), "{payload:x?}");
            other.echoes(&json(payload.len()));
        }
    }
    // Without an agreement the bit itself is against the rules.
    let mut peer = Peer::open(server.http, "/echo", None);
    peer.send_payload(Opcode::Text, &not_text, 100);
    assert_eq!(peer.receive(), Got::Close(Some(1002)));
    drop(other);
    server.stop();
}

#[test]
fn with_takeover_messages_refer_to_earlier_ones() {
    let _alone = exclusive();
    let server = echo_server("takeover", "deflate_takeover = true");
    let mut peers: Vec<Peer> =
        (0..4).map(|_| Peer::open(server.http, "/echo", Some(STANDING_ALONE))).collect();
    let mut sizes = Vec::new();
    for number in 0..10 {
        for (index, peer) in peers.iter_mut().enumerate() {
            let text = json(index * 100 + number);
            sizes.push(peer.send_compressed(&text));
            let data = text.into_bytes();
            assert_eq!(peer.receive(), Got::Message { data, compressed: true });
        }
    }
    assert!(sizes[39] * 3 < sizes[3], "{sizes:?}");
    // What is shared stands alone also for those who may refer.
    let mut reader = Peer::open(server.http, "/ws/any", Some(STANDING_ALONE));
    let agreed = reader.agreement.expect("an agreement");
    assert!(agreed.server_no_context_takeover && !agreed.client_no_context_takeover);
    for number in 0..3 {
        reader.send_compressed(&json(number));
        let data = json(number).into_bytes();
        assert_eq!(reader.receive(), Got::Message { data, compressed: true });
    }
    drop((peers, reader));
    server.stop();
}

#[test]
fn large_messages_stream_through_the_echo() {
    let _alone = exclusive();
    let server = echo_server("large", LARGE);
    let mut peer = Peer::open(server.http, "/echo", Some(STANDING_ALONE));
    peer.echoes(&json(0));
    let before = server.resident_bytes();
    let text: Vec<u8> = (b'a'..=b'w').cycle().take(16 * MIB).collect();
    let mut whole = Vec::new();
    write_masked_frame(&mut whole, Opcode::Text, true, MASK, &text);
    let mut pieces = Vec::new();
    for (number, byte) in text[..100_000].iter().enumerate() {
        let opcode = if number == 0 { Opcode::Text } else { Opcode::Continuation };
        write_masked_frame(&mut pieces, opcode, number == 99_999, MASK, &[*byte]);
    }
    for (bytes, expected) in [(whole, &text[..]), (pieces, &text[..100_000])] {
        let mut writer = peer.stream.try_clone().expect("a second handle");
        let writing = std::thread::spawn(move || writer.write_all(&bytes));
        let Got::Message { data, compressed: false } = peer.receive() else {
            panic!("the message comes back as it is");
        };
        assert!(data == expected, "changed on its way");
        writing.join().expect("no panic").expect("the server reads");
    }
    let grown = server.resident_bytes().saturating_sub(before);
    eprintln!("large: {grown} bytes more");
    assert!(grown < 16 * MIB as u64, "{grown} bytes more");

    // A publication is one range of bytes: a larger message is refused at the header that says so.
    let mut publisher = Peer::open(server.http, "/ws/any", None);
    let mut header = Vec::new();
    write_masked_frame(&mut header, Opcode::Binary, true, MASK, &vec![0; MIB + 1]);
    publisher.stream.write_all(&header[..64]).expect("the server reads");
    assert_eq!(publisher.receive(), Got::Close(Some(1009)));
    drop((peer, publisher));
    server.stop();
}

/// RFC 6455 7: who ends his half behind a Close frame still gets the answers and the Close frame.
#[test]
fn a_half_close_behind_a_close_frame_loses_nothing() {
    let _alone = exclusive();
    let server = echo_server("half-close", "");
    let mut peer = Peer::open(server.http, "/echo", None);
    peer.send("last words");
    let mut close = Vec::new();
    write_masked_frame(&mut close, Opcode::Close, true, MASK, &1000_u16.to_be_bytes());
    peer.stream.write_all(&close).expect("the server reads");
    peer.stream.shutdown(std::net::Shutdown::Write).expect("a connection");
    let data = b"last words".to_vec();
    assert_eq!(peer.receive(), Got::Message { data, compressed: false });
    assert_eq!(peer.receive(), Got::Close(Some(1000)));
    peer.stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    assert_eq!(fill(&mut peer.stream, &mut Vec::new()), 0);
    server.stop();
}
