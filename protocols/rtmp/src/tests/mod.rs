//! The harness: a session that says yes to everything, fed in any cut; and bytes written by hand.

mod chunks;
mod commands;
mod handshakes;
mod pair;

use std::collections::BTreeMap;

use amf0::Value;

use crate::chunk_write::{Outgoing, write_message};
use crate::command::Command;
use crate::connection::{Connection, Options};
use crate::handshake::{self, Handshake, PACKET_BYTES};
use crate::{ConnectRequest, Error, Event, MediaKind, MessageStreamId, PublishKind};

/// What a session saw, media put together.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Connect(ConnectRequest),
    Publish(u32, String, Option<String>, PublishKind),
    Play(u32, String),
    Media { stream: u32, kind: MediaKind, chunk_stream: u32, timestamp: i64, payload: Vec<u8> },
    Aborted(MediaKind, u32),
    Metadata(u32, Vec<Value<'static>>),
    Data(String, i64, Vec<Value<'static>>),
    Unpublish(u32),
}

/// A server that accepts what it is asked, except `play` and names beginning with `no`.
struct Server {
    connection: Connection,
    tail: Vec<u8>,
    out: Vec<u8>,
    seen: Vec<Seen>,
    unfinished: BTreeMap<(u32, u32, bool), Vec<u8>>,
}

impl Server {
    fn new(options: Options) -> Self {
        Self {
            connection: Connection::new(options),
            tail: Vec::new(),
            out: Vec::new(),
            seen: Vec::new(),
            unfinished: BTreeMap::new(),
        }
    }

    /// A server that is past the handshake and `connect`, with stream 1 publishing `live/cam`.
    fn publishing() -> Self {
        let mut server = Self::connected();
        server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
        let values = [Value::Null, "cam".into(), "live".into()];
        server.feed(&command(1, "publish", 3.0, &values)).unwrap();
        assert!(matches!(server.seen.pop(), Some(Seen::Publish(1, ..))));
        server.out.clear();
        server
    }

    fn connected() -> Self {
        let mut server = Self::shaken(Options::default());
        server.feed(&connect(&[("app", "live".into())])).unwrap();
        assert!(matches!(server.seen.pop(), Some(Seen::Connect(_))));
        server.out.clear();
        server
    }

    fn shaken(options: Options) -> Self {
        let mut server = Self::new(options);
        server.feed(&handshake_bytes()).unwrap();
        server.out.clear();
        server
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.tail.extend_from_slice(bytes);
        let tail = std::mem::take(&mut self.tail);
        let mut at = 0;
        loop {
            let received = self.connection.receive(0, &tail[at..], &mut self.out)?;
            at += received.consumed;
            let Some(event) = received.event else {
                if received.consumed > 0 {
                    continue;
                }
                break;
            };
            self.on_event(event);
        }
        self.tail.extend_from_slice(&tail[at..]);
        assert!(self.tail.len() <= PACKET_BYTES, "keeps {} bytes waiting", self.tail.len());
        Ok(())
    }

    fn on_event(&mut self, event: Event<'_>) {
        let (connection, out) = (&mut self.connection, &mut self.out);
        let seen = match event {
            Event::Connect(request) => {
                connection.accept_connect(out);
                Seen::Connect(*request)
            }
            Event::Publish { stream, name, query, kind } => {
                if name.starts_with("no") {
                    let denied = crate::PublishRejection::Denied;
                    connection.reject_publish(stream, denied, "no", out);
                } else {
                    connection.accept_publish(stream, out);
                }
                Seen::Publish(stream.0, name, query, kind)
            }
            Event::Play { stream, name, .. } => {
                connection.reject_play(stream, "nothing here", out);
                Seen::Play(stream.0, name)
            }
            Event::Media { stream, kind, chunk_stream, timestamp, length, offset, data } => {
                let key = (stream.0, chunk_stream, kind == MediaKind::Video);
                let payload = self.unfinished.entry(key).or_default();
                assert_eq!(payload.len(), offset as usize, "fragments come in order");
                payload.extend_from_slice(data);
                assert!(payload.len() <= length as usize);
                if payload.len() < length as usize {
                    assert!(!data.is_empty(), "an event without progress");
                    return;
                }
                let payload = self.unfinished.remove(&key).unwrap();
                Seen::Media { stream: stream.0, kind, chunk_stream, timestamp, payload }
            }
            Event::MediaAborted { stream, kind, chunk_stream } => {
                let key = (stream.0, chunk_stream, kind == MediaKind::Video);
                assert!(self.unfinished.remove(&key).is_some(), "nothing was begun");
                Seen::Aborted(kind, chunk_stream)
            }
            Event::Metadata { stream, values } => Seen::Metadata(stream.0, values),
            Event::Data { timestamp, name, values, .. } => Seen::Data(name, timestamp, values),
            Event::Unpublish { stream } => {
                self.unfinished.retain(|key, _| key.0 != stream.0);
                Seen::Unpublish(stream.0)
            }
        };
        self.seen.push(seen);
    }

    /// The commands written since the last call, as (message stream, name, transaction, status code
    /// or number).
    fn replies(&mut self) -> Vec<(u32, String, f64, String)> {
        messages(&std::mem::take(&mut self.out))
            .into_iter()
            .filter(|(message_type, ..)| *message_type == 20)
            .map(|(_, stream, payload)| {
                let command = Command::parse(&payload).unwrap();
                let detail = match command.argument(0) {
                    Some(Value::Number(number)) => number.to_string(),
                    Some(value) => value.property("code").map_or_else(
                        || format!("{value:?}"),
                        |code| code.as_str().unwrap().to_owned(),
                    ),
                    None => String::new(),
                };
                (stream, command.name.clone(), command.transaction, detail)
            })
            .collect()
    }

    fn media(&self) -> Vec<(i64, &[u8])> {
        self.seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Media { timestamp, payload, .. } => Some((*timestamp, payload.as_slice())),
                _ => None,
            })
            .collect()
    }
}

