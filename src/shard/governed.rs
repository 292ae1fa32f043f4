//! What a shard tells the governor and does as it says: whom it takes, what it gives up.
//!
//! In: every [`GOVERNOR_TICK_MS`] what is in tables and what waits for slow readers; logs are looked at
//! some at a time, what else takes a walk over tables once a second. Out: how many more connections may come, trimmed histories
//! and windows, slow readers told to go, answers to those for whom there is no room.
//!
//! Between two ticks admission is a number that is counted down; no message is counted anywhere.

use super::{ListenerInfo, Peer, Shard, World, wheel};
use crate::connection::Stage;
use crate::fanout::SUBSCRIPTION_BYTES;
use crate::governor::{Kind, Orders, Part, Report, SlowReader, SlowReaders, Step};
use crate::limits::{
    CHANNELS_TRIMMED_PER_TURN, CONNECTION_USER_BYTES, GOVERNOR_TICK_MS, REFUSALS_PER_SHARD_MAX,
    REPLICA_LOOKS_PER_TICK, SLOW_READERS_CLOSED_PER_TICK, SLOW_READERS_PER_TICK,
};
use crate::memory::{Key, Slab, Span};
use crate::ring::{Armed, Op, Ring, Socket};
use crate::session;

/// A shard's part in keeping to the budget.
#[derive(Debug, Default)]
pub(super) struct Governed {
    /// Connections that may be taken until the next tick.
    room: u64,
    /// Connections that stay only to hear that there is no room.
    refused: usize,
    slow: SlowReaders,
    scan: Scan,
    /// The tick in which this was last done, and its lower bits as a turn compares them.
    tick: u64,
    looked: u32,
    /// The ticks before which histories and windows are not trimmed again: what they gave up is free
    /// only when other shards have let go of it too.
    history_settles: u64,
    /// What histories have to come down to, while they do.
    trims: Option<Part>,
    media_settles: u64,
    /// Refused since that was last said in the log, and when it may be said again.
    untold: u64,
    tell_at_ms: u64,
    /// Why the last one was.
    full: Full,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Full {
    /// Connections have their share of the budget.
    #[default]
    Memory,
    /// The rings have no slots.
    Slots,
}

/// What was found by walking over tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    pub(super) ring: usize,
    pub(super) tables: usize,
    pub(super) lists: usize,
    pub(super) lagging: usize,
    pub(super) pools: usize,
}

/// What a connection takes of tables, without its subscriptions.
const PEER_BYTES: usize = Slab::<Peer>::SLOT_BYTES + wheel::LINK_BYTES;
/// How long is waited after trimming: blocks come back when every shard has trimmed.
const SETTLE_TICKS: u64 = 4;
/// The same where nothing came of it, and for media, whose blocks go back when publishers take new ones.
const SETTLE_LONG_TICKS: u64 = 1000 / GOVERNOR_TICK_MS;
/// How often refused connections are worth a line.
const TELL_EVERY_MS: u64 = 5_000;

const _: () = assert!(PEER_BYTES <= 176, "a slot and a timer are paid a million times");
const _: () = assert!((PEER_BYTES + SUBSCRIPTION_BYTES) as u64 <= CONNECTION_USER_BYTES);

impl Governed {
    /// A connection is gone.
    pub(super) fn on_closed(&mut self, peer: &Peer) {
        self.refused -= usize::from(peer.connection.protocol.is_refused());
    }

    /// Something waits for a reader.
    pub(super) fn note(&mut self, key: Key, peer: &Peer, world: &World) {
        if let Some(found) = waits_for(peer, world) {
            self.slow.note(key, found);
        }
    }

    fn trim_part(part: Part) -> Part {
        // A little below what is allowed, so that not every publication trims again.
        Part { allowed: part.allowed / 8 * 7, ..part }
    }
}

impl<R: Ring> Shard<R> {
    /// Tells the governor and obeys, once per tick.
    #[inline]
    pub(super) fn govern(&mut self) {
        if self.world.now_ms / GOVERNOR_TICK_MS as u32 != self.governed.looked {
            self.govern_now();
        }
    }

