//! What the session says to the peer: answers to questions, and the end.
//!
//! In: decisions. Out: bytes. Answering a question that was not asked is the session's mistake:
//! asserted in tests, ignored in release.

use amf0::Value;

use super::{Connection, Phase, Question, StreamState};
use crate::command::Status;
use crate::event::MessageStreamId;
use crate::message::{self, user_control};

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectRejection {
    /// NetConnection.Connect.Rejected: not allowed, or no room.
    Rejected,
    /// NetConnection.Connect.InvalidApp: there is no such application.
    InvalidApp,
}

/// Why publishing is refused; encoders show it to their user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishRejection {
    /// NetStream.Publish.BadName: the name is not legal, or in use.
    BadName,
    /// NetStream.Publish.Denied: the key is wrong.
    Denied,
    /// NetStream.Publish.Rejected: anything else, such as no room.
    Rejected,
}

impl PublishRejection {
    const fn code(self) -> &'static str {
        match self {
            Self::BadName => "NetStream.Publish.BadName",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Rejected => "NetStream.Publish.Rejected",
        }
    }
}

impl Connection {
    /// Answers `connect` with yes (RTMP 7.2.1.1).
    pub fn accept_connect(&mut self, out: &mut Vec<u8>) {
        let Some((transaction, object_encoding, enhanced)) = self.take_connect() else { return };
        let window = self.options.acknowledgement_window_bytes.to_be_bytes();
        self.replies.control(out, message::WINDOW_ACKNOWLEDGEMENT_SIZE, &window);
        let [a, b, c, d] = window;
        self.replies.control(out, message::SET_PEER_BANDWIDTH, &[a, b, c, d, LIMIT_DYNAMIC]);
        let chunk_bytes = self.options.chunk_bytes.clamp(1, 0xff_ffff);
        self.replies.control(out, message::SET_CHUNK_SIZE, &chunk_bytes.to_be_bytes());
        self.replies.chunk_bytes = chunk_bytes;
        let properties = Value::Object(vec![
            ("fmsVer".into(), "FMS/3,5,7,7009".into()),
            ("capabilities".into(), Value::Number(31.0)),
            ("mode".into(), Value::Number(1.0)),
        ]);
        let status = Status {
            level: "status",
            code: "NetConnection.Connect.Success",
            description: "Connection succeeded.",
        };
        let mut information = status.value();
        if let Value::Object(members) = &mut information {
            members.push(("objectEncoding".into(), Value::Number(object_encoding.into())));
            if enhanced {
                members.extend(enhanced_capabilities());
            }
        }
        self.replies.command(out, 0, "_result", transaction, &[properties, information]);
        self.phase = Phase::Connected;
    }

    /// Answers `connect` with no. Flush, then close.
    pub fn reject_connect(
        &mut self,
        rejection: ConnectRejection,
        description: &str,
        out: &mut Vec<u8>,
    ) {
        let Some((transaction, ..)) = self.take_connect() else { return };
        let code = match rejection {
            ConnectRejection::Rejected => "NetConnection.Connect.Rejected",
            ConnectRejection::InvalidApp => "NetConnection.Connect.InvalidApp",
        };
        let status = Status { level: "error", code, description };
        self.replies.command(out, 0, "_error", transaction, &[Value::Null, status.value()]);
        self.phase = Phase::Closed;
    }

    /// Answers `publish` with yes: media may come.
    pub fn accept_publish(&mut self, stream: MessageStreamId, out: &mut Vec<u8>) {
        if !self.take_question(Question::Publish { stream: stream.0 }, StreamState::Publishing) {
            return;
        }
        self.replies.user_control(out, user_control::STREAM_BEGIN, stream.0);
        let status =
            Status { level: "status", code: "NetStream.Publish.Start", description: "Publishing" };
        self.replies.status(out, stream.0, status);
    }

    /// Answers `publish` with no. The peer may try another name.
    pub fn reject_publish(
        &mut self,
        stream: MessageStreamId,
        rejection: PublishRejection,
        description: &str,
        out: &mut Vec<u8>,
    ) {
        if self.take_question(Question::Publish { stream: stream.0 }, StreamState::Idle) {
            let status = Status { level: "error", code: rejection.code(), description };
            self.replies.status(out, stream.0, status);
        }
    }