/// The messages in what a server wrote behind the handshake, with its chunk size as announced or
/// 4096.
fn messages(bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    use crate::chunk::{ChunkReader, Step};
    let mut reader = ChunkReader::new(&crate::Limits::default());
    reader.set_chunk_bytes(4096);
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match reader.step(&bytes[at..]).unwrap() {
            Step::NeedsInput => break,
            Step::Header { consumed, .. } => at += consumed,
            Step::Payload { index, available } => {
                let stream = &mut reader.streams[index];
                stream.assembly.extend_from_slice(&bytes[at..at + available]);
                at += available;
                let header = stream.header;
                if reader.advance(available) {
                    let payload = std::mem::take(&mut reader.streams[index].assembly);
                    found.push((header.message_type, header.message_stream, payload));
                }
            }
        }
    }
    assert_eq!(at, bytes.len());
    found
}

/// C0, C1, C2.
fn handshake_bytes() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend_from_slice(&handshake::hello(Handshake::Simple, 0, 1));
    bytes.extend_from_slice(&[0; PACKET_BYTES]);
    bytes
}

fn message(chunk_stream: u32, message_type: u8, stream: u32, at: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let message =
        Outgoing { chunk_stream, timestamp: at, message_type, message_stream: stream, payload };
    write_message(&mut out, 128, &message);
    out
}

fn command(stream: u32, name: &str, transaction: f64, values: &[Value<'_>]) -> Vec<u8> {
    message(3, 20, stream, 0, &amf(name, transaction, values))
}

fn amf(name: &str, transaction: f64, values: &[Value<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    amf0::encode::string(&mut payload, name);
    amf0::encode::number(&mut payload, transaction);
    for value in values {
        value.encode(&mut payload);
    }
    payload
}

fn connect(members: &[(&'static str, Value<'static>)]) -> Vec<u8> {
    let members = members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    command(0, "connect", 1.0, &[Value::Object(members)])
}

/// One chunk by hand: basic header of one byte, message header fields, the rest.
fn chunk(format: u8, chunk_stream: u8, header: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[format << 6 | chunk_stream], header, rest].concat()
}

/// A message header of type 0 on message stream 1.
fn full_header(field: u32, length: u32, message_type: u8) -> [u8; 11] {
    let [_, t0, t1, t2] = field.to_be_bytes();
    let [_, l0, l1, l2] = length.to_be_bytes();
    [t0, t1, t2, l0, l1, l2, message_type, 1, 0, 0, 0]
}

#[test]
fn the_harness_reads_what_the_server_writes() {
    let mut server = Server::connected();
    server.feed(&command(0, "createStream", 2.0, &[Value::Null])).unwrap();
    assert_eq!(server.replies(), [(0, "_result".into(), 2.0, "1".into())]);
    server.connection.unpublish(MessageStreamId(1), &mut server.out);
    assert_eq!(server.replies(), []);
}
