//! A publisher, sans-IO: the client half, for tests, the simulator and load.
//!
//! In: the server's bytes, media. Out: bytes to send. It speaks as OBS does: Set Chunk Size before
//! `connect`, then `releaseStream`, `FCPublish` and `createStream` without waiting between them,
//! then `publish`.
//!
//! ```
//! # use headwater_rtmp::client::{Publisher, State};
//! let mut publisher = Publisher::new("live", "cam");
//! let mut out = Vec::new();
//! publisher.start(&mut out);
//! // Send `out`; give what comes back to `publisher.receive`, and send what that writes, until:
//! if publisher.state() == &State::Publishing {
//!     publisher.video(0, &[0x17, 0, 0, 0, 0], &mut out);
//! }
//! ```
//!
//! It is strict where servers are sloppy: an answer it does not expect is an error. It keeps what
//! it has not yet understood of the server's bytes, so it can be fed in any cut. Not for untrusted
//! servers at scale: its inbox is bounded only by the message limit.

use amf0::{Value, encode};

use crate::chunk::{self, ChunkReader};
pub use crate::chunk_write::ExtendedTimestamps;
use crate::chunk_write::{ChunkWriter, Outgoing};
use crate::command::{Command, whole_number};
use crate::error::{Error, Reason};
pub use crate::handshake::Handshake;
use crate::handshake::{self, PACKET_BYTES, Packet};
use crate::limits::Limits;
use crate::message::{self, user_control};

/// How a publisher behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The form of C1.
    pub handshake: Handshake,
    /// The size of its chunks, announced with Set Chunk Size before `connect`.
    pub chunk_bytes: u32,
    /// How it writes long timestamps.
    pub extended_timestamps: ExtendedTimestamps,
    /// Fills the random bytes of C1.
    pub entropy: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake: Handshake::Simple,
            chunk_bytes: 4096,
            extended_timestamps: ExtendedTimestamps::Repeated,
            entropy: 0,
        }
    }
}

/// How far a publisher is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Before [`Publisher::start`].
    Idle,
    /// S0, S1 and S2 are awaited.
    Handshake,
    /// The answer to `connect` is awaited.
    Connecting,
    /// The answer to `createStream` is awaited.
    Creating,
    /// The answer to `publish` is awaited.
    Asking,
    /// Media may be sent.
    Publishing,
    /// The publication ended, by us or by the server.
    Unpublished,
    /// The server said no, or ended the connection: the code of its status.
    Refused(String),
}

/// The client half of one connection, publishing one stream.
#[derive(Debug)]
pub struct Publisher {
    app: String,
    name: String,
    options: Options,
    state: State,
    c1: Box<Packet>,
    inbox: Vec<u8>,
    reader: ChunkReader,
    writer: ChunkWriter,
    stream: u32,
    received: u64,
    acknowledged: u32,
}

impl Publisher {
    /// A publisher of `app/name`; `name` may carry a query.
    pub fn new(app: &str, name: &str) -> Self {
        Self::with_options(app, name, Options::default())
    }

    /// The same with other habits.
    pub fn with_options(app: &str, name: &str, options: Options) -> Self {
        Self {
            app: app.to_owned(),
            name: name.to_owned(),
            options,
            state: State::Idle,
            c1: Box::new(handshake::hello(options.handshake, 0, options.entropy)),
            inbox: Vec::new(),
            reader: ChunkReader::new(&Limits::default()),
            writer: ChunkWriter::new(chunk::CHUNK_BYTES_DEFAULT, options.extended_timestamps),
            stream: 0,
            received: 0,
            acknowledged: 0,
        }
    }

