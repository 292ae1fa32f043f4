//! One step: a command, how its success is judged, and how many tests were in it.
//!
//! In: a program with arguments and environment. Out: an [`Outcome`], and what failed; the whole output is kept in
//! `target/check/`, and its end is shown when the step failed. Not here: which steps there are.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::failures::Failure;

/// What one step is.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    /// Run in order; the first that does not do as expected ends the step.
    pub(crate) commands: Vec<Invocation>,
    /// Programs that must exist, else the step is skipped.
    pub(crate) needs: &'static [&'static str],
}

/// A program to run in the root of the repository.
#[derive(Debug)]
pub(crate) struct Invocation {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    expect: Expect,
}

/// What makes an invocation good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Success,
    /// A test in it fails; a failure to build is not that.
    FailedTest,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Counted by tests, or one for the step if it ran none.
    Ran { passed: u64, failed: u64 },
    /// It cannot run here.
    Skipped(String),
}

impl Step {
    pub(crate) fn new(
        name: impl Into<String>,
        about: &'static str,
        commands: Vec<Invocation>,
    ) -> Self {
        Self { name: name.into(), about, commands, needs: &[] }
    }

    pub(crate) fn needs(mut self, programs: &'static [&'static str]) -> Self {
        self.needs = programs;
        self
    }

    pub(crate) fn run(&self, root: &Path) -> anyhow::Result<(Outcome, Vec<Failure>)> {
        if let Some(missing) = self.needs.iter().find(|program| !is_installed(program)) {
            return Ok((Outcome::Skipped(format!("{missing} is not installed")), Vec::new()));
        }
        let mut counted = Counts::default();
        for (at, invocation) in self.commands.iter().enumerate() {
            let log = root.join("target/check").join(format!("{}.{at}.log", self.name));
            let (success, output) = invocation.run(root, &log)?;
            let counts = Counts::of(&output);
            let good = match invocation.expect {
                Expect::Success => success && counts.failed == 0,
                Expect::FailedTest => !success && counts.failed > 0,
            };
            if invocation.expect == Expect::Success {
                counted.passed += counts.passed;
                counted.failed += counts.failed;
            }
            if !good {
                println!("{}", end_of(&output));
                println!("{invocation} failed; all of its output is in {}", log.display());
                let failed = counted.failed.max(1);
                let outcome = Outcome::Ran { passed: counted.passed, failed };
                return Ok((outcome, invocation.failures(&output)));
            }
        }
        Ok((Outcome::Ran { passed: counted.passed.max(1), failed: 0 }, Vec::new()))
    }
}

impl Invocation {
    /// A program with its arguments, given as one line without quoting.
    pub(crate) fn new(line: &str) -> Self {
        let mut words = line.split_whitespace().map(str::to_owned);
        Self {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            environment: Vec::new(),
            expect: Expect::Success,
        }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The invocation is good when a test in it fails.
    pub(crate) fn must_fail_a_test(mut self) -> Self {
        self.expect = Expect::FailedTest;
        self
    }

    /// Why it is not good.
    fn failures(&self, output: &str) -> Vec<Failure> {
        let tests = match self.expect {
            Expect::Success => Failure::of_tests(output),
            Expect::FailedTest => Vec::new(),
        };
        if tests.is_empty() { vec![Failure::of_command(self.to_string(), output)] } else { tests }
    }

    fn run(&self, root: &Path, log: &Path) -> anyhow::Result<(bool, String)> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::File::create(log)?;
        // Both streams into one file, in the order they were written.
        let status = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("{} cannot be started", self.program))?;
        let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        Ok((status.success(), output))
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}='{value}' ")?;
        }
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

/// Tests that ran, summed over the result lines of the harness.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    fn of(output: &str) -> Self {
        let mut counts = Self::default();
        // test result: ok. 12 passed; 0 failed; 0 ignored; ...
        for line in
            output.lines().filter_map(|line| line.trim_start().strip_prefix("test result: "))
        {
            let words: Vec<&str> = line.split([' ', ';']).collect();
            for pair in words.windows(2) {
                let number = pair[0].parse::<u64>().unwrap_or(0);
                match pair[1] {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    _ => {}
                }
            }
        }
        counts
    }
}

