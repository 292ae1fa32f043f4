//! Server-Sent Events (WHATWG HTML 9.2), both ends, without I/O.
//!
//! [`Event`], [`encode_comment`] and [`encode_retry`] append to a byte vector what a server sends;
//! [`Parser`] reads an event stream as a client does and is meant for tests and load tools.
//!
//! Invariants: nothing a caller passes as id, event name or data can open another field or another
//! event; what the parser holds is bounded by [`Limits`]; any cut of the input gives the same
//! events.
//!
//! Deliberately absent: HTTP, clocks, and the meaning of an id; what `Last-Event-ID` resumes is the
//! server's business.

#![forbid(unsafe_code)]

mod encode;
mod parse;

pub use encode::{EncodeError, Event, encode_comment, encode_retry};
pub use parse::{Limits, ParseError, Parser, Received};

/// The media type of an event stream (WHATWG HTML 9.2.5).
pub const CONTENT_TYPE: &str = "text/event-stream";
