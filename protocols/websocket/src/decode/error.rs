//! What a peer can do wrong, and the close code that tells it (RFC 6455 7.4.1).

use crate::close::code;

/// The peer broke a rule of RFC 6455 or a limit of ours, at a place in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {position} after the handshake)")]
pub struct Error {
    /// Which rule.
    pub kind: ErrorKind,
    /// Bytes between the end of the handshake and the byte that broke it. For a text payload, the
    /// character's first byte in the piece being read.
    pub position: u64,
}

impl Error {
    /// The code for our Close frame.
    pub const fn close_code(&self) -> u16 {
        self.kind.close_code()
    }
}

/// The rules a peer can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// RFC 6455 5.2: no extension was negotiated that gives these bits a meaning; or RSV1 on a frame
    /// that does not begin a message (RFC 7692 6).
    #[error("the peer set a reserved bit that no negotiated extension allows there")]
    ReservedBit,
    /// RFC 6455 5.2.
    #[error("the peer used a reserved opcode")]
    ReservedOpcode,
    /// RFC 6455 5.1: a client masks every frame.
    #[error("the client sent a frame without a mask")]
    NotMasked,
    /// RFC 6455 5.1: a server masks none.
    #[error("the server sent a masked frame")]
    Masked,
    /// RFC 6455 5.5.
    #[error("the peer fragmented a control frame")]
    FragmentedControl,
    /// RFC 6455 5.5.
    #[error("the peer sent a control frame with more than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 5.2: the minimal number of bytes is used.
    #[error("the peer encoded a frame length in more bytes than it needs")]
    LengthNotMinimal,
    /// RFC 6455 5.2: the most significant bit of a 64-bit length is 0.
    #[error("the peer sent a frame length with the highest bit set")]
    LengthHighBit,
    /// RFC 6455 5.4.
    #[error("the peer continued a message that it had not begun")]
    ContinuationWithoutMessage,
    /// RFC 6455 5.4.
    #[error("the peer began a message inside another")]
    MessageInsideMessage,
    /// RFC 6455 8.1, 5.5.1.
    #[error("the peer sent text that is not UTF-8")]
    NotUtf8,
    /// RFC 6455 5.5.1: a code takes two bytes.
    #[error("the peer sent a close frame with a payload of one byte")]
    CloseLength,
    /// RFC 6455 7.4.
    #[error("the peer sent a close code that is not allowed in a frame")]
    CloseCode,
    /// A limit of ours.
    #[error("the peer sent a message larger than this server accepts")]
    MessageTooBig,
    /// A limit of ours.
    #[error("the peer cut a message into more fragments than this server accepts")]
    TooManyFragments,
}

impl ErrorKind {
    /// The code for our Close frame (RFC 6455 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => code::INVALID_PAYLOAD,
            Self::MessageTooBig => code::TOO_BIG,
            Self::TooManyFragments => code::POLICY_VIOLATION,
            _ => code::PROTOCOL_ERROR,
        }
    }
}
