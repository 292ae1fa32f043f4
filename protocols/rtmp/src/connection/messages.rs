//! What becomes of a message: where its payload goes, and what the small ones mean.
//!
//! In: payload as the chunk reader offers it. Out: media fragments, events, replies. Media leaves
//! at once; commands, data and control messages are collected under the limits.

use super::{Connection, Fault, Step, aborted};
use crate::aggregate::Aggregate;
use crate::chunk::Disposition;
use crate::command::amf0_part;
use crate::error::Reason;
use crate::event::{Event, MediaKind, MessageStreamId};
use crate::limits::{ASSEMBLY_KEPT_BYTES_MAX, CONTROL_BYTES_MAX};
use crate::message::{self, user_control};

impl Connection {
    /// Decides where the message goes that begins on chunk stream `index`.
    pub(super) fn begin_message(&mut self, index: usize) -> Result<(), Reason> {
        let header = self.reader.streams[index].header;
        let command_bytes_max = self.options.limits.command_bytes_max;
        let (wanted, max) = match header.message_type {
            message::SET_CHUNK_SIZE..=message::SET_PEER_BANDWIDTH => {
                (Disposition::Assemble, CONTROL_BYTES_MAX)
            }
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
                (Disposition::Assemble, command_bytes_max)
            }
            message_type => {
                let publishing = self.is_publishing(header.message_stream);
                let fits = header.length <= command_bytes_max;
                let disposition = match message_type {
                    message::AUDIO | message::VIDEO if publishing => Disposition::Media,
                    message::AGGREGATE if publishing => Disposition::Aggregate,
                    // Data is a hint: what is too long or comes from nowhere is skipped.
                    message::DATA_AMF0 | message::DATA_AMF3 if publishing && fits => {
                        Disposition::Assemble
                    }
                    _ => Disposition::Drain,
                };
                (disposition, u32::MAX)
            }
        };
        if header.length > max {
            let (message_type, length) = (header.message_type, header.length);
            return Err(Reason::MessageTooLong { message_type, length, max });
        }
        let stream = &mut self.reader.streams[index];
        stream.disposition = wanted;
        stream.aggregate = Aggregate::default();
        debug_assert!(stream.assembly.is_empty(), "the last message took it");
        Ok(())
    }

    /// Takes what is here of the payload on chunk stream `index`.
    pub(super) fn step_payload<'a>(
        &mut self,
        index: usize,
        data: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Step<'a>, Fault> {
        let stream = &mut self.reader.streams[index];
        let (header, chunk_stream, offset) = (stream.header, stream.id, stream.received);
        match stream.disposition {
            Disposition::Drain => {
                self.reader.advance(data.len());
                Ok(Step::Consumed(data.len()))
            }
            Disposition::Media => {
                self.reader.advance(data.len());
                let kind = MediaKind::from_message_type(header.message_type);
                debug_assert!(kind.is_some(), "only audio and video have this disposition");
                let event = Event::Media {
                    stream: MessageStreamId(header.message_stream),
                    kind: kind.unwrap_or(MediaKind::Video),
                    chunk_stream,
                    timestamp: header.timestamp,
                    length: header.length,
                    offset,
                    data,
                };
                Ok(Step::Event(data.len(), event))
            }
            Disposition::Aggregate => {
                let left = header.length - offset;
                let step = stream.aggregate.step(data, left);
                let (taken, fragment) =
                    step.map_err(|(behind, reason)| Fault { behind, reason })?;
                self.reader.advance(taken);
                Ok(match fragment {
                    None => Step::Consumed(taken),
                    Some(fragment) => {
                        let event = Event::Media {
                            stream: MessageStreamId(header.message_stream),
                            kind: fragment.kind,
                            chunk_stream,
                            timestamp: header.timestamp.wrapping_add(fragment.since_first.into()),
                            length: fragment.length,
                            offset: fragment.offset,
                            data: fragment.data,
                        };
                        Step::Event(taken, event)
                    }
                })
            }
            Disposition::Assemble => self.assemble(index, data, out),
        }
    }

    /// Collects a command, data or control message, and acts on it once it is whole.
    fn assemble(
        &mut self,
        index: usize,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step<'static>, Fault> {
        let max = self.options.limits.assembled_bytes_max;
        let held: usize = self.reader.streams.iter().map(|stream| stream.assembly.len()).sum();
        if held + data.len() > max {
            return Err(Fault { behind: max - held, reason: Reason::TooMuchUnfinished { max } });
        }
        self.reader.streams[index].assembly.extend_from_slice(data);
        if !self.reader.advance(data.len()) {
            return Ok(Step::Consumed(data.len()));
        }
        let mut payload = std::mem::take(&mut self.reader.streams[index].assembly);
        let event = self
            .on_message(index, &payload, out)
            .map_err(|reason| Fault { behind: data.len(), reason })?;
        if payload.capacity() <= ASSEMBLY_KEPT_BYTES_MAX {
            payload.clear();
            self.reader.streams[index].assembly = payload;
        }
        Ok(match event {
            Some(event) => Step::Event(data.len(), event),
            None => Step::Consumed(data.len()),
        })
    }

    fn on_message(
        &mut self,
        index: usize,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'static>>, Reason> {
        let header = self.reader.streams[index].header;
        match header.message_type {
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => {
                self.on_command(header.message_stream, payload, out)
            }
            message::DATA_AMF0 | message::DATA_AMF3 => Ok(on_data(&header, payload)),
            message_type => self.on_control(message_type, payload, out),
        }
    }

    /// Protocol control (RTMP 5.4) and user control (7.1.7) messages. Acknowledgements, bandwidths
    /// and events that do not concern a receiver are read and forgotten.
    fn on_control(
        &mut self,
        message_type: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'static>>, Reason> {
        let short = Reason::ControlTooShort { message_type, length: payload.len() };
        let number = || payload.first_chunk().copied().map(u32::from_be_bytes).ok_or(short);
        match message_type {
            message::SET_CHUNK_SIZE => match number()? & 0x7fff_ffff {
                0 => return Err(Reason::ChunkSizeZero),
                chunk_bytes => self.reader.set_chunk_bytes(chunk_bytes),
            },
            message::ABORT => return Ok(self.reader.abort(number()?).map(aborted)),
            message::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                let min = self.options.limits.acknowledgement_window_bytes_min;
                self.window_bytes = number()?.max(min);
            }
            message::USER_CONTROL => {
                let [high, low] = *payload.first_chunk().ok_or(short)?;
                if u16::from_be_bytes([high, low]) == user_control::PING_REQUEST {
                    let data = *payload[2..].first_chunk().ok_or(short)?;
                    let data = u32::from_be_bytes(data);
                    self.replies.user_control(out, user_control::PING_RESPONSE, data);
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

/// A data message (RTMP 7.1.2). Anything malformed is ignored: metadata is a hint.
fn on_data(header: &message::MessageHeader, payload: &[u8]) -> Option<Event<'static>> {
    let values = amf0::decode_all(amf0_part(payload)).ok()?;
    let mut values = values.into_iter();
    let mut name = values.next()?.as_str()?.to_owned();
    // What encoders send in front of the handler's name, for Flash Media Server.
    if name == "@setDataFrame" {
        name = values.next()?.as_str()?.to_owned();
    }
    let values = values.map(amf0::Value::into_owned).collect();
    let stream = MessageStreamId(header.message_stream);
    Some(match name.as_str() {
        "onMetaData" => Event::Metadata { stream, values },
        _ => Event::Data { stream, timestamp: header.timestamp, name, values },
    })
}
