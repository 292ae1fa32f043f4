//! A WebSocket on `/echo`: bursts of messages so fast that the server takes it for hot, silences in
//! which it cools, pauses in which it does not read; every reply is what it sent, in that order.
//!
//! What is due is kept until it came back: messages and the pongs to its pings, in the order in which
//! their last frames were sent, which is the order of the answers. It offers no compression, because
//! nothing compressed is answered on the way that this client is there for.

use super::link::{HTTP, Link, State};
use super::{Client, Io, NEVER};
use crate::core::{MICROSECOND, MILLISECOND, SECOND};
use std::collections::VecDeque;
use websocket::encode::{Opcode, close_payload, write_masked_frame};
use websocket::handshake::{ClientRequest, Key, read_response, write_request};
use websocket::{Decoder, Event, Kind, Limits, Role, Step};

/// No more is sent while so much is due.
const DUE_BYTES_MAX: usize = 450_000;
/// Messages of a burst that is not read, more than the server keeps for one peer, and how many of them it
/// takes to be hot.
const DEAF_MESSAGES: u32 = 250;
const DEAF_AFTER: u32 = 25;
/// What is due came back after so long, whatever goes wrong on the way.
const REPLY: u64 = SECOND;
/// Our own code when we leave; the server has others when it goes away.
const CLOSED: u16 = 1000;
const REQUEST: ClientRequest<'_> = ClientRequest {
    host: "localhost",
    target: "/echo",
    origin: None,
    subprotocols: None,
    deflate: None,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Asking,
    Open,
    Closing,
    Gone,
}

/// A message or a pong that is to come.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    opcode: Opcode,
    payload: Vec<u8>,
}

/// How a burst goes.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    /// Messages still to be sent.
    left: u32,
    /// Whether each waits for the answer to the one before.
    in_step: bool,
    /// The longest pause between two sends.
    pause: u64,
    bytes_max: usize,
}

/// The client.
#[derive(Debug)]
pub(crate) struct EchoClient {
    link: Link,
    stage: Stage,
    key: Key,
    decoder: Decoder,
    /// What came of a message that is not whole yet.
    message: Vec<u8>,
    due: VecDeque<Reply>,
    due_bytes: usize,
    /// When something was last written or read, or could have been.
    moved_at: u64,
    burst: Burst,
    bursts_left: u32,
    next_at: u64,
    /// Whether a burst began on this connection.
    has_begun: bool,
    /// Whether a burst came back whole, on whichever.
    heard_one: bool,
}

impl EchoClient {
    pub(crate) fn new(bursts: u32) -> Self {
        Self {
            link: Link::default(),
            stage: Stage::Away,
            key: Key::from_nonce([7; 16]),
            decoder: Decoder::new(Role::Client),
            message: Vec::new(),
            due: VecDeque::new(),
            due_bytes: 0,
            moved_at: 0,
            burst: Burst::default(),
            bursts_left: bursts,
            next_at: 0,
            has_begun: false,
            heard_one: false,
        }
    }

    fn ask(&mut self, io: &mut Io<'_>) {
        self.link.connect(io, HTTP);
        self.stage = Stage::Asking;
        self.key =
            Key::from_nonce(io.random.next().to_le_bytes().repeat(2).try_into().expect("16"));
        self.decoder = Decoder::new(Role::Client);
        let mut out = Vec::new();
        write_request(&mut out, &REQUEST, &self.key);
        self.link.write(io, &out);
        self.moved_at = io.core.now;
    }

    /// Over, for whatever reason; comes again unless it is to leave.
    fn end(&mut self, io: &mut Io<'_>) -> u64 {
        self.link.close(io);
        self.message.clear();
        self.due.clear();
        self.due_bytes = 0;
        if io.leaving || io.core.draining {
            self.stage = Stage::Gone;
            return NEVER;
        }
        self.stage = Stage::Away;
        // What was lost is made up for, so that it hears one whole.
        self.bursts_left += u32::from(self.has_begun && !self.heard_one);
        self.has_begun = false;
        self.burst.left = 0;
        io.core.now + io.random.between(MILLISECOND / 10, SECOND / 4)
    }

    fn send(&mut self, io: &mut Io<'_>, opcode: Opcode, last: bool, payload: &[u8]) {
        let mask = (io.random.next() as u32).to_le_bytes();
        let mut out = Vec::new();
        write_masked_frame(&mut out, opcode, last, mask, payload);
        self.link.write(io, &out);
    }

    fn is_due(&mut self, opcode: Opcode, payload: Vec<u8>) {
        self.due_bytes += payload.len();
        self.due.push_back(Reply { opcode, payload });
    }

