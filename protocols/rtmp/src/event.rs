//! What a connection tells the session.

use amf0::Value;

/// A message stream within a connection: what `createStream` answered. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageStreamId(pub u32);

/// What one call of `receive` did.
#[derive(Debug)]
pub struct Received<'a> {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What they meant, if anything for the session.
    pub event: Option<Event<'a>>,
}

/// What the peer wants or sends. `Connect`, `Publish` and `Play` are questions: until the session
/// answers, the connection consumes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// Answer with `accept_connect` or `reject_connect`.
    Connect(Box<ConnectRequest>),
    /// Answer with `accept_publish` or `reject_publish`.
    Publish {
        /// Where it will come.
        stream: MessageStreamId,
        /// The stream name up to `?`, without a `mp4:`, `flv:` or `mp3:` prefix.
        name: String,
        /// What stood behind the first `?`: keys travel there.
        query: Option<String>,
        /// What to do with it.
        kind: PublishKind,
    },
    /// Answer with `reject_play`.
    Play {
        /// Where it should go.
        stream: MessageStreamId,
        /// The stream name up to `?`, without prefix.
        name: String,
        /// What stood behind the first `?`.
        query: Option<String>,
    },
    /// A fragment of an audio or video message of a published stream, in FLV tag layout. Fragments
    /// of one message come in order; those of different chunk streams may interleave. The message
    /// begins at `offset` 0 and is complete when `offset + data.len() == length`; a message without
    /// bytes gives one event with empty data.
    Media {
        /// The published stream.
        stream: MessageStreamId,
        /// Audio or video.
        kind: MediaKind,
        /// Identifies the unfinished message together with `stream` and `kind`: a peer may
        /// interleave two messages of one kind on two chunk streams.
        chunk_stream: u32,
        /// Milliseconds, unwrapped over the 32-bit rollover. As the peer counts: any epoch, and it
        /// may jump.
        timestamp: i64,
        /// The whole message's length.
        length: u32,
        /// Where in the message `data` stands.
        offset: u32,
        /// The fragment.
        data: &'a [u8],
    },
    /// The unfinished message of that chunk stream will not be completed (RTMP 5.4.2, or the peer
    /// began another).
    MediaAborted {
        /// The published stream.
        stream: MessageStreamId,
        /// Audio or video.
        kind: MediaKind,
        /// The chunk stream.
        chunk_stream: u32,
    },
    /// `onMetaData`. A hint only: encoders write wrong codec ids, sizes and rates.
    Metadata {
        /// The published stream.
        stream: MessageStreamId,
        /// What followed the name.
        values: Vec<Value<'static>>,
    },
    /// Another data message: `onTextData`, `onCuePoint`, `onCaption`, ...
    Data {
        /// The published stream.
        stream: MessageStreamId,
        /// Milliseconds, as for media.
        timestamp: i64,
        /// The handler's name.
        name: String,
        /// What followed the name.
        values: Vec<Value<'static>>,
    },
    /// The peer stopped publishing. Its unfinished messages on that stream are void.
    Unpublish {
        /// The stream that was published.
        stream: MessageStreamId,
    },
}

/// What `connect` said (RTMP 7.2.1.1). Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectRequest {
    /// The application up to `?`, without slashes around it.
    pub app: String,
    /// What stood behind the first `?` of the application.
    pub query: Option<String>,
    /// The URL as the peer has it; may lack the port.
    pub tc_url: Option<String>,
    /// The peer's software.
    pub flash_ver: Option<String>,
    /// 0 = AMF0, 3 = AMF3.
    pub object_encoding: u8,
    /// Codecs the peer says it has (E-RTMP); OBS sends none and uses them all the same.
    pub four_cc_list: Vec<String>,
    /// E-RTMP `capsEx`: 1 reconnect, 2 multitrack, 4 ModEx, 8 nanosecond offsets.
    pub caps_ex: u32,
}

/// The two media message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Message type 8.
    Audio,
    /// Message type 9.
    Video,
}

/// The third argument of `publish` (RTMP 7.2.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishKind {
    /// Not to be recorded. Also what anything unknown means.
    Live,
    /// To be recorded anew.
    Record,
    /// To be recorded behind what there is.
    Append,
}
