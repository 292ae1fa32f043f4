//! How far apart two cores are right now: the time of a cache line's way there and back.
//!
//! In: two cores. Out: nanoseconds. On a virtual machine the hypervisor moves virtual cores between
//! siblings of one core and distant ones, and what two processes cost that talk to each other
//! changes with that by a factor of three, while neither of them changed. Reading the distance at
//! both ends of a run tells such runs from the others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::Places;
use crate::measure::Costs;
use crate::process::pin;

/// The shortest mean of a batch of round trips, so that being descheduled in between does not count.
/// Takes a few milliseconds when the cores are free.
pub(crate) fn between(one: Option<usize>, other: Option<usize>) -> Result<Option<f64>> {
    if one.is_none() || other.is_none() {
        return Ok(None);
    }
    let ball = AtomicU32::new(0);
    thread::scope(|scope| {
        let answering = scope.spawn(|| -> Result<()> {
            pin(other)?;
            for turn in 0..BATCHES * ROUNDS {
                wait_for(&ball, 2 * turn + 1);
                ball.store(2 * turn + 2, Ordering::Release);
            }
            Ok(())
        });
        let serving = scope.spawn(|| -> Result<f64> {
            pin(one)?;
            let mut best = f64::INFINITY;
            for batch in 0..BATCHES {
                let start = Instant::now();
                for round in 0..ROUNDS {
                    let turn = batch * ROUNDS + round;
                    ball.store(2 * turn + 1, Ordering::Release);
                    wait_for(&ball, 2 * turn + 2);
                }
                let mean = start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
                best = best.min(mean);
            }
            Ok(best)
        });
        let best = serving.join().map_err(|_| anyhow!("measuring the distance panicked"))?;
        answering.join().map_err(|_| anyhow!("measuring the distance panicked"))??;
        best.map(Some)
    })
}

/// A run, with what it was before and after it.
pub(crate) fn around(places: &Places, run: impl FnOnce() -> Result<Costs>) -> Result<Costs> {
    let read = || between(places.server_cpu(), places.client_cpu());
    let before = read()?;
    let mut costs = run()?;
    costs.core_distance_ns = before.zip(read()?).map(|(before, after)| [before, after]);
    Ok(costs)
}

/// Whether the cores were near, or far, at both readings.
pub(crate) fn is_steady(before: Option<f64>, after: Option<f64>) -> bool {
    before
        .zip(after)
        .is_none_or(|(before, after)| before.max(after) < before.min(after) * FACTOR_MAX)
}

/// Spins, and lets others run if that takes suspiciously long.
fn wait_for(ball: &AtomicU32, value: u32) {
    let mut spins = 0_u32;
    while ball.load(Ordering::Acquire) != value {
        spins += 1;
        if spins.is_multiple_of(4096) {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Near and far differ by a factor of eight or so, readings of one kind by a third.
pub(crate) const FACTOR_MAX: f64 = 2.0;
const BATCHES: u32 = 100;
const ROUNDS: u32 = 100;

#[cfg(test)]
mod tests {
    #[test]
    fn a_round_trip_takes_time() {
        let nanoseconds = super::between(Some(0), Some(0)).unwrap().unwrap();
        assert!(nanoseconds > 1.0);
        assert!(super::between(None, Some(0)).unwrap().is_none());
    }
}
