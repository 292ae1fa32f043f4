//! Counts instructions and allocations of the hot paths and holds them to `benches/instructions.txt`.
//!
//! In: nothing, or `UPDATE=1` in the environment, which writes the file anew; names of cases, or
//! parts of names, to look only at those. Out: a table, a line of counted tests as the checker reads
//! it, exit 1 when a case differs. Each case runs under callgrind with N and with 2N calls; the
//! difference has no start-up in it. Builds without link-time optimisation and with one codegen unit
//! per crate, in a directory of its own: how code is laid out in the whole program does not reach
//! into a case.
//!
//! Allocations are compared always. Instructions depend on the compiler, the C library's `memcpy`
//! and the vector instructions of the processor, so they are compared only where those are the ones
//! the file was made with; else the differences are shown and said not to count.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

fn main() -> ExitCode {
    check().unwrap_or_else(|error| {
        println!("{error:#}");
        ExitCode::from(2)
    })
}

fn check() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("benches/instructions.txt");
    let update = std::env::var("UPDATE").is_ok_and(|value| value == "1");
    let words: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!update || words.is_empty(), "UPDATE=1 writes the whole file: name no cases");

    let (program, cases) = build(&root)?;
    let mut measured = BTreeMap::new();
    for case in &cases {
        if words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())) {
            measured.insert(case.name.clone(), measure(&program, case)?);
        }
    }
    let made_with = tools()?;
    if update {
        fs::write(&file, render(&made_with, &measured))?;
        println!("{}", render(&made_with, &measured));
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(&file).context("benches/instructions.txt")?;
    let baseline = Baseline::parse(&text)?;
    let same_tools = baseline.made_with == made_with;
    if !same_tools {
        println!("instructions do not count: the file was made with\n  {}", baseline.made_with);
        println!("and this is\n  {made_with}");
    }
    let mut failed = 0;
    for (name, costs) in &measured {
        let verdict = compare(baseline.cases.get(name).copied(), *costs, same_tools);
        failed += u64::from(verdict.is_err());
        let (Ok(word) | Err(word)) = verdict;
        println!("{name:<32} {:>12.1} {:>10.4}  {word}", costs.instructions, costs.allocations);
    }
    for name in baseline.cases.keys().filter(|_| words.is_empty()) {
        if !measured.contains_key(name) {
            println!("{name:<32} is in the file and not in the program");
            failed += 1;
        }
    }
    if failed > 0 {
        println!(
            "if that is meant: UPDATE=1 tests/run --long instructions, and say why in the commit"
        );
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let passed = (measured.len() as u64).saturating_sub(failed);
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the program says of a case.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    name: String,
    calls: u64,
    /// Operations in a call.
    operations: u64,
}

/// What one operation costs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Costs {
    instructions: f64,
    allocations: f64,
}

/// Builds the program and asks it where it is and what it can run.
fn build(root: &Path) -> anyhow::Result<(PathBuf, Vec<Case>)> {
    let bench = "bench --quiet --locked --no-default-features --bench instructions -- list";
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut cargo = Command::new("cargo");
    cargo
        .args(bench.split(' '))
        .current_dir(root)
        .env("CARGO_PROFILE_BENCH_LTO", "off")
        .env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "1")
        // Flags from outside could be `target-cpu=native`, which callgrind may not know.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target.join("instructions"));
    parse_list(&output(&mut cargo)?.0)
}

fn parse_list(text: &str) -> anyhow::Result<(PathBuf, Vec<Case>)> {
    let program = text.lines().find_map(|line| line.strip_prefix("program "));
    let program = program.context("the program does not say where it is")?;
    let mut cases = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("case ")) {
        let [name, calls, operations] = line.split(' ').collect::<Vec<_>>()[..] else {
            bail!("`case {line}` has not three words");
        };
        let (calls, operations) = (calls.parse()?, operations.parse()?);
        cases.push(Case { name: name.to_owned(), calls, operations });
    }
    Ok((PathBuf::from(program), cases))
}

fn measure(program: &Path, case: &Case) -> anyhow::Result<Costs> {
    let count = |calls: u64| -> anyhow::Result<(u64, u64)> {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        let (out, log) = output(valgrind.arg(program).arg(&case.name).arg(calls.to_string()))?;
        Ok((number_after(&log, "Collected : ")?, number_after(&out, "allocations ")?))
    };
    let (once, twice) = (count(case.calls)?, count(2 * case.calls)?);
    Ok(costs(once, twice, case.calls * case.operations))
}

/// From (instructions, allocations) of N calls and of 2N; N calls are that many operations.
fn costs(once: (u64, u64), twice: (u64, u64), operations: u64) -> Costs {
    Costs {
        instructions: (twice.0.saturating_sub(once.0)) as f64 / operations as f64,
        // Allocations are counted from inside, start-up is not in them.
        allocations: twice.1 as f64 / (2 * operations) as f64,
    }
}

fn number_after(text: &str, label: &str) -> anyhow::Result<u64> {
    let at = text.find(label).with_context(|| format!("no `{label}` in {text}"))?;
    let word = text[at + label.len()..].split_whitespace().next().unwrap_or_default();
    word.parse().with_context(|| format!("`{label}{word}`"))
}

/// Whether a case is as the baseline says, and the word for it.
fn compare(baseline: Option<Costs>, now: Costs, same_tools: bool) -> Result<String, String> {
    let Some(before) = baseline else { return Err("is not in the file".to_owned()) };
    if now.allocations > before.allocations + ALLOCATIONS_SLACK {
        return Err(format!("ALLOCATES more than {:.4}", before.allocations));
    }
    let difference = now.instructions - before.instructions;
    let percent = difference * 100.0 / before.instructions.max(1.0);
    let slack = (before.instructions * INSTRUCTIONS_SLACK).max(1.0);
    let word = format!("{percent:+.2} %");
    match (difference.abs() > slack, same_tools, difference > 0.0) {
        (false, ..) => Ok(word),
        (true, false, _) => Ok(format!("{word}, does not count")),
        (true, true, true) => Err(format!("SLOWER {word}")),
        (true, true, false) => Err(format!("faster {word}: the file is to be updated")),
    }
}

