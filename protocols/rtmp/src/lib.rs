//! RTMP (Adobe "Real-Time Messaging Protocol" 1.0, 2012), the half that a publisher talks to.
//!
//! In: the bytes a client sent, through [`Connection::receive`], in any cut; decisions of the
//! session (`accept_*`, `reject_*`). Out: bytes to send, appended to the caller's buffer, and
//! [`Event`]s. Media payloads are never assembled here: they leave as fragments that borrow from
//! the input, so that whoever stores them copies each byte once, to its place.
//!
//! ```text
//! bytes -> handshake -> chunk (headers, timestamps) -> connection (control, commands) -> Event
//!                                                 \-> media fragments, aggregates ----/
//! ```
//!
//! Invariants: the events do not depend on how the input is cut; memory is bounded by [`Limits`]
//! whatever lengths the peer declares; every reply is caused by input at least a fraction of its
//! size, so that a peer cannot make us grow.
//!
//! Deliberately absent: sockets, clocks, playing to clients (`play` is reported and can be
//! refused), RTMPE, AMF3 values, shared objects. What broken clients do, and what is done about it,
//! is told at the type that does it.
#![forbid(unsafe_code)]

mod aggregate;
mod chunk;
mod chunk_write;
pub mod client;
mod command;
mod connection;
mod error;
mod event;
mod handshake;
mod limits;
mod message;
#[cfg(test)]
mod tests;

pub use connection::{ConnectRejection, Connection, Options, PublishRejection};
pub use error::{Error, Reason};
pub use event::{ConnectRequest, Event, MediaKind, MessageStreamId, PublishKind, Received};
pub use limits::Limits;
