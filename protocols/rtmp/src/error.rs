//! Why a connection cannot go on. All of it is the peer's doing; our own mistakes are assertions.

/// The connection is broken at a byte of what the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {reason}")]
pub struct Error {
    /// Bytes of the connection before the place: the start of a chunk header, the end of a command
    /// or control message, the first byte too many. The same for every cut of the input.
    pub at: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// What the peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// C0 is no RTMP version (RTMP 5.2.2).
    #[error("the peer's first byte {version} is not an RTMP version")]
    Version {
        /// C0.
        version: u8,
    },
    /// A chunk header relies on a header that was never sent (RTMP 5.3.1.2).
    #[error("the peer began chunk stream {chunk_stream} with chunk type {format}")]
    MissingHeader {
        /// The chunk stream.
        chunk_stream: u32,
        /// The chunk type, 2 or 3.
        format: u8,
    },
    /// More chunk streams than allowed.
    #[error("the peer uses more than {max} chunk streams")]
    TooManyChunkStreams {
        /// The limit.
        max: usize,
    },
    /// A message longer than allowed.
    #[error(
        "the peer declared a message of type {message_type} and {length} bytes, more than {max}"
    )]
    MessageTooLong {
        /// The message type.
        message_type: u8,
        /// The declared length.
        length: u32,
        /// The limit for this type.
        max: u32,
    },
    /// More partly received commands than allowed.
    #[error("the peer keeps more than {max} bytes of messages unfinished")]
    TooMuchUnfinished {
        /// The limit.
        max: usize,
    },
    /// A control message without its fields (RTMP 5.4, 7.1.7).
    #[error("the peer's control message of type {message_type} is only {length} bytes long")]
    ControlTooShort {
        /// The message type.
        message_type: u8,
        /// Its length.
        length: usize,
    },
    /// Set Chunk Size 0 (RTMP 5.4.1).
    #[error("the peer set a chunk size of zero")]
    ChunkSizeZero,
    /// A command that is not AMF0, or is cut short.
    #[error("the peer's command is malformed: {0}")]
    Command(amf0::Error),
    /// A command that does not begin with its name.
    #[error("the peer's command has no name")]
    CommandWithoutName,
    /// Something else came before `connect` (RTMP 7.2.1).
    #[error("the peer sent a command before connect")]
    CommandBeforeConnect,
    /// `connect` came twice.
    #[error("the peer sent connect twice")]
    ConnectTwice,
    /// A message inside an aggregate runs past its end (RTMP 7.1.6).
    #[error("the peer's aggregate holds a message of {length} bytes with {left} left")]
    Aggregate {
        /// The inner message's declared length.
        length: u32,
        /// Bytes left in the aggregate.
        left: u32,
    },
}
