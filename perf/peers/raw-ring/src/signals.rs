//! Signals as a socket that the ring can poll, so that an idle wait ends too.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

/// SIGTERM, SIGINT and SIGUSR1 as a socket the ring can poll.
pub(crate) struct Signals {
    pub(crate) wake: UnixStream,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { wake, stop })
    }

    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0; 16];
        while io::Read::read(&mut &self.wake, &mut bytes).is_ok_and(|read| read == bytes.len()) {}
        self.stop.load(Ordering::Acquire)
    }
}
