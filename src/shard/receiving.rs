//! The receiving half of a turn: what became readable, what arrived, what is read on.
//!
//! A connection is received from when the kernel said that there may be something and its session
//! wants it; what arrived goes to the session at once and the lease goes back in the same turn.

use super::Shard;
use crate::connection::{Hold, Stage};
use crate::limits::{INBOX_BYTES_MAX, RECEIVES_PER_TURN};
use crate::memory::{Key, Lease};
use crate::ring::{Failure, Op, Refusal, Ring};
use crate::session;

impl<R: Ring> Shard<R> {
    pub(super) fn arm_poll(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(key)
            && !peer.poll_armed
            && !peer.closing
        {
            peer.poll_armed = true;
            let socket = peer.socket;
            self.push(Op::Poll { socket, token: key });
        }
    }

    pub(super) fn on_readable(&mut self, key: Key, more: bool, failure: Option<Failure>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if failure.is_none() {
            peer.readable = true;
        }
        if !more {
            peer.poll_armed = false;
            // A poll ends by itself when completions overflow; one that failed says no more about
            // the socket than a receive will.
            if failure.is_some_and(|failure| failure != Failure::Canceled) {
                peer.readable = true;
            }
            self.arm_poll(key);
        }
        self.queue_receive(key);
    }

    pub(super) fn on_received(&mut self, key: Key, result: Result<Lease, Failure>, nonempty: bool) {
        let Some(peer) = self.peers.get_mut(key) else {
            if let Ok(lease) = result {
                self.ring.release(lease);
            }
            return;
        };
        peer.receiving = false;
        match result {
            Ok(lease) => {
                peer.readable |= nonempty && !lease.filled().is_empty();
                self.feed(key, lease);
                self.queue_receive(key);
            }
            // Completions of a socket keep their order, so a poll that saw what comes after this
            // receive is told after it and queues another.
            Err(Failure::WouldBlock | Failure::NoBuffers | Failure::Canceled) => {}
            Err(_) => self.end(key),
        }
    }

    pub(super) fn on_received_many(
        &mut self,
        key: Key,
        result: Result<Option<Lease>, Failure>,
        more: bool,
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            if let Ok(Some(lease)) = result {
                self.ring.release(lease);
            }
            return;
        };
        if !more {
            peer.many_armed = false;
        }
        match result {
            Ok(Some(lease)) => self.feed(key, lease),
            Ok(None) => self.on_end_of_stream(key),
            Err(Failure::WouldBlock | Failure::NoBuffers | Failure::Canceled) => {
                peer.readable = true;
            }
            Err(_) => self.end(key),
        }
        self.queue_receive(key);
    }

    /// Gives what arrived to the session.
    pub(super) fn feed(&mut self, key: Key, mut lease: Lease) {
        let Some(peer) = self.peers.get_mut(key) else {
            self.ring.release(lease);
            return;
        };
        let length = lease.filled().len();
        if length == 0 {
            self.ring.release(lease);
            self.on_end_of_stream(key);
            return;
        }
        self.world.counters().bytes_in.add(length as u64);
        let connection = &mut peer.connection;
        connection.heard_ms = self.world.now.monotonic.as_millis() as u32;
        let bytes = lease.filled_mut();
        connection.transport.open(bytes);
        if connection.inbox.is_empty() {
            let mut context = self.world.context(key);
            let consumed = session::receive(connection, bytes, &mut self.storage, &mut context);
            connection.inbox.push(&lease.filled()[consumed..]);
            peer.inbox_waits = !connection.wants_input();
        } else {
            connection.inbox.push(bytes);
            self.read_inbox(key);
        }
        self.ring.release(lease);
        let kept = self.peers.get(key).map_or(0, |peer| peer.connection.inbox.len());
        if kept > INBOX_BYTES_MAX {
            tracing::warn!(connection = ?key, kept, "a peer sent on although it was not read");
            self.world.counters().protocol_errors.add(1);
            self.end(key);
            return;
        }
        self.after_session(key);
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
        if peer.ended {
            return;
        }
        peer.ended = true;
        if peer.connection.stage == Stage::Lingering {
            peer.connection.stage = Stage::Dead;
        } else {
            session::on_end_of_stream(&mut peer.connection, &mut self.world.context(key));
        }
        self.after_session(key);
    }

    pub(super) fn queue_receive(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.may_receive() && !peer.receive_queued {
            peer.receive_queued = true;
            self.to_receive.push_back(key);
        }
    }

    pub(super) fn start_receives(&mut self) {
        for _ in 0..RECEIVES_PER_TURN.min(self.to_receive.len()) {
            let Some(key) = self.to_receive.pop_front() else { break };
            let Some(peer) = self.peers.get_mut(key) else { continue };
            peer.receive_queued = false;
            if !peer.may_receive() {
                continue;
            }
            peer.readable = false;
            let socket = peer.socket;
            if peer.connection.protocol.is_heavy() && peer.connection.transport.is_plain() {
                peer.many_armed = true;
                self.push(Op::ReceiveMany { socket, token: key });
                continue;
            }
            match self.ring.push(Op::Receive { socket, token: key }) {
                Ok(()) => peer.receiving = true,
                Err(refused) => {
                    peer.readable = true;
                    peer.receive_queued = true;
                    self.to_receive.push_front(key);
                    if refused.reason == Refusal::NoLease {
                        break;
                    }
                }
            }
        }
    }

    /// Reads on where congestion had stopped it.
    pub(super) fn release_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        for key in held {
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
