//! The live streams of one shard: those at home here, and the windows of those that are read here.
//!
//! A publisher's access units go by reference to the stream's home; the home tells every shard with
//! readers what changed, and such a shard answers requests from its own [`Window`]. What must go to
//! another shard waits in [`Directory::outbound`]; what connections have to hear is taken by
//! [`Directory::poll_event`].
//!
//! Invariants: a shard that follows a stream has every update since its snapshot, or gets a new
//! snapshot; a publisher gets exactly one answer.

use super::{
    AccessUnit, LiveStream, Lookup, PublisherId, Settings, StreamName, TrackConfig, TrackKind,
    Update, Window,
};
use crate::limits::{
    LIVE_REPLICA_IDLE_MS, LIVE_STREAMS_PER_SHARD_MAX, LIVE_WAITERS_MAX, OUTBOUND_MESSAGES_HIGH,
};
use crate::mailbox::ShardId;
use crate::memory::{Key, Meter};
use crate::time::{Monotonic, Now};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

/// What directories of different shards tell each other.
#[derive(Debug)]
pub enum LiveMail {
    /// To the home: someone wants to publish.
    Open {
        /// The stream.
        stream: StreamName,
        /// Who.
        publisher: PublisherId,
        /// The connection, on the shard that asks.
        connection: Key,
    },
    /// From the home: whether it may.
    Opened {
        /// The stream.
        stream: StreamName,
        /// The connection that asked.
        connection: Key,
        /// Whether it may publish.
        accepted: bool,
    },
    /// To the home: a track's configuration.
    Configure {
        /// The stream.
        stream: StreamName,
        /// Who publishes.
        publisher: PublisherId,
        /// The configuration.
        config: Box<TrackConfig>,
    },
    /// To the home: an access unit.
    Unit {
        /// The stream.
        stream: StreamName,
        /// Who publishes.
        publisher: PublisherId,
        /// Of which track.
        kind: TrackKind,
        /// The unit.
        unit: AccessUnit,
    },
    /// To the home: the publisher is gone.
    Close {
        /// The stream.
        stream: StreamName,
        /// Who published.
        publisher: PublisherId,
    },
    /// To the home: this shard has readers.
    Follow {
        /// The stream.
        stream: StreamName,
    },
    /// From the home: where the stream stands; nothing when there is no such stream.
    Snapshot {
        /// The stream.
        stream: StreamName,
        /// Its window.
        window: Option<Box<Window>>,
    },
    /// From the home: what changed.
    Update {
        /// The stream.
        stream: StreamName,
        /// The change.
        update: Update,
    },
    /// To the home: this shard has no readers any more.
    Unfollow {
        /// The stream.
        stream: StreamName,
    },
    /// From the home: the stream is forgotten.
    Gone {
        /// The stream.
        stream: StreamName,
    },
}

/// What connections have to hear.
#[derive(Debug)]
pub enum LiveEvent {
    /// A publisher's question is answered.
    Opened {
        /// The connection that asked.
        connection: Key,
        /// The stream.
        stream: StreamName,
        /// Whether it may publish.
        accepted: bool,
    },
    /// A stream that a request waits for is known, or has something new.
    Changed {
        /// The connection that waits.
        connection: Key,
        /// The stream.
        stream: StreamName,
    },
}

/// What a request for a file gets.
#[derive(Debug)]
pub enum Found {
    /// This.
    Answer(Lookup),
    /// Nothing yet: the connection hears of it by [`LiveEvent::Changed`].
    Wait,
    /// Too many wait already.
    Busy,
}

/// A stream at home here.
#[derive(Debug)]
struct Home {
    live: LiveStream,
    /// The shards that follow it and are up to date.
    readers: u64,
    /// The shards that follow it and must get a new snapshot.
    stale: u64,
    /// Since when no one publishes.
    idle_since: Option<Monotonic>,
    waiters: Vec<Key>,
}

/// A stream that is read here and at home elsewhere.
#[derive(Debug)]
struct Followed {
    /// Nothing until the home answered.
    window: Option<Box<Window>>,
    used: Monotonic,
    waiters: Vec<Key>,
}

/// How long a stream is remembered after its publisher left.
const HOME_IDLE: Duration = Duration::from_secs(300);

