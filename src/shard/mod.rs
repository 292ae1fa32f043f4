//! A shard: one thread's loop over its ring, its connections and what they share.
//!
//! ```text
//! enter -> completions -> mail -> timers -> events -> receives -> fan-out -> flush -> mail out
//! ```
//!
//! A turn does each step once, each with a budget; nothing re-enters the loop. Completions name
//! connections by generation-checked keys, so what comes late finds nothing. `now`, entropy and
//! seeds come from outside, so the simulator replays a run exactly.
//!
//! Invariants: a socket has at most one receive and one send in flight; what a send did not take is
//! known before the next; nothing is pushed for a
//! connection after its close; a lease is given back in the turn it arrives in; the shard sleeps
//! only when there is nothing it could do.

mod acceptor;
mod door;
mod governed;
mod held;
mod mail;
mod peer;
mod receiving;
mod seldom;
mod sending;
mod wheel;
mod world;

pub use mail::{Mail, MediaSource};
pub use world::{ListenerInfo, ShardOptions};

use crate::connection::{Hold, Stage};
use crate::hub::HubEvent;
use crate::limits::{
    COMPLETIONS_PER_TURN, CONNECTIONS_PER_SHARD_MAX, DRAIN_SLOTS_PER_TURN, GATHERING_ENTERS_MAX,
    HOT_LOOK_MS, HUGE_PAGES_A_SECOND, MAIL_PER_TURN, SHORT_TURN_PERCENT, TIMER_TICK_MS,
    TIMERS_PER_TURN,
};
use crate::live::LiveEvent;
use crate::mailbox::{Post, PostTotals};
use crate::memory::{Key, Slab};
use crate::ring::{
    Armed, Completion, Failure, Gathers, ListenerId, Op, Ring, RingError, Socket, Wait,
};
use crate::session::{self, Connection, Protocol};
use crate::time::Monotonic;
use acceptor::Acceptor;
use door::Door;
use governed::Governed;
use held::Held;
use peer::Peer;
use seldom::Seldom;
use std::collections::VecDeque;
use std::time::Duration;
use wheel::Wheel;
use world::World;

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Go on.
    Running,
    /// Drained: every connection is gone, or had its time.
    Finished,
}

/// A shard, generic over its ring.
#[derive(Debug)]
pub struct Shard<R: Ring> {
    ring: R,
    peers: Slab<Peer>,
    wheel: Wheel,
    acceptor: Acceptor,
    post: Post<Mail>,
    world: World,
    governed: Governed,
    storage: http1::HeaderStorage,
    /// Connections with something to receive.
    to_receive: VecDeque<Key>,
    /// Those that come and those that go, who wait for the others.
    door: Door,
    /// Connections with something to send.
    to_flush: Vec<Key>,
    /// Connections that are not read because publications cannot be passed on.
    held: Held,
    /// Ops that found no room.
    to_push: VecDeque<Op>,
    /// Of what the next multishot receive brought, the bytes that were answered already.
    answered_bytes: usize,
    /// Turns for which sends of the fan-out may still wait in their cells.
    gathers_for: u8,
    sinks_per_turn: usize,
    /// Whether this turn does a part of what turns do, because a fan-out goes on and others have something too:
    /// what they ask for takes some turns.
    is_short: bool,
    /// Sinks that were visited since cells with sends that wait took their turn.
    swept_sinks: usize,
    /// Completions of the fullest of the last few turns, by which the next wait is sized.
    recent_completions: u32,
    /// More timers are due than one turn fires.
    timers_wait: bool,
    drain_until: Option<Monotonic>,
    /// While the peers hear that the server goes away: the slot of the next.
    drain_next: Option<u32>,
    /// Subscriptions that their channels' homes refused, for the log.
    refused_subscriptions: Seldom,
    /// Connections that ended because an op failed, for the log.
    failed: Seldom,
}

/// How long a batch of completions is waited for when the shard is busy.
const BATCH_WAIT: Duration = Duration::from_micros(20);
/// Completions per turn from which a shard counts as busy.
const BUSY_COMPLETIONS: u32 = 8;
/// Completions that are waited for at most: as many as the kernel runs by itself in one enter. With 64 of
/// them a message of 1,000 connections costs 1 to 2 % more.
const BATCH_COMPLETIONS_MAX: u32 = 20;
/// How long the shard sleeps when something could not be passed on.
const RETRY_WAIT: Duration = Duration::from_millis(1);

