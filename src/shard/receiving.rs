//! The receiving half of a turn: what became readable, what arrived, what is read on.
//!
//! A connection is received from when the kernel said that there may be something and its session
//! wants it; what arrived goes to the session at once and the lease goes back in the same turn.

use super::Shard;
use super::peer::{End, Many};
use super::world::World;
use crate::connection::{Hold, Stage};
use crate::limits::{
    HOT_LOOK_MS, HOT_RECEIVE_BYTES_MAX, INBOX_BYTES_MAX, LEAVERS_PER_TURN, NEWCOMERS_PER_TURN,
    RECEIVES_PER_TURN,
};
use crate::memory::{Key, Lease};
use crate::ring::{Failure, Op, Refusal, Ring};
use crate::session;

impl<R: Ring> Shard<R> {
    pub(super) fn arm_poll(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(key)
            && !peer.poll_armed
            && !peer.receives_many_now()
            && !peer.closing
        {
            peer.poll_armed = true;
            let socket = peer.socket;
            self.push(Op::Poll { socket, token: key });
        }
    }

    #[inline(never)]
    pub(super) fn on_readable(&mut self, key: Key, hung_up: bool) {
        let Self { ring, peers, to_receive, to_push, door, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        peer.readable = true;
        if hung_up && peer.end == End::NotYet {
            peer.end = End::Told;
        }
        if !peer.may_receive() || peer.receive_queued {
            return;
        }
        if hung_up || peer.connection.protocol.is_newcomer() {
            peer.receive_queued = true;
            door.queue(key, hung_up);
            return;
        }
        // Those who wait for a lease or for room come first.
        let is_free = to_receive.is_empty()
            && door.is_empty()
            && to_push.is_empty()
            && !peer.receives_many()
            && !peer.inbox_waits;
        if is_free && ring.receive(peer.socket, key).is_ok() {
            peer.readable = false;
            peer.receiving = true;
        } else {
            peer.receive_queued = true;
            to_receive.push_back(key);
        }
    }

    #[inline(never)]
    pub(super) fn on_poll_ended(&mut self, key: Key, more: bool, failure: Option<Failure>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.readable |= failure.is_none();
        if !more {
            peer.poll_armed = false;
            // A poll ends by itself when completions overflow; one that failed says no more about
            // the socket than a receive will.
            peer.readable |= failure.is_some_and(|failure| failure != Failure::Canceled);
            self.arm_poll(key);
        }
        self.queue_receive(key);
    }

    #[inline(never)]
    pub(super) fn on_received(&mut self, key: Key, lease: Lease, nonempty: bool) {
        let Some(peer) = self.peers.get_mut(key) else {
            self.ring.release(lease);
            return;
        };
        peer.receiving = false;
        // Of a socket of a path the kernel does not count the end as something that is still there.
        let goes_on = nonempty || peer.end == End::Told;
        peer.readable |= goes_on && !lease.filled().is_empty();
        self.feed(key, lease);
    }

    /// Answers what needs nothing but an answer: whole messages of hot connections that concern nobody
    /// else. Says how many receives that were.
    #[inline(always)]
    pub(super) fn answer_received(&mut self, most: u32) -> u32 {
        let Self { ring, peers, world, to_flush, answered_bytes, .. } = self;
        let World { arena, own, settings, now_ms, .. } = world;
        let counters = &own.counters;
        ring.answer_received(most, |key, bytes| {
            let Some(peer) = peers.get_mut(key) else { return false };
            let connection = &mut peer.connection;
            let is_usual = bytes.len() <= HOT_RECEIVE_BYTES_MAX
                && connection.inbox.is_empty()
                && connection.transport.is_plain();
            if !is_usual {
                return false;
            }
            *answered_bytes = session::answer(connection, bytes, arena, counters, settings);
            if *answered_bytes < bytes.len() {
                return false;
            }
            *answered_bytes = 0;
            counters.bytes_in.add(bytes.len() as u64);
            connection.heard_ms = *now_ms;
            if !peer.flush_queued {
                peer.flush_queued = true;
                to_flush.push(key);
            }
            true
        })
    }

    #[inline(never)]
    pub(super) fn on_received_many(&mut self, key: Key, lease: Lease, more: bool) {
        self.feed(key, lease);
        if !more {
            self.on_receive_many_ended(key, Some(Failure::NoBuffers));
        }
    }

    pub(super) fn on_receive_failed(&mut self, key: Key, failure: Failure) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.receiving = false;
        match failure {
            // Completions of a socket keep their order, so a poll that saw what comes after this
            // receive is told after it and queues another.
            Failure::WouldBlock | Failure::NoBuffers | Failure::Canceled => {}
            _ => self.fail(key, failure, "receive"),
        }
    }

