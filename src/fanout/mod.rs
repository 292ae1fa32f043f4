//! Fan-out: how one publication reaches everyone who subscribed to it on this shard.
//!
//! A [`Replica`] is this shard's copy of a channel: the recent publications by reference and, per
//! wire format in use, their encodings one after the other, each made once for all its readers. A subscription is a cursor into that
//! log; a subscriber that is `n` behind is one range of bytes. Nothing here sends: [`Fanout::next_due`]
//! names a sink that lags, the shard pulls for it when its connection has no send in flight.
//!
//! Invariants: offsets of a replica have no gap; a cursor is at most the log's end; a subscriber
//! that fell off the log is told so, never skipped silently; a sweep visits every subscriber
//! that was there when it began.
//!
//! It knows sinks, not connections, and formats, not sockets.

mod deflate;
mod format;
mod log;
mod publication;
mod replica;
mod usage;

pub use deflate::{Compressors, DeflateTotals, window_class};
pub use format::Format;
pub(crate) use format::with_chunk;
pub use publication::{Position, Publication, PublicationKind, UnknownId};
pub use replica::{Answer, Replica};
pub use usage::{FanoutUsage, SUBSCRIPTION_BYTES};

use crate::limits::{
    CHANNELS_PER_SHARD_MAX, LOG_BLOCKS_MAX, SINKS_IN_A_ROW, SINKS_PASSED_PER_TURN,
    SUBSCRIPTIONS_PER_SHARD_MAX,
};
use crate::mailbox::ShardId;
use crate::memory::{BlockPool, Key, Slab, Span, Spans};
use crate::time::Monotonic;
use hashbrown::HashMap;
use replica::Place;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A map keyed by names from the network: seeded per process.
pub type NameMap<V> = HashMap<Arc<str>, V, foldhash::quality::RandomState>;

/// Where publications of a subscription go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sink {
    /// The connection.
    pub connection: Key,
    /// Which of its streams, for protocols that carry several; 0 otherwise.
    pub stream: u32,
}

/// One subscriber's place in one replica.
#[derive(Debug)]
struct Subscription {
    sink: Sink,
    /// The offset it gets next.
    cursor: u64,
    replica: Key,
    /// Its place in the replica's list for its format.
    position: u32,
    /// The connection's next subscription; `NONE` ends the list.
    next: u32,
    /// Which of the replica's lists that is.
    readers: u8,
    /// Whether the connection's own publications are left out.
    skips_own: bool,
    /// Whether its cursor is known: the home has answered.
    resolved: bool,
}

const _: () = assert!(size_of::<Subscription>() <= 40, "a subscription is paid a million times");

/// Ends a connection's list of subscriptions.
pub const NO_SUBSCRIPTION: u32 = u32::MAX;

/// What a subscriber wishes.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// How publications are encoded.
    pub format: Format,
    /// After which publication to begin; without it, with the next one.
    pub after: Option<Position>,
    /// Whether the connection's own publications are left out.
    pub skips_own: bool,
}

/// A subscription whose place in the channel is known now.
#[derive(Debug)]
pub struct Resolution {
    /// Whose.
    pub sink: Sink,
    /// In which format.
    pub format: Format,
    /// The place it begins after.
    pub position: Position,
    /// What was published since the place it asked for and is not in the log: encoded, to be sent first.
    pub catch_up: Vec<u8>,
    /// Whether publications between the place it asked for and its beginning are lost.
    pub gap: bool,
}

/// What came of a subscribe.
#[derive(Debug)]
pub struct Subscribed {
    /// Whether the home has to be asked, because this is the shard's first subscriber.
    pub ask_home: bool,
    /// The place in the channel, when it is known already.
    pub resolution: Option<Resolution>,
}

/// A table is at its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this shard has as many channels or subscriptions as it may have")]
pub struct Full;

/// A replica with something to tell.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    replica: Key,
    /// When its sweep may begin.
    due: Monotonic,
}

