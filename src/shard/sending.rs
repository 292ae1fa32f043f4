//! The sending half of a turn: fan-out, flushing, what a send left over, the end of a connection.
//!
//! Everything for one peer leaves in one send: what a short send left, then replies, then
//! publications pulled from their logs. One send is in flight per socket.

use super::Shard;
use crate::connection::Stage;
use crate::limits::{LINGER_MS, PULL_BYTES_MAX, SINKS_PER_TURN};
use crate::memory::{Key, Spans};
use crate::ring::{Failure, Op, Ring};
use crate::session;

impl<R: Ring> Shard<R> {
    pub(super) fn queue_flush(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(key)
            && !peer.flush_queued
        {
            peer.flush_queued = true;
            self.to_flush.push(key);
        }
    }

    pub(super) fn fan_out(&mut self) {
        for _ in 0..SINKS_PER_TURN {
            let Some(sink) = self.world.hub.fanout().next_due() else { break };
            self.flush(sink.connection);
        }
    }

    pub(super) fn flush_all(&mut self) {
        let mut keys = std::mem::take(&mut self.to_flush);
        for key in keys.drain(..) {
            self.flush(key);
        }
        // Flushing may have queued connections again; they come in the next turn.
        keys.append(&mut self.to_flush);
        self.to_flush = keys;
    }

    /// Sends what a connection has, unless a send is in flight.
    #[inline(always)]
    pub(super) fn flush(&mut self, key: Key) {
        let Self { ring, peers, to_push, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        peer.flush_queued = false;
        if peer.closing || peer.sending || peer.writable_armed {
            return;
        }
        let connection = &mut peer.connection;
        let has_only_replies = connection.subscriptions == crate::fanout::NO_SUBSCRIPTION
            && connection.stage == Stage::Open
            && connection.transport.is_plain()
            && peer.resend.is_none()
            && !connection.outbox.is_empty();
        if !has_only_replies || !to_push.is_empty() {
            return self.flush_all_kinds(key);
        }
        peer.sending = true;
        let spans = connection.outbox.take();
        if let Err(refused) = ring.send(peer.socket, key, spans) {
            to_push.push_back(refused.op);
        }
    }

    #[inline(never)]
    fn flush_all_kinds(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.connection.stage == Stage::Dead {
            self.close(key);
            return;
        }
        if peer.connection.unresolved > 0 && peer.connection.stage == Stage::Open {
            return;
        }
        let spans = match peer.resend.take() {
            Some(rest) => *rest,
            None => self.gather(key),
        };
        if spans.is_empty() {
            self.on_all_sent(key);
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.sending = true;
        let socket = peer.socket;
        self.push(Op::Send { socket, token: key, spans });
    }

    /// There is nothing to send.
    fn on_all_sent(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match peer.connection.stage {
            Stage::Closing if peer.ended => self.close(key),
            Stage::Closing => self.shut_down(key),
            Stage::Open => self.resume(key),
            Stage::Lingering | Stage::Dead => {}
        }
    }

    /// Takes what is to be sent next: replies first, then publications.
    fn gather(&mut self, key: Key) -> Spans {
        let Some(peer) = self.peers.get_mut(key) else { return Spans::new() };
        let connection = &mut peer.connection;
        let mut spans = connection.outbox.take();
        if connection.outbox.is_empty()
            && connection.subscriptions != crate::fanout::NO_SUBSCRIPTION
        {
            let head = connection.subscriptions;
            let pulled = self.world.hub.fanout().pull(head, &mut spans, PULL_BYTES_MAX);
            self.world.counters().deliveries.add(pulled.publications);
            if pulled.fallen {
                session::on_fallen_behind(connection, &mut self.world.context(key));
                self.after_session(key);
                let Some(peer) = self.peers.get_mut(key) else { return spans };
                spans.extend(peer.connection.outbox.take());
            }
        }
        let Some(peer) = self.peers.get_mut(key) else { return spans };
        peer.connection.transport.seal(spans, &mut self.world.arena)
    }

    #[inline(always)]
    pub(super) fn on_sent(&mut self, key: Key, bytes: u32) {
        let Self { peers, world, to_flush, to_receive, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        peer.sending = false;
        peer.resend_since_ms = None;
        world.counters().bytes_out.add(u64::from(bytes));
        if peer.has_more_to_do() {
            if !peer.flush_queued {
                peer.flush_queued = true;
                to_flush.push(key);
            }
        } else if peer.readable && peer.may_receive() && !peer.receive_queued {
            peer.receive_queued = true;
            to_receive.push_back(key);
        }
    }

    pub(super) fn on_sent_short(
        &mut self,
        key: Key,
        result: Result<usize, Failure>,
        unsent: Box<Spans>,
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.sending = false;
        let sent = match result {
            Ok(sent) => sent,
            Err(Failure::WouldBlock) => 0,
            Err(_) => {
                self.end(key);
                return;
            }
        };
        self.world.counters().bytes_out.add(sent as u64);
        let stalled_after_ms = peer.on_short_send(sent, self.world.now.monotonic);
        peer.resend = Some(unsent);
        peer.writable_armed = true;
        let socket = peer.socket;
        self.push(Op::PollWritable { socket, token: key });
        self.wheel.bring_forward(key, stalled_after_ms, self.world.now.monotonic);
    }

    /// Reads on where a full outbox or an unanswered request had stopped it.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let may_read = peer.connection.wants_input();
        if may_read && !peer.connection.inbox.is_empty() && peer.inbox_waits {
            peer.inbox_waits = false;
            self.read_inbox(key);
            self.after_session(key);
        }
        self.queue_receive(key);
    }

    pub(super) fn shut_down(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.connection.stage = Stage::Lingering;
        let socket = peer.socket;
        session::on_closed(&mut peer.connection, &mut self.world.context(key));
        self.push(Op::Shutdown { socket, token: key });
        self.wheel.bring_forward(key, LINGER_MS, self.world.now.monotonic);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.shutting = true;
            peer.readable = true;
        }
        self.queue_receive(key);
    }

    pub(super) fn on_shut_down(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.shutting = false;
        if peer.ended || peer.connection.stage == Stage::Dead {
            self.close(key);
        }
    }
}
