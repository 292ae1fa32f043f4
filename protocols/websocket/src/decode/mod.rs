//! Bytes to messages, fragments and control frames (RFC 6455 5).
//!
//! In: the unconsumed tail of what a peer sent, mutable, because payloads are unmasked where they
//! lie. Out: one [`Step`] per call, borrowing from the input. Invariants: a rule of the standard is
//! broken at the first byte that breaks it; state is 48 bytes and never a payload; every cut of the
//! input gives the same bytes per message, the same order and the same errors.
//!
//! Deliberately absent: the assembly of messages that arrive in fragments, answers to pings and
//! Close frames (the session sends them), inflation: of permessage-deflate the decoder knows the bit
//! that says a message is compressed, and that such a payload is not yet text.

mod error;
mod header;
mod state;
mod whole;

#[cfg(test)]
mod tests;

pub use error::{Error, ErrorKind};

use crate::close::is_valid_on_wire;
use crate::encode::Opcode;
use crate::utf8::{self, Utf8};
use header::Header;
use simd::Ascii;
use state::State;
use std::ops::Range;
use whole::Whole;

/// Reads one direction of one connection.
///
/// Calling order: [`Decoder::receive`] with the unconsumed bytes; on [`Step::Event`] drop `consumed`
/// bytes from the front and call again; on [`Step::Incomplete`] call again when more bytes have been
/// added behind. The tail must be presented unchanged: bytes are unmasked only in the call that
/// consumes them. After an error every call answers the same error; after a Close event the rest of
/// the stream carries nothing (RFC 6455 1.4), every call answers `Incomplete` and the caller may
/// drop what arrives.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Payload bytes of the current frame that are still to come; not 0 only inside a data frame
    /// whose beginning was streamed.
    remaining: u64,
    /// Payload bytes of the current message so far, the current frame's whole length included.
    message_bytes: u64,
    /// Bytes consumed since the handshake.
    position: u64,
    mask: [u8; 4],
    fragments: u32,
    carry: Utf8,
    state: State,
    /// Which byte of the mask meets the next payload byte.
    phase: u8,
    /// The current frame ends its message.
    frame_is_last: bool,
    /// Something of the current message was already handed out.
    streamed: bool,
    /// permessage-deflate was negotiated: RSV1 may begin a message (RFC 7692 6).
    deflate: bool,
    /// The current message is compressed.
    compressed: bool,
    role: Role,
    failed: Option<ErrorKind>,
}

const _: () = assert!(size_of::<Decoder>() <= 48);

/// Which side this decoder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We serve: every frame of the peer must be masked (RFC 6455 5.1).
    Server,
    /// We are the client: no frame of the peer may be masked (RFC 6455 5.1).
    Client,
}

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, all its fragments together; more is [`ErrorKind::MessageTooBig`]. A
    /// compressed one is longer if there is nothing to compress, so see [`Decoder::with_deflate`].
    pub message_bytes_max: u64,
    /// The most frames one message may be cut into.
    pub fragments_max: u32,
    /// A data frame whose payload is up to this long is waited for and handed out whole. The caller
    /// must be able to present that many bytes and a header of 14 at once. 0: everything streams.
    pub coalesce_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 1 << 20, fragments_max: 1024, coalesce_bytes: 4096 }
    }
}

