//! Bytes to requests and their bodies (RFC 9112).
//!
//! In: the unconsumed tail of what a client sent. Out: one [`Step`] per call, borrowing from the
//! input. Invariants: state is 32 bytes and never a byte of the request; a partial head or line is
//! not scanned twice; any cut of the input gives the same requests, body bytes and errors. After an
//! error nothing more is read.
//!
//! Deliberately absent: the collection of bodies, answers, and time limits.

mod diagnose;
mod error;
mod extension;
mod head;
mod request;

#[cfg(test)]
mod tests;

pub use error::{Error, ErrorKind};
pub(crate) use head::is_token_byte;
pub use request::{Framing, HEADERS_MAX, HeaderStorage, Method, Request, Version};

use memchr::memchr2;

use crate::target::hex_digit;

/// Reads the requests of one connection.
///
/// Calling order: [`Decoder::receive`] with the unconsumed bytes; on any step but
/// [`Step::Incomplete`] drop `consumed` bytes from the front and call again, also with no bytes
/// left; on `Incomplete` call again when more bytes have been added behind.
///
/// ```text
/// Head --Request, no body--> Head
/// Head --Request, length--> Length --Body...--> Length --End--> Head
/// Head --Request, chunked--> ChunkSize -> ChunkData --Body...--> ChunkEnd -> ChunkSize
///                            ChunkSize (0) -> Trailer --End--> Head
/// any  --error--> every later call answers the same error
/// ```
///
/// A request whose framing is [`Framing::Empty`] is complete with its `Request` step. Pipelined
/// requests may be read before earlier ones are answered; the answers' order is the caller's. After
/// an accepted upgrade the rest of the input belongs to the other protocol and this decoder is done.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Bytes to come of the body, or of the current chunk.
    remaining: u64,
    /// Bytes of a chunked body announced so far.
    body_bytes: u64,
    /// Bytes of the unfinished head or line that are already looked at.
    scanned: u32,
    /// Bytes of chunk extensions, then of trailers, of the current body.
    overhead_bytes: u32,
    state: State,
    failed: Option<ErrorKind>,
}

const _: () = assert!(size_of::<Decoder>() <= 32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length,
    ChunkSize,
    ChunkData,
    ChunkEnd,
    Trailer,
}

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest head, request line and final empty line included; at most 65,535 counts. The
    /// caller must be able to present that many bytes at once.
    pub head_bytes_max: usize,
    /// The most header fields; at most [`HEADERS_MAX`] counts.
    pub headers_max: usize,
    /// The longest request target.
    pub target_bytes_max: usize,
    /// The largest body; of a chunked one, its data.
    pub body_bytes_max: u64,
    /// The longest line with a chunk's size and extension.
    pub chunk_line_bytes_max: usize,
    /// All chunk extensions of a body together.
    pub chunk_extension_bytes_max: u32,
    /// All trailers of a body together.
    pub trailer_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 1024 * 1024,
            chunk_line_bytes_max: 256,
            chunk_extension_bytes_max: 4 * 1024,
            trailer_bytes_max: 4 * 1024,
        }
    }
}

/// What one call found.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing until more bytes arrive; nothing was consumed.
    Incomplete,
    /// A request head.
    Request {
        /// Bytes to drop from the front of the input.
        consumed: usize,
        /// The head.
        request: Request<'a>,
    },
    /// A piece of the current request's body.
    Body {
        /// Bytes to drop from the front of the input.
        consumed: usize,
        /// May be empty: only chunk framing was read then.
        data: &'a [u8],
    },
    /// The body is complete.
    End {
        /// Bytes to drop from the front of the input.
        consumed: usize,
    },
}

/// A failing rule and the offset of the byte that broke it.
type Fallible<T> = Result<T, (ErrorKind, usize)>;

impl Decoder {
    /// A decoder for a new connection.
    pub const fn new() -> Self {
        Self {
            remaining: 0,
            body_bytes: 0,
            scanned: 0,
            overhead_bytes: 0,
            state: State::Head,
            failed: None,
        }
    }

