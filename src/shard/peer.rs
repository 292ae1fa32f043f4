//! A connection and what of it is in flight in the ring.

use crate::connection::Stage;
use crate::limits::{
    HOT_IDLE_MS, HOT_RECEIVE_BYTES_MAX, HOT_RECEIVES, SEND_PROGRESS_BYTES_MIN, SEND_STALL_MS,
    TIMER_TICK_MS,
};
use crate::memory::Spans;
use crate::ring::{Armed, Socket};
use crate::session::Connection;
use crate::time::Monotonic;
use std::num::NonZeroU32;

/// Where a multishot receive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    /// There is none.
    No,
    /// It is armed.
    Armed,
    /// It was told to end.
    Ending,
}

/// Whether the peer closed its half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Not that we know.
    NotYet,
    /// The kernel said so; it is read behind the last bytes.
    Told,
    /// It did.
    Read,
}

/// A connection, its socket and its ops in flight.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Peer {
    pub(super) poll_armed: bool,
    pub(super) writable_armed: bool,
    pub(super) many: Many,
    /// Receives in a row that came soon after the one before; saturates.
    pub(super) streak: u8,
    pub(super) receiving: bool,
    /// The kernel said, or we know, that there may be something to receive.
    pub(super) readable: bool,
    pub(super) end: End,
    /// The close was pushed or waits for others: nothing else is, for this connection.
    pub(super) closing: bool,
    /// A shutdown is under way. The kernel does it in a thread of its own and looks into the
    /// socket's slot only there, so the slot must not be closed, and used again, before it is done.
    pub(super) shutting: bool,
    pub(super) receive_queued: bool,
    pub(super) flush_queued: bool,
    /// It is in the list of those that wait for congestion to end.
    pub(super) held: bool,
    /// The inbox has something that may be readable now.
    pub(super) inbox_waits: bool,
    /// The round of its cell in which it last sent.
    pub(super) sent_in: u8,
    /// What was sent since [`Self::resend_since_ms`]; saturates.
    pub(super) resend_bytes: u16,
    pub(super) socket: Socket,
    /// Since when a send makes no progress to speak of, in milliseconds of the monotonic clock; an
    /// even one is made the odd one before it, so that it is never 0.
    pub(super) resend_since_ms: Option<NonZeroU32>,
    /// What a short send left, to be sent before anything else.
    pub(super) resend: Option<Box<Spans>>,
    /// As in a connection, what every step looks at is in front.
    pub(super) connection: Connection,
}

const _: () = assert!(size_of::<Peer>() <= 152, "a peer is paid a million times");

impl Peer {
    pub(super) const fn new(socket: Socket, connection: Connection) -> Self {
        Self {
            connection,
            socket,
            resend: None,
            resend_since_ms: None,
            resend_bytes: 0,
            poll_armed: false,
            writable_armed: false,
            many: Many::No,
            streak: 0,
            receiving: false,
            readable: false,
            end: End::NotYet,
            closing: false,
            shutting: false,
            receive_queued: false,
            flush_queued: false,
            held: false,
            inbox_waits: false,
            sent_in: 0,
        }
    }

    /// Whether the kernel picks the buffers of its receives: for who sends much, or often.
    #[inline]
    pub(super) fn receives_many(&self) -> bool {
        (self.streak >= HOT_RECEIVES || self.connection.protocol.is_heavy())
            && self.connection.transport.is_plain()
    }

    /// Notes that something was received at `now_ms`, for [`Self::receives_many`].
    #[inline]
    pub(super) fn heard(&mut self, now_ms: u32, bytes: usize) {
        let since_ms = now_ms.wrapping_sub(self.connection.heard_ms);
        let counts = u64::from(since_ms) < HOT_IDLE_MS && bytes <= HOT_RECEIVE_BYTES_MAX;
        self.streak = if counts { self.streak.saturating_add(1) } else { 0 };
        self.connection.heard_ms = now_ms;
    }

    /// Whether it is received from as one that is hot, and sends more than such a one does.
    #[inline]
    pub(super) fn floods(&self) -> bool {
        self.receives_many_now() && self.streak == 0 && !self.connection.protocol.is_heavy()
    }

    /// Whether it is received from as one that is hot, and no longer is.
    pub(super) fn has_cooled(&self, now: Monotonic) -> bool {
        self.receives_many_now()
            && !self.connection.protocol.is_heavy()
            && u64::from(self.connection.silent_ms(now)) >= HOT_IDLE_MS
    }

    /// Whether a receive should be started.
    #[inline]
    pub(super) fn may_receive(&self) -> bool {
        self.readable
            && !self.receiving
            && !self.receives_many_now()
            && self.end != End::Read
            && !self.closing
            && self.connection.wants_input()
    }

    /// Whether, behind what it is sent in this turn, there is more to send, to read on or to end. For
    /// publications see [`crate::fanout::Pulled::more`].
    #[inline]
    pub(super) fn has_more_to_do(&self) -> bool {
        let connection = &self.connection;
        connection.stage != Stage::Open
            || !connection.outbox.is_empty()
            || self.inbox_waits
            // Whether the rest was taken is known in the next turn.
            || self.resend_since_ms.is_some()
    }

    /// Whether its multishot receive is armed.
    #[inline(always)]
    pub(super) const fn receives_many_now(&self) -> bool {
        !matches!(self.many, Many::No)
    }

    pub(super) const fn armed(&self) -> Armed {
        Armed {
            poll: self.poll_armed,
            writable: self.writable_armed,
            receive_many: self.receives_many_now(),
        }
    }

    /// Some of what was to be sent was taken, not all. A reader of a byte a second makes no
    /// progress. Says after how many milliseconds it is stalled if that does not change.
    pub(super) fn on_short_send(&mut self, sent: usize, now: Monotonic) -> u64 {
        let now_ms = now.as_millis() as u32;
        let sent = u16::try_from(sent).unwrap_or(u16::MAX);
        self.resend_bytes = self.resend_bytes.saturating_add(sent);
        let is_progress = self.resend_bytes >= SEND_PROGRESS_BYTES_MIN;
        let elapsed_ms = match self.resend_since_ms {
            Some(since_ms) if !is_progress => now_ms.wrapping_sub(since_ms.get()),
            _ => {
                self.resend_since_ms = NonZeroU32::new(now_ms.wrapping_sub(1) | 1);
                self.resend_bytes = 0;
                0
            }
        };
        // A timer may fire a tick early, and then it would find nothing to do.
        SEND_STALL_MS.saturating_sub(u64::from(elapsed_ms)) + TIMER_TICK_MS
    }

    /// Whether it has taken next to nothing of what we send for too long.
    pub(super) fn is_stalled(&self, now: Monotonic) -> bool {
        self.stalls_in_ms(now) == Some(0)
    }

    /// After how many milliseconds it is stalled if it takes nothing more; `None` if it takes all.
    pub(super) fn stalls_in_ms(&self, now: Monotonic) -> Option<u64> {
        let since_ms = self.resend_since_ms?.get();
        let elapsed_ms = u64::from((now.as_millis() as u32).wrapping_sub(since_ms)) + 1;
        Some(SEND_STALL_MS.saturating_sub(elapsed_ms))
    }
}
