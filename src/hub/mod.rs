//! Messaging: channels, their order and history, and who has to be told.
//!
//! Each shard has one [`Hub`]. For a channel at home here it gives the offsets (one order for all),
//! keeps the history and knows which shards read it; for a channel at home elsewhere it mails. What
//! must go to another shard waits in [`Hub::outbound`], from where the shard takes it; a message to
//! the own shard is handled at once. Readers of this shard are served by [`Fanout`].
//!
//! Invariants: a shard that reads a channel is told every offset in order, or told how many it
//! missed; the answer to a subscribe travels in the same queue as publications, so no gap hides
//! between them; publications are confirmed only after they have an offset.
//!
//! It knows no client protocol, no socket and no clock.

mod channel;
mod trim;

use crate::fanout::{
    Answer, Fanout, Format, Full, NameMap, Position, Publication, PublicationKind, Resolution,
    Sink, SubscribeOptions,
};
use crate::limits::{
    ARENA_BLOCKS_MAX, BLOCK_BYTES, CHANNEL_LOOKS_LAP_MS, CHANNELS_BEHIND_PER_TURN,
    CHANNELS_PER_SHARD_MAX, OUTBOUND_MESSAGES_HIGH, OUTBOUND_REFUSES_FACTOR, PUBLICATION_BYTES_MAX,
};
use crate::mailbox::ShardId;
use crate::memory::{BlockPool, BlockWriter, Key, Meter, Payload};
use crate::time::Monotonic;
pub use channel::HistoryLimits;
use channel::{Channel, Told};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use trim::Trim;

/// What hubs of different shards tell each other.
#[derive(Debug)]
pub enum HubMail {
    /// To the home: give this an offset.
    Publish {
        /// The channel.
        channel: Arc<str>,
        /// What is published.
        publication: Publication,
        /// Who waits for the offset.
        confirm: Option<Confirm>,
    },
    /// From the home: it has this offset.
    Published {
        /// Who waited.
        connection: Key,
        /// The place it got, or why not.
        result: Result<Position, PublishError>,
    },
    /// To the home: this shard has readers.
    Subscribe {
        /// The channel.
        channel: Arc<str>,
    },
    /// From the home: this is where the channel stands.
    Subscribed {
        /// The channel.
        channel: Arc<str>,
        /// Where it stands.
        answer: Box<Answer>,
    },
    /// From the home: it has no room for the channel, so this shard's readers will hear nothing of it.
    SubscribeRefused {
        /// The channel.
        channel: Arc<str>,
    },
    /// From the home: the next publication.
    Publication {
        /// The channel.
        channel: Arc<str>,
        /// Its offset.
        offset: u64,
        /// What was published.
        publication: Publication,
    },
    /// From the home: publications before this offset are gone and were not told.
    Skipped {
        /// The channel.
        channel: Arc<str>,
        /// The offset that comes next.
        next: u64,
    },
    /// To the home: this shard has no readers any more.
    Unsubscribe {
        /// The channel.
        channel: Arc<str>,
    },
}

/// Who waits to hear a publication's offset.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// The connection, on the shard that asks.
    pub connection: Key,
    /// A publication with the same key in this channel is published once.
    pub idempotency_key: Option<Arc<str>>,
}

/// Why a publication was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is larger than allowed.
    #[error("a publication is at most {PUBLICATION_BYTES_MAX} bytes")]
    TooLarge,
    /// The server has as many channels as it may have.
    #[error("no further channel can be opened now")]
    TooManyChannels,
    /// Too many publications wait for the shard that orders the channel.
    #[error("more is published than can be passed on; publish it again later")]
    Congested,
}

/// What the shard has to pass on to connections.
#[derive(Debug)]
pub enum HubEvent {
    /// A subscription's place is known.
    Resolved(Resolution),
    /// The home has no room for the channel of a subscription, which has to end.
    Refused {
        /// Whose.
        sink: Sink,
    },
    /// A publication has its offset.
    Published {
        /// Who waited.
        connection: Key,
        /// The place it got, or why not.
        result: Result<Position, PublishError>,
    },
    /// A subscriber missed publications that no one has any more.
    Gap {
        /// Whose.
        sink: Sink,
        /// In which format it reads.
        format: Format,
        /// The place it goes on after.
        position: Position,
    },
}

