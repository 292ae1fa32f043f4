//! The peer's commands (RTMP 7.2), and those of Flash Media Live Encoder that every encoder sends.
//!
//! What clients do: pipeline `releaseStream`, `FCPublish` and `createStream` without waiting; send
//! null or undefined as command object; number transactions 0 when they want no reply; wait for a
//! number from `_checkbw` and `getStreamLength` before they go on (librtmp); break when
//! `onFCPublish` lacks its transaction (Vimeo Livestream Studio); stop with `FCUnpublish` alone,
//! `deleteStream` alone, or both.

use amf0::Value;

use super::{Connection, MessageStream, Phase, Question, StreamState};
use crate::command::{Command, Status, split_name, split_query, whole_number};
use crate::error::Reason;
use crate::event::{ConnectRequest, Event, MessageStreamId, PublishKind};

type Outcome = Result<Option<Event<'static>>, Reason>;

impl Connection {
    pub(super) fn on_command(&mut self, stream: u32, payload: &[u8], out: &mut Vec<u8>) -> Outcome {
        let command = Command::parse(payload)?;
        if command.name == "connect" {
            return self.on_connect(&command);
        }
        if self.phase != Phase::Connected {
            return Err(Reason::CommandBeforeConnect);
        }
        let replies = self.replies;
        match command.name.as_str() {
            "createStream" => self.create_stream(command.transaction, out),
            "publish" => return Ok(self.on_publish(stream, &command, out)),
            "play" => return Ok(self.on_play(stream, &command, out)),
            "deleteStream" => return Ok(self.delete_stream(stream, &command, out)),
            "closeStream" => return Ok(self.stop_publishing(stream, out)),
            "FCUnpublish" => return Ok(self.on_fc_unpublish(&command, out)),
            "FCPublish" => {
                let name = command.argument(0).and_then(Value::as_str).unwrap_or_default();
                let status = Status {
                    level: "status",
                    code: "NetStream.Publish.Start",
                    description: &format!("FCPublish to stream {name}"),
                };
                let values = [Value::Null, status.value()];
                replies.command(out, 0, "onFCPublish", 0.0, &values);
                replies.result(out, command.transaction, Value::Undefined);
            }
            "FCSubscribe" => {
                let status = Status {
                    level: "status",
                    code: "NetStream.Play.Start",
                    description: "Subscribed",
                };
                let values = [Value::Null, status.value()];
                replies.command(out, 0, "onFCSubscribe", 0.0, &values);
                replies.result(out, command.transaction, Value::Undefined);
            }
            "releaseStream" => replies.result(out, command.transaction, Value::Undefined),
            "_checkbw" | "getStreamLength" => {
                replies.result(out, command.transaction, Value::Number(0.0));
            }
            // Requests of players, which mean nothing to a publisher, and replies to what we did
            // not ask.
            "pause" | "pauseRaw" | "seek" | "receiveAudio" | "receiveVideo" | "_result"
            | "_error" | "onStatus" => {}
            name => {
                let description = format!("Method not found ({name})");
                let status = call_failed(&description);
                replies.error(out, command.transaction, status);
            }
        }
        Ok(None)
    }