    fn ping(&mut self, io: &mut Io<'_>) {
        let length = io.random.index(126);
        let payload = bytes_of(io, length);
        self.send(io, Opcode::Ping, true, &payload);
        self.is_due(Opcode::Pong, payload);
    }

    fn send_message(&mut self, io: &mut Io<'_>) {
        let most = if io.random.chance(1, 200) { 60 * 1024 } else { self.burst.bytes_max };
        let length = io.random.index(most + 1);
        let (opcode, payload) = if io.random.chance(1, 2) {
            (Opcode::Text, text_of(io, length))
        } else {
            (Opcode::Binary, bytes_of(io, length))
        };
        let pieces = if io.random.chance(1, 12) { io.random.between(2, 4) } else { 1 };
        let (mut start, mut next) = (0, opcode);
        for piece in 1..=pieces {
            let is_last = piece == pieces;
            let left = payload.len() - start;
            let count = if is_last { left } else { io.random.index(left + 1) };
            self.send(io, next, is_last, &payload[start..start + count]);
            (start, next) = (start + count, Opcode::Continuation);
            if !is_last && io.random.chance(1, 3) {
                self.ping(io);
            }
        }
        self.is_due(opcode, payload);
    }

    fn begin_burst(&mut self, io: &mut Io<'_>) {
        self.has_begun = true;
        self.bursts_left -= 1;
        if io.random.chance(1, 24) {
            let (left, pause) = (DEAF_MESSAGES, 100 * MICROSECOND);
            self.burst = Burst { left, in_step: false, pause, bytes_max: 3000 };
            return;
        }
        self.burst = Burst {
            left: io.random.between(20, 60) as u32,
            in_step: io.random.chance(1, 2),
            pause: [20 * MICROSECOND, 200 * MICROSECOND, 2 * MILLISECOND][io.random.index(3)],
            bytes_max: [16, 125, 400, 3000][io.random.index(4)],
        };
    }

    /// When it sends next.
    fn sends_at(&self, io: &Io<'_>) -> u64 {
        let is_over = self.burst.left == 0;
        let waits = self.burst.in_step && !is_over && !self.due.is_empty();
        let is_full = self.due_bytes > DUE_BYTES_MAX;
        let has_more = !is_over || self.bursts_left > 0 && !io.leaving && !io.core.draining;
        let can = self.stage == Stage::Open && has_more && !waits && !is_full;
        if can { self.next_at } else { NEVER }
    }

    /// Sends what is to be sent at once.
    fn send_on(&mut self, io: &mut Io<'_>) {
        if self.due.is_empty() {
            self.moved_at = io.core.now;
        }
        if self.burst.left == 0 {
            self.begin_burst(io);
        }
        let several = !self.burst.in_step && io.random.chance(1, 4);
        let count = if several { io.random.between(2, 6) as u32 } else { 1 };
        for _ in 0..count.min(self.burst.left) {
            self.burst.left -= 1;
            self.send_message(io);
            if io.random.chance(1, 16) {
                self.ping(io);
            }
        }
        let is_deaf = (DEAF_MESSAGES / 2..DEAF_MESSAGES - DEAF_AFTER).contains(&self.burst.left);
        if is_deaf || io.random.chance(1, 60) {
            let pause = io.random.between(MILLISECOND, SECOND);
            self.link.pause(io, pause);
        }
        let silence = match self.burst.left {
            0 if io.random.chance(1, 2) => io.random.between(SECOND, 8 * SECOND),
            0 => io.random.below(SECOND / 4),
            _ => io.random.below(self.burst.pause),
        };
        self.next_at = io.core.now + silence + 1;
    }

    /// Something came back.
    fn on_reply(&mut self, io: &mut Io<'_>, opcode: Opcode, payload: &[u8]) {
        let reply = self.due.pop_front().unwrap_or_else(|| panic!("{opcode:?} that nobody sent"));
        self.due_bytes -= reply.payload.len();
        assert_eq!((opcode, payload.len()), (reply.opcode, reply.payload.len()), "another reply");
        let other = payload.iter().zip(&reply.payload).position(|(came, sent)| came != sent);
        assert_eq!(other, None, "a reply of {} bytes is not what was sent", payload.len());
        io.ledger.echoed += u64::from(opcode != Opcode::Pong);
    }

