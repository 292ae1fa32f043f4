//! `GET /live/{name}/...`: playlists, manifests, init sections and segments of live streams.
//!
//! Bodies are sent by reference: a segment is the payloads that its access units came in. A request
//! for a stream that this shard does not follow yet, or that has nothing to show yet, waits a
//! bounded time.

use super::Context;
use super::http::{Answer, after_answer, refuse_with};
use crate::compress::{TEXT_BYTES_MAX, TEXT_BYTES_MIN};
use crate::connection::Hold;
use crate::limits::LIVE_WAIT_MS;
use crate::live::{Found, Lookup, Resource, StreamName};
use crate::memory::Span;
use crate::session::{Conditions, Connection, Protocol, Waiting};
use http1::coding::{Coding, negotiate};
use http1::range::{self, ByteRange, ContentRange, Selection};
use http1::response::Head;
use http1::{Method, Request};
use std::sync::Arc;

/// Header fields of every answer to a player (any site may play).
pub(super) const CORS: &[(&str, &str)] = &[
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "Date, Server, Range, Content-Length, Content-Range, ETag"),
    ("Timing-Allow-Origin", "*"),
];

impl Conditions {
    /// What of `request` decides how a file is answered.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let kept = |name: &str| request.header(name).map(Box::from);
        Self {
            is_head: request.method() == Method::Head,
            range: kept("range"),
            if_range: kept("if-range"),
            if_none_match: kept("if-none-match"),
            coding: negotiate(
                request.header_lines("accept-encoding"),
                &[Coding::Gzip, Coding::Identity],
            ),
            version: request.version(),
            keep_alive: request.keep_alive(),
        }
    }

    const fn answer(&self, status: u16, code: &'static str) -> Answer {
        Answer {
            status,
            code,
            version: self.version,
            keep_alive: self.keep_alive,
            is_head: self.is_head,
        }
    }
}

/// A request for `file` of `stream`.
pub(super) fn get(
    connection: &mut Connection,
    stream: StreamName,
    file: String,
    conditions: Conditions,
    context: &mut Context<'_>,
) {
    let until_ms = context.now.monotonic.as_millis() + LIVE_WAIT_MS;
    attempt(connection, stream, file, conditions, until_ms, context);
}

fn attempt(
    connection: &mut Connection,
    stream: StreamName,
    file: String,
    conditions: Conditions,
    until_ms: u64,
    context: &mut Context<'_>,
) {
    let headers = CORS;
    match context.live.lookup(&stream, &file, context.token, context.now) {
        Found::Answer(Lookup::Found(resource)) => {
            send(connection, &resource, &conditions, context);
        }
        Found::Answer(Lookup::NotFound) => {
            let answer = conditions.answer(404, "not_found");
            let text = "no such stream or file; is the publisher there?";
            let headers = &[headers, &[("Cache-Control", "max-age=1")]].concat();
            refuse_with(connection, &answer, text, headers, context);
        }
        Found::Answer(Lookup::Gone) => {
            let answer = conditions.answer(410, "gone");
            let text = "this segment has left the window; load the playlist again";
            refuse_with(connection, &answer, text, headers, context);
        }
        Found::Busy => {
            let answer = conditions.answer(503, "busy");
            let headers = &[headers, &[("Retry-After", "1")]].concat();
            refuse_with(connection, &answer, "too many wait for this stream", headers, context);
        }
        // `lookup` turns "not yet" into a wait.
        Found::Wait | Found::Answer(Lookup::NotYet) => {
            if let Protocol::Http(state) = &mut connection.protocol {
                let waiting = Waiting::Live { stream, file, request: conditions, until_ms };
                state.waiting = Some(Box::new(waiting));
                connection.hold = Hold::Answer;
                let left = until_ms.saturating_sub(context.now.monotonic.as_millis());
                connection.wake_after(context.now.monotonic, left);
            }
        }
    }
}

fn take_waiting(connection: &mut Connection) -> Option<(StreamName, String, Conditions, u64)> {
    let Protocol::Http(state) = &mut connection.protocol else { return None };
    match *state.waiting.take()? {
        Waiting::Live { stream, file, request, until_ms } => {
            connection.hold = Hold::None;
            Some((stream, file, request, until_ms))
        }
        other @ Waiting::Publication { .. } => {
            state.waiting = Some(Box::new(other));
            None
        }
    }
}

/// The stream is known now, or has something new.
pub(super) fn on_live(connection: &mut Connection, stream: &StreamName, context: &mut Context<'_>) {
    let Some((waited_for, file, conditions, until_ms)) = take_waiting(connection) else { return };
    if waited_for == *stream && context.live.is_unknown(stream) {
        let answer = conditions.answer(404, "not_found");
        let text = "no such stream; is the publisher there?";
        let headers = &[CORS, &[("Cache-Control", "max-age=1")]].concat();
        refuse_with(connection, &answer, text, headers, context);
        return;
    }
    attempt(connection, waited_for, file, conditions, until_ms, context);
}

/// Nothing came in time.
pub(super) fn on_timeout(connection: &mut Connection, context: &mut Context<'_>) {
    let Some((_, _, conditions, _)) = take_waiting(connection) else { return };
    let answer = conditions.answer(503, "nothing_yet");
    let headers = &[CORS, &[("Retry-After", "1"), ("Cache-Control", "no-store")]].concat();
    refuse_with(connection, &answer, "the stream has nothing to show yet", headers, context);
}

