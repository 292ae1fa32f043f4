//! Attacks that cost memory or patience, against the real binary on the real ring.
//!
//! In: peers that declare much and send little, that never finish, that never read. Out: the word with which each is
//! sent away, the server's memory meanwhile (resident, and address space for what is allocated and not touched), and that
//! others are served as if nothing were. Each bound has room for allocators and for what is paid once; what it forbids
//! is named beside it. The same attacks by the ten thousand, and everything that takes minutes, are in the simulator;
//! what they do to latency is a load scenario.

use crate::client::{DEADLINE, Http, Received, WebSocket};
use crate::idle_memory::from_address_of;
use crate::server::{Configuration, Server, raise_file_limit};
use crate::tools::{exclusive, skip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as connect_socket, socket_with};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use websocket::encode::{Opcode, write_masked_frame};
use websocket::{Decoder, Event, Limits, Role, Step};

const MIB: u64 = 1 << 20;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// The server's memory at one time.
#[derive(Clone, Copy, Debug)]
struct Memory {
    resident: u64,
    address_space: u64,
}

impl Memory {
    fn of(server: &Server) -> Self {
        Self { resident: server.resident_bytes(), address_space: server.virtual_bytes() }
    }

    /// Both have grown by less than that since `self`.
    #[track_caller]
    fn grew_less(self, server: &Server, resident: u64, address_space: u64) {
        let now = Self::of(server);
        let grown = now.resident.saturating_sub(self.resident);
        let mapped = now.address_space.saturating_sub(self.address_space);
        eprintln!("{} KiB more resident, {} MiB more mapped", grown >> 10, mapped / MIB);
        assert!(grown < resident, "{grown} bytes more resident: {self:?}, {now:?}");
        assert!(mapped < address_space, "{mapped} bytes more mapped: {self:?}, {now:?}");
    }
}

fn frame(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, opcode, last, MASK, payload);
    frame
}

/// A header that declares `length`, and one byte of the payload.
fn declared(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], &length.to_be_bytes()[..], &MASK, b"x"].concat()
}

fn total(server: &Server, metric: &str) -> u64 {
    server.metric(metric).iter().sum()
}

