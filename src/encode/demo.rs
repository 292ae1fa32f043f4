//! What the demo shows: a picture of a size and rate this machine can afford, encoded on a worker.
//!
//! `choose` measures the encoder on the demo's own pictures and picks the largest rung of a
//! ladder that leaves a third of one core free; `start` runs it. Wall time is measured, so a busy
//! machine gets a smaller picture, which is what it needs.
//!
//! Invariants: measuring ends within [`MEASURE_TIME_MAX`] plus one rung's warm-up, itself bounded;
//! the lowest rung is chosen even when it is too much, and the reason says so.
//!
//! Deliberately absent: messages and URLs, which are the server's part of the demo.

use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::worker::{MakeEncoder, PacketSink, PictureSource, Worker, WorkerOptions};
use super::{EncodeError, Encoder, EncoderOptions, Picture, Planes, SubmitOptions, picture};
use crate::time::Wall;

/// A size and a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Luma samples per row.
    pub width: u32,
    /// Luma rows.
    pub height: u32,
    /// Pictures per second.
    pub pictures_per_second: u32,
    /// What rate control aims at.
    pub bits_per_second: u32,
}

impl Rung {
    const fn new(width: u32, height: u32, pictures_per_second: u32, bits_per_second: u32) -> Self {
        Self { width, height, pictures_per_second, bits_per_second }
    }

    /// Samples to encode per second, which is what the cost follows.
    fn samples_per_second(self) -> f64 {
        f64::from(self.width) * f64::from(self.height) * f64::from(self.pictures_per_second)
    }

    /// The encoder this rung needs: one thread, a key frame every two seconds.
    #[must_use]
    pub const fn encoder_options(self) -> EncoderOptions {
        EncoderOptions {
            width: self.width,
            height: self.height,
            pictures_per_second: self.pictures_per_second,
            bits_per_second: self.bits_per_second,
            key_frame_interval: self.key_frame_interval(),
            threads: 1,
        }
    }

    /// Two seconds of pictures.
    #[must_use]
    pub const fn key_frame_interval(self) -> u32 {
        self.pictures_per_second * 2
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, pictures_per_second, .. } = self;
        write!(formatter, "{width}x{height} at {pictures_per_second} pictures/s")
    }
}

/// The rungs, from the least work to the most.
pub const LADDER: [Rung; 7] = [
    Rung::new(320, 180, 20, 250_000),
    Rung::new(320, 180, 30, 350_000),
    Rung::new(426, 240, 25, 500_000),
    Rung::new(640, 360, 20, 800_000),
    Rung::new(640, 360, 30, 1_000_000),
    Rung::new(960, 540, 30, 1_800_000),
    Rung::new(1280, 720, 30, 3_000_000),
];

/// The share of one core that the encoder may use.
pub const SHARE_MAX: f64 = 2.0 / 3.0;

/// How long measuring may take in all.
pub const MEASURE_TIME_MAX: Duration = Duration::from_millis(1_300);

/// How long one rung is measured.
const RUNG_TIME: Duration = Duration::from_millis(450);

/// What was chosen and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The size and rate.
    pub rung: Rung,
    /// Pictures per second of this size that one core could encode.
    pub possible: f64,
    /// Whether the wanted share of a core stays free.
    pub affordable: bool,
}

impl Choice {
    /// The share of one core that this takes.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.rung.pictures_per_second) / self.possible
    }
}

/// The sentence to print.
impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rung, possible, .. } = self;
        let percent = self.share() * 100.0;
        write!(formatter, "{rung}: one core encodes {possible:.0}/s of this size, so ")?;
        if self.affordable {
            write!(formatter, "it takes {percent:.0} % of a core")
        } else {
            write!(
                formatter,
                "even the smallest needs {percent:.0} % of a core; expect dropped pictures{}",
                if cfg!(debug_assertions) { " (this is a debug build: try --release)" } else { "" }
            )
        }
    }
}

/// Measures rav1e and picks a rung.
///
/// # Errors
/// The encoder's, when it cannot encode at all.
#[cfg(feature = "av1")]
pub fn choose() -> Result<Choice, EncodeError> {
    choose_with(|options| Ok(Box::new(super::rav1e::Rav1eEncoder::new(options)?)))
}

/// Measures the encoders that `make` gives and picks a rung.
///
/// # Errors
/// The encoder's, when it cannot encode at all.
pub fn choose_with(
    mut make: impl FnMut(EncoderOptions) -> Result<Box<dyn Encoder>, EncodeError>,
) -> Result<Choice, EncodeError> {
    let start = Instant::now();
    choose_by(|rung| {
        let left = MEASURE_TIME_MAX.saturating_sub(start.elapsed());
        if left < RUNG_TIME / 2 {
            return Ok(None);
        }
        let mut encoder = make(rung.encoder_options())?;
        measure(encoder.as_mut(), rung, RUNG_TIME.min(left)).map(Some)
    })
}

