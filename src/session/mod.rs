//! What this server does with a protocol's events: one file per protocol.
//!
//! A session reads what arrived through the protocol's machine, asks `hub` and `live`, and puts
//! replies into the connection's outbox. It never touches another connection, never waits and never
//! sends: what must happen later comes back as an event (`on_*`).

mod deflate;
mod echo;
mod event_stream;
mod http;
mod live_files;
mod protocol;
mod proxy;
mod refusal;
mod routes;
mod rtmp;
mod settings;
mod websocket;

pub use deflate::{Agreed, Deflate, Takeover};
pub use protocol::{
    Aside, Collecting, Conditions, HttpState, Protocol, PublishRequest, Publishing, RtmpState,
    TagHeader, TrackWriter, Unit, UnitBody, Waiting, WebSocketState,
};
pub use refusal::{on_shed, refused};
pub use settings::Settings;

use crate::compress::Texts;
use crate::connection::{Hold, Stage};
use crate::fanout::{Format, Position, Resolution};
use crate::governor::Step;
use crate::hub::{Hub, PublishError};
use crate::live::{Directory, StreamName};
use crate::memory::{Arena, Key, Payload, Span};
use crate::observe::{Board, Counters};
use crate::time::Now;
use ::websocket::encode::{Opcode, frame_header};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One peer of this server.
pub type Connection = crate::connection::Connection<Protocol>;

/// What a session may use besides its connection.
#[derive(Debug)]
pub struct Context<'a> {
    /// The connection.
    pub token: Key,
    /// The same, unique in the process.
    pub sender: u64,
    /// The time of this turn.
    pub now: Now,
    /// `now` as HTTP writes it.
    pub date: &'a [u8; http1::DATE_BYTES],
    /// Messaging.
    pub hub: &'a mut Hub,
    /// Live media.
    pub live: &'a mut Directory,
    /// Where replies are written.
    pub arena: &'a mut Arena,
    /// A ping of a WebSocket: the same bytes for everybody.
    pub ping: &'a Span,
    /// A buffer to build replies in; its content is no one's between two calls.
    pub scratch: &'a mut Vec<u8>,
    /// From where connections come, where a rule or a log asked for it and it is not the loopback:
    /// beside the connections, because most have none.
    pub addresses: &'a mut BTreeMap<Key, SocketAddr>,
    /// Compresses long texts.
    pub texts: &'a mut Texts,
    /// Compresses replies, inflates messages.
    pub deflate: &'a mut Deflate,
    /// What the operator decided.
    pub settings: &'a Settings,
    /// The shard's counts.
    pub counters: &'a Counters,
    /// What is known of all shards.
    pub board: &'a Board,
    /// Entropy for this connection in this turn.
    pub entropy: u64,
    /// Whether the server is going away.
    pub draining: bool,
}

impl Context<'_> {
    /// From where the connection comes, as far as it is known; for the log.
    fn peer(&self) -> Option<SocketAddr> {
        self.addresses.get(&self.token).copied()
    }

    /// Counts something that was given up for want of memory.
    fn count_shed(&self, step: Step) {
        // The sender's upper bits are the shard.
        self.board.governor().shed((self.sender >> 56) as usize, step, 1);
    }
}

/// The bytes of [`Context::ping`].
#[must_use]
pub fn ping() -> Span {
    let (header, length) = frame_header(Opcode::Ping, 0);
    Span::from_payload(Payload::copied_from(&header[..length]))
}

/// Answers what at the beginning of `input` concerns nobody but its sender, for which little of the
/// shard is needed; says how much that was. The rest is for [`receive`].
#[inline]
pub fn answer(
    connection: &mut Connection,
    input: &[u8],
    arena: &mut Arena,
    counters: &Counters,
    settings: &Settings,
) -> usize {
    if !matches!(connection.protocol, Protocol::WebSocket(_)) {
        return 0;
    }
    let mut consumed = websocket::echo_whole(connection, input, arena, counters, settings);
    if consumed == 0 {
        return 0;
    }
    while consumed < input.len() {
        let rest = &input[consumed..];
        match websocket::echo_whole(connection, rest, arena, counters, settings) {
            0 => break,
            bytes => consumed += bytes,
        }
    }
    consumed
}