    /// How far it is.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The number in the server's last acknowledgement.
    pub const fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Writes C0 and C1.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.state, State::Idle);
        out.push(handshake::VERSION);
        out.extend_from_slice(&self.c1[..]);
        self.state = State::Handshake;
    }

    /// Takes all of `input`, and writes what follows from it.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.inbox.extend_from_slice(input);
        let inbox = std::mem::take(&mut self.inbox);
        let mut consumed = 0;
        loop {
            let step = self.step(&inbox[consumed..], out);
            let step = step.map_err(|reason| Error { at: self.received, reason })?;
            let Some(count) = step else { break };
            consumed += count;
            self.received += u64::try_from(count).unwrap_or(0);
        }
        self.inbox.extend_from_slice(&inbox[consumed..]);
        Ok(())
    }

    /// Sends a video message; `payload` in FLV layout.
    pub fn video(&mut self, timestamp: u32, payload: &[u8], out: &mut Vec<u8>) {
        self.media(VIDEO_CHUNK_STREAM, message::VIDEO, timestamp, payload, out);
    }

    /// Sends an audio message; `payload` in FLV layout.
    pub fn audio(&mut self, timestamp: u32, payload: &[u8], out: &mut Vec<u8>) {
        self.media(AUDIO_CHUNK_STREAM, message::AUDIO, timestamp, payload, out);
    }

    /// Sends `@setDataFrame`, `onMetaData`.
    pub fn metadata(&mut self, members: &[(&str, Value<'_>)], out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        encode::string(&mut payload, "@setDataFrame");
        encode::string(&mut payload, "onMetaData");
        encode::object(&mut payload, members);
        self.media(DATA_CHUNK_STREAM, message::DATA_AMF0, 0, &payload, out);
    }

    /// Sends `FCUnpublish` and `deleteStream`.
    pub fn stop(&mut self, out: &mut Vec<u8>) {
        let name = self.name.clone();
        self.command(out, 0, "FCUnpublish", 6.0, &[Value::Null, name.as_str().into()]);
        let stream = Value::Number(self.stream.into());
        self.command(out, 0, "deleteStream", 7.0, &[Value::Null, stream]);
        self.state = State::Unpublished;
    }

    /// Sends a ping request, as players do.
    pub fn ping(&mut self, data: u32, out: &mut Vec<u8>) {
        let mut payload = user_control::PING_REQUEST.to_be_bytes().to_vec();
        payload.extend_from_slice(&data.to_be_bytes());
        self.control(message::USER_CONTROL, &payload, out);
    }

    fn media(
        &mut self,
        chunk_stream: u32,
        message_type: u8,
        timestamp: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        debug_assert_eq!(self.state, State::Publishing);
        let message_stream = self.stream;
        let message = Outgoing { chunk_stream, timestamp, message_type, message_stream, payload };
        self.writer.write(out, &message);
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, Reason> {
        if self.state == State::Handshake {
            return self.step_handshake(input, out);
        }
        match self.reader.step(input)? {
            chunk::Step::NeedsInput => Ok(None),
            chunk::Step::Header { consumed, .. } => Ok(Some(consumed)),
            chunk::Step::Payload { index, available } => {
                self.reader.streams[index].assembly.extend_from_slice(&input[..available]);
                if self.reader.advance(available) {
                    let payload = std::mem::take(&mut self.reader.streams[index].assembly);
                    let message_type = self.reader.streams[index].header.message_type;
                    self.on_message(message_type, &payload, out)?;
                }
                Ok(Some(available))
            }
        }
    }

    fn step_handshake(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, Reason> {
        let Some((&[version, ref packets @ ..], _)) = input.split_first_chunk::<ANSWER_BYTES>()
        else {
            return Ok(None);
        };
        let (s1, s2) = packets.split_at(PACKET_BYTES);
        let (Some(s1), Some(s2)) = (s1.first_chunk(), s2.first_chunk()) else { return Ok(None) };
        let answered = handshake::is_answer(&self.c1, self.options.handshake, s1, s2);
        if version != handshake::VERSION || !answered {
            return Err(Reason::Version { version });
        }
        out.extend_from_slice(s1);
        self.control(message::SET_CHUNK_SIZE, &self.options.chunk_bytes.to_be_bytes(), out);
        self.writer.chunk_bytes = self.options.chunk_bytes;
        let app = self.app.clone();
        let tc_url = format!("rtmp://localhost/{app}");
        let connect = Value::Object(vec![
            ("app".into(), app.as_str().into()),
            ("type".into(), "nonprivate".into()),
            ("flashVer".into(), "FMLE/3.0 (compatible; Headwater)".into()),
            ("tcUrl".into(), tc_url.as_str().into()),
        ]);
        self.command(out, 0, "connect", CONNECT, &[connect]);
        self.state = State::Connecting;
        Ok(Some(ANSWER_BYTES))
    }

    fn on_message(
        &mut self,
        message_type: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        let number = payload.first_chunk().copied().map(u32::from_be_bytes);
        match (message_type, number) {
            (message::SET_CHUNK_SIZE, Some(chunk_bytes)) => {
                self.reader.set_chunk_bytes(chunk_bytes);
            }
            (message::ACKNOWLEDGEMENT, Some(number)) => self.acknowledged = number,
            (message::COMMAND_AMF0, _) => self.on_command(&Command::parse(payload)?, out),
            _ => {}
        }
        Ok(())
    }

    fn on_command(&mut self, command: &Command<'_>, out: &mut Vec<u8>) {
        let code = command.argument(0).and_then(|information| information.property("code"));
        let code = code.and_then(Value::as_str).unwrap_or_default();
        match (command.name.as_str(), &self.state) {
            ("_result", State::Connecting) if command.transaction == CONNECT => {
                let name = self.name.clone();
                let name = || Value::from(name.as_str());
                self.command(out, 0, "releaseStream", 2.0, &[Value::Null, name()]);
                self.command(out, 0, "FCPublish", 3.0, &[Value::Null, name()]);
                self.command(out, 0, "createStream", CREATE_STREAM, &[Value::Null]);
                self.state = State::Creating;
            }
            ("_result", State::Creating) if command.transaction == CREATE_STREAM => {
                self.stream = command.argument(0).and_then(whole_number).unwrap_or(0);
                let name = self.name.clone();
                let values = [Value::Null, name.as_str().into(), "live".into()];
                self.command(out, self.stream, "publish", 5.0, &values);
                self.state = State::Asking;
            }
            ("onStatus", State::Asking) if code == "NetStream.Publish.Start" => {
                self.state = State::Publishing;
            }
            ("onStatus", State::Publishing) if code == "NetStream.Unpublish.Success" => {
                self.state = State::Unpublished;
            }
            ("onStatus", State::Unpublished) if code == "NetStream.Unpublish.Success" => {}
            ("onStatus" | "_error", _) => self.state = State::Refused(code.to_owned()),
            _ => {}
        }
    }

    fn control(&mut self, message_type: u8, payload: &[u8], out: &mut Vec<u8>) {
        let message = Outgoing {
            chunk_stream: message::chunk_stream::CONTROL,
            timestamp: 0,
            message_type,
            message_stream: 0,
            payload,
        };
        self.writer.write(out, &message);
    }

    fn command(
        &mut self,
        out: &mut Vec<u8>,
        message_stream: u32,
        name: &str,
        transaction: f64,
        values: &[Value<'_>],
    ) {
        let mut payload = Vec::new();
        encode::string(&mut payload, name);
        encode::number(&mut payload, transaction);
        for value in values {
            value.encode(&mut payload);
        }
        let message = Outgoing {
            chunk_stream: message::chunk_stream::CONNECTION,
            timestamp: 0,
            message_type: message::COMMAND_AMF0,
            message_stream,
            payload: &payload,
        };
        self.writer.write(out, &message);
    }
}

/// S0, S1, S2.
const ANSWER_BYTES: usize = 1 + 2 * PACKET_BYTES;
/// Transaction numbers.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;
/// Chunk streams, as librtmp numbers them.
const AUDIO_CHUNK_STREAM: u32 = 4;
const VIDEO_CHUNK_STREAM: u32 = 6;
const DATA_CHUNK_STREAM: u32 = 5;
