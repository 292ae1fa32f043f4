//! What failed, found in the output of a command, so short that it can stand at the very end.
//!
//! In: everything that `cargo test`, or any other program, wrote. Out: the names of the tests that failed and what each
//! wrote, without the stack, within bounds: whoever is shown only the end of a log sees it. Of a command that failed
//! without a failed test it is the end of the output. The whole output stays where the step put it.

/// A test that failed, or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    output: Vec<String>,
}

impl Failure {
    /// A command that failed as a whole: what it wrote last.
    pub(crate) fn of_command(name: String, output: &str) -> Self {
        Self { name, output: output.lines().map(str::to_owned).collect() }
    }

    /// The tests that failed, in their order; each once, however many targets have one of that name.
    pub(crate) fn of_tests(output: &str) -> Vec<Self> {
        let mut failures: Vec<Self> = Vec::new();
        for line in output.lines() {
            // test session::closes ... FAILED
            let name = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
            if let Some((name, "FAILED")) = name
                && !failures.iter().any(|failure| failure.name == name)
            {
                failures.push(Self { name: name.to_owned(), output: Vec::new() });
            }
        }
        let mut of: Option<usize> = None;
        let mut in_stack = false;
        for line in output.lines() {
            // ---- session::closes stdout ----
            let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----"));
            if let Some((name, _)) = heading.and_then(|heading| heading.rsplit_once(' ')) {
                of = failures.iter().position(|failure| failure.name == name);
                in_stack = false;
            } else if line == "failures:" || line.starts_with("test result: ") {
                of = None;
            } else if line.trim_end() == "stack backtrace:" {
                // The last that the harness writes of a panic; another one may follow.
                in_stack = true;
            } else if line.starts_with("thread '") {
                in_stack = false;
            }
            let is_said = !in_stack && heading.is_none() && !line.trim().is_empty();
            if let (Some(index), true) = (of, is_said) {
                failures[index].output.push(line.to_owned());
            }
        }
        failures
    }
}

/// At most [`LINES_MAX`] lines about all of them, and one more that says how many are left out.
pub(crate) fn report(failures: &[Failure]) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, Failure { name, output }) in failures.iter().enumerate() {
        if lines.len() >= LINES_MAX {
            lines.push(format!("and {} more", failures.len() - index));
            break;
        }
        // Those behind have at least their names.
        let behind = (failures.len() - index - 1).min(NAMES_MIN);
        let room = (LINES_MAX - lines.len()).saturating_sub(behind).max(1);
        lines.push(clipped(&format!("FAILED {name}")));
        lines.extend(ends(output, LINES_EACH_MAX.min(room - 1)));
    }
    lines
}

/// The beginning, where a panic says what is wrong, and the end, as many lines as there is room for.
fn ends(output: &[String], room: usize) -> Vec<String> {
    let indented = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| clipped(&format!("    {line}"))).collect()
    };
    if output.len() <= room {
        return indented(output);
    }
    let Some(shown) = room.checked_sub(1) else { return Vec::new() };
    let first = shown / 3;
    let last = output.len() - (shown - first);
    let mut lines = indented(&output[..first]);
    lines.push(format!("    ... {} lines ...", last - first));
    lines.extend(indented(&output[last..]));
    lines
}

fn clipped(line: &str) -> String {
    line.chars().take(COLUMNS_MAX).collect()
}

/// Of all failures together.
const LINES_MAX: usize = 120;
/// So many are named, whatever the first ones wrote.
const NAMES_MIN: usize = 60;
/// Of the output of one.
const LINES_EACH_MAX: usize = 40;
const COLUMNS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::{COLUMNS_MAX, Failure, LINES_EACH_MAX, LINES_MAX, NAMES_MIN, report};

    const OUTPUT: &str = "\
running 3 tests
test fine ... ok
test far::wrong ... FAILED
test silent ... FAILED

failures:

---- far::wrong stdout ----
the server said
thread 'far::wrong' (7) panicked at tests/far.rs:9:
/pings is 15358 and must AtLeast(16000.0)
stack backtrace:
   0: __rustc::rust_begin_unwind
note: run with `RUST_BACKTRACE=full` for a verbose backtrace


failures:
    far::wrong
    silent

test result: FAILED. 1 passed; 2 failed; 0 ignored
     Running tests/next.rs
test fine ... ok
";

    #[test]
    fn who_failed_and_what_he_said_is_found() {
        let failures = Failure::of_tests(OUTPUT);
        let names: Vec<&str> = failures.iter().map(|failure| failure.name.as_str()).collect();
        assert_eq!(names, ["far::wrong", "silent"]);
        assert_eq!(
            report(&failures),
            [
                "FAILED far::wrong",
                "    the server said",
                "    thread 'far::wrong' (7) panicked at tests/far.rs:9:",
                "    /pings is 15358 and must AtLeast(16000.0)",
                "FAILED silent",
            ]
        );
        assert!(
            Failure::of_tests("test fine ... ok\ntest result: ok. 1 passed; 0 failed").is_empty()
        );
    }

    #[test]
    fn a_report_has_its_bounds_and_names_as_many_as_it_can() {
        let lines = |count: usize| (0..count).map(|n| format!("{n}\n")).collect::<String>();
        let long = Failure::of_command("long".into(), &lines(1000));
        let one = report(std::slice::from_ref(&long));
        assert_eq!(one.len(), 1 + LINES_EACH_MAX);
        assert_eq!((one[1].as_str(), one[LINES_EACH_MAX].as_str()), ("    0", "    999"));
        assert!(one.contains(&"    ... 961 lines ...".to_owned()), "{one:?}");

        for count in [3, 4, NAMES_MIN, 100, LINES_MAX, 1000] {
            let many = report(&vec![long.clone(); count]);
            let named = many.iter().filter(|line| line.starts_with("FAILED")).count();
            assert!(many.len() <= LINES_MAX + 1, "{count}: {}", many.len());
            assert!(named >= count.min(NAMES_MIN), "{count}: {named}");
            assert_eq!(named < count, many.last().is_some_and(|last| last.starts_with("and ")));
        }
        let wide = Failure::of_command("x".repeat(9999), &"y".repeat(9999));
        assert!(report(&[wide]).iter().all(|line| line.len() <= COLUMNS_MAX));
    }
}
