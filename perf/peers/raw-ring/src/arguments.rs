//! The command line of the peer, and the rules between its options.
//!
//! In: argv. Out: [`Arguments`] that fit together. Not here: anything that touches the kernel.

use clap::{Parser, ValueEnum};

/// An io_uring echo without a protocol. Prints `{"port":N}` first, then one JSON line of counters at
/// each SIGUSR1 and at SIGTERM or SIGINT.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// How a connection waits for bytes.
    #[arg(long, value_enum, default_value_t = Mode::Poll)]
    pub(crate) mode: Mode,
    /// Core to run on.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Bytes that count as one message; 0 echoes whatever arrives, as it arrives.
    #[arg(long, default_value_t = 0)]
    pub(crate) recv: u32,
    /// Bytes sent back for each message of --recv bytes.
    #[arg(long, default_value_t = 0, requires = "recv")]
    pub(crate) reply: u32,
    /// Completions that one wait asks for; more than 1 needs --min-wait-usec.
    #[arg(long, default_value_t = 1)]
    pub(crate) wait_batch: usize,
    /// After this long a wait is content with one completion. 0: no such bound.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_wait_usec: u32,
    /// Direct descriptors, that is, connections at one time.
    #[arg(long, default_value_t = 18_900, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) slots: u32,
    /// Bytes of one receive buffer.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub(crate) buffer: u32,
    /// Receive buffers, shared by all connections; a power of two.
    #[arg(long, default_value_t = 4096)]
    pub(crate) buffers: u16,
    /// TCP_CONGESTION of the connections; empty leaves the system's.
    #[arg(long, default_value = "cubic")]
    pub(crate) congestion: String,
}

/// How a connection waits for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Multishot POLL_ADD, then RECV into a buffer taken for the moment.
    Poll,
    /// Multishot RECV into a buffer ring.
    Multishot,
}

impl Arguments {
    /// The rules between options that a single option cannot state.
    pub(crate) fn check(self) -> Result<Self, String> {
        if self.wait_batch > 1 && self.min_wait_usec == 0 {
            return Err("--wait-batch above 1 needs --min-wait-usec: a lone message would wait \
                        for others for ever"
                .into());
        }
        if (self.recv == 0) != (self.reply == 0) {
            return Err("--recv and --reply are given together".into());
        }
        if self.reply > self.buffer {
            return Err("--reply must fit --buffer: replies are sent from a receive buffer".into());
        }
        if !self.buffers.is_power_of_two() || self.buffers > 32_768 {
            return Err("--buffers must be a power of two up to 32768".into());
        }
        Ok(self)
    }
}
