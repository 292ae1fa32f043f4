//! Callgrind from outside: a server under it, dumps on demand, and what is in them.
//!
//! In: the process to dump. Out: instructions since the last dump, in total and by function. A dump
//! stops the server wherever it is and begins counting anew; to the server it is an interrupted
//! system call. Invariant: files live in a directory of their own that goes with [`Callgrind`].

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::record::Directory;

/// How to run a server under callgrind, and where its dumps are.
#[derive(Debug)]
pub(super) struct Callgrind {
    command: Vec<String>,
    directory: Directory,
    dumps: std::cell::Cell<u32>,
}

impl Callgrind {
    pub(super) fn new() -> Result<Self> {
        let directory = Directory::new("callgrind")?;
        let out = directory.path().join(FILE);
        let command = vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--quiet".to_owned(),
            format!("--callgrind-out-file={}", out.display()),
        ];
        Ok(Self { command, directory, dumps: std::cell::Cell::new(0) })
    }

    /// What runs the server.
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    /// Writes what was counted since the last dump, and counts from 0.
    pub(super) fn dump(&self, process: u32) -> Result<Dump> {
        let number = self.dumps.get() + 1;
        self.dumps.set(number);
        let output = Command::new("vgdb")
            .args([&format!("--pid={process}"), "--wait=60", "dump"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start vgdb; is valgrind installed?")?;
        ensure!(output.status.success(), "vgdb: {}", String::from_utf8_lossy(&output.stderr));
        let path = self.directory.path().join(format!("{FILE}.{number}"));
        ensure!(path.exists(), "callgrind wrote no {}", path.display());
        Ok(Dump { path })
    }
}

/// One file of callgrind's.
#[derive(Debug)]
pub(super) struct Dump {
    path: PathBuf,
}

impl Dump {
    /// All instructions.
    pub(super) fn total(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.path)?;
        total(&text).with_context(|| format!("{} has no total", self.path.display()))
    }

    /// By file and function, without those that it called.
    fn functions(&self) -> Result<BTreeMap<(String, String), u64>> {
        Ok(functions(&fs::read_to_string(&self.path)?))
    }
}

/// The own cost of a function, instructions per message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) own: f64,
    /// Where the source is, which for inlined code is not where the function is.
    pub(crate) file: String,
    pub(crate) name: String,
}

/// What each function costs per message, most first.
pub(super) fn difference(single: &Dump, double: &Dump, messages: f64) -> Result<Vec<Function>> {
    let (single, double) = (single.functions()?, double.functions()?);
    let mut functions: Vec<Function> = double
        .into_iter()
        .map(|((file, name), instructions)| {
            let before = single.get(&(file.clone(), name.clone())).copied().unwrap_or(0);
            let own = (instructions as f64 - before as f64) / messages;
            Function { own, file, name }
        })
        .filter(|function| function.own >= LEAST)
        .collect();
    functions.sort_by(|a, b| b.own.total_cmp(&a.own));
    Ok(functions)
}

/// The same by file, or by name, most first.
pub(super) fn by(functions: &[Function], key: fn(&Function) -> &str) -> Vec<(String, f64)> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for function in functions {
        *sums.entry(key(function)).or_default() += function.own;
    }
    let mut sums: Vec<(String, f64)> =
        sums.into_iter().map(|(key, own)| (key.to_owned(), own)).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums
}

/// `totals: N` at the end of a file, `summary: N` in files of a version that writes no totals.
fn total(text: &str) -> Option<u64> {
    ["totals: ", "summary: "].iter().find_map(|key| {
        let value = text.lines().rev().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok()
    })
}

/// Own cost by file and function, from callgrind's profile format 1 with one position and one event
/// per cost line. `callgrind_annotate` is not asked: of functions that did not return between two
/// dumps it takes what they called for their own.
fn functions(text: &str) -> BTreeMap<(String, String), u64> {
    let (mut files, mut names) = (Names::default(), Names::default());
    let (mut file, mut name) = (String::new(), String::new());
    let mut functions = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.split_once('=') {
            // `fi` and `fe` change the file within a function: inlined code.
            Some(("fl" | "fi" | "fe", value)) => file = short(files.resolve(value)),
            Some(("fn", value)) => name = names.resolve(value).to_owned(),
            // Names that are given where they are first used, which may be here.
            Some(("cfi" | "cfl", value)) => drop(files.resolve(value)),
            Some(("cfn", value)) => drop(names.resolve(value)),
            // The next line is the cost of the called.
            Some(("calls", _)) => drop(lines.next()),
            _ => {
                let Some((position, cost)) = line.split_once(' ') else { continue };
                let Ok(cost) = cost.trim().parse::<u64>() else { continue };
                if position
                    .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
                {
                    *functions.entry((file.clone(), name.clone())).or_default() += cost;
                }
            }
        }
    }
    functions
}

/// `(7) name` defines a name, `(7)` means it.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn resolve(&mut self, value: &str) -> &str {
        let Some((id, name)) = value.split_once(')') else { return "???" };
        if !name.is_empty() {
            self.0.insert(id.to_owned(), name.trim().to_owned());
        }
        self.0.get(id).map_or("???", String::as_str)
    }
}

/// The last parts of a path, from its `src` on.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let source = parts.iter().rposition(|part| *part == "src").map_or(0, |at| at.saturating_sub(1));
    let start = source.max(parts.len().saturating_sub(5));
    parts[start..].join("/")
}

const FILE: &str = "callgrind.out";
/// Functions below this many instructions per message are start-up, timers and chance.
const LEAST: f64 = 0.05;
/// For the slowest run: about a hundred times slower than without callgrind, on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::{Function, by, functions, short, total};

    #[test]
    fn the_formats_of_callgrind() {
        assert_eq!(total("events: Ir\nsummary: 7\n\ntotals: 12345\n"), Some(12_345));
        assert_eq!(total("summary: 7\n"), Some(7));
        assert_eq!(total("desc: nothing\n"), None);

        // A run in a.rs with code inlined from iter.rs, which called g at 500 and got a name for it.
        let text = "positions: line\nevents: Ir\n\nob=(1) /bin/x\nfl=(1) /build/x/src/a.rs\nfn=(1) run\n\
                    10 5\n+2 7\nfi=(2) core/src/iter.rs\n100 30\nfe=(1)\ncfi=(3) /y/src/g.rs\n\
                    cfn=(2) g\ncalls=0 336\n11 500\n* 1\n\nfl=(3)\nfn=(2)\n1 500\n\ntotals: 543\n";
        let found = functions(text);
        let key = |file: &str, name: &str| (file.to_owned(), name.to_owned());
        assert_eq!(found[&key("x/src/a.rs", "run")], 13);
        assert_eq!(found[&key("core/src/iter.rs", "run")], 30);
        assert_eq!(found[&key("y/src/g.rs", "g")], 500);
        assert_eq!(found.values().sum::<u64>(), 543);
    }

    #[test]
    fn paths_keep_what_tells_them_apart() {
        assert_eq!(short("/a/b/headwater/src/shard/mod.rs"), "headwater/src/shard/mod.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
        assert_eq!(short("???"), "???");
    }

    #[test]
    fn costs_add_up_by_file() {
        let function =
            |own, file: &str| Function { own, file: file.to_owned(), name: "f".to_owned() };
        let functions = [function(1.0, "a"), function(4.0, "b"), function(2.0, "a")];
        let files = by(&functions, |function| &function.file);
        assert_eq!(files, [("b".to_owned(), 4.0), ("a".to_owned(), 3.0)]);
    }
}