impl<R: Ring> Shard<R> {
    /// A shard on `ring`; `post` is its end of the mesh.
    #[must_use]
    pub fn new(ring: R, post: Post<Mail>, options: ShardOptions) -> Self {
        let doorbell = ring.doorbell();
        post.set_bell(Box::new(move || doorbell.ring()));
        let now = ring.now();
        let mut shard = Self {
            sinks_per_turn: options.sinks_per_turn,
            acceptor: Acceptor::new(options.listeners.clone(), ring.slots_per_cell()),
            wheel: Wheel::new(now.monotonic),
            world: World::new(&post, options, now),
            peers: Slab::new(CONNECTIONS_PER_SHARD_MAX),
            storage: http1::HeaderStorage::new(),
            to_receive: VecDeque::new(),
            door: Door::default(),
            to_flush: Vec::new(),
            held: Held::default(),
            to_push: VecDeque::new(),
            answered_bytes: 0,
            gathers_for: 0,
            is_short: false,
            swept_sinks: 0,
            recent_completions: 0,
            timers_wait: false,
            drain_until: None,
            drain_next: None,
            refused_subscriptions: Seldom::default(),
            failed: Seldom::default(),
            governed: Governed::default(),
            ring,
            post,
        };
        shard.govern_now();
        shard
    }

    /// Turns until the shard is drained.
    ///
    /// # Errors
    /// When the ring cannot go on.
    pub fn run(&mut self) -> Result<(), RingError> {
        while self.turn()? == Status::Running {}
        Ok(())
    }

    /// One pass of the loop.
    ///
    /// # Errors
    /// When the ring cannot go on.
    pub fn turn(&mut self) -> Result<Status, RingError> {
        self.acceptor.arm(&mut self.ring);
        self.enter()?;
        self.world.set_now(self.ring.now());
        self.world.counters().turns.add(1);
        let completions = self.route_completions();
        self.is_short = completions > 0 && self.gathers_for == GATHERING_ENTERS_MAX;
        self.receive_mail();
        self.drain_some();
        self.fire_timers();
        self.pass_events();
        self.release_held();
        self.push_waiting_ops();
        self.start_receives();
        self.gathers_for = self.gathers_for.saturating_sub(1);
        if completions < COMPLETIONS_PER_TURN {
            self.fan_out();
            self.flush_all();
        }
        self.send_mail();
        self.count_ring();
        if self.world.second_passed() {
            self.tick();
        }
        self.world.look_at_channels();
        self.trim_some();
        self.govern();
        Ok(self.status())
    }

    /// What of a turn's budget this one has.
    const fn budget(&self, whole: usize) -> usize {
        if self.is_short { (whole * SHORT_TURN_PERCENT).div_ceil(100) } else { whole }
    }

    /// The ring, for what the loop does not do.
    pub const fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// The connections that are open.
    #[must_use]
    pub const fn connection_count(&self) -> usize {
        self.peers.len()
    }

    /// Arena blocks that something outside the arena still refers to.
    #[must_use]
    pub fn arena_blocks_in_use(&self) -> usize {
        self.world.arena.blocks_in_use()
    }

    /// Messaging on this shard.
    #[must_use]
    pub const fn hub(&self) -> &crate::hub::Hub {
        &self.world.hub
    }

    /// What this shard sent to others.
    #[must_use]
    pub const fn mail_totals(&self) -> PostTotals {
        self.post.totals()
    }

    /// Whether somebody is not read because what he publishes cannot be passed on.
    #[must_use]
    pub fn holds_publishers(&self) -> bool {
        !self.held.is_empty()
    }

    /// Stops accepting, tells every peer, and ends within the drain time.
    pub fn drain(&mut self) {
        if self.drain_until.is_some() {
            self.drain_until = Some(self.world.now.monotonic);
            return;
        }
        let limit = Duration::from_millis(u64::from(self.world.settings.config.drain_timeout_ms));
        self.drain_until = Some(self.world.now.monotonic + limit);
        self.world.draining = true;
        self.acceptor.stop(&mut self.ring);
        self.drain_next = Some(0);
    }

    /// Tells some of the peers that the server goes away: a million at once would be a turn of seconds, in
    /// which nobody hears anything.
    fn drain_some(&mut self) {
        let Some(first) = self.drain_next else { return };
        // Nobody joins while it drains.
        let all = self.peers.slot_count();
        let end = all.min(first.saturating_add(DRAIN_SLOTS_PER_TURN));
        for index in first..end {
            let Some(key) = self.peers.key_at(index) else { continue };
            let Some(peer) = self.peers.get_mut(key) else { continue };
            if peer.connection.stage == Stage::Open {
                session::on_drain(&mut peer.connection, &mut self.world.context(key));
            }
            self.after_session(key);
        }
        self.drain_next = (end < all).then_some(end);
    }