    #[cold]
    pub(super) fn govern_now(&mut self) {
        self.governed.looked = self.world.now_ms / GOVERNOR_TICK_MS as u32;
        self.governed.tick = self.world.now.monotonic.as_millis() / GOVERNOR_TICK_MS;
        self.world.hub.fanout().look_at_logs(REPLICA_LOOKS_PER_TICK);
        let Self { peers, world, governed, .. } = self;
        let find = |key| peers.get(key).and_then(|peer| waits_for(peer, world));
        governed.slow.look(SLOW_READERS_PER_TICK, find);
        let report = self.memory_report();
        let orders = self.world.board.governor().tick(self.world.number(), &report);
        self.governed.room = orders.connections;
        self.trim(&orders);
        self.close_slow(&orders);
        self.tell_of_refused();
    }

    fn memory_report(&self) -> Report {
        let Self { peers, world, governed, .. } = self;
        let connections = peers.len() - governed.refused;
        let subscriptions = world.hub.readers().subscription_count();
        let in_tables = connections * PEER_BYTES + subscriptions * SUBSCRIPTION_BYTES;
        let scan = &governed.scan;
        let mut report = Report {
            connections: connections as u64,
            slow_readers: governed.slow.len() as u64,
            ..Report::default()
        };
        for (kind, bytes) in [
            (Kind::Connections, in_tables as u64),
            (Kind::History, world.hub.publication_bytes() + scan.lists as u64),
            (Kind::SlowReaders, governed.slow.bytes() + scan.lagging as u64),
            (Kind::Media, world.live.meter().bytes()),
            (Kind::Ring, scan.ring as u64),
            (Kind::Tables, scan.tables.saturating_sub(in_tables) as u64),
            (Kind::Pools, scan.pools as u64),
        ] {
            report.bytes[kind as usize] = bytes;
        }
        report
    }

    /// Walks over tables. Says what all that is known of takes.
    pub(super) fn scan_memory(&mut self) -> u64 {
        let Self { ring, peers, wheel, world, governed, .. } = self;
        wheel.give_back();
        let mut scan = world.scan();
        scan.ring = ring.resident_bytes();
        scan.tables +=
            peers.resident_bytes() + wheel.resident_bytes() + governed.slow.resident_bytes();
        governed.scan = scan;
        self.memory_report().bytes.iter().sum()
    }

    /// Histories first, in the turns from now on, then live media.
    fn trim(&mut self, orders: &Orders) {
        let Self { world, governed, .. } = self;
        let governor = world.board.governor();
        let number = world.number();
        if let Some(part) = orders.history.map(Governed::trim_part)
            && governed.tick >= governed.history_settles
        {
            governed.trims.get_or_insert(part);
            world.hub.begin_trim();
        }
        if let Some(part) = orders.media.map(Governed::trim_part)
            && governed.tick >= governed.media_settles
        {
            let segments = world.live.trim(|bytes| part.of(bytes), world.now);
            governor.shed(number, Step::MediaSegments, segments as u64);
            governed.media_settles = governed.tick + SETTLE_LONG_TICKS;
        }
    }

    /// Goes on with trimming histories, of some channels in each turn: all at once would be a turn of 0.1 s with a
    /// million of them, and again four ticks later.
    #[inline]
    pub(super) fn trim_some(&mut self) {
        if let Some(part) = self.governed.trims {
            self.trim_to(part);
        }
    }

    #[cold]
    fn trim_to(&mut self, part: Part) {
        let Self { world, governed, .. } = self;
        let (most, now) = (CHANNELS_TRIMMED_PER_TURN, world.now.monotonic);
        let Some(dropped) = world.hub.trim_some(most, |bytes| part.of(bytes), now) else { return };
        governed.trims = None;
        world.hub.fanout().give_back();
        world.arena.give_back(1);
        world.board.governor().shed(world.number(), Step::History, dropped as u64);
        let settle = if dropped > 0 { SETTLE_TICKS } else { SETTLE_LONG_TICKS };
        governed.history_settles = governed.tick + settle;
    }

