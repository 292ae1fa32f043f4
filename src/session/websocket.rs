//! Plain WebSocket: every message is a publication, every publication a message; or an echo.
//!
//! A publication is one range of bytes, so a message in pieces is assembled for it, within the bound of publications.
//! The echo assembles nothing: what comes in pieces goes back in fragments. A compressed message is collected as it
//! came and inflated when it is whole, because the state that inflates is the shard's.

use super::{Agreed, Context, Progress, Settings};
use crate::connection::{Hold, Stage};
use crate::fanout::{Format, PublicationKind};
use crate::hub::Draft;
use crate::limits::{PUBLICATION_BYTES_MAX, WEBSOCKET_CLOSE_MS, WEBSOCKET_FRAGMENTS_MAX};
use crate::memory::Arena;
use crate::observe::Counters;
use crate::session::{Aside, Connection, Protocol, WebSocketState};
use websocket::deflate::{self, Compressor, Outcome};
use websocket::encode::{Opcode, close_payload, fragment_header, frame_header};
use websocket::{CloseState, Decoder, Event, Kind, Limits, Masked, Role, Step, Utf8, code};

pub(super) const GOING_AWAY: u16 = code::GOING_AWAY;
pub(super) const TRY_AGAIN_LATER: u16 = code::TRY_AGAIN_LATER;

/// The state after an upgrade; without a format, messages go back to their sender.
pub(super) fn open(
    connection: &mut Connection,
    format: Option<Format>,
    agreed: Option<Agreed>,
    context: &Context<'_>,
) {
    let (decoder, deflate, takeover) = match agreed {
        Some(Agreed { class, takeover, .. }) => {
            (Decoder::with_deflate(Role::Server), Some(class), takeover)
        }
        None => (Decoder::new(Role::Server), None, None),
    };
    let aside =
        takeover.map(|takeover| Box::new(Aside { takeover: Some(takeover), message: Vec::new() }));
    connection.protocol = Protocol::WebSocket(WebSocketState {
        decoder,
        aside,
        close: CloseState::Open,
        format,
        deflate,
        pinged: false,
    });
    connection.wake_after(context.now.monotonic, ping_after_ms(context));
}

