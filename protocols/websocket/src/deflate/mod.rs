//! permessage-deflate (RFC 7692): negotiation, compression and inflation of whole messages.
//!
//! ```text
//! request headers -> negotiate -> Agreement -> handshake::write_accept            (RFC 7692 7.1)
//! message         -> Compressor::compress -> bytes for a frame with RSV1          (RFC 7692 7.2.1)
//! payload + RSV1  -> Decompressor::{message, step} -> message                     (RFC 7692 7.2.2)
//! ```
//!
//! Invariants: what is inflated is counted as it comes out and never passes the limit by more than
//! a byte; nothing is allocated from a declared length; a state that has seen an error is not used
//! again. Compressors and decompressors keep their memory, so a message costs no allocation.
//!
//! Two ways of owning the states:
//!
//! - Without context takeover (the default in both directions) a message stands alone, and one
//!   [`Compressor`] for each [`WindowClass`] and one [`Decompressor`] serve every connection of a
//!   thread. What one compressor made is valid for every peer of its class, so a publication is
//!   compressed once. An inflation cannot be interrupted by another on the shared state: the
//!   fragments of a compressed message are collected as they are, bounded by the decoder's limits,
//!   and inflated at the end in one call of [`Decompressor::message`]. That bounds memory by what
//!   the peer has really sent; the inflated message exists only for the one call.
//! - With context takeover a connection owns its states from the handshake to its end, and may
//!   inflate piece by piece with [`Decompressor::step`]. [`Compressor::bytes`] and
//!   [`DECOMPRESSOR_BYTES`] say what that costs: hardly less than 150 and 48 KiB, because the library
//!   has a table of 128 KiB in each compressor and the largest window in each decompressor. How many
//!   connections may have that is for the caller to bound, by negotiating with other [`Settings`].
//!
//! Deliberately absent: other extensions, dictionaries, compression of a message piece by piece.

mod compress;
mod decompress;
mod frame;
mod negotiate;

#[cfg(test)]
mod tests;

pub use compress::{COMPRESSOR_BYTES_MAX, Compressor, Outcome};
pub use decompress::{DECOMPRESSOR_BYTES, Decompressor, Error, Part, Progress, Status};
pub use frame::{frame_header, write_frame, write_masked_frame};
pub(crate) use negotiate::check_answer;
pub use negotiate::{Agreement, AnswerError, ClientWindow, NAME, Offer, negotiate};

/// The base-2 logarithm of an LZ77 window, 9 to 15 (RFC 7692 7.1.2).
///
/// The standard also has 8. zlib and what descends from it cannot compress with a raw window of 256
/// bytes, so 8 is no value of this type: it is not accepted for what we compress, and for what the
/// peer compresses it needs no value, because every window is inflated with the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 512 bytes.
    pub const MIN: Self = Self(9);
    /// 32 KiB, which holds when nothing is said.
    pub const MAX: Self = Self(15);

    /// `None` outside 9 to 15.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// 9 to 15.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// Who can share a compressed message: all peers that were promised no context takeover by the
/// server and allow the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowClass(WindowBits);

impl WindowClass {
    /// How many classes there are.
    pub const COUNT: usize = 7;

    /// The class of this window.
    pub const fn new(window: WindowBits) -> Self {
        Self(window)
    }

    /// The window that messages of this class are compressed with.
    pub const fn window(self) -> WindowBits {
        self.0
    }

    /// Below [`WindowClass::COUNT`], for a table.
    pub const fn index(self) -> usize {
        (self.0.0 - WindowBits::MIN.0) as usize
    }
}

/// How hard to look for matches, 1 (fast) to 9 (small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// `None` outside 1 to 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 9 { Some(Self(level)) } else { None }
    }
}

/// How much memory a compressor has for the symbols of a block, 1 to 9: 7 x 64 bytes, doubled with
/// each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLevel(u8);

impl MemoryLevel {
    /// `None` outside 1 to 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 9 { Some(Self(level)) } else { None }
    }
}

/// What the operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether offers are looked at.
    pub enabled: bool,
    /// Whether the server may refer to earlier messages in what it compresses: smaller, but a
    /// compressor for each connection, and nothing is shared.
    pub server_context_takeover: bool,
    /// Whether the client may: a decompressor for each connection.
    pub client_context_takeover: bool,
    /// The largest window that the server compresses with.
    pub server_max_window_bits: WindowBits,
    /// The largest window that the client is asked to compress with, where it lets us ask. It saves
    /// the client memory; ours is the same for every window.
    pub client_max_window_bits: WindowBits,
    /// Shorter messages are not compressed.
    pub threshold_bytes: usize,
    /// How hard to look for matches.
    pub level: Level,
    /// How much memory a compressor has for symbols.
    pub memory_level: MemoryLevel,
}

impl Default for Settings {
    /// No context takeover, the largest windows.
    fn default() -> Self {
        Self {
            enabled: true,
            server_context_takeover: false,
            client_context_takeover: false,
            server_max_window_bits: WindowBits::MAX,
            client_max_window_bits: WindowBits::MAX,
            threshold_bytes: 64,
            level: Level(6),
            memory_level: MemoryLevel(8),
        }
    }
}

/// What the sender leaves out at the end of each message and the receiver puts back (RFC 7692 7.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
