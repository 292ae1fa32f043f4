//! Which path is what: the table of `GET /ws/{channel}` and its likes.

use super::http::{
    self, Answer, after_answer, answer_with, answer_with_headers, refuse, refuse_with,
};
use super::proxy::{Asker, asker};
use super::{Context, event_stream, live_files};
use crate::fanout::{Format, Position, PublicationKind, Sink, SubscribeOptions};
use crate::hub::check_channel_name;
use crate::limits::{EVENT_NAME_BYTES_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::live::StreamName;
use crate::memory::Span;
use crate::observe::{console, exposition};
use crate::session::{Agreed, Collecting, Conditions, Connection, Protocol, PublishRequest};
use http1::coding::{Coding, negotiate};
use http1::origin::{check_host, check_origin};
use http1::response::{CONTINUE, Head};
use http1::target::{decode_query, decode_segment, query_pairs};
use http1::{Framing, Method, Request, Version};
use smallvec::SmallVec;
use std::sync::Arc;
use websocket::handshake;

/// The subprotocol of a WebSocket whose publications carry ids.
const JSON_SUBPROTOCOL: &str = "headwater.json";

/// Answers a request, or begins what answers it.
pub(super) fn route(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    let asker = asker(connection, request, context);
    let hosts = &context.settings.config.hosts;
    // A page that rebinds its name can send X-Forwarded-Host, so that alone is not enough.
    let served = check_host(asker.inner, hosts).and_then(|()| check_host(asker.authority, hosts));
    if let Err(refusal) = served {
        let answer = Answer::to(request, refusal.status(), refusal.code());
        refuse(connection, &answer, &refusal.to_string(), context);
        return;
    }
    let path = request.path();
    let (first, rest) = split_segment(path);
    let method = request.method();
    let reads = matches!(method, Method::Get | Method::Head);
    match (method, first) {
        (Method::Get, "ws" | "echo") => upgrade(connection, request, first, rest, context),
        (Method::Get, "sse") => subscribe_events(connection, request, rest, context),
        (Method::Post, "pub") => publish(connection, request, rest, context),
        (Method::Get | Method::Head, "healthz") if rest.is_empty() => {
            answer_plain(connection, request, 200, b"ok\n", context);
        }
        (Method::Get | Method::Head, "readyz") if rest.is_empty() => {
            let (status, body): (u16, &[u8]) = if context.draining {
                (503, b"draining\n")
            } else if context.board.governor().is_full() {
                (503, b"full\n")
            } else {
                (200, b"ready\n")
            };
            answer_plain(connection, request, status, body, context);
        }
        (Method::Get | Method::Head, "metrics") if rest.is_empty() => {
            metrics(connection, request, context);
        }
        (Method::Get, "console") if rest == "state.json" => state(connection, request, context),
        (Method::Options, app) if is_app(app, context) => preflight(connection, request, context),
        (_, app) if reads && is_app(app, context) => {
            live_file(connection, request, app, rest, context);
        }
        _ if reads => asset(connection, request, context),
        _ => method_not_allowed(connection, request, context),
    }
}

/// `/a/b/c` is (`a`, `b/c`).
fn split_segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

fn is_app(segment: &str, context: &Context<'_>) -> bool {
    context.settings.config.apps.iter().any(|app| app.as_str() == segment)
}

fn method_not_allowed(
    connection: &mut Connection,
    request: &Request<'_>,
    context: &mut Context<'_>,
) {
    let (first, _) = split_segment(request.path());
    let allow = match first {
        "pub" => "POST",
        "ws" | "sse" | "echo" => "GET",
        _ => "GET, HEAD",
    };
    let answer = Answer::to(request, 405, "method_not_allowed");
    let text = format!("this path takes {allow}");
    refuse_with(connection, &answer, &text, &[("Allow", allow)], context);
}

/// Whether the page that asks may: WebSockets and unsafe methods only from our own pages.
fn origin_allowed(
    connection: &mut Connection,
    request: &Request<'_>,
    context: &mut Context<'_>,
) -> bool {
    let origins = request.header_lines("origin");
    let Asker { authority, scheme, .. } = asker(connection, request, context);
    let allowed = &context.settings.config.origins;
    if let Err(refusal) = check_origin(origins, authority, scheme, allowed) {
        let answer = Answer::to(request, refusal.status(), refusal.code());
        refuse(connection, &answer, &refusal.to_string(), context);
        return false;
    }
    true
}

/// The channel that a path segment names.
fn channel_of<'a>(
    connection: &mut Connection,
    request: &Request<'_>,
    segment: &'a str,
    context: &mut Context<'_>,
) -> Option<std::borrow::Cow<'a, str>> {
    let decoded = if segment.contains('/') {
        Err("a channel is one path segment; write / as %2F".to_string())
    } else {
        decode_segment(segment).map_err(|error| error.to_string())
    };
    let checked = decoded.and_then(|name| match check_channel_name(&name) {
        Ok(()) => Ok(name),
        Err(error) => Err(error.to_string()),
    });
    match checked {
        Ok(name) => Some(name),
        Err(text) => {
            refuse(connection, &Answer::to(request, 400, "bad_channel"), &text, context);
            None
        }
    }
}

