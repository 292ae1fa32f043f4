//! WebSocket (RFC 6455) and permessage-deflate (RFC 7692), server and client role, without I/O.
//!
//! ```text
//! request headers -> handshake::check -> handshake::write_accept        (opening, RFC 6455 4)
//! bytes           -> Decoder::receive -> Event (message, fragment, control)
//! payload         -> encode::*        -> bytes
//! close frames    -> CloseState                                         (closing, RFC 6455 7)
//! compressed      <- deflate::{Compressor, Decompressor} -> messages    (RFC 7692)
//! ```
//!
//! Invariants: the decoder holds no payload byte; it unmasks in the caller's buffer and lends what
//! it found there. Nothing is allocated, also not from a declared length, but the states that
//! compress and inflate, when they are made; encoders append to the caller's vector. Any cut of the
//! input gives the same messages.
//!
//! Deliberately absent: sockets, clocks, ping timing, other extensions, the assembly of fragmented messages (the session decides whether it wants that), and
//! HTTP itself: the handshake looks at headers that somebody else parsed.

#![forbid(unsafe_code)]

mod close;
mod decode;
pub mod deflate;
pub mod encode;
pub mod handshake;
mod utf8;

pub use close::{CloseState, code, is_valid_on_wire};
pub use decode::{Decoder, Error, ErrorKind, Event, Kind, Limits, Masked, Role, Step};
pub use encode::Opcode;
pub use utf8::Utf8;
