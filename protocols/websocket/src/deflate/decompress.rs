//! Compressed payloads to messages (RFC 7692 7.2.2).
//!
//! In: the payload of a message whose first frame carried RSV1, in any pieces. Out: the message, in
//! pieces no longer than the caller's buffer, or appended to the caller's vector. Invariants: output
//! is counted as it comes, so a bomb ends one byte behind the limit; a payload that is not whole is
//! an error; every cut of the payload gives the same message or the same error; a state that failed
//! is not used again. It allocates when it is made and never for a message (the caller's vector may
//! grow).
//!
//! What is accepted beyond a plain flush, because peers do it:
//!
//! - a block with BFINAL anywhere (RFC 7692 7.2.3.4, 7.2.3.5). What follows is a new stream; the
//!   window is not carried over it, which no known compressor asks for;
//! - a payload that ends with such a block and not with the empty one that should follow it;
//! - a payload of no bytes, although even the empty message has one (7.2.3.6).
//!
//! Not checked: that distances stay within the window the peer agreed to, because every window is
//! inflated with the largest; and text, which the caller checks with `Utf8`.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush};

use super::TAIL;
use crate::close::code;

/// The memory a decompressor takes, whatever the window.
pub const DECOMPRESSOR_BYTES: usize = 48 << 10;

/// Inflates messages one after the other.
///
/// Without takeover it serves any number of peers, a whole message at a time, or is lent to one peer
/// while a message is under way ([`Decompressor::abandon`] if that never ends). With takeover it
/// belongs to one peer, and an error ends its use.
pub struct Decompressor {
    inflate: Inflate,
    takeover: bool,
    message_bytes_max: u64,
    /// Bytes of the current message that came out.
    produced: u64,
    stage: Stage,
    /// The state has read something since it was reset.
    dirty: bool,
}

/// Where the current message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    Empty,
    /// Blocks are being read. `full` says that the last output was filled, so more may wait.
    Blocks { full: bool },
    /// The last byte read ended a block with BFINAL.
    Final,
    /// A rule was broken.
    Failed(Error),
}

/// What is wrong with a compressed message. The fault is the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not DEFLATE, or not to its end.
    #[error("the peer sent a compressed message that cannot be inflated")]
    Corrupt,
    /// A limit of ours.
    #[error("the peer sent a compressed message that inflates to more than this server accepts")]
    TooBig,
}

impl Error {
    /// The code for our Close frame (RFC 6455 7.4.1). A payload that cannot be inflated is data that
    /// is not consistent with the type of its message, 1007, as text that is not UTF-8; RFC 7692
    /// names no code.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Corrupt => code::INVALID_PAYLOAD,
            Self::TooBig => code::TOO_BIG,
        }
    }
}

/// Whether more of a message's payload follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It does.
    More,
    /// The input reaches to the end of the message.
    Last,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that need not be presented again.
    pub consumed: usize,
    /// Bytes written to the beginning of the output.
    pub produced: usize,
    /// What to do next.
    pub status: Status,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The output is full; call again with the rest of the input, also if that is empty.
    OutputFull,
    /// The input is used up; call again when more has come.
    InputUsed,
    /// The message is whole; the next call begins another.
    Done,
}

impl Decompressor {
    /// For messages that stand alone.
    pub fn new(message_bytes_max: u64) -> Self {
        Self::make(message_bytes_max, false)
    }

    /// For the messages of one peer, which may refer to earlier ones.
    pub fn with_takeover(message_bytes_max: u64) -> Self {
        Self::make(message_bytes_max, true)
    }

    fn make(message_bytes_max: u64, takeover: bool) -> Self {
        Self {
            // No zlib header; the largest window reads every smaller one.
            inflate: Inflate::new(false, 15),
            takeover,
            message_bytes_max,
            produced: 0,
            stage: Stage::Empty,
            dirty: false,
        }
    }

