//! HTTP/1.1, server half (RFC 9110, 9112), without I/O.
//!
//! ```text
//! bytes   -> Decoder::receive -> Request, then its body in pieces, then End
//! Request -> forwarded (who asks), origin (who may), target (for what), range (which part),
//!            coding (in which form)
//! answer  -> response::Head, chunks, JSON errors -> bytes
//! ```
//!
//! Invariants: one reading of where a message ends, or an error and the end of the connection;
//! every head, line and body has a limit; nothing is allocated but what percent-decoding needs;
//! any cut of the input gives the same requests.
//!
//! Deliberately absent: sockets, clocks, routing, the collection of bodies, compression,
//! trailers (read, checked and dropped), chunk extensions (bounded and ignored), and the client
//! half.

#![forbid(unsafe_code)]

mod authority;
pub mod coding;
mod date;
mod decode;
pub mod forwarded;
pub mod origin;
pub mod range;
pub mod response;
pub mod target;

pub use authority::Authority;
pub use date::{DATE_BYTES, imf_fixdate};
pub use decode::{
    Decoder, Error, ErrorKind, Framing, HEADERS_MAX, HeaderStorage, Limits, Method, Request, Step,
    Version,
};