/// The live streams of one shard.
#[derive(Debug)]
pub struct Directory {
    shard: ShardId,
    shards: ShardId,
    home_hash: foldhash::quality::FixedState,
    homes: HashMap<StreamName, Home, foldhash::quality::RandomState>,
    followed: HashMap<StreamName, Followed, foldhash::quality::RandomState>,
    outbound: Vec<VecDeque<LiveMail>>,
    events: VecDeque<LiveEvent>,
    settings: Settings,
    meter: Arc<Meter>,
}

impl Directory {
    /// The directory of `shard` of `shards`; `seed` is the process's.
    #[must_use]
    pub fn new(shard: ShardId, shards: ShardId, seed: u64, settings: Settings) -> Self {
        Self {
            shard,
            shards,
            home_hash: foldhash::quality::FixedState::with_seed(seed),
            homes: HashMap::default(),
            followed: HashMap::default(),
            outbound: (0..shards).map(|_| VecDeque::new()).collect(),
            events: VecDeque::new(),
            settings,
            meter: Arc::default(),
        }
    }

    /// The shard where a stream is at home; all renditions of one meet there.
    #[must_use]
    pub fn home_of(&self, stream: &StreamName) -> ShardId {
        (self.home_hash.hash_one(base_of(stream)) % u64::from(self.shards)) as ShardId
    }

    /// Whether a publisher of `stream` on this shard should wait.
    #[must_use]
    pub fn is_congested(&self, stream: &StreamName) -> bool {
        let home = self.home_of(stream);
        home != self.shard && self.outbound[usize::from(home)].len() > OUTBOUND_MESSAGES_HIGH
    }

    /// Asks to publish; the answer comes as an event.
    pub fn open(&mut self, stream: &StreamName, publisher: PublisherId, connection: Key, now: Now) {
        let stream = stream.clone();
        self.mail_home(LiveMail::Open { stream, publisher, connection }, now);
    }

    /// Gives a track's configuration.
    pub fn configure(
        &mut self,
        stream: &StreamName,
        publisher: PublisherId,
        config: TrackConfig,
        now: Now,
    ) {
        let (stream, config) = (stream.clone(), Box::new(config));
        self.mail_home(LiveMail::Configure { stream, publisher, config }, now);
    }

    /// Gives an access unit.
    pub fn push(
        &mut self,
        stream: &StreamName,
        publisher: PublisherId,
        kind: TrackKind,
        unit: AccessUnit,
        now: Now,
    ) {
        let stream = stream.clone();
        self.mail_home(LiveMail::Unit { stream, publisher, kind, unit }, now);
    }

    /// The publisher is gone.
    pub fn close(&mut self, stream: &StreamName, publisher: PublisherId, now: Now) {
        let stream = stream.clone();
        self.mail_home(LiveMail::Close { stream, publisher }, now);
    }

    /// Looks a file of a stream up for a request of `connection`.
    pub fn lookup(&mut self, stream: &StreamName, file: &str, connection: Key, now: Now) -> Found {
        if self.home_of(stream) == self.shard {
            let Some(home) = self.homes.get_mut(stream) else {
                return Found::Answer(Lookup::NotFound);
            };
            let answer = home.live.window().lookup(file, now);
            return wait_if_not_yet(answer, &mut home.waiters, connection);
        }
        let followed = self.followed.entry(stream.clone()).or_insert_with(|| {
            let home = (self.home_hash.hash_one(base_of(stream)) % u64::from(self.shards)) as usize;
            self.outbound[home].push_back(LiveMail::Follow { stream: stream.clone() });
            Followed { window: None, used: now.monotonic, waiters: Vec::new() }
        });
        followed.used = now.monotonic;
        let answer =
            followed.window.as_mut().map_or(Lookup::NotYet, |window| window.lookup(file, now));
        wait_if_not_yet(answer, &mut followed.waiters, connection)
    }

    /// Handles what the directory of shard `from` mailed.
    pub fn receive(&mut self, from: ShardId, mail: LiveMail, now: Now) {
        match mail {
            LiveMail::Opened { stream, connection, accepted } => {
                self.events.push_back(LiveEvent::Opened { connection, stream, accepted });
            }
            LiveMail::Snapshot { stream, window } => self.on_snapshot(stream, window),
            LiveMail::Update { stream, update } => self.on_update(&stream, update),
            LiveMail::Gone { stream } => {
                if let Some(followed) = self.followed.remove(&stream) {
                    wake(&mut self.events, &stream, followed.waiters);
                }
            }
            LiveMail::Open { .. }
            | LiveMail::Configure { .. }
            | LiveMail::Unit { .. }
            | LiveMail::Close { .. }
            | LiveMail::Follow { .. }
            | LiveMail::Unfollow { .. } => self.at_home(from, mail, now),
        }
    }

