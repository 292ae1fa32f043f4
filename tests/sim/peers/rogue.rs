//! Peers that break rules: they send garbage, or half of something, or nothing; they do not read;
//! they go at once. The server owes them nothing but to stay whole.

use super::link::{HTTP, Link, RTMP, State};
use super::{Client, Io, NEVER};
use crate::core::{MILLISECOND, SECOND};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Garbage,
    HalfRequest,
    Silent,
    GoesAtOnce,
    NeverReads,
    GarbageRtmp,
    BadFrames,
    ShutsDown,
}

const HABITS: [Habit; 8] = [
    Habit::Garbage,
    Habit::HalfRequest,
    Habit::Silent,
    Habit::GoesAtOnce,
    Habit::NeverReads,
    Habit::GarbageRtmp,
    Habit::BadFrames,
    Habit::ShutsDown,
];

/// The client.
#[derive(Debug, Default)]
pub(crate) struct Rogue {
    link: Link,
    habit: Option<Habit>,
    /// How often it comes back.
    visits: u32,
    leave_at: u64,
}

const UPGRADE: &[u8] = b"GET /ws/c0 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
    dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Rogue {
    pub(crate) fn new(visits: u32) -> Self {
        Self { visits, ..Self::default() }
    }

    fn begin(&mut self, io: &mut Io<'_>) {
        self.visits -= 1;
        let habit = HABITS[io.random.index(HABITS.len())];
        self.habit = Some(habit);
        self.leave_at = io.core.now + io.random.between(MILLISECOND, 6 * SECOND);
        let listener = if habit == Habit::GarbageRtmp { RTMP } else { HTTP };
        self.link.connect(io, listener);
        let garbage: Vec<u8> = (0..io.random.index(2000)).map(|_| io.random.next() as u8).collect();
        match habit {
            Habit::Garbage | Habit::GarbageRtmp => self.link.write(io, &garbage),
            Habit::HalfRequest => {
                let request =
                    b"POST /pub/c0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhal";
                let cut = io.random.index(request.len());
                self.link.write(io, &request[..cut]);
            }
            Habit::Silent | Habit::GoesAtOnce => {}
            Habit::NeverReads => self.link.write(io, UPGRADE),
            Habit::BadFrames => {
                self.link.write(io, UPGRADE);
                self.link.write(io, &[0xF1, 0x85]);
                self.link.write(io, &garbage);
            }
            Habit::ShutsDown => {
                self.link.write(io, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
            }
        }
    }
}

impl Client for Rogue {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        let over = io.leaving || io.core.draining;
        if !self.link.is_open() {
            if self.visits == 0 || over {
                return NEVER;
            }
            self.begin(io);
        }
        let habit = self.habit.expect("one was chosen");
        let mut due = self.leave_at;
        let state = match habit {
            Habit::GoesAtOnce => State::Over,
            Habit::NeverReads if self.link.is_flushed() => State::Open,
            _ => self.link.exchange(io, &mut due),
        };
        self.link.input.clear();
        if habit == Habit::ShutsDown && self.link.is_flushed() {
            self.link.shut_down(io);
        }
        if state == State::Over || over || io.core.now >= self.leave_at {
            self.link.close(io);
            return io.core.now + io.random.between(MILLISECOND, SECOND / 2);
        }
        due
    }
}