/// A connection that has something to pull.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Which.
    pub connection: Key,
    /// Whose publications.
    pub subscription: Key,
    /// Another that will be due soon.
    pub soon: Option<Key>,
    /// How many subscribers the sweep visits for this channel's format.
    pub among: usize,
}

/// How many connections before its turn the memory of one is asked for; of its subscription, twice as
/// many.
const PREFETCH_AHEAD: usize = 4;

/// What a pull gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Publications that the spans hold.
    pub publications: u64,
    /// Whether there is more than one pull may take.
    pub more: bool,
    /// Whether a cursor fell off its log: the subscriber missed publications for good.
    pub fallen: bool,
}

/// All replicas of a shard and who reads them.
#[derive(Debug)]
pub struct Fanout {
    /// The shard's number in the upper 8 bits, as in [`Publication::sender`].
    shard_bits: u64,
    replicas: Slab<Replica>,
    names: NameMap<Key>,
    /// Subscribes that the home has not answered yet.
    asked: NameMap<u32>,
    subscriptions: Slab<Subscription>,
    /// Replicas with something to tell, by when they are due.
    dirty: VecDeque<Dirty>,
    /// How long publications gather before they are told.
    window: Duration,
    now: Monotonic,
    /// Sinks that the first of them gave in a row.
    in_a_row: usize,
    /// Sinks that may still be passed over in this turn.
    passes_left: usize,
    /// What logs and lists take.
    lap: usage::Lap,
    pool: BlockPool,
    compressors: Compressors,
    scratch: Vec<u8>,
}

impl Fanout {
    /// An empty one for `shard`, whose tables hash names with `seed` and whose compressed formats
    /// are made as `deflate` says.
    #[must_use]
    pub fn new(
        shard: ShardId,
        seed: foldhash::quality::RandomState,
        deflate: websocket::deflate::Settings,
    ) -> Self {
        Self {
            shard_bits: u64::from(shard) << 56,
            replicas: Slab::new(CHANNELS_PER_SHARD_MAX),
            names: HashMap::with_hasher(seed.clone()),
            asked: HashMap::with_hasher(seed),
            subscriptions: Slab::new(SUBSCRIPTIONS_PER_SHARD_MAX),
            dirty: VecDeque::new(),
            window: Duration::ZERO,
            now: Monotonic::default(),
            in_a_row: 0,
            passes_left: SINKS_PASSED_PER_TURN,
            lap: usage::Lap::default(),
            pool: BlockPool::new(crate::limits::BLOCK_BYTES, LOG_BLOCKS_MAX),
            compressors: Compressors::new(deflate),
            scratch: Vec::new(),
        }
    }

    /// Adds a subscription to the connection's list that begins at `head`.
    ///
    /// # Errors
    /// When a table is full; nothing changed then.
    pub fn subscribe(
        &mut self,
        channel: &str,
        sink: Sink,
        head: &mut u32,
        options: SubscribeOptions,
    ) -> Result<Subscribed, Full> {
        let (replica, ask_home) = match self.names.get(channel) {
            Some(key) => (*key, false),
            None => (self.new_replica(channel)?, true),
        };
        let subscription = Subscription {
            sink,
            cursor: 0,
            replica,
            position: 0,
            next: *head,
            readers: 0,
            skips_own: options.skips_own,
            resolved: false,
        };
        let Ok(key) = self.subscriptions.insert(subscription) else {
            self.drop_if_unused(replica);
            return Err(Full);
        };
        *head = key.index;
        if ask_home {
            *self.asked.entry(Arc::from(channel)).or_default() += 1;
        }
        let mut resolution = None;
        if let Some(found) = self.replicas.get_mut(replica) {
            let place = found.join(options.format, key.index);
            if let Some(subscription) = self.subscriptions.get_mut(key) {
                subscription.readers = place.readers;
                subscription.position = place.position;
            }
            if found.is_live() {
                resolution = Some(resolve(
                    &mut self.subscriptions,
                    found,
                    key,
                    options.after,
                    &mut self.scratch,
                ));
            } else {
                found.wait(key, options.after);
            }
        }
        Ok(Subscribed { ask_home, resolution })
    }