    fn status(&self) -> Status {
        match self.drain_until {
            Some(until) if self.peers.is_empty() || self.world.now.monotonic >= until => {
                Status::Finished
            }
            _ => Status::Running,
        }
    }

    fn enter(&mut self) -> Result<(), RingError> {
        let wanted = self.sleep_time();
        let sleeps = !wanted.is_zero() && self.post.fall_asleep();
        let busy = self.recent_completions >= BUSY_COMPLETIONS;
        let completions =
            if busy { (self.recent_completions / 2).min(BATCH_COMPLETIONS_MAX) } else { 1 };
        let wait = Wait {
            timeout: if sleeps { wanted } else { Duration::ZERO },
            completions,
            batch: BATCH_WAIT,
            gathers: if sleeps { Gathers::Nothing } else { self.gathers() },
        };
        let result = self.ring.enter(wait);
        self.post.wake_up();
        result
    }

    /// How long nothing can be done.
    fn sleep_time(&self) -> Duration {
        let has_to_receive = !self.to_receive.is_empty() || !self.door.is_empty();
        let can_receive = has_to_receive && self.to_push.is_empty();
        let hub = &self.world.hub;
        let looks_on = hub.has_channels_to_look_at() || hub.is_trimming();
        if self.drain_next.is_some() || self.timers_wait || looks_on {
            return Duration::ZERO;
        }
        let tries_on = can_receive || self.held.goes_on();
        if tries_on || !self.to_flush.is_empty() || self.gathers_for > 0 {
            return Duration::ZERO;
        }
        let mut next_timer = self.wheel.next_after(self.world.now.monotonic);
        if let Some(due_after) = self.world.hub.readers().due_after() {
            next_timer = next_timer.min(due_after);
        }
        if let Some(rests_for) = self.acceptor.rests_for(self.world.now.monotonic) {
            next_timer = next_timer.min(rests_for);
        }
        let waits_for_room =
            !self.to_push.is_empty() || !self.held.is_empty() || self.world.has_mail();
        if waits_for_room { next_timer.min(RETRY_WAIT) } else { next_timer }
    }

    /// Says how many there were; as many as a turn takes may not be all.
    #[inline(never)]
    fn route_completions(&mut self) -> u32 {
        let mut count = 0;
        loop {
            count += self.answer_received(COMPLETIONS_PER_TURN - count);
            if count == COMPLETIONS_PER_TURN {
                break;
            }
            let Some(completion) = self.ring.pop() else { break };
            count += 1;
            self.route(completion);
        }
        self.recent_completions = count.max(self.recent_completions - self.recent_completions / 8);
        count
    }

    /// What many completions are; the others are for [`Self::route_rare`].
    #[inline(never)]
    fn route(&mut self, completion: Completion) {
        match completion {
            Completion::Readable { token, more, failure, hung_up } => {
                if more && failure.is_none() {
                    self.on_readable(token, hung_up);
                } else {
                    self.on_poll_ended(token, more, failure);
                }
            }
            Completion::Received { token, result, nonempty } => match result {
                Ok(lease) => self.on_received(token, lease, nonempty),
                Err(failure) => self.on_receive_failed(token, failure),
            },
            other => self.route_rare(other),
        }
    }

