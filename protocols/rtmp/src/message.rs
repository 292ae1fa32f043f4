//! Message types and the header of a message (RTMP 5.3.1.2, 7.1).

use crate::event::MediaKind;

/// What a chunk stream knows of the message on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MessageHeader {
    /// Unwrapped milliseconds.
    pub(crate) timestamp: i64,
    pub(crate) length: u32,
    pub(crate) message_type: u8,
    pub(crate) message_stream: u32,
}

impl MediaKind {
    pub(crate) const fn from_message_type(message_type: u8) -> Option<Self> {
        match message_type {
            AUDIO => Some(Self::Audio),
            VIDEO => Some(Self::Video),
            _ => None,
        }
    }
}

pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
pub(crate) const USER_CONTROL: u8 = 4;
pub(crate) const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
pub(crate) const SET_PEER_BANDWIDTH: u8 = 6;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA_AMF3: u8 = 15;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const DATA_AMF0: u8 = 18;
pub(crate) const COMMAND_AMF0: u8 = 20;
pub(crate) const AGGREGATE: u8 = 22;

/// User control events (RTMP 7.1.7).
pub(crate) mod user_control {
    pub(crate) const STREAM_BEGIN: u16 = 0;
    pub(crate) const PING_REQUEST: u16 = 6;
    pub(crate) const PING_RESPONSE: u16 = 7;
}

/// Chunk streams we write on.
pub(crate) mod chunk_stream {
    /// RTMP 5.4: control messages.
    pub(crate) const CONTROL: u32 = 2;
    /// NetConnection commands.
    pub(crate) const CONNECTION: u32 = 3;
    /// NetStream commands.
    pub(crate) const STREAM: u32 = 5;
}
