//! What is said to who has to go, or cannot stay, because the server's memory has other uses.
//!
//! In: a connection for which there is no room, or one whose reader is slow. Out: the protocol's own
//! words in its outbox, and the connection closing behind them. Who is chosen is not decided here.

use super::{Context, event_stream, websocket};
use crate::connection::{Role, Transport};
use crate::limits::RETRY_AFTER_SECONDS;
use crate::session::{Connection, Protocol, RtmpState};
use http1::response::ErrorResponse;

/// A connection that was just accepted and for which there is no room; `None` if its protocol has no
/// word for that before it is asked, so that it is closed.
///
/// HTTP is answered 503 before it asks (RFC 9110 15.6.4), which is one send and no waiting: the request
/// that crosses it is thrown away. RTMP has to shake hands and name its application first.
pub fn refused(
    role: Role,
    is_proxied: bool,
    transport: Transport,
    context: &mut Context<'_>,
) -> Option<Connection> {
    let now = context.now.monotonic;
    match role {
        Role::Http => {
            let mut connection = Connection::new(Protocol::Refused, false, transport, now);
            let mut response = ErrorResponse::closing(503, "server_full", FULL);
            let seconds = RETRY_AFTER_SECONDS.to_string();
            let headers = [("Retry-After", seconds.as_str())];
            response.headers = &headers;
            context.scratch.clear();
            response.write(context.scratch, context.date);
            connection.outbox.push(context.arena.append(&[context.scratch]));
            connection.close();
            Some(connection)
        }
        Role::Rtmp if !is_proxied => {
            let state = RtmpState { refused: true, ..RtmpState::default() };
            Some(Connection::new(Protocol::Rtmp(Box::new(state)), false, transport, now))
        }
        Role::Rtmp | Role::Echo => None,
    }
}

/// What is held for this reader is more than there is memory for.
pub fn on_shed(connection: &mut Connection, context: &mut Context<'_>) {
    match &connection.protocol {
        Protocol::WebSocket(_) => {
            // 1013 is Try Again Later in the registry of close codes (RFC 6455 11.7).
            let text = "you read too slowly for the memory there is";
            websocket::close(connection, websocket::TRY_AGAIN_LATER, text, context);
            connection.close();
        }
        Protocol::EventStream { .. } => event_stream::on_drain(connection, context),
        // A body that was begun has no word for its early end but the end.
        Protocol::Proxied(_)
        | Protocol::Http(_)
        | Protocol::Rtmp(_)
        | Protocol::Echo
        | Protocol::Refused => connection.close(),
    }
    context.hub.unsubscribe_all(&mut connection.subscriptions, context.now.monotonic);
}

const FULL: &str = "the server has no room for another connection; come back later";