/// Reads `input`, which arrived and was not consumed; says how much of it was.
#[inline(never)]
pub fn receive(
    connection: &mut Connection,
    input: &mut [u8],
    storage: &mut http1::HeaderStorage,
    context: &mut Context<'_>,
) -> usize {
    let mut consumed = 0;
    if matches!(connection.protocol, Protocol::WebSocket(_)) {
        consumed = websocket::receive_whole(connection, input, context);
        if consumed == input.len() {
            return consumed;
        }
    }
    receive_steps(connection, input, consumed, storage, context)
}

/// Goes on step by step, also from one protocol to another.
#[inline(never)]
fn receive_steps(
    connection: &mut Connection,
    input: &mut [u8],
    mut consumed: usize,
    storage: &mut http1::HeaderStorage,
    context: &mut Context<'_>,
) -> usize {
    loop {
        let wants = connection.stage == Stage::Open && connection.wants_input();
        if !wants {
            break;
        }
        let rest = &mut input[consumed..];
        let progress = match &connection.protocol {
            Protocol::Proxied(_) => proxy::receive(connection, rest, context),
            Protocol::Http(_) => http::receive(connection, rest, storage, context),
            Protocol::WebSocket(_) => websocket::receive(connection, rest, context),
            Protocol::EventStream { .. } => event_stream::receive(rest),
            Protocol::Rtmp(_) => rtmp::receive(connection, rest, context),
            Protocol::Echo => echo::receive(connection, rest, context),
            Protocol::Refused => Progress { consumed: rest.len(), again: false },
        };
        consumed += progress.consumed;
        if !progress.again {
            break;
        }
    }
    match connection.stage {
        Stage::Open => consumed,
        // What a peer sends after we decided to close is thrown away.
        Stage::Closing | Stage::Lingering | Stage::Dead => input.len(),
    }
}

/// What one step of a session did.
#[derive(Clone, Copy, Debug)]
struct Progress {
    consumed: usize,
    /// Whether another step may be possible without more input.
    again: bool,
}

impl Progress {
    const INCOMPLETE: Self = Self { consumed: 0, again: false };

    const fn step(consumed: usize) -> Self {
        Self { consumed, again: true }
    }
}

/// It is known from where the peer connected, before anything of it was read.
pub fn on_peer_address(
    connection: &mut Connection,
    address: Option<SocketAddr>,
    context: &mut Context<'_>,
) {
    proxy::on_address(connection, address, context);
}

/// The peer closed its half.
pub fn on_end_of_stream(connection: &mut Connection, context: &mut Context<'_>) {
    match &connection.protocol {
        Protocol::Rtmp(_) => rtmp::on_closed(connection, context),
        Protocol::Http(_) if connection.hold == Hold::Answer => {
            // The answer may still be wanted: the peer only closed its half.
            return;
        }
        Protocol::Proxied(_)
        | Protocol::Http(_)
        | Protocol::EventStream { .. }
        | Protocol::Echo
        | Protocol::Refused => {}
        Protocol::WebSocket(_) => websocket::on_end_of_stream(connection, context),
    }
    connection.close();
}

/// The connection ends, whatever the reason: subscriptions and publications of it end too.
pub fn on_closed(connection: &mut Connection, context: &mut Context<'_>) {
    match &connection.protocol {
        Protocol::Rtmp(_) => rtmp::on_closed(connection, context),
        Protocol::WebSocket(_) => websocket::on_closed(connection, context),
        Protocol::Proxied(_)
        | Protocol::Http(_)
        | Protocol::EventStream { .. }
        | Protocol::Echo
        | Protocol::Refused => {}
    }
    context.addresses.remove(&context.token);
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
}

