//! The command line of the peer, and the rules between its options.
//!
//! In: argv. Out: [`Arguments`] that fit together. Not here: anything that touches the kernel.

use clap::{Parser, ValueEnum};

/// An io_uring echo or broadcast without a protocol. Prints `{"port":N}` first, then one JSON line of
/// counters at each SIGUSR1 and at SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(version, args_override_self = true)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// What a message does.
    #[arg(long, value_enum, default_value_t = Role::Echo)]
    pub(crate) role: Role,
    /// How a connection waits for bytes.
    #[arg(long, value_enum, default_value_t = Mode::Multishot)]
    pub(crate) mode: Mode,
    /// Core to run on.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Bytes that count as one message.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) recv: u32,
    /// Bytes sent for each message of --recv bytes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) reply: u32,
    /// Completions that one wait asks for; more than 1 needs --min-wait-usec.
    #[arg(long, default_value_t = 1)]
    pub(crate) wait_batch: u32,
    /// After this long a wait is content with one completion. 0: no such bound.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_wait_usec: u32,
    /// Let the kernel post no completion for sends that succeed.
    #[arg(long)]
    pub(crate) skip_success: bool,
    /// Count the waits as waits for I/O; they are not by default, where the kernel can tell.
    #[arg(long)]
    pub(crate) iowait: bool,
    /// Broadcast and fan-out: sends that one enter submits.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) send_batch: u32,
    /// Direct descriptors, that is, connections at one time.
    #[arg(long, default_value_t = 18_900, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) slots: u32,
    /// Bytes of one receive buffer; 0: what a message and an answer need.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub(crate) buffer: u32,
    /// Receive buffers, shared by all connections; a power of two. Few stay in the cache.
    #[arg(long, default_value_t = 1024)]
    pub(crate) buffers: u16,
    /// TCP_CONGESTION of the connections; empty leaves the system's.
    #[arg(long, default_value = "cubic")]
    pub(crate) congestion: String,
}

/// What a message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// It is answered.
    Echo,
    /// It goes to every other connection.
    Broadcast,
    /// It names a group of connections, to which --reply bytes are sent.
    FanOut,
    /// None is expected: a connection gets --reply bytes when it is accepted.
    Accept,
}

/// How a connection waits for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Multishot POLL_ADD, then RECV into a buffer taken for the moment.
    Poll,
    /// Multishot RECV into a buffer ring.
    Multishot,
    /// RECV of one message into the connection's own buffer, armed again behind each answer.
    Oneshot,
    /// The same, but the next RECV is tried one turn after the answer: under load its bytes are there
    /// by then, and nobody had to be woken for them.
    Lazy,
}

impl Arguments {
    /// The rules between options that a single option cannot state.
    pub(crate) fn check(mut self) -> Result<Self, String> {
        if self.wait_batch > 1 && self.min_wait_usec == 0 {
            return Err("--wait-batch above 1 needs --min-wait-usec: a lone message would wait \
                        for others for ever"
                .into());
        }
        if self.buffer == 0 {
            self.buffer = self.recv.max(self.reply).next_multiple_of(64);
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