    /// Reads the answer to the upgrade; says whether it was refused.
    fn read_answer(&mut self, io: &Io<'_>) -> bool {
        match read_response(&self.link.input, &REQUEST, &self.key) {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let consumed = accepted.consumed;
                self.link.input.drain(..consumed);
                self.stage = Stage::Open;
                self.moved_at = io.core.now;
            }
            Err(error) => {
                assert!(self.link.is_excused(io), "a handshake failed: {error}");
                return true;
            }
        }
        false
    }

    /// Reads what came; true when the server said goodbye.
    fn read(&mut self, io: &mut Io<'_>) -> bool {
        if self.stage == Stage::Asking && self.read_answer(io) {
            return true;
        }
        if self.stage == Stage::Asking {
            return false;
        }
        let mut input = std::mem::take(&mut self.link.input);
        let (mut start, mut closed) = (0, false);
        while !closed {
            let step = self.decoder.receive(&mut input[start..], &Limits::default());
            let Step::Event { consumed, event } = step.expect("the server obeys RFC 6455") else {
                break;
            };
            start += consumed;
            match event {
                Event::Message { kind, data, .. } => self.on_reply(io, opcode_of(kind), data),
                Event::Fragment { kind, data, last, .. } => {
                    self.message.extend_from_slice(data);
                    if last {
                        let message = std::mem::take(&mut self.message);
                        self.on_reply(io, opcode_of(kind), &message);
                    }
                }
                Event::Pong(data) => self.on_reply(io, Opcode::Pong, data),
                Event::Ping(data) => {
                    let data = data.to_vec();
                    self.send(io, Opcode::Pong, true, &data);
                }
                Event::Close { code, reason } => {
                    let expected = self.stage == Stage::Closing || self.link.is_excused(io);
                    assert!(expected, "the server closed: {code:?} {reason}");
                    // The answer to our close comes behind every other.
                    let is_whole = code != Some(CLOSED) || self.due.is_empty();
                    assert!(is_whole, "{} replies are missing at the end", self.due.len());
                    closed = true;
                }
            }
        }
        input.drain(..start);
        self.link.input = input;
        closed
    }

    /// That what is due comes, as long as this end does its part.
    fn check_progress(&mut self, io: &Io<'_>, came: bool) {
        let keeps_up = self.link.keeps_up_since(io.core.now) && self.link.is_flushed();
        if came || self.due.is_empty() || !keeps_up || self.link.is_torn(io) || io.core.draining {
            self.moved_at = io.core.now;
        }
        self.moved_at = self.moved_at.max(io.core.jumped_at.unwrap_or(0));
        let is_late = io.core.now >= self.moved_at + REPLY;
        assert!(!is_late, "{} replies do not come: {:?}", self.due.len(), self.link);
    }
}

const fn opcode_of(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

/// So many bytes that are nowhere the same.
fn bytes_of(io: &mut Io<'_>, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&io.random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// So many bytes of text whose characters take one to four bytes each.
fn text_of(io: &mut Io<'_>, length: usize) -> Vec<u8> {
    const PARTS: [&[u8]; 4] = [
        b"plain ascii",
        "\u{e9}t\u{e9}".as_bytes(),
        "\u{20ac}5".as_bytes(),
        "a\u{1f30a}".as_bytes(),
    ];
    let mut text = Vec::with_capacity(length);
    while text.len() < length {
        let number = io.random.next();
        let part = PARTS[number as usize % PARTS.len()];
        let first = b'a' + (number >> 32) as u8 % 26;
        text.push(first);
        if text.len() + part.len() <= length {
            text.extend_from_slice(part);
        }
    }
    text
}

impl Client for EchoClient {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        match self.stage {
            Stage::Gone => return NEVER,
            Stage::Away if io.leaving || io.core.draining => {
                self.stage = Stage::Gone;
                return NEVER;
            }
            Stage::Away => self.ask(io),
            Stage::Asking | Stage::Open | Stage::Closing => {}
        }
        let mut due = NEVER;
        if self.stage == Stage::Open && io.leaving {
            let (payload, length) = close_payload(Some(CLOSED), "");
            self.send(io, Opcode::Close, true, &payload[..length]);
            self.stage = Stage::Closing;
        } else if self.sends_at(io) <= io.core.now {
            self.send_on(io);
        }
        let before = self.link.input.len();
        let state = self.link.exchange(io, &mut due);
        let came = self.link.input.len() > before;
        let stage = self.stage;
        let closed = self.read(io);
        if closed && stage == Stage::Open && self.link.is_open() {
            // The server goes away; so do we, as RFC 6455 7.1.1 wants it.
            self.send(io, Opcode::Close, true, &[]);
            self.link.exchange(io, &mut due);
        }
        if closed {
            return self.end(io);
        }
        if state == State::Over {
            let expected = self.link.is_excused(io);
            assert!(expected, "the server ended an echo that did nothing wrong: {self:?}");
            return self.end(io);
        }
        self.check_progress(io, came);
        if self.due.is_empty() {
            self.heard_one |= self.has_begun && self.burst.left == 0;
        } else {
            due = due.min(self.moved_at + REPLY);
        }
        due.min(self.sends_at(io))
    }

    fn is_done(&self) -> bool {
        self.heard_one
    }
}