/// The value of a query parameter.
fn query_value<'a>(request: &Request<'a>, name: &str) -> Option<&'a str> {
    query_pairs(request.query()?).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn upgrade(
    connection: &mut Connection,
    request: &Request<'_>,
    route: &str,
    segment: &str,
    context: &mut Context<'_>,
) {
    if route == "echo" && !context.settings.config.http.echo {
        asset(connection, request, context);
        return;
    }
    if !origin_allowed(connection, request, context) {
        return;
    }
    let key = match handshake::check(request.headers()) {
        Ok(key) => key,
        Err(error) => {
            let answer = Answer::to(request, error.status(), error.code());
            let headers: &[_] = if error.status() == 426 {
                &[handshake::VERSION_HEADER, ("Upgrade", "websocket")]
            } else {
                &[]
            };
            refuse_with(connection, &answer, &error.to_string(), headers, context);
            return;
        }
    };
    if request.framing() != Framing::Empty || !request.is_websocket_upgrade() {
        let mut answer = Answer::to(request, 400, "bad_upgrade");
        answer.keep_alive = false;
        refuse(connection, &answer, "an upgrade is a GET of HTTP/1.1 without a body", context);
        return;
    }
    if route == "echo" {
        let agreed = context.deflate.negotiate(request.headers(), false);
        accept(connection, &key, None, agreed.as_ref(), context);
        super::websocket::open(connection, None, agreed, context);
        return;
    }
    let Some(channel) = channel_of(connection, request, segment, context) else { return };
    let subprotocol = handshake::choose_subprotocol(request.headers(), &[JSON_SUBPROTOCOL]);
    let agreed = context.deflate.negotiate(request.headers(), true);
    let format = if subprotocol.is_some() { Format::WebSocketJson } else { Format::WebSocket };
    let format = agreed.as_ref().map_or(format, |agreed| format.compressed(agreed.class));
    let options = SubscribeOptions {
        format,
        after: query_value(request, "after").and_then(|id| id.parse().ok()),
        skips_own: query_value(request, "echo") == Some("0"),
    };
    let sink = Sink { connection: context.token, stream: 0 };
    let (head, now) = (&mut connection.subscriptions, context.now.monotonic);
    if context.hub.subscribe(&channel, sink, head, options, now).is_err() {
        if let Some(takeover) = agreed.and_then(|agreed| agreed.takeover) {
            context.deflate.release(&takeover);
        }
        context.counters.refused_full.add(1);
        let answer = Answer::to(request, 503, "too_many_subscriptions");
        refuse_with(connection, &answer, "come back later", &[("Retry-After", "5")], context);
        return;
    }
    connection.unresolved += 1;
    accept(connection, &key, subprotocol, agreed.as_ref(), context);
    super::websocket::open(connection, Some(format), agreed, context);
}

