//! The load: connections that ask, and watch what comes back.
//!
//! In: connected sockets, what to send and what must come back. Out: messages counted and their
//! latencies, while the calling thread watches the server. The loop has a thread and a core of its
//! own. Every answered byte is compared; a wrong one, or a connection that ends, ends the run.
//!
//! A closed loop (whoever got its answer asks again) shows the most a server can do, but not how
//! late it is: it asks less when the server is slow (coordinated omission). Latency is what a load
//! at a given rate measures, from the time when each message was due.

mod answers;
mod driver;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

pub(crate) use answers::Expected;
use driver::Driver;

use crate::process::pin;

/// Who sends, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pattern {
    /// Every connection sends, and again when it has its answer.
    Echo,
    /// So many messages a second, all connections taking turns.
    Paced { rate: f64 },
    /// Connection 0 publishes, the others receive: so many publications a second, or each when all
    /// have the last.
    Broadcast { rate: Option<f64> },
}

impl Pattern {
    fn is_broadcast(self) -> bool {
        matches!(self, Self::Broadcast { .. })
    }
}

/// A load that can start.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sockets: Vec<TcpStream>,
    pub(crate) pattern: Pattern,
    pub(crate) request: Vec<u8>,
    pub(crate) expected: Expected,
    pub(crate) cpu: Option<usize>,
    /// Echo: messages that may be sent; more by [`Load::allow`].
    pub(crate) allowed: u64,
}

/// [`Plan::allowed`] of a load that goes on until it is stopped.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// A load that runs, until [`stop`](Self::stop) or drop.
#[derive(Debug)]
pub(crate) struct Load {
    connections: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Histogram<u64>>>>,
}

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        shared.allowed.store(plan.allowed, Ordering::Relaxed);
        let connections = plan.sockets.len() as u64;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            pin(plan.cpu)?;
            Driver::new(plan)?.run(&for_thread)
        });
        Self { connections, shared, thread: Some(thread) }
    }

    /// Messages answered since the start.
    pub(crate) fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// Forgets the latencies so far.
    pub(crate) fn begin_window(&self) {
        self.shared.phase.store(BEGIN, Ordering::Relaxed);
    }

    /// No latency after this counts.
    pub(crate) fn end_window(&self) {
        self.shared.phase.store(END, Ordering::Relaxed);
    }

    /// Lets the load run; fails early if it has ended by itself.
    pub(crate) fn run_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        loop {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                self.join()?;
                bail!("the load ended by itself");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Lets `count` more messages be sent and waits until they are answered.
    pub(crate) fn allow(&mut self, count: u64, patience: Duration) -> Result<()> {
        let total = self.shared.allowed.fetch_add(count, Ordering::Relaxed) + count;
        self.run_until(total, patience)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Lets the load run until so many messages were answered since its start.
    pub(crate) fn run_until(&mut self, total: u64, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.messages() < total {
            let (messages, seconds) = (self.messages(), patience.as_secs());
            ensure!(
                Instant::now() < deadline,
                "{messages} messages were answered, {total} were waited for during {seconds} s"
            );
            self.run_for(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Ends the load and gives the latencies of the window.
    pub(crate) fn stop(mut self) -> Result<Histogram<u64>> {
        self.join()
    }

    fn join(&mut self) -> Result<Histogram<u64>> {
        self.shared.phase.store(STOP, Ordering::Relaxed);
        let thread = self.thread.take().context("the load has ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // An error is already on its way to the caller.
            let _ = self.join();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    messages: AtomicU64,
    allowed: AtomicU64,
}

const BEGIN: u8 = 1;
const MEASURING: u8 = 2;
const END: u8 = 3;
const STOP: u8 = 4;
