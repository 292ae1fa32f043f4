//! Chunk streams (RTMP 5.3): headers, timestamps, and how much payload stands where.
//!
//! In: bytes behind the handshake. Out: "a message begins", "so many bytes of payload are here".
//! What the payload means, and where it goes, is the caller's.
//!
//! Invariants: a message's length does not change while it is unfinished (a header in its middle
//! drops it and begins another); the chunk size is a number to count with, never to allocate; a
//! header is consumed whole or not at all.
//!
//! What broken senders do: begin a chunk stream with type 1 (librtmp, for control messages): taken
//! as message stream 0 from timestamp 0. Leave out the extended timestamp on type 3 (rtmpdump,
//! older librtmp): the four bytes are compared with the last ones and left alone when they differ.
//! Send a delta of nearly 2^32 for a step back: deltas are signed.

use crate::aggregate::Aggregate;
use crate::error::Reason;
use crate::event::MediaKind;
use crate::limits::Limits;
use crate::message::{AGGREGATE, AUDIO, MessageHeader, VIDEO};

/// RTMP 5.4.1: the chunk size until it is set.
pub(crate) const CHUNK_BYTES_DEFAULT: u32 = 128;

/// Where the payload of a message goes; decided when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Disposition {
    /// Nowhere.
    #[default]
    Drain,
    /// Into [`ChunkStream::assembly`].
    Assemble,
    /// Out, fragment by fragment.
    Media,
    /// Out, message by message, fragment by fragment.
    Aggregate,
}

/// One chunk stream.
#[derive(Debug, Default)]
pub(crate) struct ChunkStream {
    pub(crate) id: u32,
    pub(crate) header: MessageHeader,
    pub(crate) disposition: Disposition,
    pub(crate) assembly: Vec<u8>,
    pub(crate) aggregate: Aggregate,
    /// Bytes of the message read so far.
    pub(crate) received: u32,
    /// Whether a message has begun and not ended.
    pub(crate) unfinished: bool,
    /// What type 3 repeats.
    delta: u32,
    /// The last extended timestamp, while the last header had one.
    extended: Option<u32>,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next header, or payload, is not all there.
    NeedsInput,
    /// A header of that many bytes.
    Header {
        consumed: usize,
        index: usize,
        /// Whether a message begins (else one goes on).
        begins: bool,
        /// The media message that was unfinished on this chunk stream, and now is void.
        abandoned: Option<Abandoned>,
    },
    /// Payload of the message on chunk stream `index`: `available` bytes are here.
    Payload { index: usize, available: usize },
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    Header,
    Payload { index: usize, left: u32 },
}

/// All chunk streams of one direction.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    pub(crate) streams: Vec<ChunkStream>,
    chunk_bytes: u32,
    reading: Reading,
    /// The newest media timestamp: what absolute ones are unwrapped against.
    clock: Option<i64>,
    streams_max: usize,
    message_bytes_max: u32,
}