    /// Ends all subscriptions of the list that begins at `head`; `emptied` hears the channels that
    /// no one on this shard reads any more.
    pub fn unsubscribe_all(&mut self, head: &mut u32, mut emptied: impl FnMut(Arc<str>)) {
        while let Some(key) = self.subscriptions.key_at(*head) {
            let Some(subscription) = self.subscriptions.remove(key) else { break };
            *head = subscription.next;
            let Some(replica) = self.replicas.get_mut(subscription.replica) else { continue };
            let Subscription { readers, position, .. } = subscription;
            replica.leave(Place { readers, position }, key);
            for moved in replica.take_moved() {
                if let Some(moved_key) = self.subscriptions.key_at(moved.subscription)
                    && let Some(other) = self.subscriptions.get_mut(moved_key)
                {
                    other.position = moved.position;
                }
            }
            if let Some(name) = self.drop_if_unused(subscription.replica) {
                emptied(name);
            }
        }
        *head = NO_SUBSCRIPTION;
    }

    /// The home's answer to the first subscribe: from now on the replica is live.
    pub fn on_answer(
        &mut self,
        channel: &str,
        answer: Answer,
        mut resolved: impl FnMut(Resolution),
    ) {
        if !self.is_last_answer(channel) {
            return;
        }
        let Some(replica) = self.names.get(channel).and_then(|key| self.replicas.get_mut(*key))
        else {
            return;
        };
        for (key, after) in replica.begin(answer) {
            if self.subscriptions.get(key).is_some() {
                let found =
                    resolve(&mut self.subscriptions, replica, key, after, &mut self.scratch);
                resolved(found);
            }
        }
    }

    /// The home has no room for the channel; `refused` hears the sinks that waited for it. Who subscribes from now
    /// on asks again.
    pub fn on_refused(&mut self, channel: &str, mut refused: impl FnMut(Sink)) {
        if !self.is_last_answer(channel) {
            return;
        }
        let Some(key) = self.names.get(channel).copied() else { return };
        let Some(replica) = self.replicas.get_mut(key) else { return };
        debug_assert!(!replica.is_live(), "a replica that is live was answered");
        for (waiting, _) in replica.take_waiting() {
            if let Some(subscription) = self.subscriptions.get(waiting) {
                refused(subscription.sink);
            }
        }
        // Its subscriptions stay until their connections end them.
        self.names.remove(channel);
    }

    /// Whether no other answer of the home comes behind this one. An answer to an earlier subscribe of a replica
    /// that is gone is followed by another with a later place; only the last one counts.
    fn is_last_answer(&mut self, channel: &str) -> bool {
        let Some(asked) = self.asked.get_mut(channel) else { return true };
        *asked -= 1;
        let is_last = *asked == 0;
        if is_last {
            self.asked.remove(channel);
        }
        is_last
    }

    /// A publication that the home ordered.
    pub fn on_publication(&mut self, channel: &str, offset: u64, publication: Publication) {
        let Some(key) = self.names.get(channel).copied() else { return };
        let Some(replica) = self.replicas.get_mut(key) else { return };
        if replica.append(
            offset,
            publication,
            &mut self.pool,
            &mut self.compressors,
            &mut self.scratch,
        ) {
            let due = self.now + self.window;
            if replica.mark_dirty(due) {
                self.dirty.push_back(Dirty { replica: key, due });
            } else if replica.hurries(self.now) {
                self.dirty.push_front(Dirty { replica: key, due: self.now });
            }
        }
    }