/// A channel's name.
///
/// # Errors
/// What is wrong with the text.
pub fn check_channel_name(name: &str) -> Result<(), ChannelNameError> {
    if name.is_empty() {
        return Err(ChannelNameError::Empty);
    }
    if name.len() > crate::limits::CHANNEL_NAME_BYTES_MAX {
        return Err(ChannelNameError::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(ChannelNameError::ControlCharacter);
    }
    Ok(())
}

/// What is wrong with a channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// There is none.
    #[error("a channel needs a name")]
    Empty,
    /// It is too long.
    #[error("a channel's name is at most 255 bytes")]
    TooLong,
    /// It has a control character.
    #[error("a channel's name has no control characters")]
    ControlCharacter,
}

/// Totals since the shard began.
#[derive(Clone, Copy, Debug, Default)]
pub struct HubTotals {
    /// Publications that got an offset here.
    pub publications: u64,
    /// Publications that a reading shard was never told of.
    pub skipped: u64,
}

/// The hub of one shard.
#[derive(Debug)]
pub struct Hub {
    shard: ShardId,
    shards: ShardId,
    /// Hashes names to homes; the same on every shard.
    home_hash: foldhash::quality::FixedState,
    homes: NameMap<Channel>,
    /// The channels at home, the one that is looked at next first, and how many of them are due.
    looks: VecDeque<Arc<str>>,
    looks_due: usize,
    /// How many are due in each second of a lap, and how many seconds it has left.
    looks_a_second: usize,
    lap_seconds: u64,
    /// What of them is given up before its time.
    trim: Trim,
    /// Memory of the lists of their publications.
    list_bytes: usize,
    /// Channels with a shard that could not be told yet.
    behind: VecDeque<Arc<str>>,
    fanout: Fanout,
    /// Where published bytes are copied to, once.
    ingest_pool: BlockPool,
    ingest: Option<BlockWriter>,
    /// Counts these blocks.
    meter: Arc<Meter>,
    outbound: Vec<VecDeque<HubMail>>,
    /// From how many on publishers are held back.
    outbound_high: usize,
    /// How many channels may be at home here.
    channels_max: usize,
    events: VecDeque<HubEvent>,
    history: HistoryLimits,
    entropy: u64,
    totals: HubTotals,
}

impl Hub {
    /// The hub of `shard` of `shards`; `seed` is the process's, `entropy` the shard's. `deflate` is
    /// how publications are compressed for those who take them so.
    #[must_use]
    pub fn new(
        shard: ShardId,
        shards: ShardId,
        seed: u64,
        entropy: u64,
        history: HistoryLimits,
        deflate: websocket::deflate::Settings,
    ) -> Self {
        let table_hash = foldhash::quality::RandomState::default();
        let meter = Arc::new(Meter::default());
        Self {
            shard,
            shards,
            home_hash: foldhash::quality::FixedState::with_seed(seed),
            homes: HashMap::with_hasher(table_hash.clone()),
            looks: VecDeque::new(),
            looks_due: 0,
            looks_a_second: 0,
            lap_seconds: 0,
            trim: Trim::default(),
            list_bytes: 0,
            behind: VecDeque::new(),
            fanout: Fanout::new(shard, table_hash, deflate),
            ingest_pool: BlockPool::metered(BLOCK_BYTES, ARENA_BLOCKS_MAX, Arc::clone(&meter)),
            meter,
            ingest: None,
            outbound: (0..shards).map(|_| VecDeque::new()).collect(),
            outbound_high: OUTBOUND_MESSAGES_HIGH,
            channels_max: CHANNELS_PER_SHARD_MAX,
            events: VecDeque::new(),
            history,
            entropy,
            totals: HubTotals::default(),
        }
    }

    /// Lets fewer messages wait for a full mailbox.
    pub fn bound_outbound(&mut self, messages: usize) {
        self.outbound_high = messages.min(OUTBOUND_MESSAGES_HIGH);
    }

    /// Lets fewer channels be at home here.
    pub fn bound_channels(&mut self, channels: usize) {
        self.channels_max = channels.min(CHANNELS_PER_SHARD_MAX);
    }

    /// Messages that wait for the fullest mailbox.
    #[must_use]
    pub fn outbound_messages(&self) -> usize {
        self.outbound.iter().map(VecDeque::len).max().unwrap_or(0)
    }

    /// The shard that orders a channel.
    #[must_use]
    pub fn home_of(&self, channel: &str) -> ShardId {
        (self.home_hash.hash_one(channel) % u64::from(self.shards)) as ShardId
    }

    /// Whether publishers of `channel` on this shard should wait: what they sent is not passed on.
    #[must_use]
    pub fn is_congested(&self, channel: &str) -> bool {
        let home = self.home_of(channel);
        (home != self.shard && self.outbound[usize::from(home)].len() > self.outbound_high)
            || self.fanout.is_saturated(channel)
    }

