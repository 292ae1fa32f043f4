//! The PROXY protocol, versions 1 and 2, receiver's half, without I/O (HAProxy's proxy-protocol.txt).
//!
//! ```text
//! the first bytes of a connection -> receive -> Header: how many bytes it was, and for whom the proxy connects
//! ```
//!
//! A proxy writes one header in front of everything else; it names the client that the proxy serves. In: the bytes that
//! came so far. Out: the header once it is whole, or the rule it breaks. Invariants: nothing is kept between two calls,
//! nothing is allocated, any cut of the bytes gives the same answer; a header that could be read in two ways is refused,
//! because what follows it would be believed.
//!
//! Deliberately absent: the decision whom to believe (a header from anybody else is a lie), the sender's half, and the
//! contents of TLVs other than the checksum: they are walked, so that their lengths are known to agree, and dropped.

#![forbid(unsafe_code)]

mod crc32c;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

/// What a proxy may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest header of version 2, its first 16 bytes included. The caller must be able to present that many bytes
    /// at once. (One of version 1 has at most [`V1_BYTES_MAX`].)
    pub header_bytes_max: usize,
}

impl Default for Limits {
    /// Room for addresses of UNIX sockets and a few kilobytes of TLVs; senders are asked to stay below 536 bytes (2.2).
    fn default() -> Self {
        Self { header_bytes_max: 4096 }
    }
}

/// What one call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until more bytes arrive; call again with all of them.
    Incomplete,
    /// The header is whole.
    Header {
        /// Bytes to drop from the front of the input; what follows is the client's.
        consumed: usize,
        /// For whom the proxy connects.
        source: Source,
    },
}

/// For whom a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The proxy itself, for example to see whether we live (`LOCAL`): its own address counts.
    Proxy,
    /// Somebody whose address the proxy does not know or cannot write (`UNKNOWN`, `AF_UNSPEC`).
    Unknown,
    /// A client of the internet protocols.
    Internet {
        /// The client.
        client: SocketAddr,
        /// Whom it connected to.
        server: SocketAddr,
    },
    /// A client of a UNIX socket on the proxy's machine; its path says nothing and is dropped.
    Unix,
}

/// Reads the header at the start of `input`, which is everything that arrived so far.
///
/// # Errors
/// When the bytes are no header, or one that breaks a rule: the connection has to be closed without an answer (2).
pub fn receive(input: &[u8], limits: &Limits) -> Result<Step, Error> {
    match input.first() {
        None => Ok(Step::Incomplete),
        Some(b'P') => v1::receive(input),
        Some(_) => v2::receive(input, limits),
    }
}

/// A header that breaks a rule. The fault is the proxy's, or the peer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct Error {
    /// Which rule.
    pub kind: ErrorKind,
    /// The offset of the byte that broke it.
    pub offset: usize,
}

/// The rules of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// 2: neither signature.
    #[error("the connection does not begin with a PROXY protocol header")]
    NotProxy,
    /// 2.1: 107 bytes at most, ended by CR LF.
    #[error("the line of version 1 is longer than 107 bytes")]
    LineTooLong,
    /// 2.1.
    #[error("the line of version 1 does not end in CR LF alone")]
    BadLineEnd,
    /// 2.1: `TCP4`, `TCP6` or `UNKNOWN`.
    #[error("the line of version 1 names another family than TCP4, TCP6 and UNKNOWN")]
    BadFamily,
    /// 2.1: two addresses of the family.
    #[error("an address of version 1 is none of its family")]
    BadAddress,
    /// 2.1: two decimal numbers up to 65535, without leading zeros.
    #[error("a port of version 1 is not a number from 0 to 65535")]
    BadPort,
    /// 2.1: one space between two fields and nothing behind the last.
    #[error("the line of version 1 has more or fewer fields than its family")]
    BadFields,
    /// 2.2: the version is 2.
    #[error("the binary header has another version than 2")]
    BadVersion,
    /// 2.2: LOCAL or PROXY; all else has to be refused.
    #[error("the command of version 2 is neither LOCAL nor PROXY")]
    BadCommand,
    /// 2.2: unspecified, or a stream or datagrams over IPv4, IPv6 or UNIX sockets.
    #[error("the family or transport of version 2 is not assigned")]
    BadTransport,
    /// 2.2: the addresses have to be whole.
    #[error("the header of version 2 is shorter than its addresses")]
    TooShort,
    /// A limit of ours.
    #[error("the header of version 2 is longer than this server accepts")]
    TooLong,
    /// 2.2: each TLV has to be whole.
    #[error("a TLV of version 2 does not fit its header")]
    BadTlv,
    /// 2.2.3: four bytes, once.
    #[error("the checksum of version 2 is not four bytes or is there twice")]
    BadChecksumField,
    /// 2.2.3: a wrong checksum has to be refused.
    #[error("the checksum of version 2 is wrong")]
    WrongChecksum,
}

/// The longest line of version 1, its end included (2.1).
pub const V1_BYTES_MAX: usize = 107;

const fn error(kind: ErrorKind, offset: usize) -> Error {
    Error { kind, offset }
}

/// Checks as much of a signature as has arrived. `Ok(false)`: so far it fits.
fn signature(input: &[u8], signature: &[u8]) -> Result<bool, Error> {
    let differs = input.iter().zip(signature).position(|(byte, expected)| byte != expected);
    match differs {
        Some(offset) => Err(error(ErrorKind::NotProxy, offset)),
        None => Ok(input.len() >= signature.len()),
    }
}
