//! The pipeline in virtual time with the fake encoder, and the thread itself.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::time::Duration;

use super::schedule::{Due, Schedule};
use super::*;
use crate::encode::fake::{FakeEncoder, Faults};
use crate::encode::{EncoderOptions, Planes};

const OPTIONS: EncoderOptions = EncoderOptions {
    width: 64,
    height: 64,
    pictures_per_second: 20,
    bits_per_second: 100_000,
    key_frame_interval: 40,
    threads: 1,
};

struct Black(Arc<Mutex<Vec<u64>>>);

impl PictureSource for Black {
    fn picture(&mut self, number: u64, _wall: Wall) -> Option<Picture> {
        self.0.lock().unwrap().push(number);
        Planes::black(64, 64).map(Picture::Planes)
    }
}

/// Keeps packets; refuses those whose ordinal, counting attempts, is listed.
struct Keep {
    packets: Arc<Mutex<Vec<Packet>>>,
    attempts: usize,
    refuse: Vec<usize>,
}

impl PacketSink for Keep {
    fn send(&mut self, packet: Packet) -> Result<(), Full> {
        self.attempts += 1;
        if self.refuse.contains(&(self.attempts - 1)) {
            return Err(Full);
        }
        self.packets.lock().unwrap().push(packet);
        Ok(())
    }
}

struct Bench {
    pipeline: Pipeline,
    counters: Arc<Counters>,
    packets: Arc<Mutex<Vec<Packet>>>,
    drawn: Arc<Mutex<Vec<u64>>>,
}

impl Bench {
    /// `faults` of the first, second, ... encoder; the last serves for all that follow.
    fn new(mut faults: Vec<Faults>, refuse: Vec<usize>, key_frame_interval: u32) -> Self {
        let counters = Arc::new(Counters::default());
        let packets = Arc::new(Mutex::new(Vec::new()));
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let options =
            WorkerOptions { name: "test".to_owned(), pictures_per_second: 20, key_frame_interval };
        let make: MakeEncoder = Box::new(move || {
            let faults = if faults.len() > 1 { faults.remove(0) } else { faults[0].clone() };
            let options = EncoderOptions { key_frame_interval, ..OPTIONS };
            Ok(Box::new(FakeEncoder::new(options, faults)))
        });
        let sink = Keep { packets: Arc::clone(&packets), attempts: 0, refuse };
        let source = Box::new(Black(Arc::clone(&drawn)));
        let pipeline = Pipeline::new(&options, make, source, Box::new(sink), Arc::clone(&counters));
        Self { pipeline, counters, packets, drawn }
    }

    fn turn_at(&mut self, milliseconds: u64) -> Result<Monotonic, EncodeError> {
        let now = Now { monotonic: Monotonic::from_millis(milliseconds), wall: Wall::default() };
        let mut context = Context::from_waker(Waker::noop());
        if !self.pipeline.has_encoder() {
            self.pipeline.turn(now, &mut context)?;
        }
        self.pipeline.turn(now, &mut context)
    }

    /// A turn every 50 ms, `count` times.
    fn run(&mut self, count: u64) {
        for number in 0..count {
            self.turn_at(number * 50).unwrap();
        }
    }

