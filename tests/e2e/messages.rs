//! One order for everyone: 200 WebSocket and 200 event-stream readers of one channel, four publishers, two shards.
//!
//! Two publishers send over WebSocket, two by POST; each numbers its publications. Every reader must see every number
//! once, all in the same order, and each publisher's in the order it sent them. Beside them an event-stream reader is
//! killed in the middle and comes back with its last id. The readers are two threads that wait for their sockets at
//! once, so that the measuring side does not decide who is slow.

use crate::client::{DEADLINE, EventStream, Http, WebSocket};
use crate::server::{Configuration, Server};
use crate::tools::exclusive;
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use websocket::encode::{Opcode, write_masked_frame};
use websocket::{Decoder, Event, Limits, Role, Step};

const READERS_PER_KIND: usize = 200;
const PUBLISHERS: u32 = 4;
const PER_PUBLISHER: u32 = 2_500;
const TOTAL: usize = (PUBLISHERS * PER_PUBLISHER) as usize;
/// What each publisher sends before the killed reader is gone, while it is gone, and after it is back.
const STAGES: [Range<u32>; 3] = [0..1_250, 1_250..2_000, 2_000..PER_PUBLISHER];
/// After how many events the reader is killed; some of the first stage's are surely on their way to it.
const KILLED_AFTER: usize = 3_000;

#[test]
fn every_reader_sees_one_order() {
    let _alone = exclusive();
    let server = Server::start("messages", &Configuration::default());
    let address = server.http;
    let sockets = (0..READERS_PER_KIND).map(|_| Reader::web_socket(address)).collect();
    let streams = (0..READERS_PER_KIND).map(|_| Reader::event_stream(address)).collect();
    let (killed, was_killed) = channel();
    let (come_back, may_come_back) = channel();
    let resumed = std::thread::spawn(move || killed_and_resumed(address, &killed, &may_come_back));
    let readers = [read_all(sockets), read_all(streams)];
    was_killed.recv_timeout(4 * DEADLINE).expect("the reader that will be killed is there");

    let mut publishers: Vec<Publisher> =
        (0..PUBLISHERS).map(|number| Publisher::start(address, number)).collect();
    let shards = server.metric("headwater_connections_accepted_total");
    let fewest = shards.iter().copied().min().expect("a shard");
    assert!(shards.len() == 2 && fewest >= 50, "readers are spread over shards: {shards:?}");

    publishers.iter().for_each(|publisher| publisher.go(STAGES[0].clone()));
    was_killed.recv_timeout(4 * DEADLINE).expect("the reader gets far enough to be killed");
    publishers.iter().for_each(|publisher| publisher.go(STAGES[1].clone()));
    publishers.iter_mut().for_each(Publisher::wait_for_two_stages);
    come_back.send(()).expect("the killed reader waits for it");
    publishers.iter().for_each(|publisher| publisher.go(STAGES[2].clone()));

    let readers = readers.map(|thread| thread.join().expect("readers read to the end"));
    let order = readers[0][0].clone();
    assert_complete(&order);
    for (kind, orders) in ["WebSocket", "event stream"].into_iter().zip(&readers) {
        for (number, other) in orders.iter().enumerate() {
            assert_same_order(&order, other, &format!("{kind} {number}"));
        }
    }
    let resumed = resumed.join().expect("the killed reader reads to the end");
    assert_same_order(&order, &resumed, "killed and resumed");
    publishers.into_iter().for_each(Publisher::stop);
    server.stop();
}

/// Each publication once, and those of one publisher in its order.
fn assert_complete(order: &[u32]) {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..PUBLISHERS * PER_PUBLISHER), "lost or doubled");
    for publisher in 0..PUBLISHERS {
        let own = order.iter().filter(|number| **number / PER_PUBLISHER == publisher);
        assert!(own.is_sorted(), "publications of {publisher} overtook each other");
    }
}

fn assert_same_order(expected: &[u32], order: &[u32], who: &str) {
    let differs = expected.iter().zip(order).position(|(a, b)| a != b);
    let lengths = (expected.len(), order.len());
    assert!(
        differs.is_none() && lengths.0 == lengths.1,
        "{who} differs at {differs:?}, {lengths:?}"
    );
}

