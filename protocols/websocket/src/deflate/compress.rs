//! Whole messages to compressed payloads (RFC 7692 7.2.1).
//!
//! In: a message. Out: its DEFLATE blocks without the last four bytes, appended to the caller's
//! vector, or that compressing does not pay. Invariants: what [`Compressor::compress`] appends is
//! shorter than the message; without context takeover a message refers to nothing outside itself;
//! with it, to nothing that the peer has not got from this compressor. It allocates when it is made
//! and never for a message (the caller's vector may grow).

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Method, Status, Strategy};

use super::{MemoryLevel, Settings, TAIL, WindowBits, WindowClass};

/// The most memory a compressor takes, with the largest settings. A table of hashes, 128 KiB, is in
/// each, however small its window.
pub const COMPRESSOR_BYTES_MAX: usize = compressor_bytes(WindowBits::MAX, MemoryLevel(9));

/// Compresses messages one after the other.
pub struct Compressor {
    deflate: Deflate,
    config: DeflateConfig,
    threshold_bytes: usize,
    takeover: bool,
    /// Something was compressed since the last reset that the next message may not refer to.
    dirty: bool,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The payload of a frame with RSV1 was appended.
    Compressed,
    /// Nothing was appended: the message is below the threshold, or would not become shorter. It is
    /// to be sent as it is, in a frame without RSV1, which is always allowed (RFC 7692 6).
    DoesNotPay,
}

impl Compressor {
    /// For every peer of a class: each message by itself.
    pub fn new(settings: &Settings, class: WindowClass) -> Self {
        Self::make(settings, class.window(), false)
    }

    /// For one peer: messages may refer to earlier ones.
    pub fn with_takeover(settings: &Settings, window: WindowBits) -> Self {
        Self::make(settings, window, true)
    }

    fn make(settings: &Settings, window: WindowBits, takeover: bool) -> Self {
        let config = DeflateConfig {
            level: i32::from(settings.level.0),
            method: Method::Deflated,
            // Negative: no zlib header around the blocks.
            window_bits: -i32::from(window.bits()),
            mem_level: i32::from(settings.memory_level.0),
            strategy: Strategy::Default,
        };
        Self {
            deflate: Deflate::new_with_config(config),
            config,
            threshold_bytes: settings.threshold_bytes,
            takeover,
            dirty: false,
        }
    }

    /// What a compressor of these settings takes.
    pub const fn bytes(settings: &Settings, window: WindowBits) -> usize {
        compressor_bytes(window, settings.memory_level)
    }

    /// Compresses a message if that pays. What is appended is shorter than the message; while it
    /// works, the vector holds up to [`Compressor::bound`] and 5 bytes more.
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> Outcome {
        if message.len() < self.threshold_bytes.max(1) {
            return Outcome::DoesNotPay;
        }
        let start = out.len();
        if self.run(message, out) && out.len() - start < message.len() {
            return Outcome::Compressed;
        }
        out.truncate(start);
        if self.takeover {
            // The peer will not get these blocks, so no later message may refer to them.
            self.deflate.reset();
            self.dirty = false;
        }
        Outcome::DoesNotPay
    }

    /// Compresses a message whatever comes of it, for tests and for peers that want it so. At most
    /// [`Compressor::bound`] bytes are appended.
    pub fn compress_always(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        // RFC 7692 7.2.3.6: of an empty message there is nothing to flush, so it is stored by hand,
        // as is one that outgrew the bound, which is not known to happen.
        if message.is_empty() || !self.run(message, out) {
            out.truncate(start);
            store(message, out);
        }
    }

    /// The most bytes that a message of `message_bytes` is compressed to: the message, stored or in
    /// codes of 9 bits, with the headers of its blocks.
    pub const fn bound(message_bytes: usize) -> usize {
        message_bytes + (message_bytes >> 3) + (message_bytes >> 6) + 16
    }

    /// Appends the blocks of a message without the tail. False if they outgrew their bound; what was
    /// appended is then of no use.
    ///
    /// The room is always large enough for the whole message: in version 0.6.8 of the library a state
    /// that was stopped for want of room is not clean after a reset. At level 1 it then wrote wrong
    /// blocks or panicked. So such a state is made anew.
    fn run(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        if self.dirty && !self.takeover {
            self.deflate.reset();
        }
        self.dirty = true;
        let room = Self::bound(message.len()) + TAIL.len() + 1;
        let start = out.len();
        out.resize(start + room, 0);
        let (read_before, written_before) = (self.deflate.total_in(), self.deflate.total_out());
        let result = self.deflate.compress(message, &mut out[start..], DeflateFlush::SyncFlush);
        let read = self.deflate.total_in() - read_before;
        // At most `room`, so it fits.
        let written = usize::try_from(self.deflate.total_out() - written_before).unwrap_or(room);
        out.truncate(start + written);
        let whole = result == Ok(Status::Ok)
            && read == message.len() as u64
            && written < room
            // RFC 7692 7.2.1: the tail that a flush leaves is not sent.
            && out[start..].ends_with(&TAIL);
        if whole {
            out.truncate(out.len() - TAIL.len());
        } else {
            self.deflate = Deflate::new_with_config(self.config);
            self.dirty = false;
        }
        whole
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Compressor")
            .field("threshold_bytes", &self.threshold_bytes)
            .field("takeover", &self.takeover)
            .finish_non_exhaustive()
    }
}

/// Appends a message in stored blocks (RFC 1951 3.2.4) and the header of the empty one.
pub(super) fn store(message: &[u8], out: &mut Vec<u8>) {
    for block in message.chunks(usize::from(u16::MAX)) {
        // A chunk is no longer than this.
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(EMPTY_BLOCK);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.push(EMPTY_BLOCK);
}

const fn compressor_bytes(window: WindowBits, memory: MemoryLevel) -> usize {
    let window_bytes = 1 << window.bits();
    // Two windows, the chain of earlier places (u16 each), the hashes, the symbols, the state.
    2 * window_bytes + 2 * window_bytes + (128 << 10) + 7 * (64 << memory.0) + (4 << 10)
}

/// The header of a stored block, padded to a byte: with the tail behind it, an empty block.
const EMPTY_BLOCK: u8 = 0x00;
