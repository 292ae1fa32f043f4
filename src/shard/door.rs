//! Who comes and who goes: connections that were not answered yet, those of which it is known that they
//! end, and those that are closed.
//!
//! In: their keys. Out: the same, oldest first, some in each turn (`receiving`), after the connections
//! that were here before. Invariants: of those that come no more wait than can be served in their time;
//! the others get an answer that says so, without a parser, a timer or a poll. The kernel is asked to close
//! so many at a time: what a close leaves it to do comes before whatever arrives later. Not here: whether
//! there is memory for them.

use super::Shard;
use crate::connection::Stage;
use crate::limits::{CLOSES_IN_FLIGHT_MAX, NEWCOMERS_RETRY_SECONDS, NEWCOMERS_WAITING_MAX};
use crate::memory::{Key, Spans};
use crate::ring::{Op, Ring, Socket};
use crate::session::{self, Protocol};
use http1::response::ErrorResponse;
use std::collections::VecDeque;

/// Queues of receives that come after those of others.
#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) newcomers: VecDeque<Key>,
    pub(super) leavers: VecDeque<Key>,
    /// Those who are told to come back later.
    turned_away: VecDeque<Key>,
    /// How many the kernel was asked to close and has not.
    closing: usize,
    /// Those whose turn has not come.
    to_close: VecDeque<Key>,
}

impl Door {
    pub(super) fn queue(&mut self, key: Key, leaves: bool) {
        let queue = if leaves { &mut self.leavers } else { &mut self.newcomers };
        queue.push_back(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.leavers.is_empty() && self.turned_away.is_empty()
    }

    /// Whether one more would wait too long.
    pub(super) fn is_full(&self) -> bool {
        self.newcomers.len() >= NEWCOMERS_WAITING_MAX
    }
}

impl<R: Ring> Shard<R> {
    /// Closes a connection, now or when others are closed; nothing is pushed for it but that.
    pub(super) fn close(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.closing {
            return;
        }
        peer.connection.stage = Stage::Dead;
        if peer.shutting {
            // Its completion closes.
            return;
        }
        peer.closing = true;
        session::on_closed(&mut peer.connection, &mut self.world.context(key));
        self.door.to_close.push_back(key);
        self.close_next();
    }

    fn close_next(&mut self) {
        while self.door.closing < CLOSES_IN_FLIGHT_MAX
            && let Some(key) = self.door.to_close.pop_front()
        {
            let Some(peer) = self.peers.get(key) else { continue };
            let (socket, armed) = (peer.socket, peer.armed());
            self.door.closing += 1;
            self.push(Op::Close { socket, token: key, armed });
        }
    }

    pub(super) fn on_closed(&mut self, key: Key, socket: Socket) {
        self.acceptor.on_closed(socket);
        self.wheel.cancel(key);
        if let Some(peer) = self.peers.remove(key) {
            self.governed.on_closed(&peer);
            self.door.closing -= 1;
            self.close_next();
        }
        self.world.counters().connections.set(self.peers.len() as u64);
    }

    /// Receives in one of the next turns, without being told that there is something: accepts wait until
    /// a peer has spoken. What comes later the poll tells, which is armed behind that receive.
    pub(super) fn greet(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.readable = true;
        peer.receive_queued = true;
        self.door.queue(key, false);
    }

    /// More come than can be served in their time: this one is told to come back later.
    pub(super) fn turn_away(&mut self, key: Key) {
        self.world.counters().shed_newcomers.add(1);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.connection.stage = Stage::Dead;
        }
        if self.door.turned_away.len() < NEWCOMERS_WAITING_MAX {
            self.door.turned_away.push_back(key);
        } else {
            // Even for that there is no time.
            self.close(key);
        }
    }

    /// Tells those who were turned away, as far as there are leases. What they said is taken first,
    /// because a close with unread bytes is a reset, which may overtake the answer (RFC 9112 9.6).
    pub(super) fn answer_turned_away(&mut self) {
        while let Some(key) = self.door.turned_away.pop_front() {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            if peer.closing {
                // A drain was first.
                continue;
            }
            let (socket, speaks_http) =
                (peer.socket, matches!(peer.connection.protocol, Protocol::Http(_)));
            if self.ring.receive(socket, key).is_err() {
                self.door.turned_away.push_front(key);
                return;
            }
            peer.receiving = true;
            if speaks_http {
                let context = self.world.context(key);
                let retry = NEWCOMERS_RETRY_SECONDS.to_string();
                let headers = [("Retry-After", retry.as_str())];
                let text = "too many connect at one time; come back later";
                let answer = ErrorResponse {
                    headers: &headers,
                    ..ErrorResponse::closing(503, "busy", text)
                };
                context.scratch.clear();
                answer.write(context.scratch, context.date);
                let mut spans = Spans::new();
                spans.push(context.arena.append(&[context.scratch]));
                // Without room for it the connection closes without a word.
                drop(self.ring.send(socket, key, spans));
            }
            self.close(key);
        }
    }
}
