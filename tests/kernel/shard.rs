//! A whole shard on the real kernel: echo, WebSocket, HTTP, several cells, drain.

use crate::rig::{
    PATIENCE, is_available, listener, options, pattern, peer, read, wait_until_closed,
};
use headwater::config::Config;
use headwater::connection::{Role, Transport};
use headwater::limits::{
    COMPLETION_ENTRIES, LEASE_BYTES, LEASES_PER_SHARD, RING_BUFFER_BYTES, RING_BUFFERS_PER_CELL,
    SUBMISSION_ENTRIES,
};
use headwater::mailbox::{SideSender, mesh};
use headwater::observe::Board;
use headwater::ring::{KernelRing, Listener, ListenerOptions, Options, RingError};
use headwater::session::Settings;
use headwater::shard::{ListenerInfo, Mail, Shard, ShardOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use websocket::handshake::{ClientRequest, Key, read_response, write_request};
use websocket::{Decoder, Event, Kind, Limits, Opcode, Step, encode};

/// A shard on a thread of its own, with a listener for echo and one for HTTP.
struct Running {
    echo: SocketAddr,
    http: SocketAddr,
    board: Arc<Board>,
    sender: SideSender<Mail>,
    ended: mpsc::Receiver<Result<Ending, RingError>>,
}

/// What was left when a shard had ended.
#[derive(Debug)]
struct Ending {
    connections: usize,
    leases_out: u64,
}

/// The sizes of the server, with few slots.
const fn served() -> Options {
    Options {
        submission_entries: SUBMISSION_ENTRIES,
        completion_entries: COMPLETION_ENTRIES,
        slots_per_cell: 1024,
        leases: LEASES_PER_SHARD,
        lease_bytes: LEASE_BYTES,
        ring_buffers: RING_BUFFERS_PER_CELL,
        ring_buffer_bytes: RING_BUFFER_BYTES,
        ..options()
    }
}

fn start(options: Options) -> Option<Running> {
    start_on(options, listener())
}

/// With another listener for HTTP.
fn start_on(options: Options, http: Listener) -> Option<Running> {
    if !is_available() {
        return None;
    }
    let mut config = Config::default();
    config.http.echo = true;
    config.drain_timeout_ms = 5000;
    config.websocket.message_bytes_max = 1 << 20;
    let listeners = vec![listener(), http];
    let (echo, http) = (listeners[0].address(), listeners[1].address());
    let board = Arc::new(Board::new(1));
    let shard = ShardOptions {
        listeners: [Role::Echo, Role::Http].map(ListenerInfo::local).to_vec(),
        settings: Arc::new(Settings::new(&config, 1, 2)),
        board: Arc::clone(&board),
        transport: Transport::Plain,
        entropy: 3,
        sinks_per_turn: headwater::limits::SINKS_PER_TURN,
    };
    let mut post = mesh::<Mail>(1, 16).remove(0);
    let sender = post.side_sender(16);
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let run = || {
            let mut shard = Shard::new(KernelRing::new(options, listeners)?, post, shard);
            shard.run()?;
            let connections = shard.connection_count();
            let leases_out = headwater::ring::Ring::counters(shard.ring()).leases_out;
            Ok(Ending { connections, leases_out })
        };
        let _ = end.send(run());
    });
    Some(Running { echo, http, board, sender, ended })
}

impl Running {
    /// Drains the shard and waits for its end.
    fn drain(mut self) -> Ending {
        self.sender.send(Mail::Drain).expect("room for one message");
        let ended = self.ended.recv_timeout(PATIENCE).expect("the shard ends");
        ended.expect("the ring went on to the end")
    }

    /// Drains the shard and asserts that nothing is left of anyone.
    fn drain_to_nothing(self) {
        let ending = self.drain();
        assert_eq!((ending.connections, ending.leases_out), (0, 0));
    }
}

/// Writes `bytes` over and over until nobody takes any more, and says how many were taken.
fn write_until_full(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    loop {
        match stream.write(&bytes[written % bytes.len()..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return written;
            }
        }
        assert!(written < 256 << 20, "the shard holds whatever it is sent");
    }
}