/// What one call found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing until more bytes arrive; nothing was consumed.
    Incomplete,
    /// Something, and how many bytes of the input it and what came before it took.
    Event {
        /// Bytes to drop from the front of the input.
        consumed: usize,
        /// What they were.
        event: Event<'a>,
    },
}

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message that arrived in one frame and was in the input at once.
    Message {
        /// Text or binary.
        kind: Kind,
        /// The payload is to be inflated (RFC 7692 6.2), and text is to be checked after that.
        compressed: bool,
        /// The payload; UTF-8 when the kind is text and it is not compressed.
        data: &'a [u8],
    },
    /// A piece of a message: a fragment, or what has arrived of a long frame. The pieces of one
    /// message follow each other with only control events between them.
    Fragment {
        /// Of the whole message; the same in each of its pieces.
        kind: Kind,
        /// The message is to be inflated (RFC 7692 6.2), and text is to be checked after that; the
        /// same in each of its pieces.
        compressed: bool,
        /// May be empty, and may end inside a character; checked as far as it goes unless it is
        /// compressed.
        data: &'a [u8],
        /// The first piece of its message.
        first: bool,
        /// The last piece of its message.
        last: bool,
    },
    /// Answer with a Pong of the same payload (RFC 6455 5.5.2).
    Ping(&'a [u8]),
    /// The answer to a ping, or unasked for (RFC 6455 5.5.3).
    Pong(&'a [u8]),
    /// The peer ends the conversation (RFC 6455 5.5.1).
    Close {
        /// Absent when the frame was empty.
        code: Option<u16>,
        /// Empty when absent.
        reason: &'a str,
    },
}

/// What a message holds (RFC 6455 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// A payload as it came.
#[derive(Debug, Clone, Copy)]
pub struct Masked<'a> {
    bytes: &'a [u8],
    mask: [u8; 4],
}

impl Masked<'_> {
    /// The number of bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Unmasks into `target`, which is as long; says whether that is what `kind` may be (RFC 6455 8.1).
    #[inline]
    pub fn unmask_into(&self, target: &mut [u8], kind: Kind) -> bool {
        let ascii = simd::unmask_into(self.bytes, target, self.mask);
        kind == Kind::Binary || ascii == Ascii::All || utf8::check(target).is_ok()
    }
}

impl Decoder {
    /// A decoder for the bytes after the handshake.
    pub const fn new(role: Role) -> Self {
        Self {
            remaining: 0,
            message_bytes: 0,
            position: 0,
            mask: [0; 4],
            fragments: 0,
            carry: Utf8::new(),
            state: State::Idle,
            phase: 0,
            frame_is_last: false,
            streamed: false,
            deflate: false,
            compressed: false,
            role,
            failed: None,
        }
    }

    /// The same for a connection that negotiated permessage-deflate (RFC 7692 6): the first frame of
    /// a message may carry RSV1. Of a compressed message the limits count compressed bytes, of which
    /// there may be an eighth more than [`Limits::message_bytes_max`].
    pub const fn with_deflate(role: Role) -> Self {
        let mut decoder = Self::new(role);
        decoder.deflate = true;
        decoder
    }

