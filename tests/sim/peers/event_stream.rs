//! An EventSource: reads, is cut off or goes, and comes back with its last id.

use super::link::{HTTP, Link, State};
use super::{Client, Io, NEVER};
use crate::core::{MILLISECOND, SECOND};
use crate::oracle::{Ledger, Message, Subscription, parse_position, parse_text};
use sse::{Limits, Parser};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Head,
    Reading,
    Gone,
}

/// When it leaves by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Never.
    Stays,
    /// After seconds.
    Leaves,
    /// After milliseconds, to another shard if it can, as long as there is traffic.
    Hops,
}

/// The client.
#[derive(Debug)]
pub(crate) struct EventStreamReader {
    link: Link,
    stage: Stage,
    channel: usize,
    habit: Habit,
    parser: Parser,
    subscription: Option<Subscription>,
    last_id: Option<String>,
    leave_at: u64,
    reading_since: u64,
}

impl EventStreamReader {
    pub(crate) fn new(channel: usize, habit: Habit) -> Self {
        Self {
            link: Link::default(),
            stage: Stage::Away,
            channel,
            habit,
            parser: Parser::new(Limits::default()),
            subscription: None,
            last_id: None,
            leave_at: NEVER,
            reading_since: 0,
        }
    }

    fn ask(&mut self, io: &mut Io<'_>) {
        self.link.connect(io, HTTP);
        self.stage = Stage::Head;
        self.parser = Parser::new(Limits::default());
        let mut request = format!("GET /sse/c{} HTTP/1.1\r\nHost: localhost\r\n", self.channel);
        if let Some(id) = &self.last_id {
            request.push_str(&format!("Last-Event-ID: {id}\r\n"));
            io.ledger.resumed += 1;
        }
        request.push_str("\r\n");
        self.link.write(io, request.as_bytes());
        let after = self.last_id.as_deref().map(|id| parse_position(id).1);
        self.subscription = Some(Subscription::new(self.channel, after, None));
        self.leave_at = match self.habit {
            Habit::Stays => NEVER,
            Habit::Hops if io.core.faults.harsh => {
                io.core.now + io.random.between(MILLISECOND / 10, 80 * MILLISECOND)
            }
            Habit::Leaves | Habit::Hops => io.core.now + io.random.between(SECOND / 10, 4 * SECOND),
        };
    }

    fn end(&mut self, io: &mut Io<'_>) -> u64 {
        if let Some(mut subscription) = self.subscription.take() {
            subscription.end(io.ledger);
        }
        self.link.close(io);
        if io.leaving || io.core.draining {
            self.stage = Stage::Gone;
            return NEVER;
        }
        self.stage = Stage::Away;
        let most = match self.habit {
            Habit::Stays => SECOND / 50,
            Habit::Leaves => SECOND,
            Habit::Hops => SECOND / 100,
        };
        let least = MILLISECOND / 50;
        let quick = self.habit == Habit::Hops && io.random.chance(3, 4);
        io.core.now + io.random.between(least, if quick { 2 * least } else { most })
    }

    /// Reads what came; true when the server ended the body.
    fn read(&mut self, io: &mut Io<'_>) -> bool {
        if self.stage == Stage::Head {
            let Some(end) = self.link.input.windows(4).position(|bytes| bytes == b"\r\n\r\n")
            else {
                return false;
            };
            let head: Vec<u8> = self.link.input.drain(..end + 4).collect();
            let head = String::from_utf8(head).expect("a head is ASCII");
            assert!(head.starts_with("HTTP/1.1 200 "), "an event stream: {head}");
            self.stage = Stage::Reading;
            self.reading_since = io.core.now;
        }
        while let Some((whole, data)) = next_chunk(&self.link.input) {
            if data.is_empty() {
                return true;
            }
            let (subscription, last_id) = (&mut self.subscription, &mut self.last_id);
            let habit = self.habit;
            let parsed = self.parser.receive(&self.link.input[data], |event| {
                let Some(subscription) = subscription else { return };
                *last_id = Some(event.id.to_string());
                if event.event == "gap" {
                    subscription.on_gap(io.ledger, event.id);
                } else {
                    subscription.with_id(io.ledger, event.id, parse_text(event.data));
                    if habit == Habit::Stays {
                        io.ledger.is_watched_from(subscription.channel, event.id);
                    }
                }
            });
            parsed.expect("the server sends an event stream");
            self.link.input.drain(..whole);
        }
        false
    }
}

/// The length of the first chunk with its frame, and where its data is (RFC 9112 7.1).
fn next_chunk(input: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let line = input.windows(2).position(|bytes| bytes == b"\r\n")?;
    let digits = std::str::from_utf8(&input[..line]).expect("a chunk's size is ASCII");
    let size = usize::from_str_radix(digits, 16).expect("a chunk's size is hexadecimal");
    let data = line + 2..line + 2 + size;
    let whole = data.end + 2;
    if input.len() < whole {
        return None;
    }
    assert_eq!(&input[data.end..whole], b"\r\n", "a chunk's end");
    Some((whole, data))
}

impl Client for EventStreamReader {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        match self.stage {
            Stage::Gone => return NEVER,
            Stage::Away if io.leaving || io.core.draining => {
                self.stage = Stage::Gone;
                return NEVER;
            }
            Stage::Away => self.ask(io),
            Stage::Head | Stage::Reading => {}
        }
        let mut due = self.leave_at;
        let state = self.link.exchange(io, &mut due);
        let ended = self.read(io);
        if ended || state == State::Over {
            let expected = self.link.is_excused(io) && (!ended || io.core.draining);
            assert!(expected || io.leaving, "the server ended an event stream: {self:?}");
            return self.end(io);
        }
        if io.leaving || io.core.now >= self.leave_at {
            return self.end(io);
        }
        due
    }

    fn channel(&self) -> Option<usize> {
        Some(self.channel)
    }

    fn was_told(&self, ledger: &Ledger, message: Message, since: u64) -> Option<bool> {
        let keeps_up = self.link.keeps_up_since(since) && self.reading_since < since;
        let subscription = self.subscription.as_ref().filter(|_| keeps_up)?;
        (self.stage == Stage::Reading).then(|| subscription.has(ledger, message))
    }
}
