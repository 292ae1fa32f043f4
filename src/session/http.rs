//! HTTP/1.1: requests in, answers in their order, upgrades to what else this server speaks.
//!
//! One request is answered before the next is begun; pipelined ones wait in the inbox. What a
//! request asks for is decided in `routes`.

use super::{Context, Progress, routes};
use crate::connection::Hold;
use crate::fanout::{Position, PublicationKind};
use crate::hub::{Confirm, Draft, PublishError};
use crate::limits::{HTTP_BODY_MS, HTTP_HEAD_MS, HTTP_IDLE_MS, PUBLICATION_BYTES_MAX};
use crate::session::{Collecting, Connection, Protocol, PublishRequest, Waiting};
use http1::response::{ErrorResponse, Head, Persistence};
use http1::{HeaderStorage, Limits, Method, Request, Step, Version};
use std::num::NonZeroU32;

pub(super) fn receive(
    connection: &mut Connection,
    input: &[u8],
    storage: &mut HeaderStorage,
    context: &mut Context<'_>,
) -> Progress {
    let Protocol::Http(state) = &mut connection.protocol else { return Progress::INCOMPLETE };
    if input.is_empty() && state.decoder.is_between_requests() {
        return Progress::INCOMPLETE;
    }
    let limits = Limits { body_bytes_max: PUBLICATION_BYTES_MAX as u64, ..Limits::default() };
    match state.decoder.receive(input, storage, &limits) {
        Ok(Step::Incomplete) => {
            if state.incomplete_since_ms.is_none() {
                let now = context.now.monotonic;
                let limit_ms = incomplete_limit_ms(state.decoder.is_in_head());
                state.incomplete_since_ms = NonZeroU32::new(now.as_millis() as u32 | 1);
                connection.wake_after(now, limit_ms);
            }
            Progress::INCOMPLETE
        }
        Ok(Step::Request { consumed, request }) => {
            state.incomplete_since_ms = None;
            state.answered = true;
            context.counters.requests.add(1);
            routes::route(connection, &request, context);
            Progress::step(consumed)
        }
        Ok(Step::Body { consumed, data }) => {
            if let Collecting::Publication(publish) = &mut state.collecting {
                publish.body.extend_from_slice(data);
            }
            Progress { consumed, again: consumed > 0 }
        }
        Ok(Step::End { consumed }) => {
            state.incomplete_since_ms = None;
            on_end(connection, context);
            Progress::step(consumed)
        }
        Err(error) => {
            tracing::debug!(connection = ?context.token, peer = ?context.peer(), %error, "HTTP peer broke the protocol");
            context.counters.protocol_errors.add(1);
            let message = error.to_string();
            let response = ErrorResponse::closing(error.status(), error.code(), &message);
            context.scratch.clear();
            response.write(context.scratch, context.date);
            connection.outbox.push(context.arena.append(&[context.scratch]));
            connection.close();
            Progress { consumed: input.len(), again: false }
        }
    }
}

/// The body of the present request is complete.
fn on_end(connection: &mut Connection, context: &mut Context<'_>) {
    let Protocol::Http(state) = &mut connection.protocol else { return };
    if let Collecting::Publication(publish) = std::mem::take(&mut state.collecting) {
        publish_body(connection, *publish, context);
    }
}

/// Publishes what was collected; the answer follows when the home gave it a place.
pub(super) fn publish_body(
    connection: &mut Connection,
    publish: PublishRequest,
    context: &mut Context<'_>,
) {
    let PublishRequest { channel, body, kind, event, key, idempotency_key, version, keep_alive } =
        publish;
    let kind = match kind {
        Some(PublicationKind::Json) if !super::websocket::is_json(&body) => {
            let answer =
                Answer { status: 400, code: "bad_json", version, keep_alive, is_head: false };
            refuse(connection, &answer, "the body is not the JSON it is said to be", context);
            return;
        }
        Some(kind) => kind,
        None if std::str::from_utf8(&body).is_ok() => PublicationKind::Text,
        None => PublicationKind::Binary,
    };
    let confirm = Some(Confirm { connection: context.token, idempotency_key });
    let draft = Draft { kind, sender: 0, event, key, confirm };
    if let Protocol::Http(state) = &mut connection.protocol {
        state.waiting = Some(Box::new(Waiting::Publication { version, keep_alive }));
    }
    connection.hold = Hold::Answer;
    context.counters.messages_in.add(1);
    if let Err(error) = context.hub.publish(&channel, &body, draft, context.now.monotonic) {
        on_published(connection, Err(error), context);
    }
}

/// The publication has its place, or was refused.
pub(super) fn on_published(
    connection: &mut Connection,
    result: Result<Position, PublishError>,
    context: &mut Context<'_>,
) {
    let Protocol::Http(state) = &mut connection.protocol else { return };
    let Some(waiting) = state.waiting.take() else { return };
    let Waiting::Publication { version, keep_alive } = *waiting else {
        state.waiting = Some(waiting);
        return;
    };
    connection.hold = Hold::None;
    match result {
        Ok(position) => {
            let body = format!("{{\"id\":\"{position}\"}}\n");
            let answer = Answer { status: 200, code: "", version, keep_alive, is_head: false };
            answer_with(connection, &answer, "application/json", body.as_bytes(), context);
        }
        Err(error) => {
            let (status, code) = match error {
                PublishError::TooLarge => (413, "publication_too_large"),
                PublishError::TooManyChannels => (503, "too_many_channels"),
                PublishError::Congested => (503, "congested"),
            };
            let answer = Answer { status, code, version, keep_alive, is_head: false };
            let later: &[_] = if status == 503 { &[("Retry-After", "1")] } else { &[] };
            refuse_with(connection, &answer, &error.to_string(), later, context);
        }
    }
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The error's code; unused in a success.
    pub(super) code: &'static str,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// The request was HEAD: no body follows.
    pub(super) is_head: bool,
}

