//! Where a stream stands between two frames (RFC 6455 5.4), as one table.
//!
//! ```text
//!         text       text   binary     binary continuation continuation ping  close
//!         more       last   more       last   more         last         pong
//! Idle    Text       Idle   Binary     Idle   no message   no message   Idle  Closed
//! Text    in message -      in message -      Text         Idle         Text  Closed
//! Binary  in message -      in message -      Binary       Idle         Bin.  Closed
//! Closed  everything is ignored
//! ```
//!
//! "more" is FIN 0, "last" is FIN 1; a control frame with FIN 0 is an error in every state. Where
//! permessage-deflate is negotiated, a text or binary frame may carry RSV1; it changes nothing here,
//! the decoder remembers it until the message ends (RFC 7692 6). Any other reserved bit and any
//! reserved opcode is an error in every state but Closed. `tests/transitions.txt` has every row.

use super::{ErrorKind, Kind};
use crate::encode::Opcode;

/// Which message is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// None.
    Idle,
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// A Close frame was read.
    Closed,
}

impl State {
    /// The kind of the message that a data frame belongs to in this state. For a control frame the
    /// kind means nothing and binary is given.
    pub(super) const fn kind_of(self, opcode: Opcode) -> Result<Kind, ErrorKind> {
        match (self, opcode) {
            (Self::Idle, Opcode::Text) | (Self::Text, Opcode::Continuation) => Ok(Kind::Text),
            (Self::Idle, Opcode::Binary) | (Self::Binary, Opcode::Continuation) => Ok(Kind::Binary),
            (_, Opcode::Continuation) => Err(ErrorKind::ContinuationWithoutMessage),
            (_, Opcode::Text | Opcode::Binary) => Err(ErrorKind::MessageInsideMessage),
            (_, Opcode::Ping | Opcode::Pong | Opcode::Close) => Ok(Kind::Binary),
        }
    }
}

impl From<Kind> for State {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}