/// Starts a worker on the chosen rung.
///
/// # Errors
/// The system's, when it gives no thread.
#[cfg(feature = "av1")]
pub fn start(choice: &Choice, sink: Box<dyn PacketSink>) -> std::io::Result<Worker> {
    let options = choice.rung.encoder_options();
    let make: MakeEncoder =
        Box::new(move || Ok(Box::new(super::rav1e::Rav1eEncoder::new(options)?)));
    start_with(choice, make, sink)
}

/// Starts a worker on the chosen rung with any encoder.
///
/// # Errors
/// The system's, when it gives no thread.
pub fn start_with(
    choice: &Choice,
    make_encoder: MakeEncoder,
    sink: Box<dyn PacketSink>,
) -> std::io::Result<Worker> {
    let Rung { width, height, pictures_per_second, .. } = choice.rung;
    let options = WorkerOptions {
        name: "demo-encoder".to_owned(),
        pictures_per_second,
        key_frame_interval: choice.rung.key_frame_interval(),
    };
    Worker::start(options, make_encoder, Box::new(Generator { width, height }), sink)
}

/// The demo's picture as a source.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    /// Luma samples per row; even.
    pub width: u32,
    /// Luma rows; even.
    pub height: u32,
}

impl PictureSource for Generator {
    fn picture(&mut self, number: u64, wall: Wall) -> Option<Picture> {
        let mut planes = Planes::black(self.width, self.height)?;
        picture::draw(&mut planes, number, wall);
        Some(Picture::Planes(planes))
    }
}

/// Picks by a measurement that gives pictures per second, or `None` when the time is up.
///
/// The lowest rung is measured first; the cost per sample predicts which rung fits; that one is
/// measured too, and while it turns out too slow the next lower one that the new figure predicts.
fn choose_by(
    mut measure: impl FnMut(Rung) -> Result<Option<f64>, EncodeError>,
) -> Result<Choice, EncodeError> {
    let lowest = LADDER[0];
    // Without any measurement: the lowest, as if it were just what the core can do.
    let first = measure(lowest)?.unwrap_or_else(|| f64::from(lowest.pictures_per_second));
    let mut possible = first;
    let mut measured = lowest;
    let mut ceiling = LADDER.len();
    loop {
        let fitting = LADDER[..ceiling].iter().rposition(|rung| {
            rung.samples_per_second() <= SHARE_MAX * possible * samples(measured)
        });
        let Some(index) = fitting else {
            let affordable = f64::from(lowest.pictures_per_second) <= SHARE_MAX * first;
            return Ok(Choice { rung: lowest, possible: first, affordable });
        };
        let rung = LADDER[index];
        let predicted = possible * samples(measured) / samples(rung);
        if rung == measured {
            return Ok(Choice { rung, possible, affordable: true });
        }
        let Some(found) = measure(rung)? else {
            return Ok(Choice { rung, possible: predicted, affordable: true });
        };
        if f64::from(rung.pictures_per_second) <= SHARE_MAX * found {
            return Ok(Choice { rung, possible: found, affordable: true });
        }
        (possible, measured, ceiling) = (found, rung, index);
    }
}

fn samples(rung: Rung) -> f64 {
    f64::from(rung.width) * f64::from(rung.height)
}

