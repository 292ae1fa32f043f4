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
use serde::Serialize;

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

    /// By function and file, without those that it called.
    fn functions(&self) -> Result<BTreeMap<(String, String), u64>> {
        let output = Command::new("callgrind_annotate")
            .args(["--threshold=100", "--auto=no"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .output()
            .context("cannot start callgrind_annotate")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(functions(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// The own cost of a function, instructions per message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Function {
    pub(super) own: f64,
    /// Where the source is, which for inlined code is not where the function is.
    pub(super) file: String,
    pub(super) name: String,
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

/// The same by file, most first.
pub(super) fn by_file(functions: &[Function]) -> Vec<(String, f64)> {
    let mut files: BTreeMap<&str, f64> = BTreeMap::new();
    for function in functions {
        *files.entry(&function.file).or_default() += function.own;
    }
    let mut files: Vec<(String, f64)> =
        files.into_iter().map(|(file, own)| (file.to_owned(), own)).collect();
    files.sort_by(|a, b| b.1.total_cmp(&a.1));
    files
}

/// `totals: N` at the end of a file, `summary: N` in files of a version that writes no totals.
fn total(text: &str) -> Option<u64> {
    ["totals: ", "summary: "].iter().find_map(|key| {
        let value = text.lines().rev().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok()
    })
}

/// Lines of `1,234 (12.34%)  FILE:FUNCTION [OBJECT]`; one function may have several.
fn functions(text: &str) -> BTreeMap<(String, String), u64> {
    let mut functions = BTreeMap::new();
    for line in text.lines() {
        let Some((count, place)) = line.trim_start().split_once(' ') else { continue };
        let Ok(count) = count.replace(',', "").parse::<u64>() else { continue };
        let Some((_, place)) = place.trim_start().split_once(')') else { continue };
        let place = place.trim();
        let place = place.rsplit_once(" [").map_or(place, |(place, _)| place);
        let Some((file, name)) = place.split_once(':') else { continue };
        *functions.entry((short(file), name.to_owned())).or_default() += count;
    }
    functions
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
    use super::{Function, by_file, functions, short, total};

    #[test]
    fn the_formats_of_callgrind() {
        assert_eq!(total("events: Ir\nsummary: 7\n\ntotals: 12345\n"), Some(12_345));
        assert_eq!(total("summary: 7\n"), Some(7));
        assert_eq!(total("desc: nothing\n"), None);

        let text = "Ir\n17,226,480 (100.0%)  PROGRAM TOTALS\n----\nIr  file:function\n\
                    7,000 (40.0%)  /build/core/src/slice/iter.rs:a::b::<c as d>::run [/bin/x]\n\
                    1,000 ( 4.0%)  ???:memcpy [/lib/libc.so]\n";
        let found = functions(text);
        let key = |file: &str, name: &str| (file.to_owned(), name.to_owned());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[&key("core/src/slice/iter.rs", "a::b::<c as d>::run")], 7000);
        assert_eq!(found[&key("???", "memcpy")], 1000);
    }

    #[test]
    fn paths_keep_what_tells_them_apart() {
        assert_eq!(short("/home/a/headwater/src/shard/mod.rs"), "headwater/src/shard/mod.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
        assert_eq!(short("???"), "???");
    }

    #[test]
    fn files_add_up() {
        let function =
            |own, file: &str| Function { own, file: file.to_owned(), name: "f".to_owned() };
        let files = by_file(&[function(1.0, "a"), function(4.0, "b"), function(2.0, "a")]);
        assert_eq!(files, [("b".to_owned(), 4.0), ("a".to_owned(), 3.0)]);
    }
}
