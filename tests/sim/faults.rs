//! What goes wrong, how often, and how often it did.
//!
//! Each kind has a rate that the seed decides, between never and often, so that runs differ in
//! what hurts them most. Some kinds are not thrown but come about (a full mailbox, a pool
//! without a lease); they are counted where they show.

use crate::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ShortRead,
    PartialSend,
    WouldBlock,
    NoBuffers,
    Overflow,
    RefusedPush,
    LateCompletion,
    Reset,
    AcceptEnded,
    OutOfFiles,
    FullMailbox,
    StalledPeer,
    ClockJump,
    SpuriousWake,
    NoLease,
    DrainUnderLoad,
}

/// Every kind, its name and its rate per 65,536 occasions when it is frequent; 0 for what comes
/// about by itself.
pub(crate) const KINDS: [(Fault, &str, u64); 16] = [
    (Fault::ShortRead, "short read", 12_000),
    (Fault::PartialSend, "partial send", 2_000),
    (Fault::WouldBlock, "nothing there after all (EAGAIN)", 1_500),
    (Fault::NoBuffers, "no ring buffer (ENOBUFS)", 3_000),
    (Fault::Overflow, "poll ended by a full completion queue", 2_000),
    (Fault::RefusedPush, "refused push", 1_500),
    (Fault::LateCompletion, "late completion", 6_000),
    (Fault::Reset, "connection reset", 6),
    (Fault::AcceptEnded, "accept ended", 6_000),
    (Fault::OutOfFiles, "out of files (EMFILE)", 3_000),
    (Fault::FullMailbox, "full mailbox", 0),
    (Fault::StalledPeer, "stalled peer", 60),
    (Fault::ClockJump, "clock jump", 60),
    (Fault::SpuriousWake, "spurious wake", 3_000),
    (Fault::NoLease, "no lease", 0),
    (Fault::DrainUnderLoad, "drain with peers connected", 0),
];

/// How often each kind fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [u64; KINDS.len()]);

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Faults {
    rates: [u64; KINDS.len()],
    pub(crate) counts: Counts,
    random: Random,
    /// Whether what ends connections or moves the clock may happen.
    pub(crate) harsh: bool,
}

impl Faults {
    pub(crate) fn new(mut random: Random) -> Self {
        let rates = KINDS.map(|(_, _, frequent)| match random.below(4) {
            0 => 0,
            1 => frequent.div_ceil(8),
            _ => frequent,
        });
        Self { rates, counts: Counts::default(), random, harsh: true }
    }

    /// A world in which nothing goes wrong.
    pub(crate) fn none(random: Random) -> Self {
        Self { rates: [0; KINDS.len()], counts: Counts::default(), random, harsh: false }
    }

    /// Whether it happens now; counted when it does.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let is_harsh = matches!(fault, Fault::Reset | Fault::ClockJump | Fault::StalledPeer);
        if is_harsh && !self.harsh {
            return false;
        }
        let rate = self.rates[fault as usize];
        let strikes = rate > 0 && self.random.below(65_536) < rate;
        self.counts.0[fault as usize] += u64::from(strikes);
        strikes
    }

    /// It came about.
    pub(crate) fn happened(&mut self, fault: Fault) {
        self.counts.0[fault as usize] += 1;
    }

    /// A number for the size of a fault.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.random.between(low, high)
    }
}
