//! One RTMP connection, the server's half.
//!
//! In: bytes, `now`, the session's decisions. Out: bytes, events. The commands are in `commands`,
//! what the session says in `answers`, what becomes of each message in `messages`.

mod answers;
mod commands;
mod messages;

pub use answers::{ConnectRejection, PublishRejection};

use crate::chunk::{self, Abandoned, ChunkReader, ChunkStream, Disposition};
use crate::command::Replies;
use crate::error::{Error, Reason};
use crate::event::{Event, MessageStreamId, Received};
use crate::handshake::{self, PACKET_BYTES};
use crate::limits::Limits;
use crate::message;

/// How a connection is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What the peer may make us keep or do.
    pub limits: Limits,
    /// Any number that differs between connections: fills the random bytes of S1.
    pub entropy: u64,
    /// The size of the chunks we send, once connected.
    pub chunk_bytes: u32,
    /// The acknowledgement window we ask for, and the one we keep until the peer sets its own.
    pub acknowledgement_window_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            entropy: 0,
            chunk_bytes: 4096,
            acknowledgement_window_bytes: 2_500_000,
        }
    }
}

/// The server half of one connection.
///
/// Call [`Self::receive`] with what has arrived until it consumes nothing and gives no event; keep
/// what it did not consume (at most 1,536 bytes unless an answer is awaited) and present it again
/// with more behind it. `Connect`, `Publish` and `Play` events are questions: until the matching
/// `accept_*` or `reject_*` is called, nothing is consumed ([`Self::awaits_answer`]), so a session
/// that must ask elsewhere simply stops reading. After an answer call `receive` again, even without
/// new bytes. After an error, or once [`Self::is_closed`], flush and close; whatever else arrives
/// is swallowed.
#[derive(Debug)]
pub struct Connection {
    options: Options,
    phase: Phase,
    reader: ChunkReader,
    replies: Replies,
    streams: Vec<MessageStream>,
    /// The question that the session has not answered.
    question: Option<Question>,
    /// Bytes consumed since the start.
    received: u64,
    acknowledged: u64,
    window_bytes: u32,
}

/// Where the connection stands.
///
/// ```text
/// Version -> Hello -> HelloEcho -> Unconnected -connect-> Connected
///    any ---- error, reject_connect, close ----> Closed
/// ```
///
/// While the session ponders `connect`, the phase is `Unconnected` and `question` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// C0 is awaited.
    Version,
    /// C1 is awaited.
    Hello,
    /// C2 is being skipped.
    HelloEcho { left: usize },
    /// The handshake is done; only control messages and `connect` are legal.
    Unconnected,
    /// `connect` was accepted.
    Connected,
    /// Input is swallowed.
    Closed,
}

#[derive(Debug)]
struct MessageStream {
    id: u32,
    state: StreamState,
    /// What it publishes or asks to, as named by the peer without query; empty while idle.
    name: String,
}

/// `Idle -publish-> Asked -accept-> Publishing -closeStream, unpublish-> Idle`; a rejection leads
/// back to `Idle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Idle,
    /// The session has been asked about `publish` or `play`.
    Asked,
    Publishing,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Question {
    Connect { transaction: f64, object_encoding: u8, enhanced: bool },
    Publish { stream: u32 },
    Play { stream: u32 },
}

/// What one step of `receive` did.
enum Step<'a> {
    NeedsInput,
    Consumed(usize),
    Event(usize, Event<'a>),
}

/// An error, and how many bytes of the step's input lie before its place: where it is reported does
/// not depend on how the input was cut.
struct Fault {
    behind: usize,
    reason: Reason,
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { behind: 0, reason }
    }
}

impl Connection {
    /// A connection of which nothing has been read.
    pub const fn new(options: Options) -> Self {
        Self {
            phase: Phase::Version,
            reader: ChunkReader::new(&options.limits),
            replies: Replies { chunk_bytes: chunk::CHUNK_BYTES_DEFAULT },
            streams: Vec::new(),
            question: None,
            received: 0,
            acknowledged: 0,
            window_bytes: options.acknowledgement_window_bytes,
            options,
        }
    }

