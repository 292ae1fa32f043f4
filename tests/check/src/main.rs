//! The one definition of checked: runs the steps of [`steps`] one after the other and counts.
//!
//! In: `--long` for what takes long, `--list` to see the steps, words to run only the steps whose names contain one of
//! them. Out: a line per step, the output of those that failed, in short once more what failed, and last `N passed, N
//! failed`, where a step that runs tests counts as its tests and any other as one; exit 1 if anything failed. A step
//! that cannot run here is a skip with its reason, and a failure where `CI=true`. Steps never run at the same time: they
//! share the cores and one target directory.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod failures;
mod step;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use step::{Outcome, Step};

fn main() -> ExitCode {
    check().unwrap_or_else(|error| {
        println!("{error:#}");
        ExitCode::from(2)
    })
}

fn check() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flag = |name: &str| {
        let before = arguments.len();
        arguments.retain(|argument| argument != name);
        arguments.len() < before
    };
    let (long, list) = (flag("--long"), flag("--list"));
    if let Some(unknown) = arguments.iter().find(|argument| argument.starts_with('-')) {
        anyhow::bail!("{unknown} is not known; there are --long, --list and names of steps");
    }
    let wanted = |step: &&Step| {
        arguments.is_empty() || arguments.iter().any(|word| step.name.contains(word.as_str()))
    };
    let root = step::root()?;
    let mut all = steps::short();
    if long {
        all.extend(steps::long());
    }
    let chosen: Vec<&Step> = all.iter().filter(wanted).collect();
    if list {
        for step in chosen {
            println!("{:<24} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(!chosen.is_empty(), "no step has a name like {arguments:?}");

    let start = Instant::now();
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    let (mut passed, mut failed) = (0, 0);
    for step in chosen {
        println!("---- {}: {}", step.name, step.about);
        let step_start = Instant::now();
        let (outcome, why) = step.run(&root)?;
        failures.extend(why);
        let seconds = step_start.elapsed().as_secs_f64();
        let word = match outcome {
            Outcome::Ran { passed: good, failed: bad } => {
                passed += good;
                failed += bad;
                if bad == 0 { format!("ok ({good})") } else { format!("FAILED ({bad})") }
            }
            Outcome::Skipped(reason) if is_ci => {
                failed += 1;
                format!("FAILED: cannot run in CI: {reason}")
            }
            Outcome::Skipped(reason) => format!("skipped: {reason}"),
        };
        lines.push(format!("{:<24} {seconds:>8.1} s  {word}", step.name));
        println!("     {word}, {seconds:.1} s");
    }
    println!("\n{}", lines.join("\n"));
    println!("{:<24} {:>8.1} s", "together", start.elapsed().as_secs_f64());
    for line in failures::report(&failures) {
        println!("{line}");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