/// The file.
#[derive(Debug, PartialEq)]
struct Baseline {
    made_with: String,
    cases: BTreeMap<String, Costs>,
}

impl Baseline {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let made_with = text.lines().find_map(|line| line.strip_prefix(MADE_WITH));
        let made_with = made_with.context("the file does not say what it was made with")?;
        let mut cases = BTreeMap::new();
        let is_case = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in text.lines().filter(is_case) {
            let [name, instructions, allocations] = line.split_whitespace().collect::<Vec<_>>()[..]
            else {
                bail!("`{line}` is not a case, instructions and allocations");
            };
            let costs =
                Costs { instructions: instructions.parse()?, allocations: allocations.parse()? };
            ensure!(cases.insert(name.to_owned(), costs).is_none(), "{name} is there twice");
        }
        Ok(Self { made_with: made_with.to_owned(), cases })
    }
}

fn render(made_with: &str, cases: &BTreeMap<String, Costs>) -> String {
    let mut text = format!("{HEADER}{MADE_WITH}{made_with}\n\n");
    for (name, costs) in cases {
        let Costs { instructions, allocations } = costs;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<32} {instructions:>12.1} {allocations:>10.4}");
    }
    text
}

/// What instruction counts depend on besides the code.
fn tools() -> anyhow::Result<String> {
    let line = |line: &str| -> anyhow::Result<String> {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        Ok(output(command.args(words))?.0.trim().to_owned())
    };
    let rustc = line("rustc --version")?;
    let (libc, valgrind) = (line("getconf GNU_LIBC_VERSION")?, line("valgrind --version")?);
    Ok(format!("{rustc}; {libc}; {valgrind}; {}", vectors()))
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx2") { "x86_64 with avx2" } else { "x86_64" }
}

#[cfg(not(target_arch = "x86_64"))]
const fn vectors() -> &'static str {
    std::env::consts::ARCH
}

/// Standard output and error of a program that succeeds.
fn output(command: &mut Command) -> anyhow::Result<(String, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("{name} cannot be started"))?;
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{name} failed:\n{log}");
    Ok((String::from_utf8_lossy(&done.stdout).into_owned(), log))
}

const HEADER: &str = "\
# What one operation of each hot path costs: case, instructions, allocations.
# Written by `UPDATE=1 tests/run --long instructions`; README.md beside it says what is counted.
";
const MADE_WITH: &str = "# made with: ";
/// Start-up cancels to within this part.
const INSTRUCTIONS_SLACK: f64 = 0.02;
/// The last digit of the file.
const ALLOCATIONS_SLACK: f64 = 0.000_1;

#[cfg(test)]
mod tests {
    use super::*;

    fn costs_of(instructions: f64, allocations: f64) -> Costs {
        Costs { instructions, allocations }
    }

    #[test]
    fn start_up_cancels_out() {
        let start_up = 1_000_000;
        let found = costs((start_up + 500, 10), (start_up + 1000, 20), 10);
        assert_eq!(found, costs_of(50.0, 1.0));
    }

    #[test]
    fn two_percent_either_way_is_too_much() {
        let before = Some(costs_of(1000.0, 0.0));
        assert!(compare(before, costs_of(1019.0, 0.0), true).is_ok());
        assert!(compare(before, costs_of(981.0, 0.0), true).is_ok());
        assert!(compare(before, costs_of(1021.0, 0.0), true).unwrap_err().contains("SLOWER"));
        assert!(compare(before, costs_of(979.0, 0.0), true).unwrap_err().contains("faster"));
        assert!(compare(None, costs_of(1.0, 0.0), true).is_err());
    }

    #[test]
    fn other_tools_excuse_instructions_but_no_allocation() {
        let before = Some(costs_of(1000.0, 0.0));
        assert!(compare(before, costs_of(2000.0, 0.0), false).unwrap().contains("not count"));
        assert!(compare(before, costs_of(1000.0, 0.001), false).unwrap_err().contains("ALLOC"));
        assert!(compare(before, costs_of(1000.0, 0.001), true).is_err());
        assert!(compare(Some(costs_of(1000.0, 1.0)), costs_of(1000.0, 0.5), true).is_ok());
    }

    #[test]
    fn the_file_reads_back() {
        let cases = BTreeMap::from([("a/1".to_owned(), costs_of(12.5, 0.25))]);
        let text = render("rustc 1; glibc 2", &cases);
        let expected = Baseline { made_with: "rustc 1; glibc 2".to_owned(), cases };
        assert_eq!(Baseline::parse(&text).unwrap(), expected);
        for wrong in ["a/1 1 2", "# made with: x\na/1 1", "# made with: x\na 1 2\na 1 2"] {
            assert!(Baseline::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_and_logs_are_read() {
        let (program, cases) = parse_list("program /a b/c\ncase x/1 10 2\n").unwrap();
        assert_eq!(program, Path::new("/a b/c"));
        assert_eq!(cases, [Case { name: "x/1".to_owned(), calls: 10, operations: 2 }]);
        assert!(parse_list("case x 1 1\n").is_err());
        assert!(parse_list("program p\ncase x 1\n").is_err());
        assert_eq!(number_after("==7== Collected : 123\n", "Collected : ").unwrap(), 123);
        assert!(number_after("nothing", "Collected : ").is_err());
    }
}