    /// Inflates a whole message and appends it. On an error the vector is as it was.
    ///
    /// The vector grows by what came out, never beyond the limit and one step of 16 KiB.
    pub fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        debug_assert!(matches!(self.stage, Stage::Empty | Stage::Failed(_)), "a message is open");
        if !self.takeover {
            self.abandon();
        }
        let start = out.len();
        let mut rest = payload;
        let mut room = payload.len().saturating_mul(4).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        loop {
            let filled = out.len();
            reserve(out, room, start, self.message_bytes_max);
            out.resize(filled + room, 0);
            let step = self.step(rest, Part::Last, &mut out[filled..]);
            out.truncate(filled + step.map_or(0, |progress| progress.produced));
            match step {
                Ok(Progress { status: Status::Done, .. }) => return Ok(()),
                Ok(Progress { consumed, .. }) => rest = &rest[consumed..],
                Err(error) => {
                    out.truncate(start);
                    return Err(error);
                }
            }
            room = STEP_BYTES_MAX;
        }
    }

    /// Inflates a piece of a message into `output`, which has room for at least a byte.
    ///
    /// What was produced before an error of the same message is to be thrown away. With takeover,
    /// and within one message, an error stays.
    pub fn step(&mut self, input: &[u8], part: Part, output: &mut [u8]) -> Result<Progress, Error> {
        debug_assert!(!output.is_empty());
        if let Stage::Failed(error) = self.stage {
            return Err(error);
        }
        let result = self.advance(input, part, output);
        match result {
            Ok(Progress { status: Status::Done, .. }) => {
                self.stage = Stage::Empty;
                self.produced = 0;
                if !self.takeover {
                    self.reset();
                }
            }
            Ok(_) => {}
            Err(error) => self.stage = Stage::Failed(error),
        }
        result
    }

    /// Gives up the message under way and what went wrong with it, so that another peer's message
    /// may begin. With takeover there is no other peer, and what has failed stays so.
    pub fn abandon(&mut self) {
        if self.takeover {
            return;
        }
        self.stage = Stage::Empty;
        self.produced = 0;
        self.reset();
    }

    /// Sets the limit for the messages from now on, where peers have different ones. Between messages
    /// only: within one the limit it began with holds.
    pub const fn set_message_bytes_max(&mut self, message_bytes_max: u64) {
        if !self.is_inside_message() {
            self.message_bytes_max = message_bytes_max;
        }
    }

    /// Whether a message is under way.
    pub const fn is_inside_message(&self) -> bool {
        matches!(self.stage, Stage::Blocks { .. } | Stage::Final)
    }

    fn advance(&mut self, input: &[u8], part: Part, output: &mut [u8]) -> Result<Progress, Error> {
        // One byte more than allowed may come out, to see that it does.
        let allowed = usize::try_from((self.message_bytes_max - self.produced).saturating_add(1));
        let room = output.len().min(allowed.unwrap_or(usize::MAX));
        let output = &mut output[..room];
        let (mut consumed, mut produced) = (0, 0);
        while consumed < input.len() || matches!(self.stage, Stage::Blocks { full: true }) {
            if produced == output.len() {
                self.stage = Stage::Blocks { full: true };
                return Ok(Progress { consumed, produced, status: Status::OutputFull });
            }
            let step = self.inflate(&input[consumed..], &mut output[produced..]);
            consumed += step.read;
            produced += step.written;
            self.produced += step.written as u64;
            if self.produced > self.message_bytes_max {
                // Also where the payload is corrupt behind that: what broke first counts.
                return Err(Error::TooBig);
            }
            if step.status.map_err(|_| Error::Corrupt)? == zlib_rs::Status::StreamEnd {
                // What follows is a stream of its own. A state that had ended in the message before
                // says so here without having read anything.
                self.reset();
                self.stage = if consumed > 0 || self.stage != Stage::Empty {
                    Stage::Final
                } else {
                    Stage::Empty
                };
                continue;
            }
            self.stage = Stage::Blocks { full: produced == output.len() };
            if step.read == 0 && step.written == 0 {
                break;
            }
        }
        if consumed < input.len() {
            // With room for output, a state that takes nothing has not read DEFLATE.
            return Err(Error::Corrupt);
        }
        match part {
            Part::More => Ok(Progress { consumed, produced, status: Status::InputUsed }),
            Part::Last => {
                self.end()?;
                Ok(Progress { consumed, produced, status: Status::Done })
            }
        }
    }

    /// Puts the tail back and sees whether the payload was whole: then exactly the tail is read,
    /// nothing comes out, and the state stops behind it, before a byte that is offered beyond.
    fn end(&mut self) -> Result<(), Error> {
        if !matches!(self.stage, Stage::Blocks { .. }) {
            return Ok(());
        }
        let [a, b, c, d] = TAIL;
        let mut nothing = [0; 8];
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let result = self.inflate.decompress(&[a, b, c, d, 0], &mut nothing, InflateFlush::Block);
        let read = self.inflate.total_in() - before.0;
        let written = self.inflate.total_out() - before.1;
        if result != Ok(zlib_rs::Status::Ok) || read != TAIL.len() as u64 || written != 0 {
            return Err(Error::Corrupt);
        }
        Ok(())
    }

    /// One call of the library.
    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Inflated {
        self.dirty = true;
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, output, InflateFlush::NoFlush);
        let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        Inflated {
            read: count(self.inflate.total_in(), before.0),
            written: count(self.inflate.total_out(), before.1),
            status,
        }
    }

    fn reset(&mut self) {
        if self.dirty {
            self.inflate.reset(false);
            self.dirty = false;
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decompressor")
            .field("takeover", &self.takeover)
            .field("message_bytes_max", &self.message_bytes_max)
            .field("produced", &self.produced)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

struct Inflated {
    read: usize,
    written: usize,
    status: Result<zlib_rs::Status, zlib_rs::InflateError>,
}

/// Makes room for `room` more bytes. Capacity doubles, but not beyond what a message may fill.
fn reserve(out: &mut Vec<u8>, room: usize, start: usize, message_bytes_max: u64) {
    if out.capacity() - out.len() >= room {
        return;
    }
    let whole = usize::try_from(message_bytes_max)
        .map_or(usize::MAX, |bytes| start.saturating_add(bytes).saturating_add(1));
    let wanted = out.capacity().saturating_mul(2).min(whole).max(out.len() + room);
    out.reserve_exact(wanted - out.len());
}

/// Output space of a message's first step at least, and of every later one.
const STEP_BYTES_MIN: usize = 1 << 10;
const STEP_BYTES_MAX: usize = 16 << 10;