/// Draws and encodes for this long, after a warm-up up to the first packet; pictures per second.
/// Where even the warm-up takes twice that long, what went in by then has to do as the figure.
fn measure(encoder: &mut dyn Encoder, rung: Rung, time: Duration) -> Result<f64, EncodeError> {
    let mut generator = Generator { width: rung.width, height: rung.height };
    let mut context = Context::from_waker(Waker::noop());
    let start = Instant::now();
    let mut first_packet: Option<Instant> = None;
    let mut packets = 0_u32;
    for number in 0_u32.. {
        let milliseconds = i64::from(number) * 1000 / i64::from(rung.pictures_per_second);
        let wall = Wall::from_unix_millis(milliseconds);
        let Some(picture) = generator.picture(u64::from(number), wall) else { break };
        let options = SubmitOptions { pts: i64::from(number), force_key_frame: false };
        encoder.submit(picture, options).map_err(|error| EncodeError::Failed(error.to_string()))?;
        while let Poll::Ready(packet) = encoder.poll_packet(&mut context) {
            if packet?.is_none() {
                break;
            }
            packets += u32::from(first_packet.is_some());
            first_packet.get_or_insert_with(Instant::now);
        }
        let elapsed = first_packet.map(|first| first.elapsed()).unwrap_or_default();
        if packets >= 2 && elapsed >= time {
            return Ok(f64::from(packets) / elapsed.as_secs_f64());
        }
        if packets < 2 && start.elapsed() >= time * 2 {
            return Ok(f64::from(number + 1) / start.elapsed().as_secs_f64());
        }
    }
    Err(EncodeError::Options(format!("{rung}: not a size that can be drawn")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::fake::{FakeEncoder, Faults};

    /// A machine that encodes this many samples a second, whatever the size.
    fn chosen_at(samples_per_second: f64) -> Choice {
        choose_by(|rung| Ok(Some(samples_per_second / samples(rung)))).unwrap()
    }

    #[test]
    fn ladder_rises() {
        assert!(LADDER.is_sorted_by(|a, b| a.samples_per_second() < b.samples_per_second()));
        for rung in LADDER {
            assert!(Planes::black(rung.width, rung.height).is_some(), "{rung}");
            assert_eq!(crate::encode::TIMESCALE % rung.pictures_per_second, 0, "{rung}");
        }
    }

    #[test]
    fn picks_the_largest_that_leaves_a_third() {
        // The figures of the reference machine: 640x360 at 14 pictures/s, and at 44.
        let without_assembly = chosen_at(14.0 * 640.0 * 360.0);
        assert_eq!(without_assembly.rung, LADDER[1], "{without_assembly}");
        let with_assembly = chosen_at(44.0 * 640.0 * 360.0);
        assert_eq!(with_assembly.rung, LADDER[3], "{with_assembly}");
        assert_eq!(chosen_at(1e9).rung, LADDER[6]);
        for speed in [2e6, 5e6, 1e7, 5e7] {
            let choice = chosen_at(speed);
            assert!(choice.affordable && choice.share() <= SHARE_MAX, "{choice}");
        }
    }

    #[test]
    fn a_slow_machine_gets_the_smallest_and_is_told() {
        let choice = chosen_at(10.0 * 320.0 * 180.0);
        assert_eq!(choice.rung, LADDER[0]);
        assert!(!choice.affordable);
        assert!(choice.to_string().contains("200 % of a core; expect dropped pictures"));
    }

    #[test]
    fn a_rung_slower_than_predicted_is_left_for_a_lower_one() {
        // Large pictures cost four times as much per sample as the first figure says.
        let choice = choose_by(|rung| {
            let penalty = if rung.width > 426 { 4.0 } else { 1.0 };
            Ok(Some(1e7 / samples(rung) / penalty))
        });
        let choice = choice.unwrap();
        assert!(choice.rung.width <= 426, "{choice}");
        assert!(choice.affordable && choice.share() <= SHARE_MAX);
    }

    #[test]
    fn out_of_time_the_prediction_holds() {
        let mut figures = [Some(100.0)].into_iter();
        let choice = choose_by(|_| Ok(figures.next().flatten())).unwrap();
        assert_eq!(choice.rung, LADDER[2]);
        let choice = choose_by(|_| Ok(None)).unwrap();
        assert_eq!((choice.rung, choice.affordable), (LADDER[0], false));
    }

    #[test]
    fn choosing_ends_in_bounded_time() {
        let make = |options| -> Result<Box<dyn Encoder>, EncodeError> {
            // Drawing is all it costs; in a debug build on a busy machine even that is a lot.
            Ok(Box::new(FakeEncoder::new(options, Faults::default())))
        };
        let start = Instant::now();
        let choice = choose_with(make).unwrap();
        assert!(LADDER.contains(&choice.rung) && choice.possible > 0.0, "{choice}");
        assert!(start.elapsed() < MEASURE_TIME_MAX * 10, "{:?}", start.elapsed());
    }

    #[test]
    fn measuring_counts_packets_and_passes_failures_on() {
        let rung = LADDER[0];
        let mut encoder = FakeEncoder::new(rung.encoder_options(), Faults::default());
        assert!(measure(&mut encoder, rung, Duration::from_millis(5)).unwrap() > 0.0);
        let faults = Faults { out_of_memory_at: Some(2), ..Faults::default() };
        let mut encoder = FakeEncoder::new(rung.encoder_options(), faults);
        let error = measure(&mut encoder, rung, Duration::from_secs(10)).unwrap_err();
        assert_eq!(error, EncodeError::OutOfMemory);
    }
}
