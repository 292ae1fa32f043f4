//! What a shard's connections share: hub, live streams, arena, settings, time.

use super::governed::Scan;
use super::mail::{Mail, MediaSource};
use crate::compress::Texts;
use crate::connection::{Role, Transport};
use crate::fanout::PublicationKind;
use crate::hub::{Draft, Hub};
use crate::limits::{
    ARENA_BLOCKS_MAX, BLOCK_BYTES, CHANNEL_LOOKS_PER_TURN, HTTP_HEAD_MS, RTMP_SETUP_MS,
};
use crate::live::{Directory, PublisherId, StreamName, TrackKind};
use crate::mailbox::{Post, ShardId};
use crate::memory::{Arena, Key, Span};
use crate::observe::{Board, ChannelState, Counters, ShardBoard, StreamState, TrackState};
use crate::session::{self, Context, Deflate, Settings};
use crate::time::Now;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

const _: () = assert!(HTTP_HEAD_MS <= RTMP_SETUP_MS, "one first deadline serves both");

/// What a shard knows of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct ListenerInfo {
    /// What its connections begin with.
    pub role: Role,
    /// Whether it listens on the loopback or on a path.
    pub is_local: bool,
    /// Whether its connections come from a configured proxy by what it listens on alone.
    pub is_proxy: bool,
    /// Whether a rule or a log goes by the addresses of its peers.
    pub asks_address: bool,
    /// Whether its connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl ListenerInfo {
    /// A listener on the loopback without proxies.
    #[must_use]
    pub const fn local(role: Role) -> Self {
        Self { role, is_local: true, is_proxy: false, asks_address: false, proxy_protocol: false }
    }
}

/// What a shard is made with.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its listeners, in the order of the ring's.
    pub listeners: Vec<ListenerInfo>,
    /// What the operator decided.
    pub settings: Arc<Settings>,
    /// What is known of all shards.
    pub board: Arc<Board>,
    /// Between the connections' bytes and the wire's.
    pub transport: Transport,
    /// The shard's own entropy.
    pub entropy: u64,
    /// Sinks visited by the fan-out in one turn.
    pub sinks_per_turn: usize,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) shard: ShardId,
    pub(super) shards: ShardId,
    pub(super) hub: Hub,
    pub(super) live: Directory,
    pub(super) arena: Arena,
    pub(super) settings: Arc<Settings>,
    pub(super) transport: Transport,
    pub(super) now: Now,
    /// Milliseconds of the monotonic clock, as connections keep them.
    pub(super) now_ms: u32,
    pub(super) draining: bool,
    pub(super) board: Arc<Board>,
    /// This shard's part of it.
    pub(super) own: Arc<ShardBoard>,
    /// What silent WebSockets are sent.
    ping: Span,
    scratch: Vec<u8>,
    texts: Texts,
    deflate: Deflate,
    addresses: BTreeMap<Key, SocketAddr>,
    date: [u8; http1::DATE_BYTES],
    date_second: i64,
    ticked_second: u64,
    entropy: u64,
    /// Whether the last mail was one about live streams.
    mails_live: bool,
}

/// Channels that a shard writes on the board.
const CHANNELS_SHOWN: usize = 200;

impl World {
    pub(super) fn new(post: &Post<Mail>, options: ShardOptions, now: Now) -> Self {
        let (shard, shards) = (post.shard(), post.shards());
        let ShardOptions { settings, board, transport, entropy, .. } = options;
        let mut hub =
            Hub::new(shard, shards, settings.seed, entropy, settings.history, settings.deflate);
        hub.fanout().set_window(settings.batch_window);
        let mut world = Self {
            hub,
            live: Directory::new(shard, shards, settings.seed, settings.live),
            arena: Arena::new(BLOCK_BYTES, ARENA_BLOCKS_MAX),
            transport,
            now,
            now_ms: 0,
            draining: false,
            ping: session::ping(),
            scratch: Vec::new(),
            texts: Texts::default(),
            deflate: Deflate::new(settings.deflate, settings.config.websocket.deflate_takeover),
            addresses: BTreeMap::new(),
            date: [b' '; http1::DATE_BYTES],
            date_second: i64::MIN,
            ticked_second: 0,
            entropy,
            mails_live: false,
            settings,
            own: Arc::clone(&board.shards()[usize::from(shard)]),
            board,
            shard,
            shards,
        };
        world.hub.bound_outbound(post.capacity());
        world.hub.bound_channels(world.settings.channels_max);
        world.set_now(now);
        world
    }

