//! A request head that obeys every rule, borrowed from the input.
//!
//! In: what `head.rs` found. Out: accessors. Invariant: what framing, persistence and routing need
//! was decided once, while the head was read; header lookups walk at most [`HEADERS_MAX`] fields.

use std::fmt;

use crate::Authority;

/// The most header fields any limit can allow: the storage is this large.
pub const HEADERS_MAX: usize = 128;

/// Where the fields of the request being read are; one per shard serves all its connections.
#[derive(Debug, Clone)]
pub struct HeaderStorage {
    pub(super) spans: [Span; HEADERS_MAX],
}

impl HeaderStorage {
    /// Empty storage.
    pub const fn new() -> Self {
        Self {
            spans: [Span { name_start: 0, name_end: 0, value_start: 0, value_end: 0 }; HEADERS_MAX],
        }
    }
}

impl Default for HeaderStorage {
    fn default() -> Self {
        Self::new()
    }
}

/// Offsets in the head; a head is shorter than 64 KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) name_start: u16,
    pub(super) name_end: u16,
    pub(super) value_start: u16,
    pub(super) value_end: u16,
}

/// The method (RFC 9110 9); names compare with case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the head of the answer.
    Head,
    /// Processes the body.
    Post,
    /// Asks what is possible.
    Options,
    /// Replaces.
    Put,
    /// Removes.
    Delete,
    /// Any other token.
    Other,
}

impl Method {
    /// Whether it only reads (RFC 9110 9.2.1); an unknown method does not count as safe.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    pub(super) fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// The version of a request (RFC 9112 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Where the body ends (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none: no length, or `Content-Length: 0`. No body and no end step follow.
    Empty,
    /// After this many bytes, at least one.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A request head. Lives as long as the input and the storage are borrowed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) head: &'a [u8],
    pub(super) spans: &'a [Span],
    pub(super) method: Method,
    pub(super) method_token: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) authority: Option<Authority<'a>>,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) flags: Flags,
}

/// Leaves out the query and the fields: they may hold tickets and keys, and this text may reach a
/// log.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method_token)
            .field("path", &self.path)
            .field("version", &self.version)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

/// What single header fields said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) connection_upgrade: bool,
    pub(super) upgrade_websocket: bool,
    pub(super) expect_continue: bool,
    pub(super) through_proxy: bool,
}

impl<'a> Request<'a> {
    /// The method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The method as it was sent.
    pub const fn method_token(&self) -> &'a str {
        self.method_token
    }

    /// The path, still percent-encoded: begins with `/`, or is `*` for OPTIONS.
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the first `?`, still percent-encoded.
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Whom the request is meant for: the target's authority if it has one, else `Host`
    /// (RFC 9112 3.2.2, 3.3). `None` only in HTTP/1.0.
    pub const fn authority(&self) -> Option<Authority<'a>> {
        self.authority
    }

    /// The version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Where the body ends.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// The value of the first field of this name, without the whitespace around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.header_lines(name).next()
    }

    /// The values of all fields of this name, in order.
    pub fn header_lines(&self, name: &str) -> impl Iterator<Item = &'a [u8]> + Clone {
        let head = self.head;
        self.spans.iter().filter_map(move |span| {
            let field = &head[usize::from(span.name_start)..usize::from(span.name_end)];
            field
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| &head[usize::from(span.value_start)..usize::from(span.value_end)])
        })
    }

    /// All fields in order, names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let head = self.head;
        self.spans.iter().map(move |span| {
            let name = &head[usize::from(span.name_start)..usize::from(span.name_end)];
            // Names are tokens, so ASCII.
            let name = std::str::from_utf8(name).unwrap_or_default();
            (name, &head[usize::from(span.value_start)..usize::from(span.value_end)])
        })
    }

    /// Whether the client wants the connection to stay open (RFC 9112 9.3).
    pub const fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.flags.close,
            Version::Http10 => self.flags.keep_alive && !self.flags.close,
        }
    }

    /// Whether the client waits for 100 (RFC 9110 10.1.1): only with a body, only in HTTP/1.1.
    pub fn expects_continue(&self) -> bool {
        self.flags.expect_continue && self.framing != Framing::Empty
    }

    /// Whether this is a GET that upgrades to WebSocket (RFC 6455 4.1); its own fields are still to
    /// be checked. It has no body.
    pub fn is_websocket_upgrade(&self) -> bool {
        self.method == Method::Get && self.wants_websocket()
    }

    /// Whether a proxy says it forwarded this (`Via`, `Forwarded`, `X-Forwarded-For` and their
    /// like): then the socket's address is not the client's.
    pub const fn came_through_proxy(&self) -> bool {
        self.flags.through_proxy
    }

    pub(super) fn wants_websocket(&self) -> bool {
        self.version == Version::Http11
            && self.flags.upgrade_websocket
            && self.flags.connection_upgrade
    }
}
