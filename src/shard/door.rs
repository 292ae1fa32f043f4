//! Who comes and who goes: connections that were not answered yet, and those of which it is known that
//! they end.
//!
//! In: their keys. Out: the same, oldest first, some in each turn (`receiving`), after the connections
//! that were here before. Invariant: of those that come no more wait than can be served in their time;
//! the others get an answer that says so, without a parser, a timer or a poll. Not here: whether there is
//! memory for them.

use super::Shard;
use crate::connection::{Role, Stage};
use crate::limits::{NEWCOMERS_RETRY_SECONDS, NEWCOMERS_WAITING_MAX};
use crate::memory::{Key, Spans};
use crate::ring::{Armed, Op, Ring};
use http1::response::ErrorResponse;
use std::collections::VecDeque;

/// Queues of receives that come after those of others.
#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) newcomers: VecDeque<Key>,
    pub(super) leavers: VecDeque<Key>,
}

impl Door {
    pub(super) fn queue(&mut self, key: Key, leaves: bool) {
        let queue = if leaves { &mut self.leavers } else { &mut self.newcomers };
        queue.push_back(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.leavers.is_empty()
    }

    /// Whether one more would wait too long.
    pub(super) fn is_full(&self) -> bool {
        self.newcomers.len() >= NEWCOMERS_WAITING_MAX
    }
}

impl<R: Ring> Shard<R> {
    /// Tells a new connection to come back later, and closes it. What it said is taken first, because a
    /// close with unread bytes is a reset, which may overtake the answer (RFC 9112 9.6).
    pub(super) fn shed(&mut self, key: Key, role: Role) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let socket = peer.socket;
        peer.connection.stage = Stage::Dead;
        peer.receiving = self.ring.receive(socket, key).is_ok();
        peer.closing = true;
        if role == Role::Http {
            let context = self.world.context(key);
            let retry = NEWCOMERS_RETRY_SECONDS.to_string();
            let text = "too many connect at one time; come back later";
            let headers = [("Retry-After", retry.as_str())];
            let answer =
                ErrorResponse { headers: &headers, ..ErrorResponse::closing(503, "busy", text) };
            context.scratch.clear();
            answer.write(context.scratch, context.date);
            let mut spans = Spans::new();
            spans.push(context.arena.append(&[context.scratch]));
            // Without room for it the connection closes without a word.
            drop(self.ring.send(socket, key, spans));
        }
        self.push(Op::Close { socket, token: key, armed: Armed::default() });
    }
}
