//! The sending half of a turn: fan-out, flushing, what a send left over, the end of a connection.
//!
//! Everything for one peer leaves in one send: what a short send left, then replies, then
//! publications pulled from their logs. A socket is sent to once in a round of its cell: what a send did not
//! take is known in the next. That is the next turn, but for sends of a fan-out that is longer than a turn,
//! which are gathered.

use super::Shard;
use super::peer::End;
use crate::connection::Stage;
use crate::fanout::Due;
use crate::limits::{GATHERING_ENTERS_MAX, HURRIED_SINKS_FACTOR, LINGER_MS, PULL_BYTES_MAX};
use crate::memory::{Key, Spans};
use crate::ring::{Failure, Gathers, Op, Ring};
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
        let most = self.budget(self.sinks_per_turn);
        for _ in 0..most {
            let Some(due) = self.world.hub.fanout().next_due() else {
                // Nobody waits for more.
                self.swept_sinks = self.sinks_per_turn;
                return;
            };
            if let Some(soon) = due.soon {
                self.peers.prefetch(soon.index);
            }
            self.deliver(&due);
        }
        // More is due. When nothing is, the cells are entered one after the other as before.
        self.gathers_for = GATHERING_ENTERS_MAX;
        self.swept_sinks += most;
    }

    /// Whether sends of the fan-out wait in the next enter.
    pub(super) fn gathers(&mut self) -> Gathers {
        if self.gathers_for == 0 {
            Gathers::Nothing
        } else if self.swept_sinks < self.sinks_per_turn {
            Gathers::All
        } else {
            self.swept_sinks = 0;
            Gathers::InTurn
        }
    }

    /// Sends a connection what a channel has for it; what waits beside that is for [`Self::flush`].
    #[inline(always)]
    fn deliver(&mut self, due: &Due) {
        let Self { ring, peers, world, sinks_per_turn, .. } = self;
        let key = due.connection;
        let Some(peer) = peers.get_mut(key) else { return };
        let round = ring.round(peer.socket.cell());
        let connection = &peer.connection;
        let has_only_this = connection.subscriptions == due.subscription.index
            && connection.stage == Stage::Open
            && connection.unresolved == 0
            && connection.transport.is_plain()
            && connection.outbox.is_empty()
            && peer.sent_in != round
            && peer.resend_since_ms.is_none()
            && !peer.inbox_waits
            && !peer.writable_armed
            && !peer.closing;
        let alone = if has_only_this { world.hub.fanout().pull_alone(due) } else { None };
        let Some((span, publications)) = alone else {
            // Who waits for a flush has it behind the fan-out; with one here he would wait twice.
            if !peer.flush_queued {
                self.flush(key);
            }
            return;
        };
        peer.sent_in = round;
        world.counters().deliveries.add(publications);
        let spans = Spans::from_buf([span]);
        // Who is one of few does not wait for the sends of others.
        let sent = if due.among * HURRIED_SINKS_FACTOR <= *sinks_per_turn {
            ring.send(peer.socket, key, spans)
        } else {
            ring.send_gathered(peer.socket, key, spans)
        };
        if let Err(refused) = sent {
            self.on_send_refused(key, refused.op);
        }
    }

    #[inline(never)]
    pub(super) fn flush_all(&mut self) {
        let mut keys = std::mem::take(&mut self.to_flush);
        for key in keys.drain(..) {
            self.flush(key);
        }
        // Flushing may have queued connections again; they come in the next turn.
        keys.append(&mut self.to_flush);
        self.to_flush = keys;
        debug_assert!(self.to_flush.len() <= self.peers.len(), "each connection waits once");
    }

    /// Sends what a connection has, once in a round.
    #[inline(always)]
    pub(super) fn flush(&mut self, key: Key) {
        let Self { ring, peers, to_flush, to_receive, .. } = self;
        let Some(peer) = peers.get_mut(key) else { return };
        peer.flush_queued = false;
        if peer.closing || peer.writable_armed {
            return;
        }
        let round = ring.round(peer.socket.cell());
        let connection = &mut peer.connection;
        let has_only_replies = connection.subscriptions == crate::fanout::NO_SUBSCRIPTION
            && connection.stage == Stage::Open
            && connection.transport.is_plain()
            && peer.resend_since_ms.is_none()
            && peer.sent_in != round
            && !connection.outbox.is_empty();
        if !has_only_replies {
            return self.flush_all_kinds(key);
        }
        peer.sent_in = round;
        let spans = connection.outbox.take();
        if let Err(refused) = ring.send(peer.socket, key, spans) {
            return self.on_send_refused(key, refused.op);
        }
        if !peer.connection.outbox.is_empty() || peer.inbox_waits {
            peer.flush_queued = true;
            to_flush.push(key);
        }
        if peer.may_receive() && !peer.receive_queued {
            peer.receive_queued = true;
            to_receive.push_back(key);
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
        let round = self.ring.round(peer.socket.cell());
        if peer.sent_in == round {
            // What it sends in this round may turn out short.
            self.queue_flush(key);
            return;
        }
        let (spans, more) = match peer.resend.take() {
            Some(rest) => (*rest, true),
            None => {
                peer.resend_since_ms = None;
                self.gather(key)
            }
        };
        if spans.is_empty() {
            self.on_all_sent(key);
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.sent_in = round;
        if let Err(refused) = self.ring.send(peer.socket, key, spans) {
            return self.on_send_refused(key, refused.op);
        }
        if more || peer.has_more_to_do() {
            self.queue_flush(key);
        }
        self.queue_receive(key);
    }

    /// There was no room for a send: it is for the next turn.
    #[cold]
    fn on_send_refused(&mut self, key: Key, op: Op) {
        let Op::Send { spans, .. } = op else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let stalled_after_ms = peer.on_short_send(0, self.world.now.monotonic);
        peer.resend = Some(Box::new(spans));
        self.wheel.bring_forward(key, stalled_after_ms, self.world.now.monotonic);
        self.queue_flush(key);
    }

    /// There is nothing to send.
    fn on_all_sent(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match peer.connection.stage {
            Stage::Closing if peer.end == End::Read => self.close(key),
            Stage::Closing => self.shut_down(key),
            Stage::Open => self.resume(key),
            Stage::Lingering | Stage::Dead => {}
        }
    }

    /// Takes what is to be sent next: replies first, then publications.
    /// Says whether there is more.
    fn gather(&mut self, key: Key) -> (Spans, bool) {
        let Some(peer) = self.peers.get_mut(key) else { return (Spans::new(), false) };
        let connection = &mut peer.connection;
        let mut spans = connection.outbox.take();
        let mut more = false;
        if connection.outbox.is_empty()
            && connection.subscriptions != crate::fanout::NO_SUBSCRIPTION
        {
            let head = connection.subscriptions;
            let pulled = self.world.hub.fanout().pull(head, &mut spans, PULL_BYTES_MAX);
            self.world.counters().deliveries.add(pulled.publications);
            more = pulled.more;
            if pulled.fallen {
                session::on_fallen_behind(connection, &mut self.world.context(key));
                self.after_session(key);
                let Some(peer) = self.peers.get_mut(key) else { return (spans, more) };
                spans.extend(peer.connection.outbox.take());
            }
        }
        let Some(peer) = self.peers.get_mut(key) else { return (spans, more) };
        (peer.connection.transport.seal(spans, &mut self.world.arena), more)
    }

    pub(super) fn on_sent_short(
        &mut self,
        key: Key,
        result: Result<usize, Failure>,
        unsent: Box<Spans>,
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.closing {
            return;
        }
        let sent = match result {
            Ok(sent) => sent,
            Err(Failure::WouldBlock) => 0,
            Err(failure) => {
                self.fail(key, failure, "send");
                return;
            }
        };
        let stalled_after_ms = peer.on_short_send(sent, self.world.now.monotonic);
        peer.resend = Some(unsent);
        peer.writable_armed = true;
        self.governed.note(key, peer, &self.world);
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
        if peer.end == End::Read || peer.connection.stage == Stage::Dead {
            self.close(key);
        }
    }
}