fn accept(
    connection: &mut Connection,
    key: &handshake::Key,
    subprotocol: Option<&str>,
    agreed: Option<&Agreed>,
    context: &mut Context<'_>,
) {
    context.scratch.clear();
    let deflate = agreed.map(|agreed| agreed.agreement);
    let chosen = handshake::Chosen { subprotocol, deflate };
    handshake::write_accept(context.scratch, key, &chosen);
    connection.outbox.push(context.arena.append(&[context.scratch]));
}

fn subscribe_events(
    connection: &mut Connection,
    request: &Request<'_>,
    segment: &str,
    context: &mut Context<'_>,
) {
    if request.version() == Version::Http10 {
        let answer = Answer::to(request, 505, "http_version");
        refuse(connection, &answer, "an event stream needs HTTP/1.1", context);
        return;
    }
    if request.framing() != Framing::Empty {
        let mut answer = Answer::to(request, 400, "body_on_get");
        answer.keep_alive = false;
        refuse(connection, &answer, "this request has no body", context);
        return;
    }
    let mut channels = SmallVec::new();
    if segment.is_empty() {
        let pairs = query_pairs(request.query().unwrap_or(""));
        for (_, value) in pairs.filter(|(name, _)| *name == "channel") {
            match decode_query(value) {
                Ok(name) if check_channel_name(&name).is_ok() => channels.push(name.into()),
                _ => {
                    let answer = Answer::to(request, 400, "bad_channel");
                    refuse(connection, &answer, "a channel's name is broken", context);
                    return;
                }
            }
        }
    } else {
        let Some(name) = channel_of(connection, request, segment, context) else { return };
        channels.push(name.into());
    }
    if channels.is_empty() || channels.len() > SUBSCRIPTIONS_PER_CONNECTION_MAX {
        let answer = Answer::to(request, 400, "bad_channel");
        let text = "name 1 to 64 channels: /sse/NAME or /sse?channel=A&channel=B";
        refuse(connection, &answer, text, context);
        return;
    }
    let wish = event_stream::Wish {
        after: resume_position(request),
        allow_origin: allowed_origin(request, context),
        channels,
    };
    event_stream::open(connection, request, &wish, context);
}

/// `Last-Event-ID`, which a reconnecting EventSource sends, or `?after=`. An id that is not ours
/// means a place we do not know: the subscriber is told of a gap.
fn resume_position(request: &Request<'_>) -> Option<Position> {
    let header = request.header("last-event-id").and_then(|value| std::str::from_utf8(value).ok());
    let id = header.filter(|id| !id.is_empty()).or_else(|| query_value(request, "after"))?;
    Some(id.parse().unwrap_or_default())
}

/// The origin to name in the answer: an EventSource of an allowed site may read.
fn allowed_origin(request: &Request<'_>, context: &Context<'_>) -> Option<Box<str>> {
    let origin = std::str::from_utf8(request.header("origin")?).ok()?;
    let listed = context
        .settings
        .config
        .origins
        .iter()
        .any(|allowed| allowed.as_ref().eq_ignore_ascii_case(origin));
    listed.then(|| origin.into())
}

fn publish(
    connection: &mut Connection,
    request: &Request<'_>,
    segment: &str,
    context: &mut Context<'_>,
) {
    if !origin_allowed(connection, request, context) {
        return;
    }
    let Some(channel) = channel_of(connection, request, segment, context) else { return };
    let mut fields = [None, None, None];
    for (field, name) in
        fields.iter_mut().zip(["headwater-event", "headwater-key", "idempotency-key"])
    {
        match short_field(request, name) {
            Ok(value) => *field = value,
            Err(text) => {
                refuse(connection, &Answer::to(request, 400, "bad_header"), &text, context);
                return;
            }
        }
    }
    let [event, key, idempotency_key] = fields;
    let publish = PublishRequest {
        channel: Arc::from(channel.as_ref()),
        body: Vec::new(),
        kind: request.header("content-type").and_then(kind_of),
        event,
        key,
        idempotency_key,
        version: request.version(),
        keep_alive: request.keep_alive(),
    };
    if request.framing() == Framing::Empty {
        http::publish_body(connection, publish, context);
        return;
    }
    if request.expects_continue() {
        connection.outbox.push(context.arena.append(&[CONTINUE]));
    }
    if let Protocol::Http(state) = &mut connection.protocol {
        state.collecting = Collecting::Publication(Box::new(publish));
    }
}

