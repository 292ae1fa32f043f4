//! The whole server on a ring that is not there: N shards, their clients, virtual time and faults,
//! all on one thread and all decided by a seed.
//!
//! `HEADWATER_SIM_SEEDS=N` runs seeds 1 to N (1,000 by default); `HEADWATER_SIM_SEED=N` replays one
//! and prints what happens. What holds is in [`oracle`], what goes wrong in [`faults`].
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::print_stdout,
    reason = "numbers of a run are small, a wrong one shows as a run that fails; what a run did is its output"
)]

mod attacks;
mod core;
mod fake_ring;
mod faults;
mod mesh;
mod net;
mod oracle;
mod peers;
mod random;
mod workload;
mod world;

use faults::{Counts, KINDS};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use workload::{COMPLETIONS_MIN, CONNECTIONS_MIN, Outcome};

/// Seeds when the environment names no other number.
const SEEDS: u64 = 1000;
/// The same in a build without optimisation, which takes ten times as long for each.
const SEEDS_UNOPTIMISED: u64 = 60;
/// How often each kind of fault has to fire in so many.
const FAULTS_MIN: u64 = 100;
/// How many receives have to be answered where they lay in so many, and how often sends have to wait for more.
const ANSWERED_MIN: u64 = 1000;
const GATHERED_MIN: u64 = 1000;
const THREADS: usize = 2;
/// After so many failures the rest is not tried.
const FAILURES_MAX: u64 = 8;

/// What all runs did together.
#[derive(Debug, Default)]
struct Totals {
    faults: Counts,
    runs: u64,
    completions: u64,
    connections: u64,
    turns: u64,
    mail: u64,
    doorbells: u64,
    refused: u64,
    delivered: u64,
    resumed: u64,
    inflated: u64,
    gaps: u64,
    echoed: u64,
    answered: u64,
    gathered: u64,
    segments: u64,
    cells: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.faults.add(&outcome.faults);
        self.runs += 1;
        self.completions += outcome.completions;
        self.connections += outcome.connections;
        self.turns += outcome.turns;
        self.mail += outcome.mail;
        self.doorbells += outcome.doorbells;
        self.refused += outcome.refused;
        self.delivered += outcome.delivered;
        self.resumed += outcome.resumed;
        self.inflated += outcome.inflated;
        self.gaps += outcome.gaps;
        self.echoed += outcome.echoed;
        self.answered += outcome.answered;
        self.gathered += outcome.gathered;
        self.segments += outcome.segments;
        self.cells += outcome.cells;
    }

    fn print(&self) {
        println!(
            "{} seeds: {} connections, {} completions, {} turns, {} cells;\n{} deliveries, {} \
             inflated, {} resumes, {} gaps told, {} segments read;\n{} messages echoed, {} receives answered \
             where they lay, {} times sends of a cell waited for more;\n{} messages between shards, {} doorbells, {} publications refused",
            self.runs,
            self.connections,
            self.completions,
            self.turns,
            self.cells,
            self.delivered,
            self.inflated,
            self.resumed,
            self.gaps,
            self.segments,
            self.echoed,
            self.answered,
            self.gathered,
            self.mail,
            self.doorbells,
            self.refused
        );
        for ((_, name, _), count) in KINDS.iter().zip(self.faults.0) {
            println!("{count:>9}  {name}");
        }
    }
}

/// Whether this is the profile `dev`, which builds into a folder of that name.
fn is_unoptimised() -> bool {
    std::env::current_exe()
        .is_ok_and(|path| path.components().any(|part| part.as_os_str() == "debug"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; what broke, if something did.
fn attempt(seed: u64) -> Result<Outcome, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let outcome = workload::run(seed, false);
        assert!(outcome.completions >= COMPLETIONS_MIN, "{} completions", outcome.completions);
        assert!(outcome.connections >= CONNECTIONS_MIN, "{} connections", outcome.connections);
        outcome
    }));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = number("HEADWATER_SIM_SEED") {
        let outcome = workload::run(seed, true);
        println!("{outcome:?}");
        return;
    }
    let seeds = number("HEADWATER_SIM_SEEDS")
        .unwrap_or_else(|| if is_unoptimised() { SEEDS_UNOPTIMISED } else { SEEDS });
    let (next, failed) = (AtomicU64::new(1), AtomicU64::new(0));
    let (totals, failures) = (Mutex::new(Totals::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        break;
                    }
                    match attempt(seed) {
                        Ok(outcome) => totals.lock().unwrap().add(&outcome),
                        Err(text) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("seed {seed} does not hold");
                            failures.lock().unwrap().push((seed, text));
                        }
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap();
    totals.print();
    assert!(totals.inflated > 0, "nobody was sent anything compressed");
    for (seed, text) in failures.into_inner().unwrap() {
        println!("seed {seed}: {text}");
        println!(
            "replay: HEADWATER_SIM_SEED={seed} cargo test --profile ci -p headwater --test sim \
             every_seed_holds -- --nocapture"
        );
    }
    assert_eq!(failed.into_inner(), 0, "seeds do not hold");
    if seeds >= SEEDS {
        for ((_, name, _), count) in KINDS.iter().zip(totals.faults.0) {
            assert!(count >= FAULTS_MIN, "{name}: fired {count} times in {seeds} seeds");
        }
        assert!(totals.answered >= ANSWERED_MIN, "{} receives were answered", totals.answered);
        assert!(totals.gathered >= GATHERED_MIN, "sends waited {} times", totals.gathered);
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 1..=4 {
        let (first, second) = (attempt(seed), attempt(seed));
        assert_eq!(first, second, "seed {seed} does not repeat itself");
    }
}