    pub(super) fn set_now(&mut self, now: Now) {
        self.now = now;
        self.hub.fanout().set_now(now.monotonic);
        self.now_ms = now.monotonic.as_millis() as u32;
        // A linear congruential step (Knuth, MMIX): it only has to differ from turn to turn.
        self.entropy =
            self.entropy.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let second = now.wall.unix_seconds();
        if second != self.date_second {
            self.date_second = second;
            self.date = http1::imf_fixdate(u64::try_from(second).unwrap_or(0));
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.own.counters
    }

    /// From where a connection comes, as far as it is known; for the log.
    pub(super) fn address_of(&self, token: Key) -> Option<SocketAddr> {
        self.addresses.get(&token).copied()
    }

    #[inline]
    pub(super) fn context(&mut self, token: Key) -> Context<'_> {
        Context {
            token,
            sender: u64::from(self.shard) << 56 | token.to_bits(),
            now: self.now,
            date: &self.date,
            hub: &mut self.hub,
            live: &mut self.live,
            arena: &mut self.arena,
            ping: &self.ping,
            scratch: &mut self.scratch,
            texts: &mut self.texts,
            deflate: &mut self.deflate,
            addresses: &mut self.addresses,
            settings: &self.settings,
            counters: &self.own.counters,
            board: &self.board,
            entropy: self.entropy ^ token.to_bits(),
            draining: self.draining,
        }
    }

    /// Handles mail that is for no connection.
    pub(super) fn receive(&mut self, mail: Mail) {
        match mail {
            Mail::Hub(from, mail) => self.hub.receive(from, mail, self.now.monotonic),
            Mail::Live(from, mail) => self.live.receive(from, mail, self.now),
            Mail::Media(source) => self.receive_media(source),
            Mail::Publish { channel, json } => {
                let channel = Arc::from(channel);
                let draft = Draft::of(PublicationKind::Json);
                let now = self.now.monotonic;
                if let Err(error) = self.hub.publish(&channel, json.as_bytes(), draft, now) {
                    tracing::warn!(%error, %channel, "a message of this process was refused");
                }
            }
            Mail::Drain => {}
        }
    }

    fn receive_media(&mut self, source: MediaSource) {
        // No connection publishes it, so the sender's number is one that no connection has.
        let publisher = PublisherId(u64::from(self.shard) << 56 | Key::NONE.to_bits());
        match source {
            MediaSource::Open { stream, config } => {
                self.live.open(&stream, publisher, Key::NONE, self.now);
                self.live.configure(&stream, publisher, *config, self.now);
            }
            MediaSource::Unit { stream, kind, unit } => {
                self.counters().access_units.add(1);
                self.live.push(&stream, publisher, kind, unit, self.now);
            }
            MediaSource::Close { stream } => self.live.close(&stream, publisher, self.now),
        }
    }

    /// The home answered; a connection that is gone cannot publish.
    pub(super) fn on_opened(&self, connection: Key, stream: &StreamName, accepted: bool) {
        if connection == Key::NONE && !accepted {
            tracing::warn!(%stream, "someone else publishes this stream; ours is not shown");
        }
    }

    /// Whether something waits to be mailed or passed on.
    pub(super) fn has_mail(&self) -> bool {
        self.hub.is_busy() || self.live.is_busy()
    }