impl ChunkReader {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            streams: Vec::new(),
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            reading: Reading::Header,
            clock: None,
            streams_max: limits.chunk_streams_max,
            message_bytes_max: limits.message_bytes_max,
        }
    }

    /// From the next chunk on, of every chunk stream.
    pub(crate) const fn set_chunk_bytes(&mut self, chunk_bytes: u32) {
        self.chunk_bytes = chunk_bytes;
    }

    /// What stands at the start of `input`. A header is taken; payload must be taken with
    /// [`Self::advance`].
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, Reason> {
        let Reading::Payload { index, left } = self.reading else { return self.header(input) };
        if left > 0 && input.is_empty() {
            return Ok(Step::NeedsInput);
        }
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Ok(Step::Payload { index, available: left.min(input.len()) })
    }

    /// `count` bytes of the payload offered by [`Self::step`] are consumed. Says whether the
    /// message is complete.
    pub(crate) fn advance(&mut self, count: usize) -> bool {
        let Reading::Payload { index, left } = &mut self.reading else {
            debug_assert!(false, "no payload was offered");
            return false;
        };
        let stream = &mut self.streams[*index];
        // `count` is at most `left`, which is a u32.
        let count = u32::try_from(count).unwrap_or(*left);
        debug_assert!(count <= *left);
        *left -= count;
        stream.received += count;
        if *left > 0 {
            return false;
        }
        let complete = stream.received == stream.header.length;
        if complete {
            stream.unfinished = false;
        }
        self.reading = Reading::Header;
        complete
    }

    /// Forgets the unfinished message of chunk stream `id` (RTMP 5.4.2).
    pub(crate) fn abort(&mut self, id: u32) -> Option<Abandoned> {
        self.streams.iter_mut().find(|stream| stream.id == id)?.abandon()
    }

    fn header(&mut self, input: &[u8]) -> Result<Step, Reason> {
        let Some((format, id, basic_bytes)) = basic_header(input) else {
            return Ok(Step::NeedsInput);
        };
        let known = self.streams.iter().position(|stream| stream.id == id);
        if known.is_none() {
            self.check_new_stream(format, id)?;
        }
        let message_bytes = [11, 7, 3, 0][usize::from(format)];
        let Some(fields) = input.get(basic_bytes..basic_bytes + message_bytes) else {
            return Ok(Step::NeedsInput);
        };
        let mut consumed = basic_bytes + message_bytes;
        let extended = match (fields.first_chunk(), known) {
            (Some([0xff, 0xff, 0xff]), _) => {
                let Some(extended) = input[consumed..].first_chunk() else {
                    return Ok(Step::NeedsInput);
                };
                consumed += 4;
                Some(u32::from_be_bytes(*extended))
            }
            (None, Some(index)) => {
                let extended = self.streams[index].extended;
                match extended.map(|value| repeats(&input[consumed..], value)) {
                    Some(Repeats::Unknown) => return Ok(Step::NeedsInput),
                    Some(Repeats::Yes) => consumed += 4,
                    Some(Repeats::No) | None => {}
                }
                extended
            }
            _ => None,
        };
        let index = known.unwrap_or(self.streams.len());
        if known.is_none() {
            self.streams.push(ChunkStream { id, ..ChunkStream::default() });
        }
        let stream = &mut self.streams[index];
        let abandoned = if format == 3 { None } else { stream.abandon() };
        let begins = !stream.unfinished;
        if begins {
            self.begin(index, fields, extended)?;
        }
        let stream = &self.streams[index];
        let left = (stream.header.length - stream.received).min(self.chunk_bytes);
        self.reading = Reading::Payload { index, left };
        Ok(Step::Header { consumed, index, begins, abandoned })
    }

    fn check_new_stream(&self, format: u8, id: u32) -> Result<(), Reason> {
        // Types 2 and 3 lack a length, which nothing earlier gave.
        if format >= 2 {
            return Err(Reason::MissingHeader { chunk_stream: id, format });
        }
        if self.streams.len() >= self.streams_max {
            return Err(Reason::TooManyChunkStreams { max: self.streams_max });
        }
        Ok(())
    }

    /// A message begins on `index`: `fields` are the message header's (none for type 3).
    fn begin(&mut self, index: usize, fields: &[u8], extended: Option<u32>) -> Result<(), Reason> {
        let clock = self.clock;
        let stream = &mut self.streams[index];
        let mut header = stream.header;
        if let Some([t0, t1, t2]) = fields.first_chunk() {
            stream.extended = extended;
            stream.delta = extended.unwrap_or_else(|| u32::from_be_bytes([0, *t0, *t1, *t2]));
        }
        if let Some([_, _, _, l0, l1, l2, message_type]) = fields.first_chunk() {
            header.length = u32::from_be_bytes([0, *l0, *l1, *l2]);
            header.message_type = *message_type;
        }
        if let Some([.., m0, m1, m2, m3]) = fields.first_chunk::<11>() {
            header.message_stream = u32::from_le_bytes([*m0, *m1, *m2, *m3]);
            // RTMP 5.3.1.2.4: a type 3 after this repeats the timestamp as delta; ffmpeg counts on
            // it.
            header.timestamp = unwrap_timestamp(clock, stream.delta);
        } else {
            let delta = i64::from(stream.delta.cast_signed());
            header.timestamp = header.timestamp.wrapping_add(delta);
        }
        if header.length > self.message_bytes_max {
            return Err(Reason::MessageTooLong {
                message_type: header.message_type,
                length: header.length,
                max: self.message_bytes_max,
            });
        }
        stream.header = header;
        stream.received = 0;
        stream.unfinished = true;
        if matches!(header.message_type, AUDIO | VIDEO | AGGREGATE) {
            self.clock = Some(header.timestamp);
        }
        Ok(())
    }
}

/// A media message that will not be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) chunk_stream: u32,
    pub(crate) message_stream: u32,
    pub(crate) kind: MediaKind,
}

impl ChunkStream {
    /// Drops the unfinished message, if there is one; tells if it was media that the session has a
    /// part of.
    pub(crate) fn abandon(&mut self) -> Option<Abandoned> {
        if !std::mem::take(&mut self.unfinished) {
            return None;
        }
        self.assembly.clear();
        let kind = match self.disposition {
            Disposition::Media => MediaKind::from_message_type(self.header.message_type),
            Disposition::Aggregate => self.aggregate.unfinished(),
            Disposition::Drain | Disposition::Assemble => None,
        };
        let message_stream = self.header.message_stream;
        kind.map(|kind| Abandoned { chunk_stream: self.id, message_stream, kind })
    }
}

/// The chunk type, the chunk stream and the header's length (RTMP 5.3.1.1). Longer forms than
/// needed are accepted.
fn basic_header(input: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *input.first()?;
    let format = first >> 6;
    match first & 0x3f {
        0 => Some((format, 64 + u32::from(*input.get(1)?), 2)),
        1 => {
            let [low, high] = *input[1..].first_chunk()?;
            Some((format, 64 + u32::from(u16::from_le_bytes([low, high])), 3))
        }
        id => Some((format, u32::from(id), 1)),
    }
}

enum Repeats {
    Yes,
    No,
    /// What is here agrees, but it is not four bytes yet.
    Unknown,
}

/// Whether `input` begins with `extended`. Decided at the first byte that differs, so that the last
/// short chunk of a sender that leaves it out is not held back. Payload that happens to look like
/// it is lost to the 2012 rule.
fn repeats(input: &[u8], extended: u32) -> Repeats {
    let expected = extended.to_be_bytes();
    let have = &input[..input.len().min(4)];
    match (expected.starts_with(have), have.len()) {
        (false, _) => Repeats::No,
        (true, 4) => Repeats::Yes,
        (true, _) => Repeats::Unknown,
    }
}

/// The moment nearest to `clock` whose low 32 bits are `timestamp` (serial number arithmetic, RTMP
/// 5.3.1.2).
fn unwrap_timestamp(clock: Option<i64>, timestamp: u32) -> i64 {
    let Some(clock) = clock else { return i64::from(timestamp) };
    // The low 32 bits are meant.
    let low = u32::try_from(clock & 0xffff_ffff).unwrap_or(0);
    let step = timestamp.wrapping_sub(low).cast_signed();
    clock.wrapping_add(i64::from(step))
}