/// Writes `bytes` in pieces of all sizes while it reads them back.
fn echo(stream: TcpStream, seed: u64, count: usize) {
    let sent = pattern(seed, count);
    let (mut writer, mut reader) = (stream.try_clone().unwrap(), stream);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = &sent[..];
            let mut size = seed as usize % 700 + 1;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                writer.write_all(piece).unwrap();
                rest = behind;
                size = size * 31 % 40_009 + 1;
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent.len(), "connection {seed}");
        assert!(received == sent, "connection {seed} got other bytes than it sent");
    });
}

#[test]
fn echo_of_any_size_over_64_connections_is_exact() {
    let Some(running) = start(served()) else { return };
    let address = running.echo;
    std::thread::scope(|scope| {
        for number in 0..64_u64 {
            scope.spawn(move || echo(peer(address), number, number as usize * 4001 + 1));
        }
    });
    let bytes: usize = (0..64).map(|number| number * 4001 + 1).sum();
    assert_eq!(running.board.sum(|counters| counters.bytes_in.value()), bytes as u64);
    assert_eq!(running.board.sum(|counters| counters.bytes_out.value()), bytes as u64);
    assert_eq!(running.board.sum(|counters| counters.accepted.value()), 64);
    running.drain_to_nothing();
}

#[test]
fn an_echo_larger_than_all_buffers_waits_for_its_reader() {
    let Some(running) = start(served()) else { return };
    let mut stream = peer(running.echo);
    // Both directions' buffers and the outbox are full then.
    let sent = pattern(1, 1 << 20);
    let written = write_until_full(&mut stream, &sent);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = 0_usize;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = read(&mut stream, &mut buffer).unwrap();
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            assert!(*byte == sent[received % sent.len()], "byte {received} differs");
            received += 1;
        }
    }
    assert_eq!(received, written);
    running.drain_to_nothing();
}

#[test]
fn two_hundred_connections_spread_over_cells_of_64_slots() {
    let Some(running) = start(Options { slots_per_cell: 64, cells_max: 8, ..served() }) else {
        return;
    };
    // All at once, then again: slots and cells are used again.
    for round in 0..3_u64 {
        let mut streams: Vec<_> = (0..200).map(|_| peer(running.echo)).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&pattern(round * 1000 + number as u64, 300)).unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut received = vec![0; 300];
            stream.read_exact(&mut received).unwrap();
            assert_eq!(received, pattern(round * 1000 + number as u64, 300));
        }
    }
    assert_eq!(running.board.sum(|counters| counters.accepted.value()), 600);
    running.drain_to_nothing();
}

/// More than all cells hold: whoever finds no slot waits in the backlog until one is free.
#[test]
fn connections_without_a_slot_wait_for_one() {
    let Some(running) = start(Options { slots_per_cell: 16, cells_max: 2, ..served() }) else {
        return;
    };
    let mut served: Vec<_> = (0..28).map(|_| peer(running.echo)).collect();
    for stream in &mut served {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut waiting: Vec<_> = (0..28).map(|_| peer(running.echo)).collect();
    for stream in &mut waiting {
        stream.write_all(b"y").unwrap();
    }
    drop(served);
    for stream in &mut waiting {
        let mut received = [0];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"y");
    }
    drop(waiting);
    running.drain_to_nothing();
}

#[test]
fn peers_that_vanish_leave_nothing_behind() {
    let Some(running) = start(served()) else { return };
    for round in 0..10 {
        let mut streams: Vec<_> = (0..40).map(|_| peer(running.echo)).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&pattern(number as u64, 20_000)).unwrap();
            if number % 3 == round % 3 {
                let mut some = [0; 100];
                stream.read_exact(&mut some).unwrap();
            }
        }
        for stream in streams {
            crate::rig::reset(stream);
        }
    }
    // The shard still serves.
    echo(peer(running.echo), 5, 50_000);
    running.drain_to_nothing();
}

/// A WebSocket client on a blocking stream.
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
}