    pub(super) fn send_mail(&mut self, post: &mut Post<Mail>) {
        let shard = self.shard;
        for to in (0..self.shards).filter(|to| *to != shard) {
            let (hub, live) = (self.hub.outbound(to), self.live.outbound(to));
            while (!hub.is_empty() || !live.is_empty()) && post.has_room(to) {
                // By turns, so that neither keeps the other out of a mailbox that is always full.
                self.mails_live = !live.is_empty() && (hub.is_empty() || !self.mails_live);
                let mail = if self.mails_live {
                    live.pop_front().map(|mail| Mail::Live(shard, mail))
                } else {
                    hub.pop_front().map(|mail| Mail::Hub(shard, mail))
                };
                // There is room, and nobody else sends into this queue.
                let refused = mail.and_then(|mail| post.send(to, mail).err());
                debug_assert!(refused.is_none() || cfg!(planted = "dropped_mail"), "{refused:?}");
            }
        }
    }

    /// Shows what was compressed in this turn.
    pub(super) fn count_deflate(&self) {
        let totals = self.hub.readers().deflate_totals().plus(self.deflate.totals());
        let counters = self.counters();
        if counters.deflate_compressions.value() != totals.compressions {
            counters.deflate_compressions.set(totals.compressions);
            counters.deflate_bytes_in.set(totals.bytes_in);
            counters.deflate_bytes_out.set(totals.bytes_out);
        }
    }

    /// Whether a second began since the last call.
    pub(super) fn second_passed(&mut self) -> bool {
        let second = self.now.monotonic.as_millis() / 1000;
        std::mem::replace(&mut self.ticked_second, second) != second
    }

    /// Forgets what is too old, a few channels in each turn.
    pub(super) fn look_at_channels(&mut self) {
        self.hub.look_at_channels(CHANNEL_LOOKS_PER_TURN, self.now.monotonic);
    }

    /// Once a second.
    pub(super) fn tick(&mut self) {
        self.hub.begin_looks();
        self.live.tick(self.now);
        let totals = self.hub.totals();
        let counters = self.counters();
        counters.publications.set(totals.publications);
        counters.skipped.set(totals.skipped);
        counters.subscriptions.set(self.hub.readers().subscription_count() as u64);
        counters.channels.set(self.hub.channel_count() as u64);
        counters.live_streams.set(self.live.stream_count() as u64);
        let served = (self.stream_states(), self.channel_states());
        self.own.set_served(served.0, served.1);
    }

    fn stream_states(&mut self) -> Vec<StreamState> {
        self.live
            .streams()
            .map(|live| StreamState {
                name: live.name().as_str().to_string(),
                publishing: live.publisher().is_some(),
                tracks: TrackKind::ALL
                    .into_iter()
                    .filter_map(|kind| live.window().listed(kind).next_back().cloned())
                    .map(|segment| TrackState {
                        kind: segment.kind.as_str(),
                        codec: segment.track.codec_string.clone(),
                        resolution: segment.track.resolution,
                        audio: segment.track.audio,
                    })
                    .collect(),
            })
            .collect()
    }

    fn channel_states(&self) -> Vec<ChannelState> {
        let read = self.hub.readers().channels().map(|(name, subscribers)| ChannelState {
            name: name.to_string(),
            subscribers: subscribers as u64,
            publications: 0,
        });
        let at_home = self.hub.channels().map(|(name, publications)| ChannelState {
            name: name.to_string(),
            subscribers: 0,
            publications,
        });
        read.take(CHANNELS_SHOWN).chain(at_home.take(CHANNELS_SHOWN)).collect()
    }

    /// The shard's number.
    pub(super) fn number(&self) -> usize {
        self.shard.into()
    }

    /// What of memory is found by walking over tables; without the shard's own.
    pub(super) fn scan(&self) -> Scan {
        let fanout = self.hub.readers().usage();
        Scan {
            ring: 0,
            tables: fanout.tables,
            lists: fanout.logs + self.hub.list_bytes(),
            lagging: fanout.lagging,
            pools: fanout.pools
                + self.arena.resident_bytes()
                + self.texts.resident_bytes()
                + self.deflate.resident_bytes(),
        }
    }
}
