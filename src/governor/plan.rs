//! The budget, its shares, and what each kind may have when the others have what they have.
//!
//! Pure numbers in and out.

use crate::limits::{CONNECTIONS_PERCENT, HISTORY_PERCENT, MEDIA_PERCENT, SLOW_READERS_PERCENT};

/// What of the budget each kind is guaranteed, in percent; at most 100 together. What they leave is
/// for rings, pools and what nobody counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections, with the kernel's part.
    pub connections: u8,
    /// Histories of channels.
    pub history: u8,
    /// What waits for slow readers, with the kernel's part.
    pub slow_readers: u8,
    /// Live media.
    pub media: u8,
}

impl Shares {
    /// All together.
    #[must_use]
    pub const fn sum(&self) -> u32 {
        self.connections as u32 + self.history as u32 + self.slow_readers as u32 + self.media as u32
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_PERCENT,
            history: HISTORY_PERCENT,
            slow_readers: SLOW_READERS_PERCENT,
            media: MEDIA_PERCENT,
        }
    }
}

/// How much there is, for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// User and kernel memory together.
    pub budget_bytes: u64,
    /// Who is guaranteed what.
    pub shares: Shares,
}

impl Plan {
    /// No budget; for tests of other things.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { budget_bytes: u64::MAX / 2, shares: Shares::default() }
    }
}

/// What is used, user and kernel memory together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By connections.
    pub connections: u64,
    /// By histories.
    pub history: u64,
    /// For slow readers.
    pub slow_readers: u64,
    /// By live media.
    pub media: u64,
    /// By everything else.
    pub other: u64,
}

impl Used {
    /// All together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.connections + self.history + self.slow_readers + self.media + self.other
    }
}

/// What each kind may use at most, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: u64,
    /// Histories.
    pub history: u64,
    /// Slow readers.
    pub slow_readers: u64,
    /// Live media.
    pub media: u64,
}

impl Plan {
    /// What the shares are in bytes. What is not theirs may eat into all of them alike: it cannot be
    /// given up.
    #[must_use]
    pub fn guaranteed(&self, other: u64) -> Limits {
        let Shares { connections, history, slow_readers, media } = self.shares;
        let base = self.base(other);
        let of = |share: u8| {
            (u128::from(base) * u128::from(share) / u128::from(self.shares.sum().max(1))) as u64
        };
        Limits {
            connections: of(connections),
            history: of(history),
            slow_readers: of(slow_readers),
            media: of(media),
        }
    }

    /// What each kind may use now.
    #[must_use]
    pub fn limits(&self, used: &Used) -> Limits {
        let own = self.guaranteed(used.other);
        let base = self.base(used.other);
        let free_of = |taken: [u64; 3]| {
            taken.into_iter().fold(base, |left, bytes| left.saturating_sub(bytes))
        };
        // Who comes first in the order lends to no one who comes after it beyond its own share.
        let least_history = used.history.min(own.history);
        let least_slow = used.slow_readers.min(own.slow_readers);
        Limits {
            connections: own.connections.min(free_of([least_history, least_slow, used.media])),
            history: own.history.max(free_of([own.connections, used.slow_readers, used.media])),
            slow_readers: own.slow_readers.max(free_of([
                own.connections,
                least_history,
                used.media,
            ])),
            media: own.media,
        }
    }

    /// What the shares are of.
    fn base(&self, other: u64) -> u64 {
        let shared = u128::from(self.budget_bytes) * u128::from(self.shares.sum()) / 100;
        (shared as u64).min(self.budget_bytes.saturating_sub(other))
    }
}