    /// What has to be mailed to shard `to`, oldest first.
    pub fn outbound(&mut self, to: ShardId) -> &mut VecDeque<LiveMail> {
        &mut self.outbound[usize::from(to)]
    }

    /// What connections have to hear.
    pub fn poll_event(&mut self) -> Option<LiveEvent> {
        self.events.pop_front()
    }

    /// Whether something waits to be mailed or heard.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.events.is_empty() || self.outbound.iter().any(|queue| !queue.is_empty())
    }

    /// Forgets streams that no one publishes or reads.
    pub fn tick(&mut self, now: Now) {
        let idle = Duration::from_millis(LIVE_REPLICA_IDLE_MS);
        let unused: Vec<StreamName> = self
            .followed
            .iter()
            .filter(|(_, followed)| now.monotonic.since(followed.used) > idle)
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in unused {
            if let Some(followed) = self.followed.remove(&stream) {
                wake(&mut self.events, &stream, followed.waiters);
            }
            let home = self.home_of(&stream);
            self.outbound[usize::from(home)].push_back(LiveMail::Unfollow { stream });
        }
        let gone: Vec<StreamName> = self
            .homes
            .iter()
            .filter(|(_, home)| {
                home.idle_since.is_some_and(|since| now.monotonic.since(since) > HOME_IDLE)
            })
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in gone {
            self.forget(&stream);
        }
        self.refresh_stale();
    }

    /// Drops the oldest segments of the streams at home here, and on every shard that follows them,
    /// until about `part_of` of their bytes is left. Says how many.
    pub fn trim(&mut self, part_of: impl Fn(u64) -> u64, now: Now) -> usize {
        let names: Vec<StreamName> = self.homes.keys().cloned().collect();
        let mut segments = 0;
        for stream in names {
            self.change(&stream, |home| {
                let bytes_max = part_of(home.live.window().bytes());
                segments += home.live.trim(bytes_max, now);
            });
        }
        segments
    }

    /// Counts the blocks of access units that came to this shard.
    #[must_use]
    pub const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The streams at home here.
    pub fn streams(&mut self) -> impl Iterator<Item = &mut LiveStream> {
        self.homes.values_mut().map(|home| &mut home.live)
    }

    /// How many streams are at home here.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.homes.len()
    }

    fn mail_home(&mut self, mail: LiveMail, now: Now) {
        let home = match &mail {
            LiveMail::Open { stream, .. }
            | LiveMail::Configure { stream, .. }
            | LiveMail::Unit { stream, .. }
            | LiveMail::Close { stream, .. } => self.home_of(stream),
            _ => return,
        };
        if home == self.shard {
            self.at_home(self.shard, mail, now);
        } else {
            self.outbound[usize::from(home)].push_back(mail);
        }
    }

    fn at_home(&mut self, from: ShardId, mail: LiveMail, now: Now) {
        match mail {
            LiveMail::Open { stream, publisher, connection } => {
                let accepted = self.open_home(&stream, publisher, now);
                if from == self.shard {
                    self.events.push_back(LiveEvent::Opened { connection, stream, accepted });
                } else {
                    let mail = LiveMail::Opened { stream, connection, accepted };
                    self.outbound[usize::from(from)].push_back(mail);
                }
            }
            LiveMail::Configure { stream, publisher, config } => {
                self.change(&stream, |home| home.live.configure(publisher, *config, now));
            }
            LiveMail::Unit { stream, publisher, kind, unit } => {
                self.change(&stream, |home| home.live.push(publisher, kind, unit, now));
            }
            LiveMail::Close { stream, publisher } => self.change(&stream, |home| {
                home.live.close_publisher(publisher, now);
                if home.live.publisher().is_none() {
                    home.idle_since = Some(now.monotonic);
                }
            }),
            LiveMail::Follow { stream } => {
                let window = self.homes.get_mut(&stream).map(|home| {
                    home.readers |= 1 << from;
                    Box::new(home.live.snapshot())
                });
                self.outbound[usize::from(from)].push_back(LiveMail::Snapshot { stream, window });
            }
            LiveMail::Unfollow { stream } => {
                if let Some(home) = self.homes.get_mut(&stream) {
                    home.readers &= !(1 << from);
                    home.stale &= !(1 << from);
                }
            }
            _ => {}
        }
    }

    fn open_home(&mut self, stream: &StreamName, publisher: PublisherId, now: Now) -> bool {
        if !self.homes.contains_key(stream) {
            if self.homes.len() >= LIVE_STREAMS_PER_SHARD_MAX {
                return false;
            }
            // Segment numbers of a later life of the stream begin above those of this one.
            let epoch = u64::try_from(now.wall.unix_seconds()).unwrap_or(1);
            let settings = Settings { epoch, ..self.settings };
            let home = Home {
                live: LiveStream::new(stream.clone(), settings, now),
                readers: 0,
                stale: 0,
                idle_since: None,
                waiters: Vec::new(),
            };
            self.homes.insert(stream.clone(), home);
        }
        let mut accepted = false;
        self.change(stream, |home| {
            accepted = home.live.open_publisher(publisher, now).is_ok();
            if accepted {
                home.idle_since = None;
            }
        });
        accepted
    }

    /// Changes a stream at home and tells everyone what came of it.
    fn change(&mut self, stream: &StreamName, change: impl FnOnce(&mut Home)) {
        let Some(home) = self.homes.get_mut(stream) else { return };
        change(home);
        let mut changed = false;
        while let Some(update) = home.live.poll_update() {
            changed = true;
            let mut readers = home.readers & !home.stale;
            while readers != 0 {
                let to = readers.trailing_zeros();
                readers &= readers - 1;
                let queue = &mut self.outbound[to as usize];
                if queue.len() < OUTBOUND_MESSAGES_HIGH {
                    let (stream, update) = (stream.clone(), update.clone());
                    queue.push_back(LiveMail::Update { stream, update });
                } else {
                    home.stale |= 1 << to;
                }
            }
        }
        if changed {
            let waiters = std::mem::take(&mut home.waiters);
            wake(&mut self.events, stream, waiters);
        }
    }

    /// Sends snapshots to the shards that could not be told.
    fn refresh_stale(&mut self) {
        for (stream, home) in &mut self.homes {
            for to in 0..self.shards {
                let queue = &mut self.outbound[usize::from(to)];
                if home.stale & (1 << to) != 0 && queue.len() < OUTBOUND_MESSAGES_HIGH {
                    home.stale &= !(1 << to);
                    let window = Some(Box::new(home.live.snapshot()));
                    queue.push_back(LiveMail::Snapshot { stream: stream.clone(), window });
                }
            }
        }
    }

    fn forget(&mut self, stream: &StreamName) {
        let Some(home) = self.homes.remove(stream) else { return };
        wake(&mut self.events, stream, home.waiters);
        for to in (0..self.shards).filter(|to| home.readers & (1 << to) != 0) {
            self.outbound[usize::from(to)].push_back(LiveMail::Gone { stream: stream.clone() });
        }
    }

    fn on_snapshot(&mut self, stream: StreamName, window: Option<Box<Window>>) {
        let Some(followed) = self.followed.get_mut(&stream) else { return };
        let waiters = std::mem::take(&mut followed.waiters);
        match window {
            Some(window) => followed.window = Some(window),
            // No such stream: the next request asks again.
            None => {
                self.followed.remove(&stream);
            }
        }
        wake(&mut self.events, &stream, waiters);
    }

    fn on_update(&mut self, stream: &StreamName, update: Update) {
        let Some(followed) = self.followed.get_mut(stream) else { return };
        if let Some(window) = &mut followed.window {
            window.apply(update);
            let waiters = std::mem::take(&mut followed.waiters);
            wake(&mut self.events, stream, waiters);
        }
    }

    /// Whether this shard knows that there is no such stream, as opposed to not having asked.
    #[must_use]
    pub fn is_unknown(&self, stream: &StreamName) -> bool {
        !self.homes.contains_key(stream) && !self.followed.contains_key(stream)
    }
}

fn base_of(stream: &StreamName) -> &str {
    let whole = stream.as_str();
    whole.split_once('@').map_or(whole, |(base, _)| base)
}

fn wait_if_not_yet(answer: Lookup, waiters: &mut Vec<Key>, connection: Key) -> Found {
    if !matches!(answer, Lookup::NotYet) {
        return Found::Answer(answer);
    }
    if waiters.len() >= LIVE_WAITERS_MAX {
        return Found::Busy;
    }
    waiters.push(connection);
    Found::Wait
}

fn wake(events: &mut VecDeque<LiveEvent>, stream: &StreamName, waiters: Vec<Key>) {
    events.extend(
        waiters
            .into_iter()
            .map(|connection| LiveEvent::Changed { connection, stream: stream.clone() }),
    );
}