    /// Consumes from `input`, appends what must be answered to `out`, yields at most one event.
    pub fn receive<'a>(
        &mut self,
        now_ms: u32,
        input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Received<'a>, Error> {
        let mut consumed = 0;
        loop {
            let step = self.step(now_ms, &input[consumed..], out).map_err(|fault| {
                self.phase = Phase::Closed;
                let behind = u64::try_from(fault.behind).unwrap_or(0);
                Error { at: self.received + behind, reason: fault.reason }
            })?;
            let (count, event) = match step {
                Step::NeedsInput => return Ok(Received { consumed, event: None }),
                Step::Consumed(count) => (count, None),
                Step::Event(count, event) => (count, Some(event)),
            };
            consumed += count;
            self.count(count, out);
            if event.is_some() {
                return Ok(Received { consumed, event });
            }
        }
    }

    /// Whether the session owes an answer, without which nothing is consumed.
    pub const fn awaits_answer(&self) -> bool {
        self.question.is_some()
    }

    /// Whether the handshake and `connect` are behind: a peer that is not here in time is to be
    /// shed.
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether nothing more will come of this connection.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Bytes consumed since the start.
    pub const fn received_bytes(&self) -> u64 {
        self.received
    }

    #[cfg(test)]
    pub(crate) fn reader_for_tests(&self) -> &[ChunkStream] {
        &self.reader.streams
    }

    fn step<'a>(
        &mut self,
        now_ms: u32,
        input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Step<'a>, Fault> {
        match self.phase {
            Phase::Closed if input.is_empty() => Ok(Step::NeedsInput),
            Phase::Closed => Ok(Step::Consumed(input.len())),
            _ if self.question.is_some() => Ok(Step::NeedsInput),
            Phase::Version => Ok(self.step_version(input)?),
            Phase::Hello => {
                let Some(c1) = input.first_chunk() else { return Ok(Step::NeedsInput) };
                handshake::answer(c1, now_ms, self.options.entropy, out);
                self.phase = Phase::HelloEcho { left: PACKET_BYTES };
                Ok(Step::Consumed(PACKET_BYTES))
            }
            Phase::HelloEcho { left } => {
                let take = left.min(input.len());
                self.phase = match left - take {
                    0 => Phase::Unconnected,
                    left => Phase::HelloEcho { left },
                };
                Ok(if take == 0 { Step::NeedsInput } else { Step::Consumed(take) })
            }
            Phase::Unconnected | Phase::Connected => self.step_chunk(input, out),
        }
    }

    /// RTMP 5.2.2: versions from 32 on are reserved to tell RTMP from text; all others are answered
    /// with ours.
    fn step_version(&mut self, input: &[u8]) -> Result<Step<'static>, Reason> {
        match input.first() {
            None => Ok(Step::NeedsInput),
            Some(&version) if version >= 32 => Err(Reason::Version { version }),
            Some(_) => {
                self.phase = Phase::Hello;
                Ok(Step::Consumed(1))
            }
        }
    }

    fn step_chunk<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<Step<'a>, Fault> {
        match self.reader.step(input)? {
            chunk::Step::NeedsInput => Ok(Step::NeedsInput),
            chunk::Step::Header { consumed, index, begins, abandoned } => {
                if begins {
                    self.begin_message(index)?;
                }
                Ok(match abandoned {
                    Some(abandoned) => Step::Event(consumed, aborted(abandoned)),
                    None => Step::Consumed(consumed),
                })
            }
            chunk::Step::Payload { index, available } => {
                self.step_payload(index, &input[..available], out)
            }
        }
    }

    /// Counts received bytes, and acknowledges a window's worth of them (RTMP 5.4.3).
    fn count(&mut self, count: usize, out: &mut Vec<u8>) {
        self.received += u64::try_from(count).unwrap_or(0);
        let open = matches!(self.phase, Phase::Unconnected | Phase::Connected);
        if open && self.received - self.acknowledged >= u64::from(self.window_bytes) {
            self.acknowledged = self.received;
            // The sequence number wraps.
            let number = u32::try_from(self.received & 0xffff_ffff).unwrap_or(0);
            self.replies.control(out, message::ACKNOWLEDGEMENT, &number.to_be_bytes());
        }
    }

    fn is_publishing(&self, stream: u32) -> bool {
        self.stream(stream).is_some_and(|stream| stream.state == StreamState::Publishing)
    }

    fn stream(&self, id: u32) -> Option<&MessageStream> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    fn stream_mut(&mut self, id: u32) -> Option<&mut MessageStream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Unfinished messages of a stream that is published no more go nowhere.
    fn drain_unfinished(&mut self, id: u32) {
        let on_stream = |stream: &&mut ChunkStream| stream.header.message_stream == id;
        for stream in self.reader.streams.iter_mut().filter(on_stream) {
            if matches!(stream.disposition, Disposition::Media | Disposition::Aggregate) {
                stream.disposition = Disposition::Drain;
            }
        }
    }
}

fn aborted(abandoned: Abandoned) -> Event<'static> {
    Event::MediaAborted {
        stream: MessageStreamId(abandoned.message_stream),
        kind: abandoned.kind,
        chunk_stream: abandoned.chunk_stream,
    }
}
