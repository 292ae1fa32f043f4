//! The bytes of one peer: what came and was not understood yet, what has to be sent, which protocol
//! it speaks.
//!
//! A connection is a state machine in the shard's slab, not a task. Idle, it owns no buffer: the
//! inbox exists while a message is incomplete, the outbox while something waits to be sent. What it
//! speaks is its parameter: `session` has the one enum of protocols and the one `match` over it.
//!
//! It knows no ring and no socket; the shard keeps those beside it.

mod inbox;
mod outbox;
mod transport;

pub use inbox::Inbox;
pub use outbox::Outbox;
pub use transport::Transport;

use crate::time::Monotonic;
use std::num::NonZeroU32;

/// What a listener's connections begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// HTTP/1.1 and what it upgrades to.
    Http,
    /// RTMP.
    Rtmp,
    /// Every byte is sent back (RFC 862); for measuring the path without a protocol.
    Echo,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Both directions work.
    Open,
    /// Nothing more is read; what is in the outbox is sent, then it is closed.
    Closing,
    /// Our half is closed; what still comes is thrown away until the peer closes too.
    Lingering,
    /// To be closed at once.
    Dead,
}

/// Why input is not read on although there may be some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is read.
    None,
    /// A request waits for its answer; the next one is not begun.
    Answer,
    /// Publications cannot be passed on fast enough.
    Congestion,
}

/// One peer, which speaks `P`.
///
/// The fields are in the order in which they are used, because a connection that was not heard of
/// for a while has left the cache: what every step looks at is in front, within a line.
#[derive(Debug)]
#[repr(C)]
pub struct Connection<P> {
    /// Where it is in its life.
    pub stage: Stage,
    /// Why input is not read.
    pub hold: Hold,
    /// Between our bytes and the wire's.
    pub transport: Transport,
    /// Subscriptions whose place in their channel is not known yet. Until it is, nothing is sent: a
    /// peer that hears that it is subscribed misses nothing from then on.
    pub unresolved: u8,
    /// Whether it comes from this machine: by a listener on the loopback or by a path, and not on
    /// behalf of somebody else.
    pub is_local: bool,
    /// Whether it comes from a configured proxy, whose word on who asks is believed.
    pub is_proxy: bool,
    /// The first of its subscriptions.
    pub subscriptions: u32,
    /// When something was last received, in milliseconds of the monotonic clock (wraps after 49 days).
    pub heard_ms: u32,
    /// What has to be sent.
    pub outbox: Outbox,
    /// What came and was not consumed.
    pub inbox: Inbox,
    /// The protocol and its state.
    pub protocol: P,
    /// When its timer has to fire if that is earlier than it would; in the same clock.
    /// An even one is made the odd one behind it, so that it is never 0.
    pub wake_ms: Option<NonZeroU32>,
}

impl<P> Connection<P> {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(protocol: P, is_local: bool, transport: Transport, now: Monotonic) -> Self {
        Self {
            protocol,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            transport,
            subscriptions: u32::MAX,
            unresolved: 0,
            heard_ms: now.as_millis() as u32,
            wake_ms: None,
            stage: Stage::Open,
            hold: Hold::None,
            is_local,
            is_proxy: false,
        }
    }

    /// Whether input should be read now.
    #[inline(always)]
    #[must_use]
    pub fn wants_input(&self) -> bool {
        if self.stage == Stage::Open {
            self.hold == Hold::None && !self.outbox.is_above_high_watermark()
        } else {
            self.stage == Stage::Lingering
        }
    }

    /// Sends what is in the outbox, then closes.
    pub fn close(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closing;
        }
    }

    /// Milliseconds since something was last received.
    #[must_use]
    pub const fn silent_ms(&self, now: Monotonic) -> u32 {
        (now.as_millis() as u32).wrapping_sub(self.heard_ms)
    }

    /// Asks for a timer `after_ms` from now, if it would fire later.
    pub fn wake_after(&mut self, now: Monotonic, after_ms: u64) {
        let now_ms = now.as_millis() as u32;
        let at = now_ms.wrapping_add(after_ms as u32) | 1;
        // The clock may begin again between the two.
        let is_sooner =
            |known: &NonZeroU32| known.get().wrapping_sub(now_ms) < at.wrapping_sub(now_ms);
        self.wake_ms = self.wake_ms.filter(is_sooner).or_else(|| NonZeroU32::new(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_of_two_timers_counts_also_where_the_clock_begins_again() {
        for now_ms in [1_000, u64::from(u32::MAX) - 20_000, u64::from(u32::MAX) - 1_000] {
            let now = Monotonic::from_millis(now_ms);
            for after_ms in [[5_000, 25_000], [25_000, 5_000]] {
                let mut connection = Connection::new((), true, Transport::Plain, now);
                after_ms.into_iter().for_each(|after_ms| connection.wake_after(now, after_ms));
                let at = connection.wake_ms.expect("a timer").get();
                let left_ms = at.wrapping_sub(now_ms as u32);
                assert!((5_000..=5_001).contains(&left_ms), "{left_ms} ms from {now_ms}");
            }
        }
    }
}