    #[inline(never)]
    fn route_rare(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, socket } => self.on_accepted(listener, socket),
            Completion::AcceptEnded { listener, failure, .. } => {
                self.acceptor.on_ended(listener, failure, self.world.now.monotonic);
            }
            Completion::PeerAddress { token, address } => {
                if let Some(peer) = self.peers.get_mut(token) {
                    let mut context = self.world.context(token);
                    let address = address.map(|address| *address);
                    session::on_peer_address(&mut peer.connection, address, &mut context);
                }
                self.arm_poll(token);
            }
            Completion::Writable { token } => {
                if let Some(peer) = self.peers.get_mut(token) {
                    peer.writable_armed = false;
                    self.queue_flush(token);
                }
            }
            Completion::ReceivedMany { token, lease, more } => {
                self.on_received_many(token, lease, more);
            }
            Completion::ReceiveManyEnded { token, failure } => {
                self.on_receive_many_ended(token, failure);
            }
            Completion::SentShort { token, result, unsent } => {
                self.on_sent_short(token, result, unsent);
            }
            Completion::ShutDown { token } => self.on_shut_down(token),
            Completion::Closed { token, socket } => self.on_closed(token, socket),
            // Mail is looked at in every turn; the others are the frequent ones.
            Completion::Doorbell | Completion::Readable { .. } | Completion::Received { .. } => {}
        }
    }

    fn on_accepted(&mut self, listener: ListenerId, socket: Socket) {
        self.acceptor.on_accepted(socket, &mut self.ring);
        let info = self.acceptor.info(listener);
        if !self.world.draining
            && let Err(full) = self.admit()
        {
            self.refuse(socket, info, full);
            return;
        }
        let counters = self.world.counters();
        let protocol = if info.proxy_protocol {
            Protocol::Proxied(info.role)
        } else {
            Protocol::new(info.role)
        };
        let mut connection = Connection::new(
            protocol,
            info.is_local,
            self.world.transport,
            self.world.now.monotonic,
        );
        connection.is_proxy = info.is_proxy;
        let armed = Armed::default();
        if self.world.draining {
            self.push(Op::Close { socket, token: Key::NONE, armed });
            return;
        }
        match self.peers.insert(Peer::new(socket, connection)) {
            Ok(key) => {
                counters.accepted.add(1);
                counters.connections.set(self.peers.len() as u64);
                if self.door.is_full() {
                    self.turn_away(key);
                    return;
                }
                self.wheel.schedule(key, first_deadline_ms(), self.world.now.monotonic);
                if info.asks_address {
                    // Nothing is read before it is known who speaks.
                    self.push(Op::PeerAddress { socket, token: key });
                } else {
                    self.greet(key);
                }
            }
            Err(_) => {
                counters.refused_full.add(1);
                self.push(Op::Close { socket, token: Key::NONE, armed });
            }
        }
    }

    /// What a session may have changed: its timer, what is to be sent, whether it is read.
    fn after_session(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(at) = peer.connection.wake_ms.take() {
            let after_ms = u64::from(at.get().wrapping_sub(self.world.now_ms));
            self.wheel.bring_forward(key, after_ms, self.world.now.monotonic);
        }
        if peer.connection.hold == Hold::Congestion && !peer.held {
            peer.held = true;
            self.held.push(key);
            self.world.counters().publishers_held.add(1);
        }
        if (peer.receives_many_now() && !peer.connection.wants_input()) || peer.floods() {
            // The kernel would go on filling the inbox, or fill every buffer from this one.
            self.end_receive_many(key);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.flush_queued {
            peer.flush_queued = true;
            self.to_flush.push(key);
        }
    }

    /// The socket is of no more use.
    fn end(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.connection.stage = Stage::Dead;
            peer.resend = None;
            peer.connection.outbox.clear();
            self.close(key);
        }
    }

    /// The socket is of no more use, because an op failed. That peers go is nothing to tell of; that the kernel cannot
    /// do what it is asked for is.
    #[cold]
    fn fail(&mut self, key: Key, failure: Failure, op: &'static str) {
        let is_usual = matches!(failure, Failure::Disconnected | Failure::Canceled);
        let now_ms = self.world.now.monotonic.as_millis();
        if !is_usual && let Some(connections) = self.failed.note(now_ms) {
            let address = self.world.address_of(key);
            tracing::warn!(connection = ?key, ?address, ?failure, op, connections, "connections failed");
        }
        self.end(key);
    }

    /// Pushes an op now, or as soon as there is room.
    fn push(&mut self, op: Op) {
        if !self.to_push.is_empty() {
            self.to_push.push_back(op);
            return;
        }
        if let Err(refused) = self.ring.push(op) {
            self.to_push.push_back(refused.op);
        }
    }

    fn push_waiting_ops(&mut self) {
        while let Some(op) = self.to_push.pop_front() {
            if let Err(refused) = self.ring.push(op) {
                self.to_push.push_front(refused.op);
                return;
            }
        }
    }

    fn receive_mail(&mut self) {
        #[cfg(planted = "mail_waits_for_room")]
        if self.world.has_mail() {
            return;
        }
        for _ in 0..MAIL_PER_TURN {
            let Some(mail) = self.post.receive() else { break };
            match mail {
                Mail::Drain => self.drain(),
                mail => self.world.receive(mail),
            }
        }
    }

    fn send_mail(&mut self) {
        self.world.send_mail(&mut self.post);
        // What leaves makes room for what was held back.
        self.world.hub.tell_behind();
        self.world.send_mail(&mut self.post);
        self.post.ring_doorbells();
    }

    fn fire_timers(&mut self) {
        let now = self.world.now.monotonic;
        self.timers_wait = false;
        for fired in 0.. {
            if fired == TIMERS_PER_TURN {
                self.timers_wait = true;
                return;
            }
            let Some(key) = self.wheel.expire(now) else { return };
            let Some(peer) = self.peers.get_mut(key) else { continue };
            if peer.is_stalled(now) {
                self.world.counters().stalled_closes.add(1);
                self.end(key);
                continue;
            }
            let cooled = peer.has_cooled(now);
            let is_hot = peer.receives_many_now() && !cooled;
            let next_ms = session::on_timer(&mut peer.connection, &mut self.world.context(key));
            let next_ms = if is_hot { next_ms.min(HOT_LOOK_MS) } else { next_ms };
            // The session knows nothing of a send that stalls.
            let next_ms = peer.stalls_in_ms(now).map_or(next_ms, |stall| next_ms.min(stall));
            if cooled {
                self.end_receive_many(key);
            }
            self.wheel.schedule(key, next_ms.max(TIMER_TICK_MS), now);
            self.after_session(key);
        }
    }

    fn pass_events(&mut self) {
        while let Some(event) = self.world.hub.poll_event() {
            match event {
                HubEvent::Resolved(found) => {
                    let key = found.sink.connection;
                    self.with_session(key, |connection, context| {
                        session::on_resolved(connection, &found, context);
                    });
                }
                HubEvent::Refused { sink } => {
                    self.tell_of_refused_subscription();
                    self.with_session(sink.connection, session::on_subscribe_refused);
                }
                HubEvent::Published { connection, result } => {
                    self.with_session(connection, |connection, context| {
                        session::on_published(connection, result, context);
                    });
                }
                HubEvent::Gap { sink, format, position } => {
                    self.with_session(sink.connection, |connection, context| {
                        session::on_gap(connection, format, position, context);
                    });
                }
            }
        }
        while let Some(event) = self.world.live.poll_event() {
            match event {
                LiveEvent::Opened { connection, stream, accepted } => {
                    self.world.on_opened(connection, &stream, accepted);
                    self.with_session(connection, |connection, context| {
                        session::on_publisher_answer(connection, &stream, accepted, context);
                    });
                    self.read_on(connection);
                }
                LiveEvent::Changed { connection, stream } => {
                    self.with_session(connection, |connection, context| {
                        session::on_live(connection, &stream, context);
                    });
                }
            }
        }
    }

    #[cold]
    fn tell_of_refused_subscription(&mut self) {
        let now_ms = self.world.now.monotonic.as_millis();
        if let Some(subscriptions) = self.refused_subscriptions.note(now_ms) {
            let reason = "as many channels are at home on one shard as may be";
            tracing::warn!(subscriptions, reason, "subscriptions are refused");
        }
    }

    fn with_session(
        &mut self,
        key: Key,
        on_event: impl FnOnce(&mut Connection, &mut session::Context<'_>),
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.closing {
            return;
        }
        on_event(&mut peer.connection, &mut self.world.context(key));
        if peer.connection.hold == Hold::None && !peer.connection.inbox.is_empty() {
            peer.inbox_waits = true;
        }
        self.after_session(key);
    }

    fn count_ring(&self) {
        let ring = self.ring.counters();
        let counters = self.world.counters();
        counters.enters.set(ring.enters);
        counters.submitted.set(ring.submitted);
        counters.completed.set(ring.completed);
        counters.overflows.set(ring.overflows);
        counters.leases_out.set(ring.leases_out);
        counters.bytes_out.set(ring.bytes_sent);
        let mail = self.post.totals();
        counters.mail_sent.set(mail.messages);
        counters.doorbells.set(mail.doorbells);
        self.world.count_deflate();
    }

    fn tick(&mut self) {
        self.world.tick();
        let bytes = self.scan_memory();
        self.world.counters().user_bytes.set(bytes);
        // Tables that have grown are visited with fewer page walks from now on.
        self.peers.collapse(HUGE_PAGES_A_SECOND);
        self.world.hub.fanout().collapse(HUGE_PAGES_A_SECOND);
    }
}

/// Until a new connection must have said something.
const fn first_deadline_ms() -> u64 {
    crate::limits::HTTP_HEAD_MS
}

#[cfg(test)]
mod tests;