/// Asks for metrics until this one says so: an answer each time, never a pause.
#[track_caller]
fn until(server: &Server, metric: &str, is_so: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + 2 * DEADLINE;
    loop {
        let value = total(server, metric);
        if is_so(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{metric} is {value}");
    }
}

/// Others are served meanwhile.
#[track_caller]
fn others_are_served(server: &Server, channel: &str) {
    let mut reader = WebSocket::open(server.http, &format!("/ws/{channel}"));
    assert_eq!(Http::connect(server.http).post(&format!("/pub/{channel}"), b"fine").status, 200);
    assert_eq!(reader.text(), "fine");
}

/// Bug class "Allocation from declared length": a gigabyte is declared and a byte of it sent, by a thousand; then as
/// much as may be declared, by three thousand who stay, which would be three gigabytes.
#[test]
fn declared_lengths_allocate_nothing() {
    const REFUSED: u16 = 1_000;
    const STAYING: u16 = 3_000;
    if raise_file_limit() < u64::from(STAYING) + 2_000 {
        skip("declared_lengths_allocate_nothing", "too few descriptors per process");
        return;
    }
    let _alone = exclusive();
    let configuration = Configuration {
        sections: "[websocket]\nmessage_bytes_max = 1048576\n",
        ..Configuration::default()
    };
    let server = Server::start("declared", &configuration);
    let open = |number: u16| {
        WebSocket::over(from_address_of(number, server.http), server.http, "/ws/declared")
    };
    // What the first peers pay for everybody.
    drop((0..200).map(open).collect::<Vec<WebSocket>>());
    let before = Memory::of(&server);
    let mut refused: Vec<WebSocket> = (0..REFUSED).map(open).collect();
    for socket in &mut refused {
        socket.send_raw(&declared(0x82, 1_000_000_000));
    }
    for socket in &mut refused {
        assert_eq!(socket.receive(), Received::Close(Some(1009)));
    }
    // 64 KiB each would be 64 MiB; a block of address space is 1 GiB.
    before.grew_less(&server, 16 * MIB, 2 << 30);
    drop(refused);

    let mut staying: Vec<WebSocket> = (0..STAYING).map(open).collect();
    for (number, socket) in staying.iter_mut().enumerate() {
        // A whole message, the first fragment of one, and the second.
        match number % 3 {
            0 => socket.send_raw(&declared(0x82, MIB)),
            1 => socket.send_raw(&declared(0x01, MIB)),
            _ => {
                let first = frame(Opcode::Binary, false, b"a");
                socket.send_raw(&[first, declared(0x80, MIB - 1)].concat());
            }
        }
    }
    // Bytes are counted as they are read: upgrades, and then 15 bytes and more of each.
    let heads = total(&server, "headwater_http_requests_total");
    assert!(heads >= u64::from(STAYING));
    others_are_served(&server, "beside");
    before.grew_less(&server, 24 * MIB, 2 << 30);
    assert!(total(&server, "headwater_connections") >= u64::from(STAYING), "all of them stay");
    drop(staying);
    server.stop();
}

/// Bug class "Tiny-fragment amplification": five hundred begin a message of one byte after another, as far as the server
/// lets them, and do not end it; what is kept of a byte may cost no more than a few bytes. One fragment more than
/// allowed, and the code says so.
#[test]
fn one_byte_fragments_cost_a_byte_each() {
    const ATTACKERS: u64 = 500;
    let server = Server::start("fragments", &Configuration::default());
    let first = frame(Opcode::Binary, false, b"f");
    let next = frame(Opcode::Continuation, false, b"f");

    // How many are allowed, a connection finds out.
    let mut socket = WebSocket::open(server.http, "/ws/fragments");
    let allowed = u64::from(Limits::default().fragments_max);
    let mut bytes = first.clone();
    (1..allowed).for_each(|_| bytes.extend_from_slice(&next));
    socket.send_raw(&bytes);
    socket.send(Opcode::Ping, b"still here?");
    assert_eq!(socket.receive(), Received::Pong(b"still here?".to_vec()));
    // Far more than any limit: the rest is thrown away by a server that has closed.
    let _ = socket.try_send_raw(&next.repeat(200_000));
    let Received::Close(Some(code)) = socket.receive() else { panic!("it goes on") };
    assert!([1008, 1009].contains(&code), "{code}");

    // The whole message, ended in time, is one.
    let mut socket = WebSocket::open(server.http, "/ws/fragments");
    let last = frame(Opcode::Continuation, true, b"f");
    socket.send_raw(&[&bytes[..bytes.len() - next.len()], &last].concat());
    let Received::Message(data) = socket.receive() else { panic!("a message") };
    assert_eq!(data, vec![b'f'; usize::try_from(allowed).expect("few")]);

    let before = Memory::of(&server);
    let mut attackers: Vec<WebSocket> =
        (0..ATTACKERS).map(|_| WebSocket::open(server.http, "/ws/fragments?echo=0")).collect();
    for socket in &mut attackers {
        socket.send_raw(&bytes);
        socket.send(Opcode::Ping, b"read");
    }
    for socket in &mut attackers {
        assert_eq!(socket.receive(), Received::Pong(b"read".to_vec()));
    }
    // Four bytes for each byte kept, a KiB per connection, and what is paid once.
    let most = ATTACKERS * (4 * allowed + 1024) + 8 * MIB;
    before.grew_less(&server, most, 2 << 30);
    others_are_served(&server, "beside");
    drop((attackers, socket));
    server.stop();
}

/// Bug class "Handshake DoS": 18,000 upgrades stop in the middle of a line. Meanwhile others are answered; when the
/// time for a head is over, each is told so.
#[test]
fn half_open_upgrades_are_sent_away() {
    const HALVES: u16 = 18_000;
    const BYTES_PER_HALF_MAX: u64 = 1_024;
    if raise_file_limit() < u64::from(HALVES) + 1_500 {
        skip("half_open_upgrades_are_sent_away", "too few descriptors per process");
        return;
    }
    let _alone = exclusive();
    let server = Server::start("half_open", &Configuration::default());
    others_are_served(&server, "before");
    let before = Memory::of(&server);
    let half = b"GET /ws/half HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: webso";
    let started = Instant::now();
    let mut halves: Vec<TcpStream> = (0..HALVES)
        .map(|number| {
            let mut socket = from_address_of(number, server.http);
            socket.write_all(half).expect("the server reads");
            socket
        })
        .collect();
    // Those who came first are sent away while the last come, on a slow machine.
    let opened_in = started.elapsed();
    until(&server, "headwater_connections_accepted_total", |count| count >= u64::from(HALVES));
    before.grew_less(&server, u64::from(HALVES) * BYTES_PER_HALF_MAX + 16 * MIB, 2 << 30);

    // Until the last of them is gone others are served, and soon.
    let mut slowest = Duration::ZERO;
    while total(&server, "headwater_connections") > 1 {
        let asked = Instant::now();
        others_are_served(&server, "meanwhile");
        slowest = slowest.max(asked.elapsed());
        assert!(started.elapsed() < opened_in + Duration::from_secs(20), "they are still there");
    }
    eprintln!("opened in {opened_in:?}, gone after {:?}, others in {slowest:?}", started.elapsed());
    assert!(slowest < Duration::from_secs(3), "others waited {slowest:?}");
    for socket in &mut halves {
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:.60}", String::from_utf8_lossy(&answer));
    }
    drop(halves);
    server.stop();
}