/// What is published: its number, then something of changing length.
fn text_of(number: u32) -> String {
    let filler = usize::try_from(number * 7 % 60).expect("small");
    format!(
        "{number} {}",
        &"the quick brown fox jumps over the lazy dog and runs into it"[..filler]
    )
}

fn number_of(text: &str) -> u32 {
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("not a publication of ours: {text:?}"));
    assert_eq!(text, text_of(number), "changed on its way");
    number
}

/// Reads, dies with unread events in its socket, and comes back with the last id it had.
fn killed_and_resumed(address: SocketAddr, killed: &Sender<()>, again: &Receiver<()>) -> Vec<u32> {
    let (mut order, mut last_id) = (Vec::with_capacity(TOTAL), String::new());
    let mut stream = EventStream::open(address, "/sse/chat", None);
    killed.send(()).expect("the test waits for it");
    stream.read(|id, data| {
        order.push(number_of(data));
        id.clone_into(&mut last_id);
        order.len() == KILLED_AFTER
    });
    drop(stream);
    killed.send(()).expect("the test waits for it");
    again.recv_timeout(4 * DEADLINE).expect("the word to come back");
    EventStream::open(address, "/sse/chat", Some(&last_id)).read(|_, data| {
        order.push(number_of(data));
        order.len() == TOTAL
    });
    order
}

/// A thread that publishes when told to.
struct Publisher {
    go: Sender<Range<u32>>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Even numbers publish over WebSocket, odd ones by POST.
    fn start(address: SocketAddr, number: u32) -> Self {
        let (go, stages) = channel::<Range<u32>>();
        let (finished, done) = channel();
        let first = number * PER_PUBLISHER;
        let stages = stages.into_iter().map(move |stage| stage.start + first..stage.end + first);
        let publish = if number.is_multiple_of(2) { publish_by_frames } else { publish_by_post };
        let thread = std::thread::spawn(move || publish(address, &mut { stages }, &finished));
        Self { go, done, thread }
    }

    fn go(&self, stage: Range<u32>) {
        self.go.send(stage).expect("the publisher runs");
    }

    fn wait_for_two_stages(&mut self) {
        for _ in 0..2 {
            self.done.recv_timeout(4 * DEADLINE).expect("the publisher gets on");
        }
    }

    fn stop(self) {
        drop(self.go);
        self.thread.join().expect("the publisher did not fail");
    }
}

type Stages<'a> = &'a mut dyn Iterator<Item = Range<u32>>;

fn publish_by_post(address: SocketAddr, stages: Stages<'_>, finished: &Sender<()>) {
    let mut http = Http::connect(address);
    for stage in stages {
        for number in stage {
            let answer = http.post("/pub/chat", text_of(number).as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        // The test may have what it wants already.
        let _ = finished.send(());
    }
}

/// A publisher is a reader too: what it does not read would hold up what it writes.
fn publish_by_frames(address: SocketAddr, stages: Stages<'_>, finished: &Sender<()>) {
    let (mut stream, _) = WebSocket::open(address, "/ws/chat?echo=0").into_parts();
    let mut incoming = stream.try_clone().expect("a descriptor");
    incoming.set_read_timeout(None).expect("a socket option");
    let drained = std::thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while incoming.read(&mut piece).is_ok_and(|count| count > 0) {}
    });
    let mut frames = Vec::new();
    for stage in stages {
        for (place, number) in stage.enumerate() {
            let text = text_of(number);
            write_masked_frame(&mut frames, Opcode::Text, true, [1, 2, 3, 4], text.as_bytes());
            // Some alone, some many at once.
            if place % 7 == 0 {
                stream.write_all(&frames).expect("the server reads");
                frames.clear();
            }
        }
        stream.write_all(&frames).expect("the server reads");
        frames.clear();
        let _ = finished.send(());
    }
    stream.shutdown(Shutdown::Both).expect("a connected socket");
    drained.join().expect("the reader ended");
}

