//! `POST /pub`: publishes one after the other, waits for each place, tries again with the same
//! idempotency key when the connection is lost.

use super::link::{HTTP, Link, State};
use super::{Client, Io, NEVER};
use crate::core::{MILLISECOND, SECOND};
use crate::oracle::{Message, text_of};
use headwater::limits::HTTP_IDLE_MS;

/// The client.
#[derive(Debug)]
pub(crate) struct Poster {
    link: Link,
    channel: usize,
    publisher: Option<u32>,
    /// Published and not confirmed, with its body.
    pending: Option<(Message, String)>,
    left: u32,
    next_at: u64,
    answered_at: u64,
    /// When the pending one is asked for once more, because it was refused.
    again_at: u64,
    gone: bool,
}

impl Poster {
    pub(crate) fn new(channel: usize, publications: u32) -> Self {
        Self {
            link: Link::default(),
            channel,
            publisher: None,
            pending: None,
            left: publications,
            next_at: 0,
            answered_at: 0,
            again_at: NEVER,
            gone: false,
        }
    }

    fn begin(&mut self, io: &mut Io<'_>) -> Message {
        let publisher =
            *self.publisher.get_or_insert_with(|| io.ledger.new_publisher(self.channel));
        let message = io.ledger.publishes(publisher);
        let padding = if io.random.chance(1, 10) { 2000 } else { 60 };
        self.pending = Some((message, text_of(message, io.random.index(padding))));
        self.request(io);
        message
    }

    fn request(&mut self, io: &mut Io<'_>) {
        self.again_at = NEVER;
        let Some(((publisher, number), text)) = self.pending.clone() else { return };
        if !self.link.is_open() {
            self.link.connect(io, HTTP);
        }
        let (kind, body) = match number % 3 {
            0 => ("Content-Type: application/json\r\n", format!("\"{text}\"")),
            _ => ("", text),
        };
        let head = format!(
            "POST /pub/c{} HTTP/1.1\r\nHost: localhost\r\n{kind}Idempotency-Key: {publisher}-{number}\r\n",
            self.channel
        );
        let rest = if io.random.chance(1, 3) {
            let cut = io.random.index(body.len() - 1) + 1;
            let (first, second) = body.split_at(cut);
            format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            )
        } else {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        };
        self.link.write(io, head.as_bytes());
        self.link.write(io, rest.as_bytes());
    }

    fn read(&mut self, io: &mut Io<'_>) {
        let Some(answer) = take_answer(&mut self.link.input, false) else { return };
        self.answered_at = io.core.now;
        if answer.status == 503 {
            // More is published than can be passed on: the same again a little later.
            assert!(answer.body.windows(9).any(|text| text == b"congested"), "{answer:?}");
            io.ledger.refused += 1;
            self.again_at = io.core.now + io.random.between(MILLISECOND, SECOND / 20);
            return;
        }
        let (message, _) = self.pending.take().expect("an answer to a question");
        assert_eq!(answer.status, 200, "a publication was refused: {answer:?}");
        let body = String::from_utf8(answer.body).expect("JSON");
        let id = body.strip_prefix("{\"id\":\"").and_then(|rest| rest.split('"').next());
        io.ledger.saw(self.channel, id.expect("an id"), message);
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Takes an answer with a Content-Length from the front of `input`.
pub(crate) fn take_answer(input: &mut Vec<u8>, is_head: bool) -> Option<Answer> {
    let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&input[..end]).expect("a head is ASCII");
    let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = if is_head { 0 } else { length.unwrap_or(0) };
    if input.len() < end + length {
        return None;
    }
    let body = input[end..end + length].to_vec();
    input.drain(..end + length);
    Some(Answer { status, body })
}

impl Client for Poster {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        if self.gone {
            return NEVER;
        }
        let mut due = NEVER;
        if self.pending.is_none() && self.left > 0 && !io.leaving && !io.core.draining {
            if io.core.now >= self.next_at {
                self.left -= 1;
                self.begin(io);
                let pause = if io.random.chance(1, 2) { SECOND / 100 } else { SECOND / 4 };
                self.next_at = io.core.now + io.random.below(pause);
            }
            due = self.next_at;
        } else if self.pending.is_some()
            && !io.core.draining
            && (!self.link.is_open() || io.core.now >= self.again_at)
        {
            self.request(io);
        }
        let state = self.link.exchange(io, &mut due);
        self.read(io);
        due = due.min(self.again_at);
        if state == State::Over {
            // A connection that is kept alive may be idle for so long and no longer.
            let answered_at = self.link.waited_since(self.answered_at);
            let idle = (self.pending.is_none() || self.again_at != NEVER)
                && io.core.now - answered_at >= (HTTP_IDLE_MS - 1000) * MILLISECOND;
            let expected = idle || self.link.is_excused(io);
            assert!(expected, "the server ended a connection: {self:?}");
            self.link.close(io);
            due = due.min(io.core.now + io.random.between(MILLISECOND, SECOND / 10));
        }
        if io.leaving && self.pending.is_none() || io.core.draining && !self.link.is_open() {
            if self.pending.is_none()
                && let Some(publisher) = self.publisher
            {
                io.ledger.is_complete(publisher);
            }
            self.link.close(io);
            self.gone = true;
            return NEVER;
        }
        due
    }

    fn publish(&mut self, io: &mut Io<'_>) -> Option<Message> {
        let calm = self.link.keeps_up_since(io.core.now);
        (!self.gone && self.pending.is_none() && calm).then(|| self.begin(io))
    }

    fn channel(&self) -> Option<usize> {
        Some(self.channel)
    }

    fn is_done(&self) -> bool {
        self.left == 0 && self.pending.is_none()
    }
}