fn send(
    connection: &mut Connection,
    resource: &Resource,
    conditions: &Conditions,
    context: &mut Context<'_>,
) {
    if let Some(small) = compressed(resource, conditions, context) {
        send_compressed(connection, resource, &small, conditions, context);
        return;
    }
    let length = resource.body.len();
    let is_current = conditions
        .if_none_match
        .as_ref()
        .is_some_and(|value| range::if_none_match_names(value, &resource.etag));
    let selection = match &conditions.range {
        _ if is_current => Selection::Whole,
        Some(value)
            if conditions
                .if_range
                .as_ref()
                .is_none_or(|etag| range::if_range_holds(etag, &resource.etag)) =>
        {
            range::select(value, length)
        }
        _ => Selection::Whole,
    };
    let (status, part) = match selection {
        _ if is_current => (304, None),
        Selection::Whole => (200, None),
        Selection::Part(part) => (206, Some(part)),
        Selection::Unsatisfiable => (416, None),
    };
    let persistence = conditions.answer(status, "").persistence(context.draining);
    let varies = is_compressible(resource, context);
    let body_bytes = match (status, part) {
        (304 | 416, _) => 0,
        (_, Some(part)) => part.length(),
        _ => length,
    };
    context.scratch.clear();
    let modified = u64::try_from(resource.last_modified.unix_seconds()).unwrap_or(0);
    let mut head = Head::start(context.scratch, status, context.date)
        .headers(CORS)
        .header_display("Cache-Control", resource.cache_control)
        .header("Last-Modified", http1::imf_fixdate(modified));
    if !resource.etag.is_empty() {
        head = head.header("ETag", &resource.etag);
    }
    if varies {
        head = head.header("Vary", "Accept-Encoding");
    }
    if status != 304 {
        head = head
            .content_type(resource.content_type)
            .header("Accept-Ranges", "bytes")
            .content_length(body_bytes);
    }
    if status == 206 || status == 416 {
        head = head.header_display("Content-Range", ContentRange { part, length });
    }
    head.persistence(conditions.version, persistence).finish();
    connection.outbox.push(context.arena.append(&[context.scratch]));
    if !conditions.is_head && body_bytes > 0 {
        push_body(connection, resource, part);
    }
    after_answer(connection, persistence);
}

/// Playlists and manifests that are long; media never is, and so are init sections.
fn is_compressible(resource: &Resource, context: &Context<'_>) -> bool {
    let is_text = matches!(resource.content_type, hls::CONTENT_TYPE | dash::CONTENT_TYPE);
    let long = TEXT_BYTES_MIN as u64..=TEXT_BYTES_MAX as u64;
    context.settings.config.http.compression && is_text && long.contains(&resource.body.len())
}

/// The body in gzip, where it is wanted and worth it. A range is one of the plain bytes.
fn compressed(
    resource: &Resource,
    conditions: &Conditions,
    context: &mut Context<'_>,
) -> Option<Arc<[u8]>> {
    let is_wanted = conditions.coding == Some(Coding::Gzip) && conditions.range.is_none();
    let [text] = resource.body.pieces() else { return None };
    (is_wanted && is_compressible(resource, context)).then(|| context.texts.gzip(text)).flatten()
}

fn send_compressed(
    connection: &mut Connection,
    resource: &Resource,
    small: &[u8],
    conditions: &Conditions,
    context: &mut Context<'_>,
) {
    // Other bytes have another tag (RFC 9110 8.8.3.3).
    let etag = resource.etag.strip_suffix('"').map(|tag| format!("{tag}-gzip\""));
    let is_current = conditions
        .if_none_match
        .as_ref()
        .zip(etag.as_ref())
        .is_some_and(|(value, etag)| range::if_none_match_names(value, etag));
    let status = if is_current { 304 } else { 200 };
    let persistence = conditions.answer(status, "").persistence(context.draining);
    let modified = u64::try_from(resource.last_modified.unix_seconds()).unwrap_or(0);
    context.scratch.clear();
    let mut head = Head::start(context.scratch, status, context.date)
        .headers(CORS)
        .header_display("Cache-Control", resource.cache_control)
        .header("Last-Modified", http1::imf_fixdate(modified))
        .header("Vary", "Accept-Encoding");
    if let Some(etag) = &etag {
        head = head.header("ETag", etag);
    }
    if !is_current {
        head = head
            .content_type(resource.content_type)
            .header("Content-Encoding", "gzip")
            .content_length(small.len() as u64);
    }
    head.persistence(conditions.version, persistence).finish();
    let body = if is_current || conditions.is_head { &[] } else { small };
    connection.outbox.push(context.arena.append(&[context.scratch, body]));
    after_answer(connection, persistence);
}

fn push_body(connection: &mut Connection, resource: &Resource, part: Option<ByteRange>) {
    let slice;
    let body = match part {
        Some(part) => {
            slice = resource.body.slice(part.first..part.last + 1);
            &slice
        }
        None => &resource.body,
    };
    for piece in body.pieces() {
        connection.outbox.push(Span::from_payload(piece.clone()));
    }
}