/// The root of the repository: this program's own package lies two folders below it.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).filter(|root| root.join("src").is_dir());
    root.map(Path::to_owned).context("the repository this was built from has moved: build it again")
}

pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The lines a person looks for: the end of the output.
fn end_of(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

const LINES_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(commands: Vec<Invocation>) -> Outcome {
        run_and_tell(commands).0
    }

    fn run_and_tell(commands: Vec<Invocation>) -> (Outcome, Vec<Failure>) {
        let name = format!("self-test-{:?}", std::thread::current().id());
        Step::new(name, "", commands).run(&root().unwrap()).unwrap()
    }

    fn shell(script: &str) -> Invocation {
        let mut invocation = Invocation::new("sh -c");
        invocation.arguments.push(script.to_owned());
        invocation
    }

    const GOOD: &str = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored'";
    const BAD: &str = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";

    #[test]
    fn tests_are_counted_and_other_steps_are_one() {
        assert_eq!(run(vec![shell(GOOD), shell(GOOD)]), Outcome::Ran { passed: 6, failed: 0 });
        assert_eq!(run(vec![shell("true")]), Outcome::Ran { passed: 1, failed: 0 });
        assert_eq!(run(vec![shell(BAD)]), Outcome::Ran { passed: 2, failed: 1 });
        assert_eq!(run(vec![shell("false"), shell(GOOD)]), Outcome::Ran { passed: 0, failed: 1 });
        assert_eq!(
            Counts::of("test result: ok. 1 passed; 2 failed;"),
            Counts { passed: 1, failed: 2 }
        );
    }

    #[test]
    fn a_planted_bug_must_fail_a_test_and_not_the_build() {
        assert_eq!(run(vec![shell(BAD).must_fail_a_test()]), Outcome::Ran { passed: 1, failed: 0 });
        assert_eq!(
            run(vec![shell(GOOD).must_fail_a_test()]),
            Outcome::Ran { passed: 0, failed: 1 }
        );
        let broken_build = shell("echo 'error: could not compile'; exit 101");
        assert_eq!(
            run(vec![broken_build.must_fail_a_test()]),
            Outcome::Ran { passed: 0, failed: 1 }
        );
    }

    #[test]
    fn environment_arrives_and_missing_programs_skip() {
        let invocation = shell("test \"$HEADWATER_TRY\" = 1").env("HEADWATER_TRY", "1");
        assert_eq!(run(vec![invocation]), Outcome::Ran { passed: 1, failed: 0 });
        let step = Step::new("self-test-needs", "", vec![]).needs(&["no-such-program"]);
        assert!(matches!(step.run(Path::new(".")).unwrap(), (Outcome::Skipped(_), _)));
    }

    #[test]
    fn what_failed_is_told_by_its_name() {
        let names = |commands| -> Vec<String> {
            run_and_tell(commands).1.into_iter().map(|failure| failure.name).collect()
        };
        let two = shell(&format!("echo 'test one ... FAILED'; echo 'test two ... FAILED'; {BAD}"));
        assert_eq!(names(vec![shell(GOOD), two]), ["one", "two"]);
        assert_eq!(names(vec![shell("false")]), ["sh -c false"], "no test failed, but it did");
        let good = shell(GOOD).must_fail_a_test();
        assert_eq!(names(vec![good]), [format!("sh -c {GOOD}")]);
        assert!(names(vec![shell(GOOD), shell("true")]).is_empty());
    }

    #[test]
    fn only_the_end_of_a_long_output_is_shown() {
        let long = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert!(end_of(&long).starts_with("800\n") && end_of(&long).ends_with("999"));
        assert_eq!(end_of("a"), "a");
    }
}
