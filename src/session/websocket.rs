//! Plain WebSocket: every message is a publication, every publication a message; or an echo.

use super::{Context, Progress, Settings};
use crate::connection::{Hold, Stage};
use crate::fanout::{Format, PublicationKind};
use crate::hub::Draft;
use crate::limits::WEBSOCKET_CLOSE_MS;
use crate::memory::Arena;
use crate::observe::Counters;
use crate::session::{Connection, Protocol, WebSocketState};
use websocket::encode::{Opcode, close_payload, frame_header};
use websocket::{CloseState, Decoder, Event, Kind, Limits, Role, Step, code};

pub(super) const GOING_AWAY: u16 = code::GOING_AWAY;
pub(super) const TRY_AGAIN_LATER: u16 = code::TRY_AGAIN_LATER;

/// The state after an upgrade; without a format, messages go back to their sender.
pub(super) fn open(connection: &mut Connection, format: Option<Format>, context: &Context<'_>) {
    connection.protocol = Protocol::WebSocket(WebSocketState {
        decoder: Decoder::new(Role::Server),
        message: None,
        close: CloseState::Open,
        format,
        pinged: false,
    });
    connection.wake_after(context.now.monotonic, context.settings.websocket_ping_ms);
}

pub(super) fn receive(
    connection: &mut Connection,
    input: &mut [u8],
    context: &mut Context<'_>,
) -> Progress {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return Progress::INCOMPLETE };
    if state.decoder.is_closed() {
        return Progress { consumed: input.len(), again: false };
    }
    // A message that cannot be passed on now stays unread, so that the peer's window closes.
    if state.format.is_some() && is_congested(connection.subscriptions, context) {
        connection.hold = Hold::Congestion;
        return Progress::INCOMPLETE;
    }
    let limits = Limits {
        message_bytes_max: context.settings.websocket_message_bytes_max,
        ..Limits::default()
    };
    state.pinged = false;
    let available = input.len();
    match state.decoder.receive(input, &limits) {
        Ok(Step::Incomplete) => Progress::INCOMPLETE,
        Ok(Step::Event { consumed, event }) => {
            on_event(connection, event, context);
            // Without further bytes there is no further event.
            Progress { consumed, again: consumed < available }
        }
        Err(error) => {
            tracing::debug!(connection = ?context.token, %error, "WebSocket peer broke the protocol");
            context.counters.protocol_errors.add(1);
            let reason = error.to_string();
            close(connection, error.close_code(), &reason, context);
            connection.close();
            Progress { consumed: input.len(), again: false }
        }
    }
}

/// Whole messages at the beginning of `input`: nearly everything a client sends. Says how much that
/// was; the rest is for [`receive`].
#[inline]
pub(super) fn receive_whole(
    connection: &mut Connection,
    input: &mut [u8],
    context: &mut Context<'_>,
) -> usize {
    let mut consumed = 0;
    let limits = Limits {
        message_bytes_max: context.settings.websocket_message_bytes_max,
        ..Limits::default()
    };
    while consumed < input.len() && connection.stage == Stage::Open && connection.wants_input() {
        let Protocol::WebSocket(state) = &mut connection.protocol else { break };
        if state.format.is_some() && is_congested(connection.subscriptions, context) {
            break;
        }
        let rest = &mut input[consumed..];
        let Some((kind, payload)) = state.decoder.receive_whole(rest, &limits) else { break };
        state.pinged = false;
        consumed += payload.end;
        on_message(connection, kind, &rest[payload], context);
    }
    consumed
}

/// Echoes the whole messages at the beginning of `input`, which concern nobody but their sender. Says
/// how much that was: nothing where the session is another one.
#[inline]
pub(super) fn echo_whole(
    connection: &mut Connection,
    input: &mut [u8],
    arena: &mut Arena,
    counters: &Counters,
    settings: &Settings,
) -> usize {
    let limits =
        Limits { message_bytes_max: settings.websocket_message_bytes_max, ..Limits::default() };
    let mut consumed = 0;
    while consumed < input.len() && connection.stage == Stage::Open && connection.wants_input() {
        let Protocol::WebSocket(state) = &mut connection.protocol else { break };
        if state.format.is_some() || state.close != CloseState::Open {
            break;
        }
        let rest = &mut input[consumed..];
        let Some((kind, payload)) = state.decoder.receive_whole(rest, &limits) else { break };
        state.pinged = false;
        consumed += payload.end;
        counters.messages_in.add(1);
        let data = &rest[payload];
        let (header, length) = frame_header(opcode_of(kind), data.len());
        connection.outbox.push(arena.append_framed(&header, length, data));
    }
    consumed
}

