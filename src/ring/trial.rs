//! What this kernel gives: tried at start-up, not assumed from its version.

use super::RingError;
use io_uring::{IoUring, Probe, opcode};
use std::fmt;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A batch of completions can be waited for with a bound (6.12).
    pub min_wait: bool,
    /// Completions that do not fit are kept, not dropped.
    pub no_drop: bool,
    /// All ops in use are known to the kernel.
    pub ops: bool,
    /// Sends without a copy are known (their gain depends on the network card).
    pub send_zero_copy: bool,
}

impl Features {
    /// Whether the server can run on it.
    #[must_use]
    pub const fn suffices(&self) -> bool {
        self.min_wait && self.no_drop && self.ops
    }
}

impl fmt::Display for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |known: bool| if known { "yes" } else { "NO" };
        write!(
            formatter,
            "ops in use: {}; batched wait: {}; completions kept on overflow: {}; zero-copy send: {}",
            word(self.ops),
            word(self.min_wait),
            word(self.no_drop),
            word(self.send_zero_copy)
        )
    }
}

/// Opens a ring as a shard does and looks at what it offers.
///
/// # Errors
/// When the kernel, a sysctl or a filter refuses io_uring.
pub fn trial() -> Result<Features, RingError> {
    let ring: IoUring = super::cell::builder(64)
        .build(8)
        .map_err(|source| RingError::Call { call: "io_uring_setup", source })?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|source| RingError::Call { call: "io_uring_register(PROBE)", source })?;
    let in_use = [
        opcode::AcceptMulti::CODE,
        opcode::PollAdd::CODE,
        opcode::Recv::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::Shutdown::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Close::CODE,
        opcode::FixedFdInstall::CODE,
    ];
    Ok(Features {
        min_wait: ring.params().is_feature_min_timeout(),
        no_drop: ring.params().is_feature_nodrop(),
        ops: in_use.iter().all(|code| probe.is_supported(*code)),
        send_zero_copy: probe.is_supported(opcode::SendZc::CODE),
    })
}