    /// A multishot receive ended: with its last bytes, at the end of the stream, for want of buffers,
    /// because it was told to, or because the connection failed.
    #[inline(never)]
    pub(super) fn on_receive_many_ended(&mut self, key: Key, failure: Option<Failure>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.many = Many::No;
        // No poll is armed beside it, so there may be more that nobody tells of.
        peer.readable = true;
        match failure {
            // What came before the end is not read yet; the end is found again after it.
            None if !peer.connection.wants_input() && !peer.connection.inbox.is_empty() => {}
            None => self.on_end_of_stream(key),
            Some(Failure::Canceled) => peer.streak = 0,
            Some(Failure::WouldBlock | Failure::NoBuffers) => {}
            Some(failure) => self.fail(key, failure, "receive"),
        }
        self.queue_receive(key);
        let Some(peer) = self.peers.get(key) else { return };
        if !peer.receives_many() && peer.end != End::Read {
            self.arm_poll(key);
        }
    }

    /// Gives what arrived to the session.
    pub(super) fn feed(&mut self, key: Key, mut lease: Lease) {
        let Self { ring, peers, world, storage, to_flush, to_receive, answered_bytes, .. } = self;
        let Some(peer) = peers.get_mut(key) else {
            ring.release(lease);
            return;
        };
        let bytes = lease.filled_mut();
        if bytes.is_empty() || !peer.connection.inbox.is_empty() {
            return self.feed_inbox(key, lease);
        }
        world.counters().bytes_in.add(bytes.len() as u64);
        peer.heard(world.now_ms, bytes.len());
        let floods = peer.floods();
        let connection = &mut peer.connection;
        connection.transport.open(bytes);
        let World { arena, own, settings, .. } = world;
        let mut consumed = std::mem::take(answered_bytes);
        if consumed == 0 {
            consumed = session::answer(connection, bytes, arena, &own.counters, settings);
        }
        if consumed < bytes.len() {
            let rest = &mut bytes[consumed..];
            consumed += session::receive(connection, rest, storage, &mut world.context(key));
        }
        let is_plain = consumed == bytes.len()
            && !floods
            && connection.wake_ms.is_none()
            && connection.hold == Hold::None
            && connection.wants_input();
        if !is_plain {
            connection.inbox.push(&bytes[consumed..]);
            peer.inbox_waits = !connection.wants_input();
            ring.release(lease);
            self.after_session(key);
            self.queue_receive(key);
            return;
        }
        peer.inbox_waits = false;
        ring.release(lease);
        if !peer.flush_queued {
            peer.flush_queued = true;
            to_flush.push(key);
        }
        if peer.readable && peer.may_receive() && !peer.receive_queued {
            peer.receive_queued = true;
            to_receive.push_back(key);
        }
    }

    /// Adds what arrived to what was kept, and lets the session read; nothing is the end.
    #[inline(never)]
    fn feed_inbox(&mut self, key: Key, mut lease: Lease) {
        let Some(peer) = self.peers.get_mut(key) else {
            self.ring.release(lease);
            return;
        };
        let bytes = lease.filled_mut();
        if bytes.is_empty() {
            self.ring.release(lease);
            self.on_end_of_stream(key);
            return;
        }
        self.world.counters().bytes_in.add(bytes.len() as u64);
        peer.heard(self.world.now_ms, bytes.len());
        let connection = &mut peer.connection;
        connection.transport.open(bytes);
        connection.inbox.push(bytes);
        self.ring.release(lease);
        self.read_inbox(key);
        let kept = self.peers.get(key).map_or(0, |peer| peer.connection.inbox.len());
        if kept > INBOX_BYTES_MAX {
            tracing::warn!(connection = ?key, kept, "a peer sent on although it was not read");
            self.world.counters().protocol_errors.add(1);
            self.end(key);
            return;
        }
        self.after_session(key);
        self.queue_receive(key);
    }