    /// Reads one step. `input` is everything that arrived and was not consumed.
    #[inline]
    pub fn receive<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Step<'a>, Error> {
        if let Some(whole) = self.find_whole(input, limits) {
            let (kind, consumed) = (whole.kind, whole.payload.end);
            let data = &input[whole.payload];
            let event = Event::Message { kind, data, compressed: false };
            return Ok(Step::Event { consumed, event });
        }
        self.step(input, limits)
    }

    /// The message at the beginning of `input`, if it is in one frame that is whole there and breaks
    /// no rule: its kind, where its bytes are and, as their end, how many were consumed. `None` says
    /// only that [`Self::receive`] has to look. For callers who want the common case to be short.
    #[inline]
    pub fn receive_whole(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
    ) -> Option<(Kind, Range<usize>)> {
        self.find_whole(input, limits).map(|whole| (whole.kind, whole.payload))
    }

    /// The same, where the payload is copied anyway: it is unmasked on its way, by `place`, which gets
    /// the kind and a [`Masked`] payload and says whether it took it.
    #[inline]
    pub fn receive_whole_into(
        &mut self,
        input: &[u8],
        limits: &Limits,
        place: impl FnOnce(Kind, Masked<'_>) -> bool,
    ) -> Option<usize> {
        let whole = self.look_for_whole(input, limits)?;
        let masked = Masked { bytes: &input[whole.payload.clone()], mask: whole.mask };
        if !place(whole.kind, masked) {
            return None;
        }
        self.position += whole.payload.end as u64;
        Some(whole.payload.end)
    }

    #[inline(always)]
    fn look_for_whole(&self, input: &[u8], limits: &Limits) -> Option<Whole> {
        let may_begin = self.is_between_messages() && self.role == Role::Server;
        if !may_begin || self.failed.is_some() {
            return None;
        }
        Whole::find(input, limits)
    }

    /// The state stays as it is.
    #[inline(always)]
    fn find_whole(&mut self, input: &mut [u8], limits: &Limits) -> Option<Whole> {
        let whole = self.look_for_whole(input, limits)?;
        let data = &mut input[whole.payload.clone()];
        let ascii = simd::unmask(data, whole.mask, 0);
        if whole.kind == Kind::Text && ascii == Ascii::No && utf8::check(data).is_err() {
            // Masked again: the general path says where.
            simd::unmask(data, whole.mask, 0);
            return None;
        }
        self.position += whole.payload.end as u64;
        Some(whole)
    }

    #[cold]
    const fn fail(&mut self, kind: ErrorKind, offset: usize) -> Error {
        self.failed = Some(kind);
        self.position += offset as u64;
        Error { kind, position: self.position }
    }

    /// The same by every rule.
    #[inline(never)]
    fn step<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Step<'a>, Error> {
        if let Some(kind) = self.failed {
            return Err(Error { kind, position: self.position });
        }
        if self.state == State::Closed || input.is_empty() {
            return Ok(Step::Incomplete);
        }
        let result =
            if self.remaining > 0 { self.piece(input, 0) } else { self.frame(input, limits) };
        match result {
            Ok(step) => {
                if let Step::Event { consumed, .. } = &step {
                    self.position += *consumed as u64;
                }
                Ok(step)
            }
            Err((kind, offset)) => Err(self.fail(kind, offset)),
        }
    }

    /// Whether a Close frame was read: nothing after it counts.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the next byte begins a message, not a fragment or the rest of a frame.
    pub fn is_between_messages(&self) -> bool {
        self.state == State::Idle && self.remaining == 0
    }

    /// Bytes consumed since the handshake.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// A frame from its first byte.
    fn frame<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Fallible<Step<'a>> {
        let room = self.payload_bytes_max(input[0], limits).saturating_sub(self.message_bytes);
        let Some(header) = Header::parse(input, self.role, self.deflate, self.state, room)? else {
            return Ok(Step::Incomplete);
        };
        let present = (input.len() - header.header_bytes) as u64;
        if header.opcode.is_control() {
            if present < header.payload_bytes {
                return Ok(Step::Incomplete);
            }
            return self.control(input, &header);
        }
        if self.fragments >= limits.fragments_max.max(1) {
            return Err((ErrorKind::TooManyFragments, 0));
        }
        let is_whole = present >= header.payload_bytes;
        if !is_whole && (present == 0 || header.payload_bytes <= limits.coalesce_bytes) {
            return Ok(Step::Incomplete);
        }
        if is_whole && header.is_last && self.state == State::Idle {
            return message(input, &header);
        }
        self.fragments += 1;
        self.message_bytes += header.payload_bytes;
        self.remaining = header.payload_bytes;
        self.mask = header.mask;
        self.phase = 0;
        self.frame_is_last = header.is_last;
        // Only the first frame says it, for the whole message (RFC 7692 6).
        if self.state == State::Idle {
            self.compressed = header.compressed;
        }
        // Inside a frame the state names the kind of its message also when the frame is the last.
        self.state = header.kind.into();
        self.piece(input, header.header_bytes)
    }

    /// The most payload bytes of the message that a frame with this first byte begins or goes on
    /// with. Compression makes longer what it can't make shorter, so a compressed message may take
    /// more than the limit that holds once it is inflated.
    fn payload_bytes_max(&self, first: u8, limits: &Limits) -> u64 {
        let compressed = match self.state {
            State::Idle => self.deflate && first & header::RSV1 != 0,
            _ => self.compressed,
        };
        let most = limits.message_bytes_max;
        // As in `Compressor::bound`.
        if compressed { most.saturating_add((most >> 3) + (most >> 6) + 16) } else { most }
    }

    /// What has arrived of the current data frame's payload, from `start` on.
    fn piece<'a>(&mut self, input: &'a mut [u8], start: usize) -> Fallible<Step<'a>> {
        let rest = &mut input[start..];
        let piece_bytes = usize::try_from(self.remaining)
            .map_or(rest.len(), |remaining| remaining.min(rest.len()));
        let data = &mut rest[..piece_bytes];
        simd::unmask(data, self.mask, usize::from(self.phase));
        let kind = if self.state == State::Text { Kind::Text } else { Kind::Binary };
        let compressed = self.compressed;
        if kind == Kind::Text && !compressed {
            let wrong = |offset| (ErrorKind::NotUtf8, start + offset);
            self.carry.receive(data).map_err(wrong)?;
        }
        self.remaining -= piece_bytes as u64;
        // The lowest byte is enough: 256 is a multiple of the key's length.
        self.phase = self.phase.wrapping_add(piece_bytes.to_le_bytes()[0]) & 3;
        let first = !self.streamed;
        let last = self.frame_is_last && self.remaining == 0;
        self.streamed = !last;
        if last {
            if !self.carry.is_complete() {
                return Err((ErrorKind::NotUtf8, start + piece_bytes));
            }
            self.state = State::Idle;
            self.message_bytes = 0;
            self.fragments = 0;
        }
        let event = Event::Fragment { kind, compressed, data, first, last };
        Ok(Step::Event { consumed: start + piece_bytes, event })
    }

    /// A control frame that is whole in the input. It leaves the message around it alone.
    fn control<'a>(&mut self, input: &'a mut [u8], header: &Header) -> Fallible<Step<'a>> {
        let (data, consumed) = payload(input, header);
        let event = match header.opcode {
            Opcode::Ping => Event::Ping(data),
            Opcode::Pong => Event::Pong(data),
            _ => {
                let event = close(data).map_err(|kind| (kind, header.header_bytes))?;
                self.state = State::Closed;
                event
            }
        };
        Ok(Step::Event { consumed, event })
    }
}

