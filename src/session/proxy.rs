//! For whom a peer speaks: its address, the PROXY protocol's header, the fields of forwarded requests.
//!
//! In: where a connection comes from and what configured proxies say. Out: whether the one who asks
//! is on this machine, and how and whom he asked. Invariant: only a peer that the configuration names
//! is believed, and what is believed never makes anybody more local than the connection he came by.

use super::{Context, Progress};
use crate::connection::Stage;
use crate::limits::HTTP_HEAD_MS;
use crate::session::{Connection, Protocol};
use http1::forwarded::{Client, Host, forwarded};
use http1::origin::Scheme;
use http1::{Authority, Request};
use proxy::{Limits, Source, Step};
use std::net::SocketAddr;

/// The kernel says who connected.
pub(super) fn on_address(
    connection: &mut Connection,
    address: Option<SocketAddr>,
    context: &mut Context<'_>,
) {
    let proxies = &context.settings.config.http.proxies;
    connection.is_proxy =
        address.is_some_and(|address| proxies.iter().any(|proxy| proxy.covers(address.ip())));
    // A peer on the loopback is told by where it came in; its port is of no use to anybody.
    match address.filter(|address| !address.ip().to_canonical().is_loopback()) {
        Some(address) => context.addresses.insert(context.token, address),
        None => context.addresses.remove(&context.token),
    };
}

/// Reads the header that the listener asks for. A peer that is no configured proxy, or whose header
/// is wrong, is closed without a word (2 of the specification).
pub(super) fn receive(
    connection: &mut Connection,
    input: &[u8],
    context: &mut Context<'_>,
) -> Progress {
    let Protocol::Proxied(role) = connection.protocol else { return Progress::INCOMPLETE };
    if input.is_empty() {
        return Progress::INCOMPLETE;
    }
    if !connection.is_proxy {
        tracing::debug!(connection = ?context.token, peer = ?context.peer(), "not a configured proxy");
        return refuse(connection, input, context);
    }
    match proxy::receive(input, &Limits::default()) {
        Ok(Step::Incomplete) => Progress::INCOMPLETE,
        Ok(Step::Header { consumed, source }) => {
            on_source(connection, source, context);
            connection.protocol = Protocol::new(role);
            Progress::step(consumed)
        }
        Err(error) => {
            tracing::debug!(connection = ?context.token, peer = ?context.peer(), %error, "bad PROXY header");
            refuse(connection, input, context)
        }
    }
}

fn refuse(connection: &mut Connection, input: &[u8], context: &Context<'_>) -> Progress {
    context.counters.protocol_errors.add(1);
    connection.stage = Stage::Dead;
    Progress { consumed: input.len(), again: false }
}

fn on_source(connection: &mut Connection, source: Source, context: &mut Context<'_>) {
    match source {
        // Its own connection: what is known of it stays.
        Source::Proxy => {}
        Source::Internet { client, .. } => {
            let was_local = connection.is_local;
            on_address(connection, Some(client), context);
            connection.is_local = was_local && client.ip().to_canonical().is_loopback();
        }
        // A path on the proxy's machine: on ours if that is ours.
        Source::Unix => {
            connection.is_proxy = context.settings.config.http.trusts_unix();
            context.addresses.remove(&context.token);
        }
        Source::Unknown => {
            connection.is_local = false;
            connection.is_proxy = false;
            context.addresses.remove(&context.token);
        }
    }
}

/// The header did not come in time.
pub(super) const fn on_timer(connection: &mut Connection) -> u64 {
    connection.stage = Stage::Dead;
    HTTP_HEAD_MS
}

/// Who makes a request, and how he came to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// Whether he is on this machine, and nobody forwards for him who is not configured.
    pub(super) is_local: bool,
    /// The scheme of his page's origin.
    pub(super) scheme: Scheme,
    /// Whom he asked.
    pub(super) authority: Option<Authority<'a>>,
    /// Whom a proxy asked for him, if that is another; it has to be served too.
    pub(super) inner: Option<Authority<'a>>,
}

/// Who makes `request`.
pub(super) fn asker<'a>(
    connection: &Connection,
    request: &Request<'a>,
    context: &Context<'_>,
) -> Asker<'a> {
    let authority = request.authority();
    if !connection.is_proxy {
        let is_forwarded = request.came_through_proxy();
        return Asker {
            is_local: connection.is_local && !is_forwarded,
            // What terminates TLS before us is not configured, but is there.
            scheme: if is_forwarded { Scheme::Either } else { Scheme::Http },
            authority,
            inner: authority,
        };
    }
    let proxies = &context.settings.config.http.proxies;
    let said = forwarded(request, |address| proxies.iter().any(|proxy| proxy.covers(address)));
    let is_local = match said.client {
        Client::Proxy => true,
        Client::Address(address) => address.is_loopback(),
        Client::Unknown => false,
    };
    Asker {
        is_local: connection.is_local && is_local,
        scheme: if request.came_through_proxy() { said.scheme } else { Scheme::Http },
        authority: match said.host {
            Host::Unsaid => authority,
            Host::Named(host) => Some(host),
            Host::Malformed => None,
        },
        inner: authority,
    }
}