/// A header field that becomes part of a publication: short text without line ends.
fn short_field(request: &Request<'_>, name: &str) -> Result<Option<Arc<str>>, String> {
    let Some(value) = request.header(name) else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| format!("{name} is not UTF-8"))?;
    if text.len() > EVENT_NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("{name} is at most {EVENT_NAME_BYTES_MAX} bytes without controls"));
    }
    Ok((!text.is_empty()).then(|| Arc::from(text)))
}

/// The kind that a media type stands for; anything unknown is judged by its bytes.
fn kind_of(media_type: &[u8]) -> Option<PublicationKind> {
    let end = media_type.iter().position(|byte| *byte == b';').unwrap_or(media_type.len());
    let essence = media_type[..end].trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Some(PublicationKind::Json)
    } else if essence.eq_ignore_ascii_case(b"application/octet-stream") {
        Some(PublicationKind::Binary)
    } else {
        None
    }
}

fn live_file(
    connection: &mut Connection,
    request: &Request<'_>,
    app: &str,
    rest: &str,
    context: &mut Context<'_>,
) {
    let found = rest.split_once('/').and_then(|(name, file)| {
        let name = decode_segment(name).ok()?;
        Some((StreamName::from_parts(app, &name).ok()?, file.to_string()))
    });
    let Some((stream, file)) = found else {
        let answer = Answer::to(request, 404, "not_found");
        let text = "live streams are at /APP/NAME/index.m3u8 and /APP/NAME/manifest.mpd";
        refuse_with(connection, &answer, text, live_files::CORS, context);
        return;
    };
    if request.framing() != Framing::Empty {
        let mut answer = Answer::to(request, 400, "body_on_get");
        answer.keep_alive = false;
        refuse_with(connection, &answer, "this request has no body", live_files::CORS, context);
        return;
    }
    live_files::get(connection, stream, file, Conditions::of(request), context);
}

fn preflight(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    let answer = Answer::to(request, 204, "");
    let persistence = answer.persistence(context.draining);
    context.scratch.clear();
    Head::start(context.scratch, 204, context.date)
        .headers(live_files::CORS)
        .header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        .header("Access-Control-Allow-Headers", "Origin, Range, If-None-Match")
        .header("Access-Control-Max-Age", "86400")
        .persistence(request.version(), persistence)
        .finish();
    connection.outbox.push(context.arena.append(&[context.scratch]));
    after_answer(connection, persistence);
}

fn answer_plain(
    connection: &mut Connection,
    request: &Request<'_>,
    status: u16,
    body: &[u8],
    context: &mut Context<'_>,
) {
    answer_body(connection, request, status, "text/plain; charset=utf-8", body, context);
}

/// Answers GET with a body and HEAD with its length.
fn answer_body(
    connection: &mut Connection,
    request: &Request<'_>,
    status: u16,
    content_type: &str,
    body: &[u8],
    context: &mut Context<'_>,
) {
    let answer = Answer::to(request, status, "");
    answer_with(connection, &answer, content_type, body, context);
}

/// What may be compressed differs by what the client accepts, also when it is not.
const VARY: (&str, &str) = ("Vary", "Accept-Encoding");

/// Answers with a text that is compressed where it is long and the client accepts it.
fn answer_text(
    connection: &mut Connection,
    request: &Request<'_>,
    content_type: &str,
    text: &[u8],
    context: &mut Context<'_>,
) {
    let small = match accepted(request, &[Coding::Gzip, Coding::Identity], context) {
        Some(Coding::Gzip) => context.texts.gzip_once(text),
        Some(_) => None,
        None => return not_acceptable(connection, request, context),
    };
    let answer = Answer::to(request, 200, "");
    match small {
        Some(small) => {
            let headers = [("Content-Encoding", "gzip"), VARY];
            answer_with_headers(connection, &answer, content_type, &headers, &small, context);
        }
        None => answer_with_headers(connection, &answer, content_type, &[VARY], text, context),
    }
}