    fn on_connect(&mut self, command: &Command<'_>) -> Outcome {
        if self.phase != Phase::Unconnected {
            return Err(Reason::ConnectTwice);
        }
        let app = command.text_property("app").unwrap_or_default();
        let (app, query) = split_query(&app);
        let object_encoding = command.property("objectEncoding").and_then(Value::as_number);
        let object_encoding = if object_encoding == Some(3.0) { 3 } else { 0 };
        let four_cc_list = match command.property("fourCcList") {
            Some(Value::StrictArray(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let caps_ex = command.property("capsEx").and_then(whole_number);
        let enhanced = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"]
            .iter()
            .any(|name| command.property(name).is_some());
        let request = ConnectRequest {
            app: app.trim_matches('/').to_owned(),
            query,
            tc_url: command.text_property("tcUrl"),
            flash_ver: command.text_property("flashVer"),
            object_encoding,
            four_cc_list,
            caps_ex: caps_ex.unwrap_or(0),
        };
        let transaction = command.transaction;
        self.question = Some(Question::Connect { transaction, object_encoding, enhanced });
        Ok(Some(Event::Connect(Box::new(request))))
    }

    /// RTMP 7.2.1.3. Answers the smallest free number from 1 on.
    fn create_stream(&mut self, transaction: f64, out: &mut Vec<u8>) {
        // Nobody would learn the number.
        if transaction == 0.0 {
            return;
        }
        if self.streams.len() >= self.options.limits.message_streams_max {
            self.replies.error(out, transaction, call_failed("Too many streams"));
            return;
        }
        // Ends at the first of `streams.len() + 1` numbers that is free.
        let free = (1..).find(|id| self.stream(*id).is_none()).unwrap_or(1);
        self.streams.push(MessageStream {
            id: free,
            state: StreamState::Idle,
            name: String::new(),
        });
        self.replies.result(out, transaction, Value::Number(f64::from(free)));
    }

    /// RTMP 7.2.2.6.
    fn on_publish(
        &mut self,
        stream: u32,
        command: &Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'static>> {
        let name_bytes_max = self.options.limits.name_bytes_max;
        let text = command.argument(0).and_then(Value::as_str);
        let (name, query) = split_name(text.unwrap_or_default());
        let refusal = match self.stream_mut(stream) {
            None => Some("No such message stream"),
            Some(known) if known.state != StreamState::Idle => Some("Already publishing"),
            Some(_) if name.is_empty() => Some("No stream name"),
            Some(_) if name.len() > name_bytes_max => Some("Stream name too long"),
            Some(known) => {
                known.state = StreamState::Asked;
                known.name.clone_from(&name);
                None
            }
        };
        if let Some(description) = refusal {
            let code = "NetStream.Publish.BadName";
            let status = Status { level: "error", code, description };
            self.replies.status(out, stream, status);
            return None;
        }
        let kind = match command.argument(1).and_then(Value::as_str) {
            Some("record") => PublishKind::Record,
            Some("append") => PublishKind::Append,
            _ => PublishKind::Live,
        };
        self.question = Some(Question::Publish { stream });
        Some(Event::Publish { stream: MessageStreamId(stream), name, query, kind })
    }

    /// RTMP 7.2.2.1.
    fn on_play(
        &mut self,
        stream: u32,
        command: &Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'static>> {
        let text = command.argument(0).and_then(Value::as_str);
        let (name, query) = split_name(text.unwrap_or_default());
        let name_bytes_max = self.options.limits.name_bytes_max;
        let idle = match self.stream_mut(stream) {
            Some(known) if known.state == StreamState::Idle && name.len() <= name_bytes_max => {
                known
            }
            _ => {
                let code = "NetStream.Play.StreamNotFound";
                let status = Status { level: "error", code, description: "Cannot play here" };
                self.replies.status(out, stream, status);
                return None;
            }
        };
        idle.state = StreamState::Asked;
        self.question = Some(Question::Play { stream });
        Some(Event::Play { stream: MessageStreamId(stream), name, query })
    }

    /// RTMP 7.2.2.3: no reply. The number is an argument; some clients leave it out and send on the
    /// stream itself.
    fn delete_stream(
        &mut self,
        stream: u32,
        command: &Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'static>> {
        let stream = command.argument(0).and_then(whole_number).unwrap_or(stream);
        let event = self.stop_publishing(stream, out);
        self.streams.retain(|known| known.id != stream);
        event
    }

    fn on_fc_unpublish(
        &mut self,
        command: &Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'static>> {
        let text = command.argument(0).and_then(Value::as_str).unwrap_or_default();
        let (name, _) = split_name(text);
        let status = Status {
            level: "status",
            code: "NetStream.Unpublish.Success",
            description: "Stopped publishing",
        };
        let values = [Value::Null, status.value()];
        self.replies.command(out, 0, "onFCUnpublish", 0.0, &values);
        self.replies.result(out, command.transaction, Value::Undefined);
        let publishing =
            |known: &&MessageStream| known.state == StreamState::Publishing && known.name == name;
        let stream = self.streams.iter().find(publishing)?.id;
        self.stop_publishing(stream, out)
    }

    /// The peer stops: tells it so, and the session, if it was publishing.
    fn stop_publishing(&mut self, stream: u32, out: &mut Vec<u8>) -> Option<Event<'static>> {
        if !self.is_publishing(stream) {
            return None;
        }
        let stream = MessageStreamId(stream);
        self.unpublish(stream, out);
        Some(Event::Unpublish { stream })
    }
}

fn call_failed(description: &str) -> Status<'_> {
    Status { level: "error", code: "NetConnection.Call.Failed", description }
}