/// A failing rule and the offset in the input of the byte that broke it.
type Fallible<T> = Result<T, (ErrorKind, usize)>;

/// A message in one frame that is whole in the input: the common case, and no state changes.
fn message<'a>(input: &'a mut [u8], header: &Header) -> Fallible<Step<'a>> {
    let (data, consumed) = payload(input, header);
    if header.kind == Kind::Text && !header.compressed {
        utf8::check(data).map_err(|offset| (ErrorKind::NotUtf8, header.header_bytes + offset))?;
    }
    let Header { kind, compressed, .. } = *header;
    Ok(Step::Event { consumed, event: Event::Message { kind, compressed, data } })
}

/// Unmasks a payload that is whole in the input; gives it and the end of the frame.
fn payload<'a>(input: &'a mut [u8], header: &Header) -> (&'a [u8], usize) {
    let rest = &mut input[header.header_bytes..];
    // The callers have seen that the payload is present, so its length fits.
    let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(rest.len());
    let data = &mut rest[..payload_bytes];
    simd::unmask(data, header.mask, 0);
    (data, header.header_bytes + payload_bytes)
}

/// A Close frame's payload: nothing, or a code and a reason (RFC 6455 5.5.1, 7.4).
fn close(data: &[u8]) -> Result<Event<'_>, ErrorKind> {
    let Some((code, reason)) = data.split_first_chunk::<2>() else {
        return if data.is_empty() {
            Ok(Event::Close { code: None, reason: "" })
        } else {
            Err(ErrorKind::CloseLength)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_valid_on_wire(code) {
        return Err(ErrorKind::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ErrorKind::NotUtf8)?;
    Ok(Event::Close { code: Some(code), reason })
}
