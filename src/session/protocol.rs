//! What a connection speaks, and the state that needs between two receives.

use super::{Connection, Takeover};
use crate::connection::Role;
use crate::fanout::{Format, PublicationKind};
use crate::live::StreamName;
use crate::memory::{BlockPool, BlockWriter};
use std::num::NonZeroU32;
use std::sync::Arc;
use websocket::deflate::WindowClass;

/// What a connection speaks.
#[derive(Debug)]
pub enum Protocol {
    /// The PROXY protocol's header, then what the role begins with.
    Proxied(Role),
    /// HTTP/1.1.
    Http(HttpState),
    /// WebSocket, after an upgrade.
    WebSocket(WebSocketState),
    /// An event stream: the answer to a request that does not end.
    EventStream {
        /// Whether nothing else waited to be sent when it began, so that until it is sent its head may still
        /// become another answer's.
        is_alone: bool,
    },
    /// RTMP.
    Rtmp(Box<RtmpState>),
    /// Every byte back.
    Echo,
    /// None: it was told that there is no room for it.
    Refused,
}

impl Protocol {
    /// What a listener's connections begin with. RTMP begins when the first byte is there.
    #[must_use]
    pub fn new(role: Role) -> Self {
        match role {
            Role::Http => Self::Http(HttpState::default()),
            Role::Rtmp => Self::Rtmp(Box::default()),
            Role::Echo => Self::Echo,
        }
    }

    /// Whether it has not been answered yet: those who have come first.
    #[must_use]
    pub fn is_newcomer(&self) -> bool {
        match self {
            Self::Proxied(_) | Self::Refused => true,
            Self::Http(state) => !state.answered,
            Self::Rtmp(state) => state.publishing.is_none(),
            Self::WebSocket(_) | Self::EventStream { .. } | Self::Echo => false,
        }
    }

    /// Whether so much comes that the kernel should pick the receive buffers: a publisher of media.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        match self {
            Self::Rtmp(state) => {
                state.publishing.as_ref().is_some_and(|publishing| publishing.accepted)
            }
            Self::Proxied(_)
            | Self::Http(_)
            | Self::WebSocket(_)
            | Self::EventStream { .. }
            | Self::Echo
            | Self::Refused => false,
        }
    }

    /// Whether it is one for which there is no room: it stays only to hear that.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Refused => true,
            Self::Rtmp(state) => state.refused,
            Self::Proxied(_)
            | Self::Http(_)
            | Self::WebSocket(_)
            | Self::EventStream { .. }
            | Self::Echo => false,
        }
    }
}

const _: () = assert!(size_of::<Connection>() <= 120, "a connection is paid a million times");

/// HTTP/1.1 between two receives.
#[derive(Debug, Default)]
pub struct HttpState {
    /// Where the decoder is.
    pub decoder: http1::Decoder,
    /// What is done with the body of the present request.
    pub collecting: Collecting,
    /// What the present request waits for.
    pub waiting: Option<Box<Waiting>>,
    /// Since when a head or a body is incomplete, in milliseconds of the monotonic clock; an even one
    /// is made the odd one behind it, so that it is never 0.
    pub incomplete_since_ms: Option<NonZeroU32>,
    /// Whether a request was answered on this connection.
    pub answered: bool,
}

/// What is done with a body.
#[derive(Debug, Default)]
pub enum Collecting {
    /// There is none, or it is thrown away.
    #[default]
    Nothing,
    /// It becomes a publication.
    Publication(Box<PublishRequest>),
}

/// A `POST /pub/{channel}` whose body is coming.
#[derive(Debug)]
pub struct PublishRequest {
    /// Where to.
    pub channel: Arc<str>,
    /// What has come of the body.
    pub body: Vec<u8>,
    /// What the body is said to be; without it, text if it is UTF-8.
    pub kind: Option<PublicationKind>,
    /// The name of the event.
    pub event: Option<Arc<str>>,
    /// The conflation key.
    pub key: Option<Arc<str>>,
    /// The idempotency key.
    pub idempotency_key: Option<Arc<str>>,
    /// How to answer.
    pub version: http1::Version,
    /// Whether the connection goes on after the answer.
    pub keep_alive: bool,
}

