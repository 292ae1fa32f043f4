//! The thread that runs an encoder, paced on real time.
//!
//! Pictures come from a [`PictureSource`], packets leave through a [`PacketSink`]. Picture `n` is
//! due at `start + n / rate`; a picture whose successor is already due when the worker gets to it
//! is late: it is dropped before it is drawn or encoded, and counted. What a viewer then sees is a
//! lower picture rate, never a growing delay.
//!
//! Invariants: nothing is queued here; a packet the sink has no room for, or that the encoder lost,
//! is counted, and every packet after it is withheld until the next key frame, which is asked for
//! at once, because nothing between can be decoded. The thread waits only in `park_timeout`
//! against the next deadline, so a stop or the encoder's waker ends the wait at once. What the
//! encoder still holds at a stop is dropped with it.
//!
//! Deliberately absent: a clock in the logic (`Pipeline` is handed the time, so that tests run
//! in virtual time); waiting for the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Instant, SystemTime};

use self::pipeline::Pipeline;
use super::{EncodeError, Encoder, Packet, Picture};
use crate::time::{Monotonic, Now, Wall};

mod pipeline;
mod schedule;
#[cfg(test)]
mod tests;

/// Where pictures come from.
pub trait PictureSource: Send {
    /// The picture with this number, shown at this time; `None` when there is none this time.
    fn picture(&mut self, number: u64, wall: Wall) -> Option<Picture>;
}

/// A bounded queue: what another thread sent last, dropped unless a picture is due.
impl PictureSource for Receiver<Picture> {
    fn picture(&mut self, _number: u64, _wall: Wall) -> Option<Picture> {
        self.try_iter().last()
    }
}

/// Where packets go.
pub trait PacketSink: Send {
    /// Takes the packet without waiting.
    ///
    /// # Errors
    /// [`Full`] when there is no room; the packet is dropped.
    fn send(&mut self, packet: Packet) -> Result<(), Full>;
}

/// The sink has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for the packet")]
pub struct Full;

/// Makes an encoder: at the start, and again after one failed. It runs on the worker's thread.
pub type MakeEncoder = Box<dyn FnMut() -> Result<Box<dyn Encoder>, EncodeError> + Send>;

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The thread's name.
    pub name: String,
    /// Picture `n` is due `n / pictures_per_second` after the start.
    pub pictures_per_second: u32,
    /// Picture numbers between two key frames.
    pub key_frame_interval: u32,
}

/// How many encoders may fail one after another, without a packet between, before the worker
/// gives up.
pub const FAILURES_IN_A_ROW_MAX: u32 = 3;

/// What a worker did; counts only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pictures handed to the encoder.
    pub submitted: AtomicU64,
    /// Pictures dropped before encoding because the next was already due.
    pub late: AtomicU64,
    /// Pictures the encoder handed back because it was full.
    pub refused: AtomicU64,
    /// Packets the sink took.
    pub packets: AtomicU64,
    /// Key frames among them.
    pub key_frames: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Packets the sink had no room for.
    pub sink_full: AtomicU64,
    /// Pictures whose packets never came out of the encoder.
    pub lost: AtomicU64,
    /// Packets withheld because one before them was missing.
    pub undecodable: AtomicU64,
    /// Encoders that failed.
    pub failures: AtomicU64,
}

impl Counters {
    /// Every counter: metric name, help, value.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("headwater_encoder_pictures_total", "Pictures encoded.", value(&self.submitted)),
            ("headwater_encoder_late_total", "Late pictures dropped.", value(&self.late)),
            ("headwater_encoder_refused_total", "Pictures refused.", value(&self.refused)),
            ("headwater_encoder_packets_total", "Packets sent on.", value(&self.packets)),
            ("headwater_encoder_bytes_total", "Bytes of packets.", value(&self.bytes)),
            ("headwater_encoder_lost_total", "Pictures without a packet.", value(&self.lost)),
            ("headwater_encoder_failures_total", "Encoders that failed.", value(&self.failures)),
        ]
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A running encoder thread. Dropping it stops and joins the thread.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<Result<(), EncodeError>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn start(
        options: WorkerOptions,
        make_encoder: MakeEncoder,
        source: Box<dyn PictureSource>,
        sink: Box<dyn PacketSink>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false) });
        let counters = Arc::new(Counters::default());
        let name = options.name.clone();
        let pipeline = Pipeline::new(&options, make_encoder, source, sink, Arc::clone(&counters));
        let on_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name(name).spawn(move || run(pipeline, &on_thread))?;
        Ok(Self { shared, counters, thread: Some(thread) })
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether the thread still runs; it ends by itself only after too many failures.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops the thread and waits for it: at most the time of the picture being encoded.
    ///
    /// # Errors
    /// Why the thread had given up before, if it had.
    pub fn stop(mut self) -> Result<(), EncodeError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), EncodeError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| Err(EncodeError::Failed("its thread panicked".to_owned())))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::warn!(%error, "the encoder thread had ended early");
        }
    }
}

/// The thread: reads the clocks, turns the pipeline, parks until there is something to do.
fn run(mut pipeline: Pipeline, shared: &Shared) -> Result<(), EncodeError> {
    let start = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    while !shared.stop.load(Ordering::Acquire) {
        let now = read_clocks(start);
        let due = pipeline.turn(now, &mut context).inspect_err(|error| {
            tracing::error!(%error, "the encoder thread gives up");
        })?;
        let wait = due.since(read_clocks(start).monotonic);
        if !wait.is_zero() && !shared.stop.load(Ordering::Acquire) {
            thread::park_timeout(wait);
        }
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn read_clocks(start: Instant) -> Now {
    let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Now {
        monotonic: Monotonic::from_nanos(nanoseconds),
        wall: Wall::from_unix_millis(milliseconds),
    }
}