    /// The home lost publications before `next` that this replica was never told of; `told` hears
    /// the sinks that have to be told of the gap.
    pub fn on_skipped(
        &mut self,
        channel: &str,
        next: u64,
        mut told: impl FnMut(Sink, Format, Position),
    ) {
        let Some(key) = self.names.get(channel).copied() else { return };
        let Some(replica) = self.replicas.get_mut(key) else { return };
        // The answer that it waits for says where its readers begin.
        if !replica.is_live() {
            return;
        }
        replica.skip_to(next);
        let position = Position { epoch: replica.epoch(), offset: next - 1 };
        for (format, subscribers) in replica.subscribers() {
            for index in subscribers {
                // One that was told on a shard ahead of this one misses nothing.
                if let Some(subscription) = self
                    .subscriptions
                    .key_at(*index)
                    .and_then(|key| self.subscriptions.get_mut(key))
                    .filter(|subscription| subscription.cursor < next)
                {
                    subscription.cursor = next;
                    told(subscription.sink, format, position);
                }
            }
        }
    }

    /// Whether a sweep has not kept up with what is published in the channel, so that publishers of
    /// this shard should wait.
    #[must_use]
    pub fn is_saturated(&self, channel: &str) -> bool {
        let replica = self.names.get(channel).and_then(|key| self.replicas.get(*key));
        replica.is_some_and(Replica::is_saturated)
    }

    /// The channel of the subscription at `head`.
    #[must_use]
    pub fn channel_of(&self, head: u32) -> Option<&Arc<str>> {
        let subscription = self.subscriptions.get(self.subscriptions.key_at(head)?)?;
        self.replicas.get(subscription.replica).map(Replica::name)
    }

    /// How long publications gather before they are told, so that a subscriber of a busy channel gets
    /// several in one send; at once, if it is zero. Those of a channel that are many are told earlier.
    pub const fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// A turn begins: the time from now on.
    pub const fn set_now(&mut self, now: Monotonic) {
        self.now = now;
        self.passes_left = SINKS_PASSED_PER_TURN;
    }

    /// How long it is until some replica has something to tell; nothing if none has.
    #[must_use]
    pub fn due_after(&self) -> Option<Duration> {
        self.dirty.front().map(|dirty| dirty.due - self.now)
    }

    /// The next sink that has something to pull; the caller pulls for it now, or when its connection
    /// can be sent to again. None also when so many were passed over that the others are for the next turn.
    pub fn next_due(&mut self) -> Option<Due> {
        if self.in_a_row >= SINKS_IN_A_ROW {
            self.let_others_go_first();
        }
        while let Some(Dirty { replica: key, due }) = self.dirty.front().copied() {
            // One that hurried is there twice; what it was due at before is void.
            let replica = self.replicas.get_mut(key).filter(|replica| replica.is_due_at(due));
            let Some(replica) = replica else {
                self.dirty.pop_front();
                continue;
            };
            if due > self.now {
                return None;
            }
            while let Some((index, end)) = replica.sweep_next() {
                if let Some(ahead) = replica.ahead(2 * PREFETCH_AHEAD) {
                    self.subscriptions.prefetch(ahead);
                }
                let Some((key, subscription)) = self.subscriptions.entry_at(index) else {
                    continue;
                };
                if !subscription.resolved {
                    continue;
                }
                replica.saw_cursor(subscription.readers, subscription.cursor);
                if subscription.cursor >= end {
                    // A sweep that follows another may find a million who had all of it in that one.
                    self.passes_left = self.passes_left.saturating_sub(1);
                    if self.passes_left == 0 {
                        self.in_a_row = SINKS_IN_A_ROW;
                        return None;
                    }
                } else {
                    let soon = replica
                        .ahead(PREFETCH_AHEAD)
                        .and_then(|index| self.subscriptions.entry_at(index))
                        .map(|(_, soon)| soon.sink.connection);
                    let connection = subscription.sink.connection;
                    self.in_a_row += 1;
                    let among = replica.list_length();
                    return Some(Due { connection, subscription: key, soon, among });
                }
            }
            self.dirty.pop_front();
            self.in_a_row = 0;
            let due = self.now + self.window;
            if replica.end_sweep(due) {
                self.dirty.push_back(Dirty { replica: key, due });
            }
        }
        None
    }