    /// Lets the session read what was kept.
    pub(super) fn read_inbox(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let connection = &mut peer.connection;
        let Some(mut kept) = connection.inbox.take() else { return };
        let mut context = self.world.context(key);
        let consumed = session::receive(connection, &mut kept, &mut self.storage, &mut context);
        connection.inbox.put_back(kept, consumed);
        peer.inbox_waits = !connection.wants_input();
    }

    pub(super) fn on_end_of_stream(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.end == End::Read {
            return;
        }
        peer.end = End::Read;
        if peer.connection.stage == Stage::Lingering {
            peer.connection.stage = Stage::Dead;
        } else {
            session::on_end_of_stream(&mut peer.connection, &mut self.world.context(key));
        }
        self.after_session(key);
    }

    /// Receives in this turn, or in the next that can.
    pub(super) fn queue_receive(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.may_receive() && !peer.receive_queued {
            peer.receive_queued = true;
            if peer.connection.protocol.is_newcomer() {
                self.door.queue(key, false);
            } else {
                self.to_receive.push_back(key);
            }
        }
    }

    /// Starts the receives that were queued, as far as there are leases: first those of connections that
    /// were here before, then so many of those that come, and of those that go.
    pub(super) fn start_receives(&mut self) {
        for _ in 0..RECEIVES_PER_TURN.min(self.to_receive.len()) {
            let Some(key) = self.to_receive.pop_front() else { break };
            if let Err(reason) = self.start_receive(key) {
                self.to_receive.push_front(key);
                if reason == Refusal::NoLease {
                    break;
                }
            }
        }
        for _ in 0..self.budget(NEWCOMERS_PER_TURN).min(self.door.newcomers.len()) {
            let Some(key) = self.door.newcomers.pop_front() else { break };
            if self.start_receive(key).is_err() {
                self.door.newcomers.push_front(key);
                break;
            }
            // Only now: a poll that was armed before the receive would tell of what that takes.
            self.arm_poll(key);
        }
        for _ in 0..self.budget(LEAVERS_PER_TURN).min(self.door.leavers.len()) {
            let Some(key) = self.door.leavers.pop_front() else { break };
            if self.start_receive(key).is_err() {
                self.door.leavers.push_front(key);
                break;
            }
        }
        self.answer_turned_away();
    }

    /// The queued receive of a connection, if it still wants it.
    fn start_receive(&mut self, key: Key) -> Result<(), Refusal> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        peer.receive_queued = false;
        if !peer.may_receive() {
            return Ok(());
        }
        if peer.inbox_waits && !peer.connection.inbox.is_empty() {
            // What is kept is read first: a full inbox must not get another pool of buffers.
            self.resume(key);
            return Ok(());
        }
        peer.readable = false;
        if peer.receives_many() {
            self.receive_many(key);
            return Ok(());
        }
        match self.ring.receive(peer.socket, key) {
            Ok(()) => {
                peer.receiving = true;
                Ok(())
            }
            Err(reason) => {
                peer.readable = true;
                peer.receive_queued = true;
                Err(reason)
            }
        }
    }

    /// From now on the kernel picks the buffers. The poll would say the same again.
    fn receive_many(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (socket, polled) = (peer.socket, peer.poll_armed);
        peer.many = Many::Armed;
        self.wheel.bring_forward(key, HOT_LOOK_MS, self.world.now.monotonic);
        if polled {
            self.push(Op::CancelPoll { socket, token: key });
        }
        self.push(Op::ReceiveMany { socket, token: key });
    }

    /// Ends a multishot receive; what comes until then is kept.
    pub(super) fn end_receive_many(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.many == Many::Armed && !peer.closing {
            peer.many = Many::Ending;
            let socket = peer.socket;
            self.push(Op::CancelReceiveMany { socket, token: key });
        }
    }

    /// Reads on where congestion had stopped it, of some in each turn: what each has in its inbox is published.
    pub(super) fn release_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        for _ in 0..self.held.begin_turn() {
            let Some(key) = self.held.pop() else { break };
            let Some(peer) = self.peers.get_mut(key) else { continue };
            peer.held = false;
            if peer.connection.hold == Hold::Congestion {
                peer.connection.hold = Hold::None;
                peer.readable = true;
                self.read_inbox(key);
                self.after_session(key);
                self.queue_receive(key);
            }
        }
    }

    /// Lets a session read what it could not before an answer came.
    pub(super) fn read_on(&mut self, key: Key) {
        self.read_inbox(key);
        self.after_session(key);
        self.queue_receive(key);
    }
}
