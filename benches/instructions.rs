//! The cases without a clock, to be counted from outside.
//!
//! `instructions CASE N` calls a case N times and says how often that allocated; run under
//! callgrind with N and 2N, the difference of the two counts has no start-up in it. `instructions
//! list` names this program, then each case with its N and the operations of a call. Without
//! arguments, or with those that cargo passes, every case is called once. What the counts should be
//! is in `instructions.txt`; the comparison is a step of the checker.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod cases;

use std::alloc::System;
use std::process::ExitCode;

use cases::Case;
use headwater::memory::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| case.ours).collect();
    match words[..] {
        [] => {
            for case in &cases {
                println!("{:<32} {} allocations in one call", case.name, call(case, 1));
            }
        }
        ["list"] => {
            let program = std::env::current_exe().expect("a program has a path");
            println!("program {}", program.display());
            for case in &cases {
                println!("case {} {} {}", case.name, case.calls, case.operations);
            }
        }
        [name, calls] => {
            let case = cases.iter().find(|case| case.name == name);
            let (Some(case), Ok(calls)) = (case, calls.parse()) else {
                println!("there is no case {name}, or {calls} is no number; see `list`");
                return ExitCode::from(2);
            };
            println!("allocations {}", call(case, calls));
        }
        _ => {
            println!("usage: instructions [list | CASE N]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Calls a case and says how often the calls allocated.
fn call(case: &Case, calls: u64) -> u64 {
    let mut call = (case.prepare)();
    // What happens at the first call only is not the path.
    call();
    let before = allocations();
    for _ in 0..calls {
        call();
    }
    allocations() - before
}