/// A WebSocket whose receive buffer is as small as the kernel makes it.
fn open_small(server: SocketAddr, target: &str) -> (TcpStream, Vec<u8>) {
    let kind = (AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = socket_with(kind.0, kind.1, kind.2, None).expect("a socket");
    // Before it connects: the window is agreed on then.
    set_socket_recv_buffer_size(&socket, 1).expect("a socket option");
    connect_socket(&socket, &server).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    WebSocket::over(stream, server, target).into_parts()
}

/// Reads all messages of a subscriber who was away, up to the close; the sequence numbers they begin with.
fn read_to_close(mut stream: TcpStream, mut pending: Vec<u8>) -> (Vec<u32>, Option<u16>) {
    let mut decoder = Decoder::new(Role::Client);
    let limits = Limits { coalesce_bytes: MIB, ..Limits::default() };
    let mut numbers = Vec::new();
    loop {
        while let Step::Event { consumed, event } =
            decoder.receive(&mut pending, &limits).expect("whole frames, whatever was lost")
        {
            match event {
                Event::Message { data, .. } => {
                    let (number, rest) = data.split_first_chunk().expect("a number");
                    numbers.push(u32::from_be_bytes(*number));
                    assert!(rest.iter().all(|byte| *byte == number[3]), "a mixed message");
                }
                Event::Close { code, .. } => return (numbers, code),
                Event::Ping(_) => {}
                other => panic!("{other:?}"),
            }
            pending.drain(..consumed);
        }
        let mut piece = [0; 64 << 10];
        let count = stream.read(&mut piece).expect("the server goes on sending");
        assert!(count > 0, "the end without a close");
        pending.extend_from_slice(&piece[..count]);
    }
}

/// Bug class "Unbounded outbound buffer": 64 MiB are broadcast while some take a byte a second and some nothing. What is
/// kept for them is the channel's log, once, and the others get every message. Whoever reads on then is told with 1013
/// that there is a gap.
#[test]
fn slow_readers_of_a_broadcast_are_told() {
    const MESSAGES: u32 = 2_048;
    const BYTES: usize = 32 << 10;
    let server = Server::start("slow_readers", &Configuration::default());
    let mut slow: Vec<(TcpStream, Vec<u8>)> =
        (0..16).map(|_| open_small(server.http, "/ws/slow")).collect();
    let mut good: Vec<WebSocket> =
        (0..4).map(|_| WebSocket::open(server.http, "/ws/slow")).collect();
    let mut publisher = WebSocket::open(server.http, "/ws/slow?echo=0");
    let before = Memory::of(&server);
    let (started, mut tasted) = (Instant::now(), 0);
    for number in 0..MESSAGES {
        let mut message = vec![number.to_be_bytes()[3]; BYTES];
        message[..4].copy_from_slice(&number.to_be_bytes());
        publisher.send(Opcode::Binary, &message);
        for socket in &mut good {
            // In step, so that nobody but the slow ones is slow.
            assert_eq!(socket.receive(), Received::Message(message.clone()));
        }
        if started.elapsed().as_secs() >= tasted {
            tasted += 1;
            for (stream, pending) in slow.iter_mut().skip(8) {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("what was sent first is here");
                pending.push(byte[0]);
            }
        }
    }
    // Two shards with a log and a history of 4 MiB each, twice that for blocks in use by sends; 1 GiB was sent.
    before.grew_less(&server, 40 * MIB, 2 << 30);
    others_are_served(&server, "beside");
    for (stream, pending) in slow {
        let (numbers, code) = read_to_close(stream, pending);
        assert_eq!(code, Some(1013));
        // What came before the gap came without one.
        assert!(numbers.iter().copied().eq(0..u32::try_from(numbers.len()).expect("few")));
        assert!(numbers.len() < MESSAGES as usize);
    }
    assert_eq!(total(&server, "headwater_slow_subscribers_closed_total"), 16);
    // A drain would wait for them to answer.
    drop((good, publisher));
    server.stop();
}

/// Bug class "Unbounded outbound buffer": pings without end, and no pong is read. The server stops reading; once the
/// peer reads, every ping has its pong, in order.
#[test]
fn pings_of_a_peer_that_does_not_read() {
    const FLOODERS: usize = 24;
    let server = Server::start("pings", &Configuration::default());
    let before = Memory::of(&server);
    let sockets: Vec<TcpStream> =
        (0..FLOODERS).map(|_| open_small(server.http, "/ws/pings").0).collect();
    let floods: Vec<(TcpStream, u64, Vec<u8>)> = thread::scope(|scope| {
        let threads: Vec<_> = sockets.into_iter().map(|one| scope.spawn(|| flood(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it floods")).collect()
    });
    let pings: u64 = floods.iter().map(|(_, pings, _)| pings).sum();
    eprintln!("{pings} pings until nothing more was read");
    // An outbox of 256 KiB each, and the lease or inbox that made it full.
    before.grew_less(&server, FLOODERS as u64 * MIB + 16 * MIB, 2 << 30);
    others_are_served(&server, "beside");
    thread::scope(|scope| {
        for (socket, pings, rest) in floods {
            scope.spawn(move || every_ping_has_its_pong(socket, pings, &rest));
        }
    });
    server.stop();
}

/// The payload of a ping: as long as it may be, so that a pong is almost as large as its ping.
fn ping(number: u64) -> Vec<u8> {
    let mut payload = [b'p'; 125];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    frame(Opcode::Ping, true, &payload)
}

/// Writes pings until for a second nothing is taken. Says how many it began, and what of the last was not written.
fn flood(stream: TcpStream) -> (TcpStream, u64, Vec<u8>) {
    stream.set_nonblocking(true).expect("a socket option");
    let (mut pings, mut rest) = (0, Vec::new());
    loop {
        if rest.is_empty() {
            for _ in 0..64 {
                rest.extend(ping(pings));
                pings += 1;
            }
        }
        match (&stream).write(&rest) {
            Ok(count) => drop(rest.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let second = Timespec { tv_sec: 1, tv_nsec: 0 };
                let mut polled = [PollFd::new(&stream, PollFlags::OUT)];
                if poll(&mut polled, Some(&second)).expect("a socket of ours") == 0 {
                    return (stream, pings, rest);
                }
            }
            Err(error) => panic!("{error}"),
        }
        // The buffers of both kernels hold a few MiB of pings and as many of pongs.
        assert!(pings < 64 * MIB / 131, "the server reads without end");
    }
}

/// Reads all pongs; writes the rest of the last pings as soon as there is room.
fn every_ping_has_its_pong(stream: TcpStream, pings: u64, rest: &[u8]) {
    stream.set_nonblocking(false).expect("a socket option");
    let mut writer = stream.try_clone().expect("a descriptor");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(rest).expect("the server reads again");
            done.store(true, Ordering::Release);
        });
        let mut decoder = Decoder::new(Role::Client);
        let (mut reader, mut pending, mut next) = (&stream, Vec::new(), 0_u64);
        while next < pings {
            let mut piece = [0; 64 << 10];
            let count = reader.read(&mut piece).expect("the server answers");
            assert!(count > 0, "the end after {next} of {pings} pongs");
            pending.extend_from_slice(&piece[..count]);
            let mut start = 0;
            while let Step::Event { consumed, event } =
                decoder.receive(&mut pending[start..], &Limits::default()).expect("frames")
            {
                let Event::Pong(data) = event else { panic!("{event:?}") };
                assert_eq!(data[..8], next.to_be_bytes(), "pongs come in order");
                assert!(data[8..].iter().all(|byte| *byte == b'p') && data.len() == 125);
                next += 1;
                start += consumed;
            }
            pending.drain(..start);
        }
        assert!(pending.is_empty());
    });
    assert!(done.into_inner(), "the last ping was written");
}