    /// The numbers of the pictures whose packets arrived, key frames negative.
    fn arrived(&self) -> Vec<i64> {
        let number = |packet: &Packet| packet.pts * 20 / i64::from(crate::encode::TIMESCALE);
        let signed =
            |packet: &Packet| if packet.key_frame { -number(packet) } else { number(packet) };
        self.packets.lock().unwrap().iter().map(signed).collect()
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[test]
fn schedule_counts_without_drift_and_names_the_late() {
    let mut schedule = Schedule::new(30);
    let origin = Monotonic::from_millis(5_000);
    assert_eq!(schedule.poll(origin), Due::Now { number: 0, late: 0 });
    let mut now = origin;
    for number in 1..100_000 {
        let Due::At(due) = schedule.poll(now) else { panic!("picture {number} is early") };
        now = due;
        assert_eq!(schedule.poll(now), Due::Now { number, late: 0 });
    }
    assert_eq!(now.since(origin).as_nanos(), 99_999 * 1_000_000_000_u128 / 30);
    let stalled = now + Duration::from_millis(100);
    assert_eq!(schedule.poll(stalled), Due::Now { number: 100_002, late: 2 });
    assert_eq!(schedule.pts(100_002), 100_002 * 3_000);
}

#[test]
fn late_pictures_are_dropped_before_they_are_drawn() {
    let mut bench = Bench::new(vec![Faults::default()], vec![], 40);
    for milliseconds in [0, 50, 99, 100, 401, 402, 449, 450] {
        bench.turn_at(milliseconds).unwrap();
    }
    assert_eq!(*bench.drawn.lock().unwrap(), [0, 1, 2, 8, 9]);
    assert_eq!(count(&bench.counters.late), 5);
    assert_eq!(count(&bench.counters.submitted), 5);
    assert_eq!(bench.arrived(), [0, 1, 2, 8, 9]);
}

#[test]
fn key_frames_come_by_picture_number_also_over_a_gap() {
    let mut bench = Bench::new(vec![Faults::default()], vec![], 4);
    for number in [0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16] {
        bench.turn_at(number * 50).unwrap();
    }
    assert_eq!(bench.arrived(), [0, 1, 2, 3, -4, 5, -11, 12, 13, 14, -15, 16]);
    assert_eq!(count(&bench.counters.key_frames), 4);
}

#[test]
fn after_a_lost_packet_nothing_but_a_key_frame_follows() {
    let faults = Faults { lost: vec![3], ..Faults::default() };
    let mut bench = Bench::new(vec![faults], vec![], 40);
    bench.run(8);
    assert_eq!(bench.arrived(), [0, 1, 2, -5, 6, 7]);
    assert_eq!(count(&bench.counters.lost), 1);
    assert_eq!(count(&bench.counters.undecodable), 1);
}

#[test]
fn a_lost_key_frame_is_asked_for_again() {
    let faults = Faults { lost: vec![3, 5], ..Faults::default() };
    let mut bench = Bench::new(vec![faults], vec![], 40);
    bench.run(10);
    assert_eq!(bench.arrived(), [0, 1, 2, -7, 8, 9]);
    assert_eq!(count(&bench.counters.lost), 2);
}

#[test]
fn a_full_sink_costs_the_packets_up_to_the_next_key_frame() {
    let mut bench = Bench::new(vec![Faults::default()], vec![2, 3], 40);
    bench.run(7);
    // Picture 2 is refused, its successor becomes a key frame and is refused too, 4 is another.
    assert_eq!(bench.arrived(), [0, 1, -4, 5, 6]);
    assert_eq!(count(&bench.counters.sink_full), 2);
    assert_eq!(count(&bench.counters.packets), 5);
    assert_eq!(count(&bench.counters.bytes), 40);
}

#[test]
fn a_slow_encoder_refuses_and_the_worker_counts() {
    let faults = Faults { delay_polls: 3, ..Faults::default() };
    let mut bench = Bench::new(vec![faults], vec![], 40);
    bench.run(40);
    let counters = &bench.counters;
    assert!(count(&counters.refused) > 10, "{counters:?}");
    assert_eq!(count(&counters.submitted) + count(&counters.refused), 40);
    assert_eq!(count(&counters.lost), 0);
}

#[test]
fn a_failed_encoder_is_replaced_and_starts_with_a_key_frame() {
    for faults in [
        Faults { fails_at: Some(3), ..Faults::default() },
        Faults { out_of_memory_at: Some(3), ..Faults::default() },
    ] {
        let mut bench = Bench::new(vec![faults, Faults::default()], vec![], 40);
        bench.run(6);
        assert_eq!(bench.arrived(), [0, 1, 2, -4, 5]);
        assert_eq!(count(&bench.counters.failures), 1);
        assert_eq!(count(&bench.counters.lost), 1);
    }
}

#[test]
fn an_encoder_that_always_fails_ends_the_run() {
    let faults = Faults { fails_at: Some(0), ..Faults::default() };
    let mut bench = Bench::new(vec![faults], vec![], 40);
    for number in 0..u64::from(FAILURES_IN_A_ROW_MAX) {
        bench.turn_at(number * 50).unwrap();
    }
    assert!(matches!(bench.turn_at(5_000), Err(EncodeError::Failed(_))));
}

#[test]
fn a_queue_of_pictures_gives_its_newest() {
    let (send, mut queue) = sync_channel(4);
    assert!(queue.picture(0, Wall::default()).is_none());
    for side in [16, 32, 64] {
        send.try_send(Picture::Planes(Planes::black(side, side).unwrap())).unwrap();
    }
    let newest = queue.picture(1, Wall::default()).map(|picture| picture.size());
    assert_eq!(newest, Some((64, 64)));
}

struct Forward(Sender<Packet>);

impl PacketSink for Forward {
    fn send(&mut self, packet: Packet) -> Result<(), Full> {
        self.0.send(packet).map_err(|_| Full)
    }
}

fn worker(pictures_per_second: u32, faults: Faults, sink: Sender<Packet>) -> Worker {
    let options = WorkerOptions {
        name: "test-encoder".to_owned(),
        pictures_per_second,
        key_frame_interval: 40,
    };
    let make: MakeEncoder =
        Box::new(move || Ok(Box::new(FakeEncoder::new(OPTIONS, faults.clone()))));
    let source = Box::new(Black(Arc::default()));
    Worker::start(options, make, source, Box::new(Forward(sink))).unwrap()
}

#[test]
fn the_thread_delivers_and_a_stop_ends_its_wait_at_once() {
    let (send, packets) = channel();
    // The second picture is due a second after the first: the thread is parked for most of it.
    let worker = worker(1, Faults::default(), send);
    assert!(packets.recv().unwrap().key_frame);
    assert!(worker.is_running());
    let asked = Instant::now();
    worker.stop().unwrap();
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
    assert!(packets.recv().is_err(), "the sink is gone with the thread");
}

#[test]
fn the_encoder_waker_ends_the_wait() {
    let (send, packets) = channel();
    // Each poll that finds nothing wakes the thread: with one picture a second, 50 such polls
    // could not pass in this test's time by the schedule alone.
    let worker = worker(1, Faults { delay_polls: 50, ..Faults::default() }, send);
    assert!(packets.recv_timeout(Duration::from_secs(20)).unwrap().key_frame);
    drop(worker);
}

#[test]
fn dropping_joins_and_giving_up_is_told() {
    let (send, packets) = channel();
    let worker = worker(1_000, Faults { fails_at: Some(0), ..Faults::default() }, send);
    // The thread ends by itself, which drops the sink.
    assert!(packets.recv().is_err());
    assert!(matches!(worker.stop(), Err(EncodeError::Failed(_))));

    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    impl PictureSource for Counted {
        fn picture(&mut self, _number: u64, _wall: Wall) -> Option<Picture> {
            None
        }
    }
    ALIVE.fetch_add(1, Ordering::SeqCst);
    let options =
        WorkerOptions { name: "idle".to_owned(), pictures_per_second: 1, key_frame_interval: 1 };
    let make: MakeEncoder = Box::new(|| Ok(Box::new(FakeEncoder::new(OPTIONS, Faults::default()))));
    let sink = Box::new(Forward(channel().0));
    drop(Worker::start(options, make, Box::new(Counted), sink).unwrap());
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "joined");
}