const fn opcode_of(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

fn is_congested(subscriptions: u32, context: &Context<'_>) -> bool {
    context
        .hub
        .readers()
        .channel_of(subscriptions)
        .is_some_and(|channel| context.hub.is_congested(channel))
}

fn on_event(connection: &mut Connection, event: Event<'_>, context: &mut Context<'_>) {
    match event {
        Event::Message { kind, data, .. } => on_message(connection, kind, data, context),
        Event::Fragment { kind, data, last, .. } => {
            on_fragment(connection, kind, data, last, context)
        }
        Event::Ping(data) => reply(connection, Opcode::Pong, data, context),
        Event::Pong(_) => {}
        Event::Close { code, .. } => on_close(connection, code, context),
    }
}

fn on_message(connection: &mut Connection, kind: Kind, data: &[u8], context: &mut Context<'_>) {
    let Protocol::WebSocket(state) = &connection.protocol else { return };
    context.counters.messages_in.add(1);
    let Some(format) = state.format else {
        reply(connection, opcode_of(kind), data, context);
        return;
    };
    publish(connection, format, kind, data, context);
}

fn publish(
    connection: &mut Connection,
    format: Format,
    kind: Kind,
    data: &[u8],
    context: &mut Context<'_>,
) {
    let Some(channel) = context.hub.readers().channel_of(connection.subscriptions).cloned() else {
        return;
    };
    let kind = match kind {
        Kind::Binary => PublicationKind::Binary,
        Kind::Text if format == Format::WebSocketJson && is_json(data) => PublicationKind::Json,
        Kind::Text => PublicationKind::Text,
    };
    let draft = Draft { sender: context.sender, ..Draft::of(kind) };
    if let Err(error) = context.hub.publish(&channel, data, draft, context.now.monotonic) {
        close(connection, code::TOO_BIG, &error.to_string(), context);
    }
}

/// Whether the bytes are one JSON text.
pub(super) fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
}

/// A message in pieces is assembled: a publication is one range of bytes.
fn on_fragment(
    connection: &mut Connection,
    kind: Kind,
    data: &[u8],
    last: bool,
    context: &mut Context<'_>,
) {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return };
    let message = state.message.get_or_insert_default();
    // The decoder has checked the sum against the limit.
    message.extend_from_slice(data);
    if last && let Some(message) = state.message.take() {
        on_message(connection, kind, &message, context);
    }
}

/// Sends one frame to this peer alone.
fn reply(connection: &mut Connection, opcode: Opcode, data: &[u8], context: &mut Context<'_>) {
    let Protocol::WebSocket(state) = &connection.protocol else { return };
    if !state.close.may_send() {
        return;
    }
    let (header, length) = frame_header(opcode, data.len());
    connection.outbox.push(context.arena.append_framed(&header, length, data));
}

/// The peer closes (RFC 6455 5.5.1): its code goes back, then the connection ends.
fn on_close(connection: &mut Connection, code: Option<u16>, context: &mut Context<'_>) {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return };
    state.close.on_received();
    if state.close.owes_answer() {
        send_close(connection, code, "", context);
    }
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
    connection.close();
}

/// Begins the close handshake; the peer has a bounded time to answer.
pub(super) fn close(
    connection: &mut Connection,
    code: u16,
    reason: &str,
    context: &mut Context<'_>,
) {
    let Protocol::WebSocket(state) = &connection.protocol else { return };
    if !state.close.may_send() {
        return;
    }
    send_close(connection, Some(code), reason, context);
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
    connection.wake_after(context.now.monotonic, WEBSOCKET_CLOSE_MS);
}

fn send_close(
    connection: &mut Connection,
    code: Option<u16>,
    reason: &str,
    context: &mut Context<'_>,
) {
    let (payload, length) = close_payload(code, reason);
    reply(connection, Opcode::Close, &payload[..length], context);
    if let Protocol::WebSocket(state) = &mut connection.protocol {
        state.close.on_sent();
    }
}

/// Pings a silent peer, gives up on one that stays silent.
pub(super) fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    let silent_ms = u64::from(connection.silent_ms(context.now.monotonic));
    let settings = context.settings;
    let Protocol::WebSocket(state) = &mut connection.protocol else {
        return settings.websocket_ping_ms;
    };
    if state.close != CloseState::Open {
        // It had its time to answer our close frame.
        connection.close();
        return WEBSOCKET_CLOSE_MS;
    }
    if silent_ms >= settings.websocket_idle_ms {
        close(connection, code::GOING_AWAY, "no sign of life", context);
        connection.close();
        return WEBSOCKET_CLOSE_MS;
    }
    if silent_ms < settings.websocket_ping_ms {
        return settings.websocket_ping_ms - silent_ms;
    }
    if !state.pinged {
        state.pinged = true;
        context.counters.pings.add(1);
        reply(connection, Opcode::Ping, b"", context);
    }
    (settings.websocket_idle_ms - silent_ms).min(settings.websocket_ping_ms)
}
