//! Close codes and the closing handshake (RFC 6455 7).
//!
//! In: which side sent a Close frame, or that the peer's bytes ended. Out: whether a frame may be
//! sent and whether the connection may be dropped now. It does not know how long to wait for the
//! other side; that deadline is the session's.

/// Close codes this crate and its users name (RFC 6455 7.4.1 and the registry it opens).
pub mod code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes down or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// The peer sent a kind of data that is not accepted here.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// Never sent: the name for a Close frame without a code (RFC 6455 7.1.5).
    pub const NO_STATUS_RECEIVED: u16 = 1005;
    /// Never sent: the name for an end without a Close frame (RFC 6455 7.1.5).
    pub const ABNORMAL_CLOSURE: u16 = 1006;
    /// Text that is not UTF-8.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// The message breaks a rule of this server.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// The message is larger than accepted.
    pub const TOO_BIG: u16 = 1009;
    /// Sent by clients only: the server did not negotiate an extension that the client needs.
    pub const MANDATORY_EXTENSION: u16 = 1010;
    /// The server met a condition it did not expect.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server restarts; reconnect.
    pub const SERVICE_RESTART: u16 = 1012;
    /// The server is overloaded; reconnect later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Whether an endpoint may put this code into a Close frame (RFC 6455 7.4.1, 7.4.2).
///
/// 1004 is reserved; 1005, 1006 and 1015 only ever name the absence of a frame; 1016 to 2999 are
/// unassigned; below 1000 and above 4999 there are no codes.
pub const fn is_valid_on_wire(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// How far the closing handshake of one connection has come.
///
/// ```text
///             we send     they send   their bytes end
/// Open     -> Sent        Received    Abnormal
/// Sent     -> Sent        Closed      Abnormal
/// Received -> Closed      Received    Received
/// Closed   -> Closed      Closed      Closed
/// Abnormal -> Abnormal    Abnormal    Abnormal
/// ```
///
/// "Send" is a Close frame; their bytes end when TCP says so (RFC 6455 7.1.1). A peer that ends its
/// half behind its Close frame can still read, so the answer is owed all the same; one that ends it
/// without a Close frame is gone (RFC 6455 7.1.5, 1006).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloseState {
    /// No Close frame yet.
    #[default]
    Open,
    /// Ours is sent; data still arriving may be read or dropped, nothing more may be sent.
    Sent,
    /// Theirs arrived; ours is owed (RFC 6455 5.5.1).
    Received,
    /// Both are exchanged. The server closes TCP now; a client waits a while for the server to do so
    /// (RFC 6455 7.1.1).
    Closed,
    /// Their bytes ended and there was no Close frame: nobody is there to answer.
    Abnormal,
}

impl CloseState {
    /// Notes that our Close frame was queued.
    pub const fn on_sent(&mut self) {
        *self = match self {
            Self::Open | Self::Sent => Self::Sent,
            Self::Received | Self::Closed => Self::Closed,
            Self::Abnormal => Self::Abnormal,
        };
    }

    /// Notes that their Close frame arrived.
    pub const fn on_received(&mut self) {
        *self = match self {
            Self::Open | Self::Received => Self::Received,
            Self::Sent | Self::Closed => Self::Closed,
            Self::Abnormal => Self::Abnormal,
        };
    }

    /// Notes that the peer ended its half of the connection, or all of it.
    pub const fn on_end(&mut self) {
        *self = match self {
            Self::Open | Self::Sent | Self::Abnormal => Self::Abnormal,
            Self::Received => Self::Received,
            Self::Closed => Self::Closed,
        };
    }

    /// Whether a frame may still be sent: after our Close frame none may (RFC 6455 5.5.1).
    pub const fn may_send(self) -> bool {
        matches!(self, Self::Open | Self::Received)
    }

    /// Whether the answer to their Close frame is still owed.
    pub const fn owes_answer(self) -> bool {
        matches!(self, Self::Received)
    }

    /// Whether both Close frames are exchanged: the close was clean (RFC 6455 7.1.4).
    pub const fn is_closed(self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Whether nothing is left to send or to wait for.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Abnormal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_valid_on_the_wire() {
        let valid: Vec<u16> = (0..3000).filter(|code| is_valid_on_wire(*code)).collect();
        assert_eq!(valid, [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]);
        assert!((3000..5000).all(is_valid_on_wire));
        assert!((5000..=u16::MAX).all(|code| !is_valid_on_wire(code)));
    }

    #[test]
    fn closing_from_either_side_ends_closed() {
        for first_is_ours in [true, false] {
            let mut state = CloseState::default();
            assert!(state.may_send() && !state.owes_answer());
            if first_is_ours {
                state.on_sent();
                assert_eq!(state, CloseState::Sent);
                assert!(!state.may_send());
                state.on_sent();
                assert_eq!(state, CloseState::Sent);
                state.on_received();
            } else {
                state.on_received();
                assert_eq!(state, CloseState::Received);
                assert!(state.may_send() && state.owes_answer());
                state.on_received();
                state.on_sent();
            }
            assert!(state.is_closed() && !state.may_send() && !state.owes_answer());
            assert!(state.is_over());
        }
    }

    #[test]
    fn half_closed_behind_a_close_frame_the_answer_is_still_owed() {
        let mut state = CloseState::Open;
        state.on_received();
        state.on_end();
        assert!(state.may_send() && state.owes_answer() && !state.is_over());
        state.on_sent();
        assert!(state.is_closed());
    }

    #[test]
    fn an_end_without_a_close_frame_is_abnormal() {
        for we_sent in [false, true] {
            let mut state = CloseState::Open;
            if we_sent {
                state.on_sent();
            }
            state.on_end();
            assert!(state.is_over() && !state.is_closed() && !state.may_send());
        }
        assert!(!is_valid_on_wire(code::NO_STATUS_RECEIVED));
        assert!(!is_valid_on_wire(code::ABNORMAL_CLOSURE));
    }
}