/// The connection's timer fired. Says after how many milliseconds it should fire again.
pub fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    match connection.stage {
        Stage::Lingering | Stage::Dead => {
            connection.stage = Stage::Dead;
            return crate::limits::TIMER_TICK_MS;
        }
        Stage::Closing => return crate::limits::SEND_STALL_MS,
        Stage::Open => {}
    }
    match &connection.protocol {
        Protocol::Proxied(_) => proxy::on_timer(connection),
        Protocol::Http(_) => http::on_timer(connection, context),
        Protocol::WebSocket(_) => websocket::on_timer(connection, context),
        Protocol::EventStream { .. } => event_stream::on_timer(connection, context),
        Protocol::Rtmp(_) => rtmp::on_timer(connection, context),
        Protocol::Echo => echo::on_timer(connection, context),
        Protocol::Refused => {
            connection.close();
            crate::limits::LINGER_MS
        }
    }
}

/// A subscription's place is known.
pub fn on_resolved(connection: &mut Connection, found: &Resolution, context: &mut Context<'_>) {
    connection.unresolved = connection.unresolved.saturating_sub(1);
    if found.gap {
        on_gap(connection, found.format, found.position, context);
    }
    if !found.catch_up.is_empty() {
        let span = context.arena.append(&[&found.catch_up]);
        connection.outbox.push(span);
    }
}

/// The home of a channel has no room for it: the subscriber hears that instead of nothing.
pub fn on_subscribe_refused(connection: &mut Connection, context: &mut Context<'_>) {
    connection.unresolved = connection.unresolved.saturating_sub(1);
    if connection.stage != Stage::Open {
        return;
    }
    context.counters.refused_full.add(1);
    match &connection.protocol {
        Protocol::WebSocket(_) => {
            let text = "no further channel can be opened now";
            websocket::close(connection, websocket::TRY_AGAIN_LATER, text, context);
        }
        Protocol::EventStream { .. } => event_stream::refuse(connection, context),
        Protocol::Proxied(_)
        | Protocol::Http(_)
        | Protocol::Rtmp(_)
        | Protocol::Echo
        | Protocol::Refused => connection.close(),
    }
}

/// Publications are lost to a subscriber: it is told.
pub fn on_gap(
    connection: &mut Connection,
    format: Format,
    position: Position,
    context: &mut Context<'_>,
) {
    if format.plain() == Format::WebSocket {
        // Bare messages have no word for a gap: only the end of the connection tells it.
        on_fallen_behind(connection, context);
        return;
    }
    context.scratch.clear();
    format.encode_gap(position, context.scratch);
    let span = context.arena.append(&[context.scratch]);
    connection.outbox.push(span);
}

/// A subscriber read so slowly that what comes next for it is gone.
pub fn on_fallen_behind(connection: &mut Connection, context: &mut Context<'_>) {
    context.counters.slow_closes.add(1);
    if matches!(connection.protocol, Protocol::WebSocket(_)) {
        websocket::close(
            connection,
            websocket::TRY_AGAIN_LATER,
            "you read too slowly and missed publications",
            context,
        );
    }
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
    connection.close();
}

/// A publication that the connection waits for has its place, or was refused.
pub fn on_published(
    connection: &mut Connection,
    result: Result<Position, PublishError>,
    context: &mut Context<'_>,
) {
    http::on_published(connection, result, context);
}

/// A live stream became known on this shard or has something new to show.
pub fn on_live(connection: &mut Connection, stream: &StreamName, context: &mut Context<'_>) {
    live_files::on_live(connection, stream, context);
}

/// The home of a live stream answered a publisher.
pub fn on_publisher_answer(
    connection: &mut Connection,
    stream: &StreamName,
    accepted: bool,
    context: &mut Context<'_>,
) {
    rtmp::on_answer(connection, stream, accepted, context);
}

/// The server goes away: the peer is told in its protocol's words.
pub fn on_drain(connection: &mut Connection, context: &mut Context<'_>) {
    match &connection.protocol {
        Protocol::Http(_) => http::on_drain(connection),
        Protocol::WebSocket(_) => {
            websocket::close(connection, websocket::GOING_AWAY, "the server goes away", context);
        }
        Protocol::EventStream { .. } => event_stream::on_drain(connection, context),
        Protocol::Rtmp(_) => rtmp::on_drain(connection, context),
        Protocol::Proxied(_) | Protocol::Echo | Protocol::Refused => connection.close(),
    }
}