/// How long this peer may be silent until it is pinged. Connections differ by up to a quarter: those
/// that came in one storm would else be pinged in one for ever.
fn ping_after_ms(context: &Context<'_>) -> u64 {
    let longest_ms = context.settings.websocket_ping_ms;
    // The golden ratio spreads numbers that follow each other (Knuth 6.4).
    let spread = context.token.index.wrapping_mul(0x9E37_79B9) >> 16;
    longest_ms - longest_ms * u64::from(spread) / (4 << 16)
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
        message_bytes_max: message_bytes_max(state.format, context),
        fragments_max: WEBSOCKET_FRAGMENTS_MAX,
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
            fail(connection, error.close_code(), &error, context);
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
    let Protocol::WebSocket(state) = &connection.protocol else { return 0 };
    let message_bytes_max = message_bytes_max(state.format, context);
    let limits = Limits { message_bytes_max, ..Limits::default() };
    let mut consumed = 0;
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

/// Echoes the message that is whole at the beginning of `input`, which concerns nobody but its sender.
/// Says how long its frame was: nothing where there is none, or the session is another one.
#[inline(never)]
pub(super) fn echo_whole(
    connection: &mut Connection,
    input: &[u8],
    arena: &mut Arena,
    counters: &Counters,
    settings: &Settings,
) -> usize {
    let limits =
        Limits { message_bytes_max: settings.websocket_message_bytes_max, ..Limits::default() };
    if connection.stage != Stage::Open || !connection.wants_input() {
        return 0;
    }
    let Protocol::WebSocket(state) = &mut connection.protocol else { return 0 };
    let answers_plainly = state.format.is_none() && state.deflate.is_none();
    if !answers_plainly || state.close != CloseState::Open {
        return 0;
    }
    let mut reply = None;
    let place = |kind, masked: Masked<'_>| {
        let (header, length) = frame_header(opcode_of(kind), masked.len());
        // Unmasked on its way into the reply.
        reply = arena
            .append_framed_by(&header, length, masked.len(), |body| masked.unmask_into(body, kind));
        reply.is_some()
    };
    let read = state.decoder.receive_whole_into(input, &limits, place);
    let (Some(bytes), Some(reply)) = (read, reply) else { return 0 };
    state.pinged = false;
    counters.messages_in.add(1);
    connection.outbox.push(reply);
    bytes
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

/// The longest message, before and after inflation; what is refused here is not assembled.
fn message_bytes_max(format: Option<Format>, context: &Context<'_>) -> u64 {
    let configured = context.settings.websocket_message_bytes_max;
    if format.is_some() { configured.min(PUBLICATION_BYTES_MAX as u64) } else { configured }
}

/// The peer broke a rule: it is told which, and that is the end.
#[cold]
fn fail(
    connection: &mut Connection,
    code: u16,
    error: &dyn std::fmt::Display,
    context: &mut Context<'_>,
) {
    tracing::debug!(connection = ?context.token, %error, "WebSocket peer broke the protocol");
    context.counters.protocol_errors.add(1);
    close(connection, code, &error.to_string(), context);
    connection.close();
}

fn on_event(connection: &mut Connection, event: Event<'_>, context: &mut Context<'_>) {
    match event {
        Event::Message { kind, compressed: false, data } => {
            on_message(connection, kind, data, context);
        }
        Event::Message { kind, compressed: true, data } => {
            on_compressed(connection, kind, data, context);
        }
        Event::Fragment { kind, compressed, data, first, last } => {
            let place = Place { first, last };
            let Protocol::WebSocket(state) = &connection.protocol else { return };
            if state.format.is_none() && !compressed {
                echo_fragment(connection, kind, data, place, context);
            } else if let Some(message) = collect(connection, data, place, context) {
                if compressed {
                    on_compressed(connection, kind, &message, context);
                } else {
                    on_message(connection, kind, &message, context);
                }
            }
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
        echo(connection, kind, data, context);
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
        Kind::Text if format.plain() == Format::WebSocketJson && is_json(data) => {
            PublicationKind::Json
        }
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

/// Where a piece is in its message.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: bool,
    last: bool,
}

/// Adds a piece to what was collected of its message; gives the message when it is whole.
fn collect(
    connection: &mut Connection,
    data: &[u8],
    place: Place,
    context: &Context<'_>,
) -> Option<Vec<u8>> {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return None };
    let bytes_max = message_bytes_max(state.format, context);
    let aside = state.aside.get_or_insert_default();
    let message = &mut aside.message;
    append_within(message, data, usize::try_from(bytes_max).unwrap_or(usize::MAX));
    if !place.last {
        return None;
    }
    let message = std::mem::take(message);
    if aside.takeover.is_none() {
        state.aside = None;
    }
    Some(message)
}

/// Appends a piece to a message whose sum the decoder has checked against this limit. The memory doubles up to what the
/// decoder lets through, which is more where the message is compressed, and does not grow beyond it.
fn append_within(message: &mut Vec<u8>, data: &[u8], message_bytes_max: usize) {
    let needed = message.len() + data.len();
    if message.capacity() < needed {
        let doubled = message.capacity() * 2;
        let whole = if needed > message_bytes_max {
            Compressor::bound(message_bytes_max)
        } else {
            message_bytes_max
        };
        let wanted = doubled.min(whole).max(needed);
        message.reserve_exact(wanted - message.len());
    }
    message.extend_from_slice(data);
}

/// A whole message that is to be inflated (RFC 7692 6.2).
fn on_compressed(connection: &mut Connection, kind: Kind, data: &[u8], context: &mut Context<'_>) {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return };
    let bytes_max = message_bytes_max(state.format, context);
    match context.deflate.inflate(state.takeover(), data, bytes_max) {
        Ok(message) => {
            context.counters.inflate_messages.add(1);
            if kind == Kind::Binary || is_utf8(&message) {
                on_message(connection, kind, &message, context);
            } else {
                let error = "the peer sent text that is not UTF-8";
                fail(connection, code::INVALID_PAYLOAD, &error, context);
            }
            context.deflate.put_back(message);
        }
        Err(error) => {
            context.counters.inflate_failures.add(1);
            fail(connection, error.close_code(), &error, context);
        }
    }
}

fn is_utf8(text: &[u8]) -> bool {
    let mut check = Utf8::new();
    check.receive(text).is_ok() && check.is_complete()
}

/// Sends a message back, compressed where that was agreed and pays.
fn echo(connection: &mut Connection, kind: Kind, data: &[u8], context: &mut Context<'_>) {
    let Protocol::WebSocket(state) = &mut connection.protocol else { return };
    let opcode = opcode_of(kind);
    if let Some(class) = state.deflate
        && state.close.may_send()
    {
        context.scratch.clear();
        let outcome = context.deflate.compress(state.takeover(), class, data, context.scratch);
        if outcome == Outcome::Compressed {
            let (header, length) = deflate::frame_header(opcode, context.scratch.len());
            let span = context.arena.append_framed(&header, length, context.scratch);
            connection.outbox.push(span);
            return;
        }
    }
    reply(connection, opcode, data, context);
}

/// Sends a piece of a message back as a fragment.
fn echo_fragment(
    connection: &mut Connection,
    kind: Kind,
    data: &[u8],
    place: Place,
    context: &mut Context<'_>,
) {
    let Protocol::WebSocket(state) = &connection.protocol else { return };
    if place.last {
        context.counters.messages_in.add(1);
    }
    let says_nothing = data.is_empty() && !place.first && !place.last;
    if says_nothing || !state.close.may_send() {
        return;
    }
    let opcode = match kind {
        _ if !place.first => Opcode::Continuation,
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    };
    let (header, length) = fragment_header(opcode, place.last, data.len());
    connection.outbox.push(context.arena.append_framed(&header, length, data));
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

/// The peer's bytes ended. Behind its Close frame that is as it should be (RFC 6455 7.1.1); without one nobody is there
/// to hear more (7.1.5).
pub(super) fn on_end_of_stream(connection: &mut Connection, context: &mut Context<'_>) {
    if let Protocol::WebSocket(state) = &mut connection.protocol {
        state.close.on_end();
    }
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
}

/// The connection ends: its own states are free for others.
pub(super) fn on_closed(connection: &mut Connection, context: &mut Context<'_>) {
    if let Protocol::WebSocket(state) = &mut connection.protocol
        && let Some(aside) = state.aside.take()
        && let Some(takeover) = &aside.takeover
    {
        context.deflate.release(takeover);
    }
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
    let ping_after_ms = ping_after_ms(context);
    if silent_ms < ping_after_ms {
        return ping_after_ms - silent_ms;
    }
    if !state.pinged {
        state.pinged = true;
        context.counters.pings.add(1);
        connection.outbox.push(context.ping.clone());
    }
    (settings.websocket_idle_ms - silent_ms).min(ping_after_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte at a time must not copy the whole message each time, also where a compressed message is longer than the
    /// limit.
    #[test]
    fn a_message_grows_in_few_steps_and_not_beyond_its_bound() {
        for message_bytes_max in [125, 64 * 1024, PUBLICATION_BYTES_MAX] {
            let (mut message, mut steps, mut capacity) = (Vec::new(), 0, 0);
            for _ in 0..Compressor::bound(message_bytes_max) {
                append_within(&mut message, &[7], message_bytes_max);
                steps += u32::from(message.capacity() != capacity);
                capacity = message.capacity();
                assert!(message.len() > message_bytes_max || capacity <= message_bytes_max);
            }
            assert!(steps <= 24, "{steps} steps to {message_bytes_max} bytes");
            assert!(capacity <= Compressor::bound(message_bytes_max));
        }
    }
}