impl Answer {
    /// An answer to `request`.
    pub(super) fn to(request: &Request<'_>, status: u16, code: &'static str) -> Self {
        Self {
            status,
            code,
            version: request.version(),
            // Who waits for 100 and gets another answer may leave out the body or send it all the
            // same (RFC 9110 10.1.1): where the next request begins is not known.
            keep_alive: request.keep_alive() && !request.expects_continue(),
            is_head: request.method() == Method::Head,
        }
    }

    pub(super) const fn persistence(&self, draining: bool) -> Persistence {
        if self.keep_alive && !draining { Persistence::KeepAlive } else { Persistence::Close }
    }
}

/// Answers with a small body.
pub(super) fn answer_with(
    connection: &mut Connection,
    answer: &Answer,
    content_type: &str,
    body: &[u8],
    context: &mut Context<'_>,
) {
    answer_with_headers(connection, answer, content_type, &[], body, context);
}

/// The same with further header fields; HEAD gets them and the body's length.
pub(super) fn answer_with_headers(
    connection: &mut Connection,
    answer: &Answer,
    content_type: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    context: &mut Context<'_>,
) {
    let persistence = answer.persistence(context.draining);
    context.scratch.clear();
    Head::start(context.scratch, answer.status, context.date)
        .content_type(content_type)
        .content_length(body.len() as u64)
        .header("Cache-Control", "no-store")
        .headers(headers)
        .persistence(answer.version, persistence)
        .finish();
    let body = if answer.is_head { &[] } else { body };
    connection.outbox.push(context.arena.append(&[context.scratch, body]));
    after_answer(connection, persistence);
}

/// Answers with an error in JSON.
pub(super) fn refuse(
    connection: &mut Connection,
    answer: &Answer,
    message: &str,
    context: &mut Context<'_>,
) {
    refuse_with(connection, answer, message, &[], context);
}

/// Answers with an error in JSON and further header fields.
pub(super) fn refuse_with(
    connection: &mut Connection,
    answer: &Answer,
    message: &str,
    headers: &[(&str, &str)],
    context: &mut Context<'_>,
) {
    let persistence = answer.persistence(context.draining);
    let response = ErrorResponse {
        status: answer.status,
        code: answer.code,
        message,
        headers,
        method: if answer.is_head { Method::Head } else { Method::Get },
        version: answer.version,
        persistence,
    };
    context.scratch.clear();
    response.write(context.scratch, context.date);
    connection.outbox.push(context.arena.append(&[context.scratch]));
    after_answer(connection, persistence);
}

/// Closes after an answer that says so.
pub(super) fn after_answer(connection: &mut Connection, persistence: Persistence) {
    if persistence == Persistence::Close {
        connection.close();
    }
}

/// Slow heads, slow bodies and idle connections end.
pub(super) fn on_timer(connection: &mut Connection, context: &mut Context<'_>) -> u64 {
    let silent_ms = u64::from(connection.silent_ms(context.now.monotonic));
    let Protocol::Http(state) = &connection.protocol else { return HTTP_IDLE_MS };
    if let Some(waiting) = &state.waiting {
        return match &**waiting {
            Waiting::Live { until_ms, .. } => {
                let left = until_ms.saturating_sub(context.now.monotonic.as_millis());
                if left == 0 {
                    super::live_files::on_timeout(connection, context);
                }
                left.max(1)
            }
            Waiting::Publication { .. } => HTTP_IDLE_MS,
        };
    }
    if let Some(since_ms) = state.incomplete_since_ms {
        let now_ms = context.now.monotonic.as_millis() as u32;
        let limit_ms = incomplete_limit_ms(state.decoder.is_in_head());
        let elapsed_ms = u64::from((now_ms | 1).wrapping_sub(since_ms.get()));
        if elapsed_ms < limit_ms {
            return limit_ms - elapsed_ms;
        }
        // A head or a body that takes this long is an attack or a dead peer (RFC 9110 15.5.9).
        let response = ErrorResponse::closing(
            408,
            "request_timeout",
            "the request did not arrive in time; send it faster",
        );
        context.scratch.clear();
        response.write(context.scratch, context.date);
        connection.outbox.push(context.arena.append(&[context.scratch]));
        connection.close();
        return HTTP_HEAD_MS;
    }
    if silent_ms >= HTTP_IDLE_MS {
        connection.close();
        return HTTP_IDLE_MS;
    }
    HTTP_IDLE_MS - silent_ms
}

/// How long a head, or else a body, may be incomplete.
const fn incomplete_limit_ms(is_head: bool) -> u64 {
    if is_head { HTTP_HEAD_MS } else { HTTP_BODY_MS }
}

/// An idle connection is closed; one with a request gets its answer first.
pub(super) fn on_drain(connection: &mut Connection) {
    let Protocol::Http(state) = &connection.protocol else { return };
    if state.waiting.is_none() && state.decoder.is_between_requests() && connection.inbox.is_empty()
    {
        connection.close();
    }
}