    /// Tells the slowest readers to go, and closes those who were told and had their time.
    fn close_slow(&mut self, orders: &Orders) {
        if self.governed.slow.is_empty() {
            return;
        }
        let now_ms = self.world.now.monotonic.as_millis();
        let governor = self.world.board.governor();
        let queued_each = governor.kernel_queued_bytes() / governor.slow_readers().max(1);
        let most = SLOW_READERS_CLOSED_PER_TICK;
        let bytes = orders.slow_readers_bytes;
        let chosen = self.governed.slow.choose(bytes, queued_each, most, now_ms);
        for key in chosen {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            if peer.connection.stage == Stage::Open {
                session::on_shed(&mut peer.connection, &mut self.world.context(key));
            }
            self.world.counters().slow_closes.add(1);
            self.world.board.governor().shed(self.world.number(), Step::SlowReaders, 1);
            self.after_session(key);
        }
        for key in self.governed.slow.overdue(now_ms) {
            self.end(key);
        }
    }

    /// Whether one more connection may be taken; it counts as taken then.
    pub(super) fn admit(&mut self) -> Result<(), Full> {
        if self.acceptor.is_full(&mut self.ring) {
            return Err(Full::Slots);
        }
        if self.governed.room == 0 {
            let report = self.memory_report();
            self.governed.room = self.world.board.governor().ask(self.world.number(), &report);
        }
        self.governed.room = self.governed.room.checked_sub(1).ok_or(Full::Memory)?;
        Ok(())
    }

    /// There is no room for a connection that was just accepted: it is told, if its protocol has a word
    /// for it and not too many are being told already.
    #[cold]
    pub(super) fn refuse(&mut self, socket: Socket, info: ListenerInfo, full: Full) {
        self.world.counters().refused_full.add(1);
        self.world.board.governor().shed(self.world.number(), Step::Connections, 1);
        self.governed.untold += 1;
        self.governed.full = full;
        self.tell_of_refused();
        let transport = self.world.transport;
        if self.governed.refused < REFUSALS_PER_SHARD_MAX
            && let mut context = self.world.context(Key::NONE)
            && let Some(connection) =
                session::refused(info.role, info.proxy_protocol, transport, &mut context)
            && let Ok(key) = self.peers.insert(Peer::new(socket, connection))
        {
            self.governed.refused += 1;
            self.wheel.schedule(key, super::first_deadline_ms(), self.world.now.monotonic);
            self.arm_poll(key);
            self.queue_flush(key);
            return;
        }
        self.push(Op::Close { socket, token: Key::NONE, armed: Armed::default() });
    }

    fn tell_of_refused(&mut self) {
        let now_ms = self.world.now.monotonic.as_millis();
        let governed = &mut self.governed;
        if governed.untold == 0 || now_ms < governed.tell_at_ms {
            return;
        }
        let reason = match governed.full {
            Full::Memory => "connections have their share of the memory budget",
            Full::Slots => "no slots are left; headwater probe says what would give more",
        };
        tracing::warn!(
            connections = governed.untold,
            open = self.peers.len(),
            reason,
            "new connections are refused"
        );
        governed.untold = 0;
        governed.tell_at_ms = now_ms + TELL_EVERY_MS;
    }
}

/// What waits for a peer, if it is one that does not take what it is sent.
fn waits_for(peer: &Peer, world: &World) -> Option<SlowReader> {
    if peer.closing || peer.resend_since_ms.is_none() {
        return None;
    }
    let (mut bytes, mut backlog) = (0, 0);
    let mut add = |span: &Span| {
        bytes += span.pinned_share();
        backlog += span.len();
    };
    peer.resend.iter().flat_map(|spans| spans.iter()).for_each(&mut add);
    peer.connection.outbox.spans().iter().for_each(&mut add);
    let lag = world.hub.readers().backlog(peer.connection.subscriptions);
    Some(SlowReader { bytes: bytes as u64, backlog: backlog as u64 + lag })
}