    /// Publishes `bytes`, which are copied once.
    ///
    /// # Errors
    /// When the publication is refused here; a refusal at the home comes as an event.
    pub fn publish(
        &mut self,
        channel: &Arc<str>,
        bytes: &[u8],
        draft: Draft,
        now: Monotonic,
    ) -> Result<(), PublishError> {
        if bytes.len() > PUBLICATION_BYTES_MAX {
            return Err(PublishError::TooLarge);
        }
        let home = self.home_of(channel);
        let waiting = self.outbound[usize::from(home)].len();
        if home != self.shard && waiting > self.outbound_high * OUTBOUND_REFUSES_FACTOR {
            return Err(PublishError::Congested);
        }
        let publication = Publication {
            payload: self.copy_in(bytes),
            kind: draft.kind,
            sender: draft.sender,
            event: draft.event,
            key: draft.key,
        };
        if home == self.shard {
            self.order(channel, publication, self.shard, draft.confirm, now);
        } else {
            let mail = HubMail::Publish {
                channel: Arc::clone(channel),
                publication,
                confirm: draft.confirm,
            };
            self.outbound[usize::from(home)].push_back(mail);
        }
        Ok(())
    }

    /// Subscribes a sink; the connection's list of subscriptions begins at `head`.
    ///
    /// # Errors
    /// When a table is full here; a refusal of the home comes as an event.
    pub fn subscribe(
        &mut self,
        channel: &str,
        sink: Sink,
        head: &mut u32,
        options: SubscribeOptions,
        now: Monotonic,
    ) -> Result<(), Full> {
        let subscribed = self.fanout.subscribe(channel, sink, head, options)?;
        self.events.extend(subscribed.resolution.map(HubEvent::Resolved));
        if subscribed.ask_home {
            let (home, name) = (self.home_of(channel), Arc::from(channel));
            if home == self.shard {
                self.on_subscribe(name, self.shard, now);
            } else {
                self.outbound[usize::from(home)].push_back(HubMail::Subscribe { channel: name });
            }
        }
        Ok(())
    }

    /// Ends all subscriptions of a connection.
    pub fn unsubscribe_all(&mut self, head: &mut u32, now: Monotonic) {
        let mut emptied: smallvec::SmallVec<[Arc<str>; 2]> = smallvec::SmallVec::new();
        self.fanout.unsubscribe_all(head, |name| emptied.push(name));
        for name in emptied {
            let home = self.home_of(&name);
            if home == self.shard {
                self.on_unsubscribe(&name, self.shard, now);
            } else {
                self.outbound[usize::from(home)].push_back(HubMail::Unsubscribe { channel: name });
            }
        }
    }

    /// Handles what the hub of shard `from` mailed.
    pub fn receive(&mut self, from: ShardId, mail: HubMail, now: Monotonic) {
        match mail {
            HubMail::Publish { channel, publication, confirm } => {
                self.order(&channel, publication, from, confirm, now);
            }
            HubMail::Published { connection, result } => {
                self.events.push_back(HubEvent::Published { connection, result });
            }
            HubMail::Subscribe { channel } => self.on_subscribe(channel, from, now),
            HubMail::Subscribed { channel, answer } => {
                let events = &mut self.events;
                self.fanout.on_answer(&channel, *answer, |found| {
                    events.push_back(HubEvent::Resolved(found))
                });
            }
            HubMail::SubscribeRefused { channel } => self.on_subscribe_refused(&channel),
            HubMail::Publication { channel, offset, publication } => {
                self.fanout.on_publication(&channel, offset, publication);
            }
            HubMail::Skipped { channel, next } => {
                tell_gap(&mut self.fanout, &mut self.events, &channel, next);
            }
            HubMail::Unsubscribe { channel } => self.on_unsubscribe(&channel, from, now),
        }
    }

    /// What has to be mailed to shard `to`, oldest first.
    pub fn outbound(&mut self, to: ShardId) -> &mut VecDeque<HubMail> {
        &mut self.outbound[usize::from(to)]
    }

    /// What connections have to hear.
    pub fn poll_event(&mut self) -> Option<HubEvent> {
        self.events.pop_front()
    }

