//! The closed loop: whoever got its answer asks again.
//!
//! In: connected sockets, what to send and what must come back. Out: messages counted and their
//! latencies, while the calling thread watches the server. The loop has a thread and a core of its
//! own. Every answered byte is compared; a wrong one, or a connection that ends, ends the run.
//!
//! Deliberately absent: an open loop. A closed one cannot see how late an overloaded server is
//! (coordinated omission), so its percentiles compare servers and promise nothing to clients.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::histogram::Histogram;
use crate::process::pin;
use crate::ring::{Event, Ring};

/// Who sends, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Every connection sends, and again when it has its answer.
    Echo,
    /// Connection 0 sends, and again when all others have received.
    Fanout,
}

/// What must come for each message.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// So many, whatever they are.
    Count(usize),
}

impl Expected {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Count(count) => *count,
        }
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
    /// Messages that may be sent; more by [`Load::allow`].
    pub(crate) allowed: u64,
}

/// [`Plan::allowed`] of a load that goes on until it is stopped.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// A load that runs, until [`stop`](Self::stop) or drop.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Histogram>>>,
}

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        shared.allowed.store(plan.allowed, Ordering::Relaxed);
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            pin(plan.cpu)?;
            Driver::new(plan)?.run(&for_thread)
        });
        Self { shared, thread: Some(thread) }
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
        let deadline = Instant::now() + patience;
        while self.messages() < total {
            ensure!(Instant::now() < deadline, "{} of {total} answered", self.messages());
            self.run_for(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Ends the load and gives the latencies of the window.
    pub(crate) fn stop(mut self) -> Result<Histogram> {
        self.join()
    }

    fn join(&mut self) -> Result<Histogram> {
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

struct Driver {
    ring: Ring,
    pattern: Pattern,
    expected: Expected,
    connections: Vec<Connection>,
    /// Connections whose answer is complete.
    ready: Vec<u32>,
    /// Fan-out: deliveries still missing.
    missing: usize,
    /// Messages sent.
    sent: u64,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    /// Bytes of the answer that came.
    received: usize,
    sent: Instant,
}

impl Driver {
    fn new(plan: Plan) -> Result<Self> {
        let count = plan.sockets.len();
        let least = if plan.pattern == Pattern::Fanout { 2 } else { 1 };
        ensure!(count >= least, "at least {least} connections");
        let sockets = plan.sockets.into_iter().map(OwnedFd::from).collect();
        let buffer = plan.expected.len().next_power_of_two().clamp(1024, 65_536);
        let ring = Ring::new(sockets, plan.request, u32::try_from(buffer)?)
            .context("cannot set up the client's ring")?;
        let connection = Connection { received: 0, sent: Instant::now() };
        Ok(Self {
            ring,
            pattern: plan.pattern,
            expected: plan.expected,
            connections: vec![connection; count],
            ready: (0..u32::try_from(count)?).collect(),
            missing: 0,
            sent: 0,
        })
    }

    fn run(mut self, shared: &Shared) -> Result<Histogram> {
        let mut histogram = Histogram::new();
        let mut messages = 0;
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            match phase {
                BEGIN => {
                    histogram.clear();
                    // Fails if the window was ended meanwhile, which the next turn sees.
                    let _ = shared.phase.compare_exchange(
                        BEGIN,
                        MEASURING,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                STOP => return Ok(histogram),
                _ => {}
            }
            self.send(shared.allowed.load(Ordering::Relaxed))?;
            messages += self.receive((phase == MEASURING).then_some(&mut histogram))?;
            shared.messages.store(messages, Ordering::Relaxed);
        }
    }

    fn send(&mut self, allowed: u64) -> io::Result<()> {
        let now = Instant::now();
        match self.pattern {
            Pattern::Echo => {
                while self.sent < allowed
                    && let Some(connection) = self.ready.pop()
                {
                    self.sent += 1;
                    self.connections[connection as usize].sent = now;
                    self.ring.send(connection)?;
                }
            }
            Pattern::Fanout => {
                self.missing -= self.ready.len().min(self.missing);
                self.ready.clear();
                if self.missing == 0 {
                    self.missing = self.connections.len() - 1;
                    self.connections[0].sent = now;
                    self.ring.send(0)?;
                }
            }
        }
        Ok(())
    }

    /// One turn of the ring; answers that became complete.
    fn receive(&mut self, mut histogram: Option<&mut Histogram>) -> Result<u64> {
        let Self { ring, pattern, expected, connections, ready, .. } = self;
        let mut complete = 0;
        let mut failure = None;
        ring.turn(TURN, |index, event| {
            let sender = if *pattern == Pattern::Fanout { 0 } else { index as usize };
            let sent = connections[sender].sent;
            let connection = &mut connections[index as usize];
            match event {
                Event::Received(bytes) => match check(expected, connection.received, bytes) {
                    Ok(received) if received == expected.len() => {
                        connection.received = 0;
                        complete += 1;
                        ready.push(index);
                        if let Some(histogram) = histogram.as_deref_mut() {
                            let latency = u64::try_from(sent.elapsed().as_nanos());
                            histogram.record(latency.unwrap_or(u64::MAX));
                        }
                    }
                    Ok(received) => connection.received = received,
                    Err(why) => {
                        failure.get_or_insert_with(|| format!("connection {index}: {why}"));
                    }
                },
                Event::Ended(error) => {
                    let why = error.map_or_else(|| "end of stream".into(), |e| e.to_string());
                    failure.get_or_insert_with(|| format!("connection {index} ended: {why}"));
                }
            }
        })?;
        match failure {
            None => Ok(complete),
            Some(failure) => bail!("{failure}"),
        }
    }
}

/// Bytes of the answer after `bytes`; an answer is never followed by anything in a closed loop.
fn check(expected: &Expected, received: usize, bytes: &[u8]) -> Result<usize, String> {
    let end = received + bytes.len();
    if end > expected.len() {
        return Err(format!("{end} bytes came, {} were due", expected.len()));
    }
    match expected {
        Expected::Bytes(due) if due[received..end] != *bytes => {
            let head = &bytes[..bytes.len().min(32)];
            Err(format!("wrong bytes at {received} of the answer: {head:02x?}"))
        }
        _ => Ok(end),
    }
}

/// How often the loop looks at its phase when nothing comes.
const TURN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::{Expected, check};

    #[test]
    fn an_answer_may_come_in_any_pieces_but_must_be_the_one() {
        let due: Vec<u8> = (0..22).collect();
        for expected in [Expected::Bytes(due.clone()), Expected::Count(22)] {
            for cut in 1..22 {
                let middle = check(&expected, 0, &due[..cut]).unwrap();
                assert_eq!(check(&expected, middle, &due[cut..]), Ok(22));
            }
            assert!(check(&expected, 1, &due).is_err());
        }
        assert!(check(&Expected::Bytes(due.clone()), 1, &due[..3]).is_err());
        assert!(check(&Expected::Count(22), 1, &due[..3]).is_ok());
    }
}
