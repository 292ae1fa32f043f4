//! From a publisher's timestamps to decode times without holes.
//!
//! In: timestamps of one track, rounded to milliseconds by most protocols. Out: the decode time of
//! each access unit, strictly rising, or that a new period has to begin.
//!
//! Where the codec fixes an access unit's length (audio), times are counted in samples, so that
//! rounding never shows, until they are more than 1 ms away from the publisher's: then the
//! publisher is right and the access unit before lasts as much longer or shorter. Everywhere else
//! the publisher's time is taken as it is.
//!
//! Deliberately absent: guessing a frame rate to smooth the milliseconds of video.

use crate::live::ticks_of;

/// The largest timestamp taken, in ticks either side of zero: thousands of years of audio.
pub(super) const DTS_MAX: i64 = 1 << 52;

/// The decode clock of one track in one period.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodeClock {
    /// Ticks of every access unit, where the codec fixes them.
    access_unit_ticks: Option<i64>,
    drift_ticks_max: i64,
    gap_ticks_max: i64,
    backward_ticks_max: i64,
    /// Added to the publisher's timestamps.
    offset: i64,
    last: Option<i64>,
}

/// What a timestamp means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The decode time.
    At(i64),
    /// The decode time, which is not the publisher's: that one did not rise.
    Pushed(i64),
    /// Too far from the one before for one period.
    Jump,
}

impl DecodeClock {
    pub(super) fn new(
        timescale: u32,
        access_unit_ticks: Option<i64>,
        gap_max_ms: i64,
        offset: i64,
    ) -> Self {
        Self {
            access_unit_ticks,
            drift_ticks_max: ticks_of(1, timescale) + 1,
            gap_ticks_max: ticks_of(gap_max_ms, timescale),
            backward_ticks_max: ticks_of(BACKWARD_MS_MAX, timescale),
            offset,
            last: None,
        }
    }

    /// The decode time of the access unit that the publisher stamped `dts`.
    pub(super) fn step(&mut self, dts: i64) -> Step {
        let published = dts + self.offset;
        let step = self.classify(published);
        if let Step::At(time) | Step::Pushed(time) = step {
            debug_assert!(self.last.is_none_or(|last| last < time));
            self.last = Some(time);
        }
        step
    }

    fn classify(&self, published: i64) -> Step {
        let Some(last) = self.last else { return Step::At(published) };
        if let Some(ticks) = self.access_unit_ticks {
            let counted = last + ticks;
            if (published - counted).abs() <= self.drift_ticks_max {
                return Step::At(counted);
            }
        }
        if published - last > self.gap_ticks_max || last - published > self.backward_ticks_max {
            Step::Jump
        } else if published > last {
            Step::At(published)
        } else {
            Step::Pushed(last + 1)
        }
    }
}

/// How far a timestamp may fall behind the one before and still belong to the same timeline.
const BACKWARD_MS_MAX: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(rate: u32) -> DecodeClock {
        DecodeClock::new(rate, Some(1024), 2000, 0)
    }

    #[test]
    fn rounded_audio_is_counted_and_never_more_than_a_millisecond_off() {
        for rate in [8000_u32, 44_100, 48_000] {
            for round_up in [0, 500, 999] {
                let mut clock = audio(rate);
                for frame in 0..200_000_i64 {
                    let exact = frame * 1024;
                    let millis = (exact * 1000 + round_up * i64::from(rate) / 1000)
                        .div_euclid(i64::from(rate));
                    let published = ticks_of(millis, rate);
                    assert_eq!(clock.step(published), Step::At(exact), "{rate} {round_up} {frame}");
                }
            }
        }
    }

    #[test]
    fn a_drifting_publisher_is_followed() {
        let mut clock = audio(48_000);
        let (mut last, mut anchored) = (-1024, 0);
        for frame in 0..100_000_i64 {
            // 100 ppm fast.
            let published = frame * 1024 + frame * 1024 / 10_000;
            let Step::At(time) = clock.step(published) else { panic!("no jump") };
            assert!((time - published).abs() <= 49, "{time} {published}");
            anchored += i64::from(time - last != 1024);
            last = time;
        }
        assert!((1..250).contains(&anchored), "only now and then, not {anchored} times");
    }

    #[test]
    fn faults_are_told_apart() {
        let mut clock = DecodeClock::new(90_000, None, 2000, 0);
        let ms = |millis: i64| millis * 90;
        assert_eq!(clock.step(ms(1000)), Step::At(ms(1000)));
        assert_eq!(clock.step(ms(1000)), Step::Pushed(ms(1000) + 1));
        assert_eq!(clock.step(ms(950)), Step::Pushed(ms(1000) + 2));
        assert_eq!(clock.step(ms(1033)), Step::At(ms(1033)));
        assert_eq!(clock.step(ms(3033)), Step::At(ms(3033)));
        assert_eq!(clock.step(ms(5034)), Step::Jump);
        assert_eq!(clock.step(ms(2932)), Step::Jump);
        assert_eq!(clock.step(ms(3034)), Step::At(ms(3034)));
    }
}