/// What a client was sent.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Message(Kind, Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl Client {
    fn open(address: SocketAddr, target: &str) -> Self {
        let (mut stream, key) = (peer(address), Key::from_nonce([7; 16]));
        let host = address.to_string();
        let request = ClientRequest { host: &host, target, ..ClientRequest::default() };
        let mut out = Vec::new();
        write_request(&mut out, &request, &key);
        stream.write_all(&out).unwrap();
        let mut input = Vec::new();
        let consumed = loop {
            if let Some(accepted) = read_response(&input, &request, &key).expect("101") {
                break accepted.consumed;
            }
            Self::fill(&mut stream, &mut input);
        };
        input.drain(..consumed);
        Self { stream, decoder: Decoder::new(websocket::Role::Client), input }
    }

    fn fill(stream: &mut TcpStream, input: &mut Vec<u8>) {
        let mut buffer = vec![0; 1 << 16];
        let count = read(stream, &mut buffer).unwrap();
        assert!(count > 0, "the server closed");
        input.extend_from_slice(&buffer[..count]);
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut out = Vec::new();
        encode::write_masked_frame(&mut out, opcode, true, [1, 2, 3, 4], payload);
        self.stream.write_all(&out).unwrap();
    }

    fn next(&mut self) -> Frame {
        let limits = Limits { message_bytes_max: 1 << 26, ..Limits::default() };
        let mut message = Vec::new();
        loop {
            let step = self.decoder.receive(&mut self.input, &limits).expect("a correct server");
            let Step::Event { consumed, event } = step else {
                Self::fill(&mut self.stream, &mut self.input);
                continue;
            };
            let frame = match event {
                Event::Message { kind, data, .. } => Some(Frame::Message(kind, data.to_vec())),
                Event::Fragment { kind, data, last, .. } => {
                    message.extend_from_slice(data);
                    last.then(|| Frame::Message(kind, std::mem::take(&mut message)))
                }
                Event::Pong(data) => Some(Frame::Pong(data.to_vec())),
                Event::Close { code, .. } => Some(Frame::Close(code)),
                Event::Ping(_) => None,
            };
            self.input.drain(..consumed);
            if let Some(frame) = frame {
                return frame;
            }
        }
    }
}

#[test]
fn websocket_messages_of_any_size_come_back() {
    let Some(running) = start(served()) else { return };
    let mut clients: Vec<_> = (0..8).map(|_| Client::open(running.http, "/echo")).collect();
    for size in [0_usize, 1, 20, 125, 126, 127, 4096, 65_535, 65_536, 200_000, 700_000] {
        let text = "é€😀x".repeat(size / 10);
        for (number, client) in clients.iter_mut().enumerate() {
            let binary = pattern(size as u64 + number as u64, size);
            client.send(Opcode::Binary, &binary);
            client.send(Opcode::Ping, b"are you there");
            client.send(Opcode::Text, text.as_bytes());
            let frame = client.next();
            assert!(!matches!(frame, Frame::Close(_)), "{size} bytes: {frame:?}");
            assert!(frame == Frame::Message(Kind::Binary, binary), "{size} bytes");
            assert_eq!(client.next(), Frame::Pong(b"are you there".to_vec()));
            let expected = Frame::Message(Kind::Text, text.clone().into_bytes());
            assert!(client.next() == expected, "{size} bytes of text");
        }
    }
    for mut client in clients {
        let mut out = Vec::new();
        encode::write_masked_frame(&mut out, Opcode::Close, true, [9; 4], &1000_u16.to_be_bytes());
        client.stream.write_all(&out).unwrap();
        assert_eq!(client.next(), Frame::Close(Some(1000)));
        assert_eq!(read(&mut client.stream, &mut [0]).unwrap(), 0, "the server closes first");
    }
    running.drain_to_nothing();
}

