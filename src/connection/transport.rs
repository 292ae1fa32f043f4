//! Between a connection's bytes and the wire's.
//!
//! Everything that is received passes [`Transport::open`] and everything that is sent passes
//! [`Transport::seal`]. Plain text passes unchanged and costs nothing. [`Transport::Rewriting`]
//! changes every byte: the simulator runs with it, so that a transport with records of its own (TLS)
//! will fit into this place without changing another.

use crate::memory::{Arena, Spans};

/// How bytes go onto the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    #[default]
    Plain,
    /// Each byte combined with this one by exclusive or.
    Rewriting(u8),
}

impl Transport {
    /// Whether bytes pass unchanged.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Plain)
    }

    /// Makes received bytes the connection's, in place.
    pub fn open(self, bytes: &mut [u8]) {
        if let Self::Rewriting(with) = self {
            bytes.iter_mut().for_each(|byte| *byte ^= with);
        }
    }

    /// Makes spans fit for the wire. What comes back is sent whole before anything else is sealed.
    #[must_use]
    pub fn seal(self, spans: Spans, arena: &mut Arena) -> Spans {
        let Self::Rewriting(with) = self else { return spans };
        let mut sealed: Vec<u8> = spans.iter().flat_map(|span| span.iter().copied()).collect();
        sealed.iter_mut().for_each(|byte| *byte ^= with);
        let mut out = Spans::new();
        if !sealed.is_empty() {
            out.push(arena.append(&[&sealed]));
        }
        out
    }
}