    /// Reads one step. `input` is everything that arrived and was not consumed.
    pub fn receive<'a>(
        &mut self,
        input: &'a [u8],
        storage: &'a mut HeaderStorage,
        limits: &Limits,
    ) -> Result<Step<'a>, Error> {
        if let Some(kind) = self.failed {
            return Err(Error { kind, offset: 0 });
        }
        let result = match self.state {
            State::Head => self.head(input, storage, limits),
            State::Length => Ok(self.length(input)),
            State::ChunkSize | State::ChunkData | State::ChunkEnd | State::Trailer => {
                self.chunked(input, limits)
            }
        };
        result.map_err(|(kind, offset)| {
            self.failed = Some(kind);
            Error { kind, offset }
        })
    }

    /// Whether the next byte begins a request and none of it was seen: the connection is idle if
    /// nothing is unconsumed.
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Head && self.scanned == 0
    }

    /// Whether the next byte belongs to a head; otherwise it belongs to a body.
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head
    }

    fn head<'a>(
        &mut self,
        input: &'a [u8],
        storage: &'a mut HeaderStorage,
        limits: &Limits,
    ) -> Fallible<Step<'a>> {
        let lead = head::leading_empty_lines(input);
        let rest = &input[lead..];
        let place = |(kind, offset)| (kind, lead + offset);
        match rest.first() {
            None => return Ok(Step::Incomplete),
            Some(&TLS_HANDSHAKE) => return Err((ErrorKind::TlsOnPlainPort, lead)),
            Some(&byte) if !is_token_byte(byte) && !matches!(byte, b'\r' | b'\n') => {
                return Err((ErrorKind::NotHttp, lead));
            }
            Some(_) => {}
        }
        let Some(end) = head::find_end(rest, &mut self.scanned, limits).map_err(place)? else {
            return Ok(Step::Incomplete);
        };
        self.scanned = 0;
        let request = head::parse(&rest[..end], storage, limits).map_err(place)?;
        match request.framing() {
            Framing::Empty => {}
            Framing::Length(length) => {
                self.state = State::Length;
                self.remaining = length;
            }
            Framing::Chunked => {
                self.state = State::ChunkSize;
                self.body_bytes = 0;
                self.overhead_bytes = 0;
            }
        }
        Ok(Step::Request { consumed: lead + end, request })
    }

    fn length<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        if self.remaining == 0 {
            self.state = State::Head;
            return Step::End { consumed: 0 };
        }
        if input.is_empty() {
            return Step::Incomplete;
        }
        let data = self.take(input);
        Step::Body { consumed: data.len(), data }
    }

    /// RFC 9112 7.1.
    fn chunked<'a>(&mut self, input: &'a [u8], limits: &Limits) -> Fallible<Step<'a>> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let place = |(kind, offset)| (kind, at + offset);
            match self.state {
                State::ChunkSize => {
                    let limit = (limits.chunk_line_bytes_max, ErrorKind::BadChunkExtension);
                    let Some(line) = self.line(rest, limit).map_err(place)? else { break };
                    self.chunk_size(line, limits).map_err(place)?;
                    at += line.len() + 2;
                }
                State::ChunkData if rest.is_empty() => break,
                State::ChunkData => {
                    let data = self.take(rest);
                    if self.remaining == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Step::Body { consumed: at + data.len(), data });
                }
                State::ChunkEnd => match rest {
                    [] | [b'\r'] => break,
                    [b'\r', b'\n', ..] => {
                        self.state = State::ChunkSize;
                        at += 2;
                    }
                    _ => return Err((ErrorKind::BadChunkEnd, at)),
                },
                State::Trailer | State::Head | State::Length => {
                    let room = limits.trailer_bytes_max.saturating_sub(self.overhead_bytes);
                    let limit = (room as usize, ErrorKind::TrailersTooLarge);
                    let Some(line) = self.line(rest, limit).map_err(place)? else { break };
                    if line.is_empty() {
                        self.state = State::Head;
                        return Ok(Step::End { consumed: at + 2 });
                    }
                    if let Some((_, offset)) = diagnose::header_line(line) {
                        return Err((ErrorKind::BadTrailer, at + offset));
                    }
                    if head::is_forbidden_in_trailers(line) {
                        return Err((ErrorKind::ForbiddenTrailer, at));
                    }
                    // `room` bounds the line and is 32 bits wide.
                    self.overhead_bytes += u32::try_from(line.len()).unwrap_or_default();
                    at += line.len() + 2;
                }
            }
        }
        Ok(if at == 0 { Step::Incomplete } else { Step::Body { consumed: at, data: &[] } })
    }

    /// Reads a chunk's size; its extension is counted and ignored (RFC 9112 7.1.1).
    ///
    /// Whitespace around the size, a sign or `0x` are refused: readers differ on them.
    fn chunk_size(&mut self, line: &[u8], limits: &Limits) -> Fallible<()> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || digits > CHUNK_SIZE_DIGITS_MAX {
            return Err((ErrorKind::BadChunkSize, 0));
        }
        let extension = &line[digits..];
        if !matches!(extension.first(), None | Some(b';')) {
            return Err((ErrorKind::BadChunkSize, digits));
        }
        if let Err(offset) = extension::check(extension) {
            return Err((ErrorKind::BadChunkExtension, digits + offset));
        }
        let extension_bytes = u32::try_from(extension.len()).unwrap_or(u32::MAX);
        self.overhead_bytes = self.overhead_bytes.saturating_add(extension_bytes);
        if self.overhead_bytes > limits.chunk_extension_bytes_max {
            return Err((ErrorKind::BadChunkExtension, digits));
        }
        let hex = line[..digits].iter().filter_map(|byte| hex_digit(*byte));
        let size = hex.fold(0_u64, |size, digit| size << 4 | u64::from(digit));
        if size > limits.body_bytes_max.saturating_sub(self.body_bytes) {
            return Err((ErrorKind::BodyTooLarge, 0));
        }
        if size == 0 {
            self.state = State::Trailer;
            self.overhead_bytes = 0;
        } else {
            self.state = State::ChunkData;
            self.remaining = size;
            self.body_bytes += size;
        }
        Ok(())
    }

    /// A whole line without its end, at most `limit` long, looked for from where the last call
    /// stopped.
    fn line<'a>(
        &mut self,
        input: &'a [u8],
        limit: (usize, ErrorKind),
    ) -> Fallible<Option<&'a [u8]>> {
        let (line_bytes_max, too_long) = limit;
        let from = (self.scanned as usize).min(input.len());
        let found = memchr2(b'\r', b'\n', &input[from..]).map(|found| from + found);
        let end = found.unwrap_or(input.len());
        if end > line_bytes_max {
            return Err((too_long, line_bytes_max));
        }
        if let Some(at) = found
            && head::line_ends(input, at)?
        {
            self.scanned = 0;
            return Ok(Some(&input[..at]));
        }
        // `end` is within a limit that fits 32 bits; were it not, the line is looked at again.
        self.scanned = u32::try_from(end).unwrap_or_default();
        Ok(None)
    }

    /// What has arrived of `remaining` bytes.
    fn take<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let present = usize::try_from(self.remaining)
            .map_or(input.len(), |remaining| remaining.min(input.len()));
        self.remaining -= present as u64;
        &input[..present]
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The content type of a TLS handshake record (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// As many digits as a 64-bit size has.
const CHUNK_SIZE_DIGITS_MAX: usize = 16;