    /// A channel with many subscribers must not hold up those with few: the first goes behind all that are
    /// due.
    fn let_others_go_first(&mut self) {
        self.in_a_row = 0;
        let Some(first) = self.dirty.pop_front() else { return };
        let is_due = |dirty: &Dirty| dirty.due <= self.now;
        let behind = if self.dirty.back().is_some_and(is_due) {
            self.dirty.len()
        } else {
            self.dirty.partition_point(is_due)
        };
        self.dirty.insert(behind, first);
    }

    /// Takes everything that a due subscription has not had yet, in one span, with the number of
    /// publications in it; for a connection that has no other. `None` where it is not as simple as that:
    /// [`Self::pull`] does it then.
    #[inline]
    pub fn pull_alone(&mut self, due: &Due) -> Option<(Span, u64)> {
        let subscription = self.subscriptions.get_mut(due.subscription)?;
        if subscription.next != NO_SUBSCRIPTION || subscription.skips_own {
            return None;
        }
        let replica = self.replicas.get_mut(subscription.replica)?;
        let (span, cursor) = replica.pull_shared(subscription.readers, subscription.cursor)?;
        let publications = cursor - subscription.cursor;
        subscription.cursor = cursor;
        Some((span, publications))
    }

    /// Takes what the subscriptions of the list that begins at `head` have not had yet.
    pub fn pull(&mut self, head: u32, spans: &mut Spans, bytes_max: usize) -> Pulled {
        let mut pulled = Pulled::default();
        let mut bytes_left = bytes_max;
        let mut index = head;
        while let Some(key) = self.subscriptions.key_at(index) {
            let Some(subscription) = self.subscriptions.get_mut(key) else { break };
            index = subscription.next;
            if !subscription.resolved {
                continue;
            }
            let Some(replica) = self.replicas.get(subscription.replica) else { continue };
            let own = self.shard_bits | subscription.sink.connection.to_bits();
            let skipped = subscription.skips_own.then_some(own);
            let Subscription { readers, cursor, .. } = *subscription;
            match replica.pull(readers, cursor, skipped, bytes_left, spans) {
                Some(taken) => {
                    subscription.cursor = taken.cursor;
                    bytes_left = bytes_left.saturating_sub(taken.bytes);
                    pulled.publications += taken.publications;
                    pulled.more |= taken.more;
                }
                None => pulled.fallen = true,
            }
        }
        pulled
    }

    /// The channels that are read on this shard, with their number of subscribers.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.replicas.iter().map(|(_, replica)| (replica.name(), replica.subscriber_count()))
    }

    /// Asks for at most `most` pages of 2 MiB for the table of subscriptions.
    pub fn collapse(&mut self, most: usize) {
        self.subscriptions.collapse(most);
    }

    /// Subscriptions on this shard.
    #[must_use]
    pub const fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Channels with a replica on this shard.
    #[must_use]
    pub const fn replica_count(&self) -> usize {
        self.replicas.len()
    }

    /// What was compressed on this shard for subscribers.
    #[must_use]
    pub const fn deflate_totals(&self) -> DeflateTotals {
        self.compressors.totals()
    }

    fn new_replica(&mut self, channel: &str) -> Result<Key, Full> {
        let name: Arc<str> = Arc::from(channel);
        let key = self.replicas.insert(Replica::new(Arc::clone(&name))).map_err(|_| Full)?;
        self.names.insert(name, key);
        Ok(key)
    }

    fn drop_if_unused(&mut self, key: Key) -> Option<Arc<str>> {
        if self.replicas.get(key)?.subscriber_count() > 0 {
            return None;
        }
        let replica = self.replicas.remove(key)?;
        // One that the home refused has no name, and its home knows nothing of it.
        if self.names.get(replica.name()) != Some(&key) {
            return None;
        }
        self.names.remove(replica.name());
        Some(Arc::clone(replica.name()))
    }
}