/// One connection of many, and what it has read.
struct Reader {
    stream: TcpStream,
    pending: Vec<u8>,
    wire: Wire,
    order: Vec<u32>,
}

enum Wire {
    WebSocket(Decoder),
    EventStream(sse::Parser),
}

impl Reader {
    fn web_socket(address: SocketAddr) -> Self {
        let (stream, pending) = WebSocket::open(address, "/ws/chat").into_parts();
        Self::new(stream, pending, Wire::WebSocket(Decoder::new(Role::Client)))
    }

    fn event_stream(address: SocketAddr) -> Self {
        let (stream, pending) = EventStream::open(address, "/sse/chat", None).into_parts();
        Self::new(stream, pending, Wire::EventStream(sse::Parser::default()))
    }

    fn new(stream: TcpStream, pending: Vec<u8>, wire: Wire) -> Self {
        stream.set_nonblocking(true).expect("a socket option");
        Self { stream, pending, wire, order: Vec::with_capacity(TOTAL) }
    }

    /// Reads what is there.
    fn read(&mut self, piece: &mut [u8]) {
        match self.stream.read(piece) {
            Ok(0) => panic!("closed after {} publications", self.order.len()),
            Ok(count) => self.pending.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error} after {} publications", self.order.len()),
        }
        let consumed = match &mut self.wire {
            Wire::WebSocket(decoder) => read_frames(decoder, &mut self.pending, &mut self.order),
            Wire::EventStream(parser) => read_chunks(parser, &self.pending, &mut self.order),
        };
        self.pending.drain(..consumed);
        assert!(self.order.len() <= TOTAL, "more than was published");
    }
}

fn read_frames(decoder: &mut Decoder, pending: &mut [u8], order: &mut Vec<u32>) -> usize {
    let limits = Limits { coalesce_bytes: 1 << 16, ..Limits::default() };
    let mut at = 0;
    while let Step::Event { consumed, event } =
        decoder.receive(&mut pending[at..], &limits).expect("correct frames")
    {
        match event {
            Event::Message { data, .. } => {
                order.push(number_of(std::str::from_utf8(data).expect("text")));
            }
            // Nothing is sent for long enough to be pinged only when the machine is stuck.
            Event::Ping(_) => {}
            other => panic!("unexpected {other:?}"),
        }
        at += consumed;
    }
    at
}

/// Chunks of HTTP/1.1, whole ones only.
fn read_chunks(parser: &mut sse::Parser, pending: &[u8], order: &mut Vec<u32>) -> usize {
    let mut at = 0;
    while let Some(line) = pending[at..].windows(2).position(|bytes| bytes == b"\r\n") {
        let size = std::str::from_utf8(&pending[at..at + line]).expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        let start = at + line + 2;
        let Some(data) = pending.get(start..start + size + 2) else { break };
        let dispatch = |event: sse::Received<'_>| order.push(number_of(event.data));
        parser.receive(&data[..size], dispatch).expect("a correct event stream");
        at = start + size + 2;
    }
    at
}

/// Reads all of them to the end on one thread; the order that each saw.
fn read_all(mut readers: Vec<Reader>) -> JoinHandle<Vec<Vec<u32>>> {
    std::thread::spawn(move || {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        for (index, reader) in readers.iter().enumerate() {
            let data = epoll::EventData::new_u64(u64::try_from(index).expect("small"));
            epoll::add(&poll, &reader.stream, data, epoll::EventFlags::IN).expect("a socket");
        }
        let silence = Timespec::try_from(2 * DEADLINE).expect("a short time");
        let mut piece = vec![0; 64 * 1024];
        let mut events = Vec::with_capacity(256);
        while readers.iter().any(|reader| reader.order.len() < TOTAL) {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            let count = epoll::wait(&poll, room, Some(&silence)).expect("an epoll");
            let least = readers.iter().map(|reader| reader.order.len()).min();
            assert!(count > 0, "silence, and a reader has only {least:?} of {TOTAL}");
            for event in &events {
                let index = usize::try_from(event.data.u64()).expect("small");
                readers[index].read(&mut piece);
            }
        }
        readers.into_iter().map(|reader| reader.order).collect()
    })
}