/// The coding to answer in; none when the client accepts none that there is.
fn accepted(request: &Request<'_>, available: &[Coding], context: &Context<'_>) -> Option<Coding> {
    if !context.settings.config.http.compression {
        return Some(Coding::Identity);
    }
    negotiate(request.header_lines("accept-encoding"), available)
}

fn not_acceptable(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    let answer = Answer::to(request, 406, "not_acceptable");
    let text = "this is sent in gzip, br or as it is (identity), and Accept-Encoding refuses these";
    refuse_with(connection, &answer, text, &[VARY], context);
}

/// Whether the operator's own data may be shown: to this machine, not through a proxy, or with a key.
fn is_operator(connection: &Connection, request: &Request<'_>, context: &Context<'_>) -> bool {
    if asker(connection, request, context).is_local {
        return true;
    }
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix(b"Bearer "));
    bearer
        .and_then(|key| std::str::from_utf8(key).ok())
        .is_some_and(|key| context.settings.config.auth.is_api_key(key))
}

fn operator_only(
    connection: &mut Connection,
    request: &Request<'_>,
    context: &mut Context<'_>,
) -> bool {
    let allowed = is_operator(connection, request, context);
    if !allowed {
        let answer = Answer::to(request, 401, "key_needed");
        let headers = [("WWW-Authenticate", "Bearer")];
        let text = "from elsewhere than this machine, send an API key as Authorization: Bearer";
        refuse_with(connection, &answer, text, &headers, context);
    }
    allowed
}

fn metrics(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    if operator_only(connection, request, context) {
        let text = exposition::render(context.board);
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        answer_text(connection, request, content_type, text.as_bytes(), context);
    }
}

fn state(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    if operator_only(connection, request, context) {
        let text = context.board.state_json(context.now);
        answer_text(connection, request, "application/json", text.as_bytes(), context);
    }
}

fn asset(connection: &mut Connection, request: &Request<'_>, context: &mut Context<'_>) {
    let Some(asset) = console::asset(request.path()) else {
        let answer = Answer::to(request, 404, "not_found");
        refuse(connection, &answer, "there is nothing at this path", context);
        return;
    };
    let available: SmallVec<[Coding; 3]> = [
        asset.brotli.map(|_| Coding::Brotli),
        asset.gzip.map(|_| Coding::Gzip),
        Some(Coding::Identity),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some(coding) = accepted(request, &available, context) else {
        not_acceptable(connection, request, context);
        return;
    };
    let coded = match coding {
        Coding::Brotli => asset.brotli,
        Coding::Gzip => asset.gzip,
        Coding::Identity => None,
    };
    let (payload, etag) =
        coded.map_or((asset.payload, asset.etag), |coded| (&coded.payload, coded.etag.as_str()));
    let is_current = request
        .header("if-none-match")
        .is_some_and(|value| http1::range::if_none_match_names(value, etag));
    let status = if is_current { 304 } else { 200 };
    let persistence = Answer::to(request, status, "").persistence(context.draining);
    context.scratch.clear();
    let mut head = Head::start(context.scratch, status, context.date)
        .header("ETag", etag)
        .header("Cache-Control", "no-cache")
        .header("Content-Security-Policy", asset.content_security_policy)
        .header("X-Content-Type-Options", "nosniff");
    if available.len() > 1 {
        head = head.headers(&[VARY]);
    }
    if !is_current {
        head = head.content_type(asset.content_type).content_length(payload.len() as u64);
        if let Some(name) = coded.and_then(|_| coding.name()) {
            head = head.header("Content-Encoding", name);
        }
    }
    head.persistence(request.version(), persistence).finish();
    connection.outbox.push(context.arena.append(&[context.scratch]));
    if !is_current && request.method() != Method::Head {
        connection.outbox.push(Span::from_payload(payload.clone()));
    }
    after_answer(connection, persistence);
}