/// A request whose answer is not there yet.
#[derive(Debug)]
pub enum Waiting {
    /// For a publication's offset.
    Publication {
        /// How to answer.
        version: http1::Version,
        /// Whether the connection goes on after the answer.
        keep_alive: bool,
    },
    /// For a live stream to be known on this shard or to have something to show.
    Live {
        /// The stream.
        stream: StreamName,
        /// What is asked of it.
        file: String,
        /// The conditions of the request.
        request: Conditions,
        /// When to give up, in milliseconds of the monotonic clock.
        until_ms: u64,
    },
}

/// What of a request decides how a file is answered.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Whether only the head is wanted.
    pub is_head: bool,
    /// `Range`.
    pub range: Option<Box<[u8]>>,
    /// `If-Range`.
    pub if_range: Option<Box<[u8]>>,
    /// `If-None-Match`.
    pub if_none_match: Option<Box<[u8]>>,
    /// The coding that the client would take a text in; none if it takes none.
    pub coding: Option<http1::coding::Coding>,
    /// How to answer.
    pub version: http1::Version,
    /// Whether the connection goes on after the answer.
    pub keep_alive: bool,
}

/// WebSocket between two receives.
#[derive(Debug)]
pub struct WebSocketState {
    /// Where the decoder is.
    pub decoder: websocket::Decoder,
    /// What most have none of.
    pub aside: Option<Box<Aside>>,
    /// Where the close handshake is.
    pub close: websocket::CloseState,
    /// How publications are shown; without it, messages are sent back to their sender.
    pub format: Option<Format>,
    /// With whom it shares compressed messages, if it takes them (RFC 7692).
    pub deflate: Option<WindowClass>,
    /// Whether a ping is out.
    pub pinged: bool,
}

/// What only some WebSockets have, and not always: in one place, so that the others pay one word.
#[derive(Debug, Default)]
pub struct Aside {
    /// A message whose fragments are coming; as they came if it is compressed.
    pub message: Vec<u8>,
    /// Its own states, if messages refer to earlier ones.
    pub takeover: Option<Box<Takeover>>,
}

impl WebSocketState {
    /// Its own states, if messages refer to earlier ones.
    pub(super) fn takeover(&mut self) -> Option<&mut Takeover> {
        self.aside.as_deref_mut()?.takeover.as_deref_mut()
    }
}

const _: () = assert!(size_of::<WebSocketState>() <= 64, "the largest of those that are many");

/// RTMP between two receives.
#[derive(Debug, Default)]
pub struct RtmpState {
    /// Whether there is no room for it: its `connect` is rejected.
    pub refused: bool,
    /// The protocol; made at the first byte.
    pub machine: Option<rtmp::Connection>,
    /// The application.
    pub app: String,
    /// What is published, or asked to be.
    pub publishing: Option<Publishing>,
    /// Where access units are written, by kind (audio, video).
    pub tracks: [TrackWriter; 2],
    /// Messages that are not complete.
    pub units: Vec<Unit>,
}

/// A publication of a live stream.
#[derive(Debug)]
pub struct Publishing {
    /// What is published.
    pub stream: StreamName,
    /// On which message stream.
    pub message_stream: rtmp::MessageStreamId,
    /// Whether the stream's home has agreed.
    pub accepted: bool,
}

/// Where the access units of one track are written: contiguously, block after block.
#[derive(Debug, Default)]
pub struct TrackWriter {
    /// The blocks; made at the first access unit.
    pub pool: Option<BlockPool>,
    /// The block that is being filled, unless a unit has it.
    pub writer: Option<BlockWriter>,
    /// The configuration that came last.
    pub config: Option<crate::live::TrackConfig>,
}

/// A media message whose fragments are coming.
#[derive(Debug)]
pub struct Unit {
    /// Which chunk stream carries it.
    pub chunk_stream: u32,
    /// Audio or video.
    pub kind: rtmp::MediaKind,
    /// Its first bytes, until the tag's header is whole.
    pub head: Vec<u8>,
    /// What the tag's header says.
    pub header: Option<TagHeader>,
    /// What follows the header.
    pub body: UnitBody,
}

/// A tag's header, once read.
#[derive(Debug)]
pub enum TagHeader {
    /// Of a video message.
    Video(flv::VideoTagHeader),
    /// Of an audio message.
    Audio(flv::AudioTagHeader),
}

/// Where a message's body is written.
#[derive(Debug)]
pub enum UnitBody {
    /// Into the track's block, where it stays.
    Block(BlockWriter),
    /// Beside it: configurations, and what is larger than a block.
    Beside(Vec<u8>),
}