    /// Answers `play` with no.
    pub fn reject_play(&mut self, stream: MessageStreamId, description: &str, out: &mut Vec<u8>) {
        if self.take_question(Question::Play { stream: stream.0 }, StreamState::Idle) {
            let code = "NetStream.Play.StreamNotFound";
            let status = Status { level: "error", code, description };
            self.replies.status(out, stream.0, status);
        }
    }

    /// Ends a publication from our side; media that still comes is skipped. Does nothing unless
    /// publishing.
    pub fn unpublish(&mut self, stream: MessageStreamId, out: &mut Vec<u8>) {
        if !self.is_publishing(stream.0) {
            return;
        }
        if let Some(known) = self.stream_mut(stream.0) {
            known.state = StreamState::Idle;
            known.name.clear();
        }
        self.drain_unfinished(stream.0);
        let status = Status {
            level: "status",
            code: "NetStream.Unpublish.Success",
            description: "Stopped publishing",
        };
        self.replies.status(out, stream.0, status);
    }

    /// Ends the connection from our side: unpublishes what is published, says why. Flush, then
    /// close.
    pub fn close(&mut self, description: &str, out: &mut Vec<u8>) {
        let published: Vec<u32> = self.streams.iter().map(|stream| stream.id).collect();
        for stream in published {
            self.unpublish(MessageStreamId(stream), out);
        }
        // Before that the peer does not expect chunks.
        if matches!(self.phase, Phase::Unconnected | Phase::Connected) {
            let code = "NetConnection.Connect.Closed";
            self.replies.status(out, 0, Status { level: "status", code, description });
        }
        self.question = None;
        self.phase = Phase::Closed;
    }

    /// Asks the peer for a sign of life (RTMP 7.1.7); `receive` consumes the reply silently.
    pub fn ping(&self, now_ms: u32, out: &mut Vec<u8>) {
        if self.is_connected() {
            self.replies.user_control(out, user_control::PING_REQUEST, now_ms);
        }
    }

    fn take_connect(&mut self) -> Option<(f64, u8, bool)> {
        let Some(Question::Connect { transaction, object_encoding, enhanced }) = self.question
        else {
            debug_assert!(false, "connect was not asked");
            return None;
        };
        self.question = None;
        Some((transaction, object_encoding, enhanced))
    }

    /// Clears the question and moves its stream, if it is the one that was asked.
    fn take_question(&mut self, question: Question, state: StreamState) -> bool {
        let asked = self.question == Some(question);
        debug_assert!(asked, "{question:?} was not asked");
        let (Question::Publish { stream } | Question::Play { stream }) = question else {
            return false;
        };
        if asked {
            self.question = None;
            if let Some(known) = self.stream_mut(stream) {
                known.state = state;
                if state == StreamState::Idle {
                    known.name.clear();
                }
            }
        }
        asked
    }
}

/// What we take by Enhanced RTMP, told to those who told theirs: any listed codec is forwarded,
/// ModEx is understood.
fn enhanced_capabilities() -> [(std::borrow::Cow<'static, str>, Value<'static>); 3] {
    let forward = |codecs: &[&'static str]| {
        let entry = |codec: &&'static str| ((*codec).into(), Value::Number(CAN_FORWARD));
        Value::Object(codecs.iter().map(entry).collect())
    };
    [
        ("capsEx".into(), Value::Number(CAPS_EX_MOD_EX)),
        ("videoFourCcInfoMap".into(), forward(&["avc1", "hvc1", "av01", "vp09"])),
        ("audioFourCcInfoMap".into(), forward(&["mp4a", "Opus"])),
    ]
}

/// RTMP 5.4.5, limit type.
const LIMIT_DYNAMIC: u8 = 2;
/// E-RTMP, FourCcInfoMask.
const CAN_FORWARD: f64 = 4.0;
/// E-RTMP, CapsExMask.
const CAPS_EX_MOD_EX: f64 = 4.0;
