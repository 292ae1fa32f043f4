//! A client's end of a connection: bytes kept until they can be written, bytes read and not yet
//! understood, the transport's rewriting, and what excuses a server that ends it.

use super::Io;
use crate::core::{MICROSECOND, MILLISECOND, SECOND};
use crate::faults::Fault;
use crate::net::{ConnId, Read};

/// The listeners of a shard, in their order.
pub(crate) const HTTP: usize = 0;
pub(crate) const RTMP: usize = 1;

/// A connection or the lack of one.
#[derive(Debug, Default)]
pub(crate) struct Link {
    conn: Option<ConnId>,
    out: Vec<u8>,
    pub(crate) input: Vec<u8>,
    opened_at: u64,
    stalled_at: u64,
    stalled_until: u64,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// The server ended it.
    Over,
}

impl Link {
    pub(crate) fn connect(&mut self, io: &mut Io<'_>, listener: usize) {
        let shard = io.random.index(io.core.rings.len());
        let shard = if io.skewed && io.random.chance(2, 3) { 0 } else { shard };
        self.connect_to(io, listener, shard);
    }

    pub(crate) fn connect_to(&mut self, io: &mut Io<'_>, listener: usize, shard: usize) {
        self.close(io);
        *self = Self {
            conn: Some(io.core.connect(io.id, shard, listener)),
            opened_at: io.core.now,
            ..Self::default()
        };
    }

    pub(crate) fn is_open(&self) -> bool {
        self.conn.is_some()
    }

    pub(crate) fn write(&mut self, io: &Io<'_>, bytes: &[u8]) {
        self.out.extend(bytes.iter().map(|byte| byte ^ io.key));
    }

    /// Whether everything written is on its way.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes and reads what can be; `due` comes forward when there is more to do.
    pub(crate) fn exchange(&mut self, io: &mut Io<'_>, due: &mut u64) -> State {
        let Some(conn) = self.conn else { return State::Open };
        if !self.out.is_empty() {
            let mut most = self.out.len();
            if io.random.chance(1, 6) {
                most = io.random.length(most);
                *due = (*due).min(io.core.now + io.random.between(MICROSECOND, MILLISECOND));
            }
            let count = io.core.client_write(conn, &self.out[..most]);
            self.out.drain(..count);
        }
        if io.core.now < self.stalled_until {
            *due = (*due).min(self.stalled_until);
            return State::Open;
        }
        if io.core.faults.strikes(Fault::StalledPeer) {
            let long = io.core.faults.between(0, 19) == 0;
            let most = if long { 45 * SECOND } else { SECOND };
            self.stalled_at = io.core.now;
            self.stalled_until = io.core.now + io.core.faults.between(MILLISECOND, most);
            *due = (*due).min(self.stalled_until);
            return State::Open;
        }
        let most = if io.random.chance(1, 8) { io.random.length(600) } else { 1 << 20 };
        let start = self.input.len();
        let read = io.core.client_read(conn, most, &mut self.input);
        self.input[start..].iter_mut().for_each(|byte| *byte ^= io.key);
        match read {
            Read::Bytes => {
                *due = (*due).min(io.core.now + io.random.between(1, 50) * MICROSECOND);
                State::Open
            }
            Read::Nothing => State::Open,
            Read::End | Read::Reset => State::Over,
        }
    }

    /// Whether the server may have ended it: it goes away, the network did it, or this peer did not
    /// read or time did not pass evenly.
    pub(crate) fn is_excused(&self, io: &Io<'_>) -> bool {
        let jumped = io.core.jumped_at.is_some_and(|at| at + 40 * SECOND >= self.opened_at);
        let slow = self.stalled_until > self.stalled_at + 5 * SECOND;
        self.is_torn(io) || io.core.draining || jumped || slow
    }

    /// Since when what was read at `read_at` may have been there: while this peer did not read, something may have
    /// waited for it.
    pub(crate) fn waited_since(&self, read_at: u64) -> u64 {
        if read_at <= self.stalled_until { read_at.min(self.stalled_at) } else { read_at }
    }

    /// Whether the network ended it.
    pub(crate) fn is_torn(&self, io: &Io<'_>) -> bool {
        self.conn.is_some_and(|conn| io.core.conns[conn].torn)
    }

    /// Reads nothing for a while.
    pub(crate) fn pause(&mut self, io: &Io<'_>, nanoseconds: u64) {
        if io.core.now >= self.stalled_until {
            self.stalled_at = io.core.now;
            self.stalled_until = io.core.now + nanoseconds;
        }
    }

    /// Whether it reads all the time since `since`.
    pub(crate) fn keeps_up_since(&self, since: u64) -> bool {
        self.is_open() && self.opened_at < since && self.stalled_until < since
    }

    pub(crate) fn shut_down(&self, io: &mut Io<'_>) {
        if let Some(conn) = self.conn {
            io.core.client_shutdown(conn);
        }
    }

    pub(crate) fn close(&mut self, io: &mut Io<'_>) {
        if let Some(conn) = self.conn.take() {
            io.core.client_close(conn);
        }
        self.out.clear();
        self.input.clear();
        self.stalled_until = 0;
    }
}