    /// Whether something waits to be mailed or heard, or shards are behind because too much waits.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.events.is_empty()
            || !self.behind.is_empty()
            || self.outbound.iter().any(|queue| !queue.is_empty())
    }

    /// Tells the shards that were behind, as far as fewer messages wait now; of some channels in each turn,
    /// because while a shard takes nothing all of them stay.
    pub fn tell_behind(&mut self) {
        for _ in 0..self.behind.len().min(CHANNELS_BEHIND_PER_TURN) {
            let Some(name) = self.behind.pop_front() else { break };
            if let Some(channel) = self.homes.get_mut(&name) {
                channel.is_behind = false;
            }
            self.tell(&name);
        }
    }

    /// Once a second: so many channels are due to be looked at that each is once in a lap.
    pub fn begin_looks(&mut self) {
        const SECONDS: u64 = CHANNEL_LOOKS_LAP_MS / 1000;
        if self.lap_seconds == 0 {
            self.lap_seconds = SECONDS;
            self.looks_a_second = self.looks.len().div_ceil(SECONDS as usize);
        }
        self.lap_seconds -= 1;
        self.looks_due = self.looks_a_second.min(self.looks.len());
    }

    /// Whether some are still due.
    #[must_use]
    pub const fn has_channels_to_look_at(&self) -> bool {
        self.looks_due > 0
    }

    /// Forgets history that is too old and channels that no one uses, of at most `count` channels that are
    /// due: a million at once would hold everything up.
    pub fn look_at_channels(&mut self, count: usize, now: Monotonic) {
        let count = count.min(self.looks_due);
        self.looks_due -= count;
        for _ in 0..count {
            self.look_at_next(now);
        }
        if self.looks.len() < self.looks.capacity() / 4 {
            self.looks.shrink_to(self.looks.len() * 2);
        }
    }

    /// Looks at one; what goes on with all of them sees it too.
    fn look_at_next(&mut self, now: Monotonic) {
        let Some(name) = self.looks.pop_front() else { return };
        // The queue has each channel at home once.
        let channel = self.homes.get_mut(&name).expect("a channel that is looked at");
        let before = channel.list_bytes();
        channel.expire(&self.history, now);
        self.trim.visit(channel, now);
        if channel.is_forgettable(now) {
            self.list_bytes -= before;
            self.homes.remove(&name);
        } else {
            self.list_bytes = self.list_bytes + channel.list_bytes() - before;
            self.looks.push_back(name);
        }
    }

    /// The readers of this shard.
    pub const fn fanout(&mut self) -> &mut Fanout {
        &mut self.fanout
    }

    /// The readers of this shard, to look at.
    #[must_use]
    pub const fn readers(&self) -> &Fanout {
        &self.fanout
    }

    /// The channels at home here and how much was published in each.
    pub fn channels(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.homes.iter().map(|(name, channel)| (name, channel.published()))
    }

    /// How many channels are at home here.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.homes.len()
    }

    /// Totals since the shard began.
    #[must_use]
    pub const fn totals(&self) -> HubTotals {
        self.totals
    }

    /// Bytes of the blocks that publications of this shard lie in, wherever they are kept.
    #[must_use]
    pub fn publication_bytes(&self) -> u64 {
        self.meter.bytes()
    }

    /// Memory of the lists of publications of channels at home here, without their payloads.
    #[must_use]
    pub const fn list_bytes(&self) -> usize {
        self.list_bytes
    }

    /// Gives a publication its offset and tells everyone.
    fn order(
        &mut self,
        name: &str,
        publication: Publication,
        from: ShardId,
        confirm: Option<Confirm>,
        now: Monotonic,
    ) {
        let limits = self.history;
        let result = self.channel(name, now).map(|channel| {
            let key = confirm.as_ref().and_then(|confirm| confirm.idempotency_key.as_ref());
            let before = channel.list_bytes();
            let (position, is_new) = channel.publish(publication, key, now);
            if is_new {
                channel.expire(&limits, now);
            }
            (position, is_new, before, channel.list_bytes())
        });
        if let Ok((_, true, before, after)) = result {
            self.totals.publications += 1;
            self.list_bytes = self.list_bytes + after - before;
            self.tell(name);
        }
        let Some(Confirm { connection, .. }) = confirm else { return };
        let result = result.map(|(position, ..)| position);
        if from == self.shard {
            self.events.push_back(HubEvent::Published { connection, result });
        } else {
            self.outbound[usize::from(from)].push_back(HubMail::Published { connection, result });
        }
    }

    /// Tells each reading shard what it was not told yet.
    fn tell(&mut self, name: &str) {
        let Some((key, _)) = self.homes.get_key_value(name) else { return };
        let key = Arc::clone(key);
        let Some(channel) = self.homes.get_mut(name) else { return };
        let mut behind = false;
        for told in channel.readers() {
            let (own, queue) = (told == self.shard, &mut self.outbound[usize::from(told)]);
            loop {
                if !own && queue.len() >= self.outbound_high {
                    behind = true;
                    break;
                }
                match channel.tell_next(told) {
                    None => break,
                    Some(Told::Publication { offset, publication }) if own => {
                        self.fanout.on_publication(&key, offset, publication);
                    }
                    Some(Told::Publication { offset, publication }) => {
                        let channel = Arc::clone(&key);
                        queue.push_back(HubMail::Publication { channel, offset, publication });
                    }
                    Some(Told::Skipped { next, count }) => {
                        self.totals.skipped += count;
                        if own {
                            tell_gap(&mut self.fanout, &mut self.events, &key, next);
                        } else {
                            let channel = Arc::clone(&key);
                            queue.push_back(HubMail::Skipped { channel, next });
                        }
                    }
                }
            }
        }
        if behind && !channel.is_behind {
            channel.is_behind = true;
            self.behind.push_back(Arc::clone(&key));
        }
    }

    fn on_subscribe(&mut self, name: Arc<str>, from: ShardId, now: Monotonic) {
        let answer = self.channel(&name, now).map(|channel| channel.subscribe(from));
        let own = from == self.shard;
        match answer {
            Ok(answer) if own => {
                let events = &mut self.events;
                self.fanout
                    .on_answer(&name, answer, |found| events.push_back(HubEvent::Resolved(found)));
            }
            Ok(answer) => {
                let mail = HubMail::Subscribed { channel: name, answer: Box::new(answer) };
                self.outbound[usize::from(from)].push_back(mail);
            }
            // Nobody may wait for a channel that is not there: who publishes in it later, when others are
            // forgotten, would make one that knows nothing of its readers.
            Err(_) if own => self.on_subscribe_refused(&name),
            Err(_) => {
                let mail = HubMail::SubscribeRefused { channel: name };
                self.outbound[usize::from(from)].push_back(mail);
            }
        }
    }

    fn on_subscribe_refused(&mut self, name: &str) {
        let events = &mut self.events;
        self.fanout.on_refused(name, |sink| events.push_back(HubEvent::Refused { sink }));
    }

    fn on_unsubscribe(&mut self, name: &str, from: ShardId, now: Monotonic) {
        if let Some(channel) = self.homes.get_mut(name) {
            channel.unsubscribe(from, now);
        }
    }

    fn channel(&mut self, name: &str, now: Monotonic) -> Result<&mut Channel, PublishError> {
        if !self.homes.contains_key(name) {
            if self.homes.len() >= self.channels_max {
                return Err(PublishError::TooManyChannels);
            }
            // The constant spreads consecutive epochs (SplitMix64).
            self.entropy = self.entropy.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let epoch = self.home_hash.hash_one(self.entropy) >> 16;
            let name: Arc<str> = Arc::from(name);
            self.looks.push_back(Arc::clone(&name));
            self.homes.insert(name, Channel::new(epoch, now));
        }
        // It was there or was put there just now.
        Ok(self.homes.get_mut(name).expect("a channel at home"))
    }

    fn copy_in(&mut self, bytes: &[u8]) -> Payload {
        if bytes.len() > BLOCK_BYTES / 4 {
            return Payload::copied_metered(bytes, &self.meter);
        }
        if self.ingest.as_ref().is_none_or(|writer| writer.room() < bytes.len()) {
            self.ingest = None;
            self.ingest = Some(self.ingest_pool.take());
        }
        // The branch above left a block with room.
        let writer = self.ingest.as_mut().expect("an ingest block");
        writer.push(bytes);
        writer.finish()
    }
}

/// Readers of this shard hear that the home no longer has what is before `next`.
fn tell_gap(fanout: &mut Fanout, events: &mut VecDeque<HubEvent>, channel: &str, next: u64) {
    fanout.on_skipped(channel, next, |sink, format, position| {
        events.push_back(HubEvent::Gap { sink, format, position });
    });
}

/// What a publisher says besides the bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What the bytes are.
    pub kind: PublicationKind,
    /// Who publishes, unique in the process; 0 when no connection does.
    pub sender: u64,
    /// The name of the event.
    pub event: Option<Arc<str>>,
    /// The conflation key.
    pub key: Option<Arc<str>>,
    /// Who waits for the offset.
    pub confirm: Option<Confirm>,
}

impl Draft {
    /// A bare publication.
    #[must_use]
    pub const fn of(kind: PublicationKind) -> Self {
        Self { kind, sender: 0, event: None, key: None, confirm: None }
    }
}

#[cfg(test)]
mod tests;