/// Sets a subscription's cursor by the place it asked for.
fn resolve(
    subscriptions: &mut Slab<Subscription>,
    replica: &mut Replica,
    key: Key,
    after: Option<Position>,
    scratch: &mut Vec<u8>,
) -> Resolution {
    // Callers pass the key of a subscription they just looked up.
    let subscription = subscriptions.get_mut(key).expect("a subscription to resolve");
    let start = replica.start_after(subscription.readers, after, scratch);
    subscription.cursor = start.cursor;
    subscription.resolved = true;
    replica.saw_cursor(subscription.readers, start.cursor);
    Resolution {
        sink: subscription.sink,
        format: replica.format(subscription.readers),
        position: Position { epoch: replica.epoch(), offset: start.position },
        catch_up: start.catch_up,
        gap: start.gap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Payload;

    fn subscribe(fanout: &mut Fanout, channel: &str, sinks: std::ops::Range<u32>) {
        for index in sinks {
            let sink = Sink { connection: Key { index, generation: 1 }, stream: 0 };
            let options =
                SubscribeOptions { format: Format::WebSocket, after: None, skips_own: false };
            fanout.subscribe(channel, sink, &mut NO_SUBSCRIPTION.clone(), options).expect("room");
        }
        let answer = Answer { epoch: 1, next: 1, history: Vec::new() };
        fanout.on_answer(channel, answer, |_| ());
    }

    fn publication(bytes: usize) -> Publication {
        let (payload, kind) = (Payload::copied_from(&vec![7; bytes]), PublicationKind::Text);
        Publication { payload, kind, sender: 0, event: None, key: None }
    }

    /// Delivers to so many as are due, at most `most`.
    fn deliver(fanout: &mut Fanout, most: u32) -> u32 {
        let due = std::iter::from_fn(|| {
            let due = fanout.next_due()?;
            fanout.pull(due.subscription.index, &mut Spans::new(), usize::MAX);
            Some(due)
        });
        due.take(most as usize).count() as u32
    }

    /// The second publication reaches most in the sweep of the first.
    #[test]
    fn a_turn_passes_over_a_bounded_number_of_sinks_and_others_are_next() {
        let seed = foldhash::quality::RandomState::default();
        let mut fanout = Fanout::new(0, seed, websocket::deflate::Settings::default());
        let count = 3 * SINKS_PASSED_PER_TURN as u32;
        subscribe(&mut fanout, "many", 0..count);
        subscribe(&mut fanout, "one", count..count + 1);
        fanout.on_publication("many", 1, publication(5));
        assert_eq!(deliver(&mut fanout, 10), 10);
        fanout.on_publication("many", 2, publication(5));
        assert_eq!(deliver(&mut fanout, count), count);
        fanout.on_publication("one", 1, publication(5));
        assert_eq!(fanout.next_due().map(|due| due.connection.index), None, "it passes over many");
        fanout.set_now(Monotonic::default());
        assert_eq!(fanout.due_after(), Some(Duration::ZERO), "nobody sleeps on the others");
        assert_eq!(fanout.next_due().map(|due| due.connection.index), Some(count));
        for _ in 0..4 {
            fanout.set_now(Monotonic::default());
            deliver(&mut fanout, 1);
        }
        assert_eq!(fanout.due_after(), None);
    }

    /// A sweep that takes several turns, for each of which more comes than one send takes.
    #[test]
    fn a_channel_that_hurries_again_and_again_is_in_the_queue_no_more_often() {
        let seed = foldhash::quality::RandomState::default();
        let mut fanout = Fanout::new(0, seed, websocket::deflate::Settings::default());
        fanout.set_window(Duration::from_millis(10));
        subscribe(&mut fanout, "c", 0..10);
        for turn in 1..1000 {
            fanout.set_now(Monotonic::from_millis(turn));
            fanout.on_publication("c", turn, publication(100_000));
            deliver(&mut fanout, 3);
            assert!(fanout.dirty.len() <= 3, "{} entries", fanout.dirty.len());
        }
        for turn in 1000..1100 {
            fanout.set_now(Monotonic::from_millis(turn));
            deliver(&mut fanout, 10);
        }
        assert_eq!(fanout.due_after(), None, "everybody was told");
    }
}
