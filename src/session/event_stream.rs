//! Server-Sent Events (WHATWG HTML 9.2): the answer to `GET /sse/...`, which does not end.
//!
//! Publications go out by fan-out, each an event in an HTTP chunk of its own. This file writes what
//! is this connection's alone: the head, the retry time, heartbeats and the end.

use super::{Context, Progress};
use crate::fanout::{Format, Position, Sink, SubscribeOptions, with_chunk};
use crate::limits::RETRY_AFTER_SECONDS;
use crate::session::{Connection, Protocol};
use http1::response::{ErrorResponse, Head, LAST_CHUNK, Persistence};
use http1::{Request, Version};

/// What a request for an event stream asks for.
pub(super) struct Wish {
    pub(super) channels: smallvec::SmallVec<[Box<str>; 2]>,
    pub(super) after: Option<Position>,
    pub(super) allow_origin: Option<Box<str>>,
}

/// Starts the stream; the caller has checked the request.
pub(super) fn open(
    connection: &mut Connection,
    request: &Request<'_>,
    wish: &Wish,
    context: &mut Context<'_>,
) {
    context.scratch.clear();
    let mut head = Head::start(context.scratch, 200, context.date)
        .content_type(sse::CONTENT_TYPE)
        .header("Cache-Control", "no-store")
        .header("X-Accel-Buffering", "no");
    if let Some(origin) = &wish.allow_origin {
        head =
            head.header("Access-Control-Allow-Origin", origin.as_bytes()).header("Vary", "Origin");
    }
    // HTTP/1.0 has no chunks; its clients get none of this (`routes` refuses them).
    debug_assert!(request.version() == Version::Http11);
    head.chunked().persistence(request.version(), Persistence::KeepAlive).finish();
    let retry_ms = context.settings.sse_retry_ms;
    with_chunk(context.scratch, |out| sse::encode_retry(out, retry_ms));
    connection.protocol = Protocol::EventStream { is_alone: connection.outbox.is_empty() };
    connection.outbox.push(context.arena.append(&[context.scratch]));
    connection.wake_after(context.now.monotonic, context.settings.sse_heartbeat_ms);
    for channel in &wish.channels {
        let sink = Sink { connection: context.token, stream: 0 };
        let options =
            SubscribeOptions { format: Format::EventStream, after: wish.after, skips_own: false };
        let now = context.now.monotonic;
        if context
            .hub
            .subscribe(channel, sink, &mut connection.subscriptions, options, now)
            .is_err()
        {
            context.counters.refused_full.add(1);
            refuse(connection, context);
            return;
        }
        connection.unresolved += 1;
    }
}

/// A client sends nothing after its request; what it sends is thrown away.
pub(super) const fn receive(input: &[u8]) -> Progress {
    Progress { consumed: input.len(), again: false }
}

/// A comment, so that proxies and the client know that the stream lives.
pub(super) fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    if connection.outbox.is_empty() {
        context.scratch.clear();
        with_chunk(context.scratch, |out| sse::encode_comment(out, ""));
        connection.outbox.push(context.arena.append(&[context.scratch]));
    }
    context.settings.sse_heartbeat_ms
}

/// There is no room for one of the channels. What a connection is sent waits until all of its subscriptions are
/// answered, so the answer can still be a refusal; behind an earlier answer the stream ends, and the client comes back.
pub(super) fn refuse(connection: &mut Connection, context: &mut Context<'_>) {
    if !matches!(connection.protocol, Protocol::EventStream { is_alone: true }) {
        end(connection, context);
        return;
    }
    let seconds = RETRY_AFTER_SECONDS.to_string();
    let headers = [("Retry-After", seconds.as_str())];
    let text = "no further channel can be opened now; come back later";
    let answer = ErrorResponse {
        headers: &headers,
        ..ErrorResponse::closing(503, "too_many_channels", text)
    };
    context.scratch.clear();
    answer.write(context.scratch, context.date);
    connection.outbox.clear();
    connection.outbox.push(context.arena.append(&[context.scratch]));
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
    connection.close();
}

/// Ends the body properly; the client reconnects by itself.
pub(super) fn on_drain(connection: &mut Connection, context: &mut Context<'_>) {
    end(connection, context);
}

fn end(connection: &mut Connection, context: &mut Context<'_>) {
    connection.outbox.push(context.arena.append(&[LAST_CHUNK]));
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
    connection.close();
}
