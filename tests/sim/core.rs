//! What the rings, the network and the peers of a run share: time, chance, faults and the trace.

use crate::fake_ring::RingState;
use crate::faults::{Fault, Faults};
use crate::net::{Conn, ConnId, Read};
use crate::random::Random;
use headwater::time::{Monotonic, Now, Wall};
use std::fmt::Debug;

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// 2023-11-14T22:13:20Z
const WALL_START_MS: i64 = 1_700_000_000_000;

/// The shared part of a run.
#[derive(Debug)]
pub(crate) struct Core {
    /// Nanoseconds of virtual time.
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) conns: Vec<Conn>,
    pub(crate) rings: Vec<RingState>,
    /// Peers for whom something happened.
    pub(crate) touched: Vec<usize>,
    /// Whether the server was told to go away.
    pub(crate) draining: bool,
    /// When the clock last jumped.
    pub(crate) jumped_at: Option<u64>,
    pub(crate) trace: Trace,
}

impl Core {
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::from_nanos(self.now),
            wall: Wall::from_unix_millis(WALL_START_MS + (self.now / MILLISECOND) as i64),
        }
    }

    pub(crate) fn connect(&mut self, peer: usize, shard: usize, listener: usize) -> ConnId {
        let id = self.conns.len();
        let to_server_max = 1 << self.random.between(9, 15);
        let to_client_max = 1 << self.random.between(10, 16);
        self.conns.push(Conn::new(peer, shard, to_server_max, to_client_max));
        self.rings[shard].backlog[listener].push_back(id);
        id
    }

    pub(crate) fn client_write(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let count = self.conns[conn].client_write(bytes);
        self.told(conn);
        count
    }

    pub(crate) fn client_read(&mut self, conn: ConnId, most: usize, into: &mut Vec<u8>) -> Read {
        let read = self.conns[conn].client_read(most, into);
        if self.faults.strikes(Fault::Reset) {
            self.trace.note("reset", &conn);
            self.conns[conn].tear();
            self.touched.push(self.conns[conn].peer);
        }
        self.told(conn);
        read
    }

    pub(crate) fn client_shutdown(&mut self, conn: ConnId) {
        self.conns[conn].client_shutdown();
        self.told(conn);
    }

    pub(crate) fn client_close(&mut self, conn: ConnId) {
        self.conns[conn].client_close();
        self.told(conn);
    }

    /// Lets the server's ring know that something changed.
    fn told(&mut self, conn: ConnId) {
        let shard = self.conns[conn].shard;
        if self.conns[conn].news && self.conns[conn].slot.is_some() {
            self.rings[shard].ready.push(conn);
        }
    }
}

/// What happened, as a number, and as text when a seed is replayed.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    shown: bool,
    pub(crate) now: u64,
}

impl Trace {
    pub(crate) const fn new(shown: bool) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, shown, now: 0 }
    }

    /// Adds numbers.
    pub(crate) fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
    }

    pub(crate) fn note(&mut self, what: &str, value: &dyn Debug) {
        self.mix(what.len() as u64 ^ self.now << 8 ^ u64::from(what.as_bytes()[0]));
        if self.shown {
            let (seconds, nanoseconds) = (self.now / SECOND, self.now % SECOND);
            eprintln!("{seconds:3}.{nanoseconds:09} {what}: {value:?}");
        }
    }

    /// As [`Self::note`], for what is there even when nothing is shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }
}