/// A client that sends much before it reads fills the outbox in the middle of a lease. What was left
/// of the lease has to be read when there is room again, even if nothing more arrives.
#[test]
fn websocket_messages_held_back_by_a_full_outbox_are_answered() {
    let Some(running) = start(served()) else { return };
    for size in [100_usize, 5000, 16_000] {
        let mut client = Client::open(running.http, "/echo");
        let mut batch = Vec::new();
        for _ in 0..64 {
            let payload = vec![b'm'; size];
            encode::write_masked_frame(&mut batch, Opcode::Binary, true, [1, 2, 3, 4], &payload);
        }
        let frame_bytes = batch.len() / 64;
        let written = write_until_full(&mut client.stream, &batch);
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for number in 0..written / frame_bytes {
            let frame = client.next();
            assert!(frame == Frame::Message(Kind::Binary, vec![b'm'; size]), "message {number}");
        }
    }
}

/// Three requests in one packet, each answered with more than an outbox holds at once.
#[test]
fn pipelined_requests_for_large_answers_are_all_answered() {
    let Some(running) = start(served()) else { return };
    let mut stream = peer(running.http);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request =
        |close: &str| format!("GET {LARGE} HTTP/1.1\r\nHost: {}\r\n{close}\r\n", running.http);
    let pipelined = [request(""), request(""), request("Connection: close\r\n")].concat();
    stream.write_all(pipelined.as_bytes()).unwrap();
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received);
    let answers = received.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count();
    assert_eq!((answers, ended.is_ok()), (3, true), "{} bytes came", received.len());
}

/// The largest file that the server carries.
const LARGE: &str = "/vendor/hls.min.js";

#[test]
fn a_drain_tells_its_peers_and_finishes() {
    let Some(running) = start(served()) else { return };
    let mut websocket = Client::open(running.http, "/echo");
    websocket.send(Opcode::Text, b"before");
    assert_eq!(websocket.next(), Frame::Message(Kind::Text, b"before".to_vec()));
    let mut raw = peer(running.echo);
    raw.write_all(b"x").unwrap();
    raw.read_exact(&mut [0]).unwrap();
    let address = running.echo;
    let Running { mut sender, ended, .. } = running;
    sender.send(Mail::Drain).unwrap();
    assert_eq!(websocket.next(), Frame::Close(Some(1001)));
    let mut out = Vec::new();
    encode::write_masked_frame(&mut out, Opcode::Close, true, [9; 4], &1001_u16.to_be_bytes());
    websocket.stream.write_all(&out).unwrap();
    drop(websocket);
    assert_eq!(read(&mut raw, &mut [0]).unwrap(), 0);
    drop(raw);
    let ending = ended.recv_timeout(PATIENCE).expect("the shard ends").unwrap();
    assert_eq!((ending.connections, ending.leases_out), (0, 0));
    // The listener went with the shard's ring.
    wait_until_closed(address);
}

/// A peer that never closes its half does not hold a drain up.
#[test]
fn a_drain_ends_although_a_peer_does_not() {
    let Some(running) = start(served()) else { return };
    let mut raw = peer(running.echo);
    raw.write_all(b"x").unwrap();
    raw.read_exact(&mut [0]).unwrap();
    let ending = running.drain();
    assert_eq!(ending.leases_out, 0);
    assert_eq!(read(&mut raw, &mut [0]).unwrap(), 0);
}

/// What a peer of a path says last comes with its end, which nothing tells again.
#[test]
fn the_end_behind_the_last_bytes_of_a_path_is_read() {
    let path = std::env::temp_dir().join(format!("headwater-end-{}", std::process::id()));
    let options = ListenerOptions {
        backlog: 64,
        congestion: None,
        unacknowledged_ms: 0,
        defers_accept: false,
    };
    let http = Listener::bind_path(&path, 0o600, &options).expect("a fresh path");
    let Some(running) = start_on(served(), http) else { return };
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..20 {
        let mut peer = UnixStream::connect(&path).expect("the backlog has room");
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(request).unwrap();
        let mut answer = [0; 1024];
        assert!(peer.read(&mut answer).expect("an answer") > 0);
        peer.write_all(request).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("an answer and the end");
        assert!(rest.starts_with(b"HTTP/1.1 200"));
    }
    running.drain_to_nothing();
}
