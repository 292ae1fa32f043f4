//! The rules of the house that a compiler does not hold: which room may import which, where `unsafe` may stand, what a
//! protocol has to bring, whether links lead somewhere.
//!
//! In: the files of the repository, each read once. Out: a list of violations, each with file, line and what to do
//! instead. Every rule is a function from files to violations, so that the tests at the end can plant one violation in
//! memory and see it found. Deliberately no parser of Rust: comments and strings are blanked, the rest is words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

/// The rooms of `src/` from the ground up. A room may import rooms of a lower floor, never its own floor or above.
/// A file or folder of `src/` that is not listed is a violation, so that its place is decided and not accidental.
const ROOMS: &[(u8, &str)] = &[
    (0, "limits"),
    (1, "time"),
    (1, "compress"),
    (1, "config"),
    (1, "probe"),
    (2, "memory"),
    (3, "ring"),
    (3, "governor"),
    (3, "mailbox"),
    (3, "connection"),
    (4, "fanout"),
    (5, "hub"),
    (5, "live"),
    (6, "encode"),
    (6, "observe"),
    (7, "session"),
    (8, "shard"),
    (9, "server"),
    (10, "demo"),
    (11, "lib"),
    (11, "main"),
];

/// Rooms that only some may import, whatever the floor: (room, its importers, the reason).
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("ring", &["shard", "server", "demo", "lib", "main"], "only shard has a kernel"),
    (
        "config",
        &["session", "shard", "server", "demo", "lib", "main"],
        "rooms below take the values they need as arguments",
    ),
    ("encode", &["server", "demo", "lib", "main"], "encoders run beside shards, never on one"),
    ("probe", &["server", "demo", "lib", "main"], "it is a command, not a part of the data path"),
];

/// What every room from memory up may import although it lies higher: plain counters, written by one thread.
const COUNTERS: &str = "observe::counters";

/// Where `unsafe` may stand: the kernel's interface, the pools, the vector kernels, hardware encoders; and the tools
/// that measure or test those from outside.
const UNSAFE_ROOMS: &[&str] = &[
    "src/ring/",
    "src/memory/",
    "codecs/simd/",
    "codecs/hw-",
    "perf/",
    "benches/",
    "tests/kernel",
];

/// What each protocol has to bring: its crate, its fuzz targets (none where there is nothing to parse), the session
/// that has an opinion on it, and its name in the README's matrix.
const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "dash", fuzz: Fuzz::NothingToParse, session: "live_files", matrix: "DASH" },
    Protocol { name: "hls", fuzz: Fuzz::NothingToParse, session: "live_files", matrix: "HLS" },
    Protocol { name: "http1", fuzz: Fuzz::Targets, session: "http", matrix: "HTTP/1.1" },
    Protocol { name: "proxy", fuzz: Fuzz::Targets, session: "proxy", matrix: "PROXY protocol" },
    Protocol { name: "rtmp", fuzz: Fuzz::Targets, session: "rtmp", matrix: "RTMP" },
    Protocol { name: "sse", fuzz: Fuzz::Targets, session: "event_stream", matrix: "SSE" },
    Protocol { name: "websocket", fuzz: Fuzz::Targets, session: "websocket", matrix: "WebSocket" },
];

/// Files larger than [`BLOB_BYTES_MAX`], each because it cannot be smaller.
const LARGE_FILES: &[&str] = &[
    // The player as it is released; its licence and hash lie beside it.
    "web/vendor/hls.min.js",
];

/// Files that others wrote or that a tool made; the rules about words do not hold there.
const FOREIGN: &[&str] = &["web/vendor/", "fuzz/corpus/", "tests/data/", "LICENSE-"];

const BLOB_BYTES_MAX: u64 = 512 << 10;
const FILE_LINES_MAX: usize = 800;

#[test]
fn imports_point_down() {
    tidy(imports);
}

#[test]
fn unsafe_stays_in_its_rooms_with_a_reason() {
    tidy(unsafe_rooms);
}

#[test]
fn every_file_says_what_it_is() {
    tidy(module_docs);
}

#[test]
fn every_protocol_is_complete() {
    tidy(protocols);
}

#[test]
fn crates_keep_the_rules_of_their_folder() {
    tidy(crates);
}

#[test]
fn links_lead_somewhere() {
    tidy(links);
}

#[test]
fn files_have_a_readable_length() {
    tidy(lengths);
}

#[test]
fn banned_calls_do_not_occur() {
    tidy(banned_calls);
}

#[test]
fn nothing_points_outside_the_repository() {
    tidy(foreign_words);
}

#[test]
fn no_large_blobs() {
    tidy(blobs);
}

#[test]
fn test_data_says_where_it_is_from() {
    tidy(provenance);
}

#[test]
fn clauses_are_tagged_in_pairs() {
    tidy(spec_tags);
}

#[test]
fn limits_carry_their_unit() {
    tidy(limit_names);
}

#[test]
fn every_bug_class_has_its_tests() {
    tidy(bug_classes);
}

/// A file of the repository. `text` is `None` when it is not UTF-8.
#[derive(Debug, Default)]
struct File {
    /// Relative to the root, with `/`.
    path: String,
    bytes: u64,
    text: Option<String>,
    /// The text with comments and the insides of strings blanked; empty for anything but Rust.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        Self { path: path.to_owned(), bytes: text.len() as u64, text: Some(text.to_owned()), code }
    }

    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or("")
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn under(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.path.starts_with(prefix))
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.starts_with("tests/")
            || self.path.contains("/tests/")
    }

    /// How many of its lines come before the tests at its end.
    fn lines_before_tests(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines: Vec<&str> = self.code.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1].trim_start().starts_with("mod ")
                && pair[1].ends_with('{')
        });
        tests.unwrap_or(lines.len())
    }
}

struct Protocol {
    name: &'static str,
    fuzz: Fuzz,
    session: &'static str,
    matrix: &'static str,
}

#[derive(PartialEq)]
enum Fuzz {
    Targets,
    NothingToParse,
}

type Violations = Vec<String>;

/// Runs one rule on the repository.
fn tidy(rule: fn(&[File]) -> Violations) {
    let violations = rule(repository());
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn repository() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        walk(&root, &root, &mut files).expect("the repository can be read");
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.iter().any(|file| file.path == "src/lib.rs"), "not the repository: {root:?}");
        files
    })
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> io::Result<()> {
    // What .gitignore leaves out.
    const SKIPPED: &[&str] =
        &[".git", "target", "node_modules", "results", "artifacts", "coverage"];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED.contains(&entry.file_name().to_str().unwrap_or("")) {
                walk(root, &path, files)?;
            }
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let Ok(bytes) = fs::read(&path) else { continue };
        files.push(match String::from_utf8(bytes) {
            Ok(text) => File::new(&name, &text),
            Err(error) => {
                File { path: name, bytes: error.as_bytes().len() as u64, ..File::default() }
            }
        });
    }
    Ok(())
}

fn imports(files: &[File]) -> Violations {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(room) = file.path.strip_prefix("src/").map(room_of) else { continue };
        let Some(floor) = floor_of(room) else {
            violations.push(format!(
                "{}: the room {room} has no floor in tests/tidy.rs, ROOMS",
                file.path
            ));
            continue;
        };
        for (line, import) in crate_paths(&file.code) {
            let target = import.split("::").next().unwrap_or("");
            if target == room || import.starts_with(COUNTERS) {
                continue;
            }
            // What is not a room is an item of lib.rs, such as a macro.
            let Some(target_floor) = floor_of(target) else { continue };
            let place = format!("{}:{line}", file.path);
            if target_floor >= floor {
                violations
                    .push(format!("{place}: {room} imports {target}, which does not lie below it"));
            }
            for (reserved, importers, reason) in RESERVED {
                if *reserved == target && !importers.contains(&room) {
                    violations.push(format!("{place}: {room} imports {target}: {reason}"));
                }
            }
        }
    }
    violations
}

/// `memory/slab.rs` and `memory.rs` are the room memory.
fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn floor_of(room: &str) -> Option<u8> {
    ROOMS.iter().find(|(_, name)| *name == room).map(|(floor, _)| *floor)
}

/// Every path that starts at the crate's root, with its line; groups (`crate::{a, b::c}`) are taken apart.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("headwater::")) {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at..];
        let rest = &rest[rest.find("::").map_or(0, |end| end + 2)..];
        let line = line_of(code, at);
        match rest.strip_prefix('{') {
            None => paths.push((line, path_at(rest))),
            Some(group) => paths.extend(heads(group).into_iter().map(|head| (line, head))),
        }
    }
    paths
}

/// The first two words of a path.
fn path_at(text: &str) -> String {
    let end = text.find(|c: char| !is_word(c) && c != ':').unwrap_or(text.len());
    text[..end].split("::").take(2).collect::<Vec<_>>().join("::")
}

/// The paths at the top of a brace group, up to its end.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(path_at(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn unsafe_rooms(files: &[File]) -> Violations {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let text: Vec<&str> = file.text().lines().collect();
        for (at, line) in file.code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe"))
        {
            // Edition 2024 spells some attributes `#[unsafe(no_mangle)]`, and a function pointer type needs no reason.
            let place = format!("{}:{}", file.path, at + 1);
            if !file.under(UNSAFE_ROOMS) {
                violations.push(format!("{place}: unsafe outside {UNSAFE_ROOMS:?}"));
                continue;
            }
            let opens = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"]
                .iter()
                .any(|o| line.contains(o));
            let above = &text[at.saturating_sub(16)..=at];
            let reasoned = above.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety"));
            if opens && !reasoned {
                violations.push(format!(
                    "{place}: unsafe without a SAFETY comment that says why it holds here"
                ));
            }
        }
    }
    violations
}

fn module_docs(files: &[File]) -> Violations {
    files
        .iter()
        .filter(|file| file.is_rust() && !file.under(FOREIGN))
        .filter(|file| {
            !file.text().starts_with("//! ")
                || file.text().lines().next().is_some_and(|l| l.len() < 8)
        })
        .map(|file| format!("{}:1: open the file with //! and say what it is", file.path))
        .collect()
}

fn protocols(files: &[File]) -> Violations {
    let has = |wanted: &str| files.iter().any(|file| file.path == wanted);
    let crates: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("protocols/")?.strip_suffix("/Cargo.toml"))
        .collect();
    let readme = files.iter().find(|file| file.path == "README.md").map_or("", File::text);
    let mut violations = Vec::new();
    for name in &crates {
        let Some(protocol) = PROTOCOLS.iter().find(|protocol| protocol.name == *name) else {
            violations.push(format!("protocols/{name}: is not in tests/tidy.rs, PROTOCOLS"));
            continue;
        };
        if protocol.fuzz == Fuzz::Targets {
            for claim in ["never_panics", "split"] {
                let target = format!("fuzz/fuzz_targets/{name}_{claim}.rs");
                if !has(&target) {
                    violations.push(format!("protocols/{name}: has no {target}"));
                }
            }
        }
        let session = format!("src/session/{}", protocol.session);
        if !has(&format!("{session}.rs")) && !has(&format!("{session}/mod.rs")) {
            violations.push(format!("protocols/{name}: has no session in {session}.rs"));
        }
        let row = |line: &str| line.starts_with('|') && line.contains(protocol.matrix);
        if !readme.lines().any(row) {
            violations
                .push(format!("protocols/{name}: {} is not in README's matrix", protocol.matrix));
        }
    }
    for Protocol { name, .. } in PROTOCOLS.iter().filter(|protocol| !crates.contains(protocol.name))
    {
        violations.push(format!("tests/tidy.rs: PROTOCOLS lists {name}, which has no crate"));
    }
    violations
}

fn crates(files: &[File]) -> Violations {
    let mut violations = Vec::new();
    let forbids =
        |file: &File| file.code.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    for file in files.iter().filter(|file| file.under(&["codecs/", "protocols/"])) {
        if file.path.ends_with("/src/lib.rs") && !file.under(UNSAFE_ROOMS) && !forbids(file) {
            violations.push(format!("{}: lacks #![forbid(unsafe_code)]", file.path));
        }
        if !file.path.ends_with("/Cargo.toml") {
            continue;
        }
        if !file.text().contains("[lints]\nworkspace = true") {
            violations.push(format!("{}: lacks [lints] workspace = true", file.path));
        }
        let dependencies = file.text().split("[dev-dependencies]").next().unwrap_or("");
        for Protocol { name, .. } in PROTOCOLS.iter().filter(|_| file.path.starts_with("codecs/")) {
            if dependencies.lines().any(|line| line.starts_with(&format!("{name}.workspace"))) {
                violations.push(format!("{}: a codec depends on the protocol {name}", file.path));
            }
        }
    }
    violations
}

fn links(files: &[File]) -> Violations {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md") && !file.under(FOREIGN)) {
        let mut fenced = false;
        for (at, line) in file.text().lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            for rest in line.split("](").skip(1).filter(|_| !fenced) {
                let target = rest.split([')', ' ']).next().unwrap_or("");
                let target = target.split('#').next().unwrap_or("");
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let resolved = resolve(&file.path, target);
                let folder = format!("{resolved}/");
                let exists = known.contains(resolved.as_str())
                    || known.iter().any(|path| path.starts_with(&folder));
                if !exists {
                    violations.push(format!(
                        "{}:{}: the link {target} leads nowhere",
                        file.path,
                        at + 1
                    ));
                }
            }
        }
    }
    violations
}

/// A link's target relative to the root.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> =
        if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn lengths(files: &[File]) -> Violations {
    files
        .iter()
        .filter(|file| file.is_rust() && !file.under(FOREIGN))
        .filter(|file| file.lines_before_tests() > FILE_LINES_MAX)
        .map(|file| {
            let lines = file.lines_before_tests();
            format!(
                "{}: {lines} lines without its tests, at most {FILE_LINES_MAX}: split it",
                file.path
            )
        })
        .collect()
}

/// (where, what, what instead). Written in two halves, so that this file does not violate itself.
const BANNED: &[(&[&str], &str, &str)] = &[
    (EVERYWHERE, concat!("TO", "DO"), "finish it, or leave it out and say so in ARCHITECTURE.md"),
    (EVERYWHERE, concat!("FIX", "ME"), "fix it"),
    (EVERYWHERE, concat!("to", "do!("), "finish it"),
    (EVERYWHERE, concat!("unimpl", "emented!("), "finish it"),
    (
        EVERYWHERE,
        concat!("#[ig", "nore"),
        "a test that does not run is none: make it fast, or move it behind --long",
    ),
    (EVERYWHERE, concat!("thread::", "sleep"), "wait for the event itself, with a deadline"),
    (SANS_IO, concat!("std::", "net::Tcp"), "bytes are arguments"),
    (SANS_IO, concat!("std::", "time::Inst"), "the time is an argument"),
    (SANS_IO, concat!("std::", "time::System"), "the time is an argument"),
    (SANS_IO, concat!("std::", "env::"), "settings are arguments"),
    (SANS_IO, concat!("std::", "process::"), "a codec or protocol starts nothing"),
];
const EVERYWHERE: &[&str] = &["src/", "codecs/", "protocols/", "tests/"];
const SANS_IO: &[&str] = &["codecs/", "protocols/"];

fn banned_calls(files: &[File]) -> Violations {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (rooms, banned, instead) in BANNED.iter().filter(|(rooms, ..)| file.under(rooms)) {
            // Notes stand in comments, calls in code; what tests of a sans-IO crate do is their own business.
            let is_note = banned.chars().all(|c| c.is_ascii_uppercase());
            if *rooms == SANS_IO && file.is_test() {
                continue;
            }
            let text = if is_note { file.text() } else { file.code.as_str() };
            for (at, line) in text.lines().enumerate().filter(|(_, line)| line.contains(banned)) {
                if is_note && !has_word(line, banned) {
                    continue;
                }
                violations.push(format!("{}:{}: {banned}: {instead}", file.path, at + 1));
            }
        }
    }
    violations
}

/// Words that make sense only on somebody's machine or tracker.
const OUTSIDE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/tm", "p/"),
    concat!("cra", "tes.io"),
    concat!("npm", "js."),
    concat!("pypi", ".org"),
];

fn foreign_words(files: &[File]) -> Violations {
    let mut violations = Vec::new();
    let checked = |file: &&File| !file.under(FOREIGN) && !file.path.ends_with("Cargo.lock");
    for file in files.iter().filter(checked) {
        for (at, line) in file.text().lines().enumerate() {
            let found = OUTSIDE.iter().find(|word| line.contains(**word));
            if let Some(word) = found {
                violations.push(format!(
                    "{}:{}: {word} means nothing to a reader",
                    file.path,
                    at + 1
                ));
            }
            if names_an_issue(line) {
                violations.push(format!(
                    "{}:{}: names an issue; give the reason itself",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    violations
}

/// The word followed by a number, as trackers write it.
fn names_an_issue(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.match_indices(concat!("iss", "ue")).any(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches([' ', '#', 's']);
        !lower[..at].ends_with(is_word) && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn blobs(files: &[File]) -> Violations {
    files
        .iter()
        .filter(|file| file.bytes > BLOB_BYTES_MAX && !LARGE_FILES.contains(&file.path.as_str()))
        .map(|file| format!("{}: {} bytes, at most {BLOB_BYTES_MAX}", file.path, file.bytes))
        .collect()
}

fn provenance(files: &[File]) -> Violations {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    files
        .iter()
        .filter(|file| file.path.starts_with("tests/data/") || file.path.contains("/tests/data/"))
        .filter(|file| !file.path.ends_with(".txt") && !file.path.ends_with(".md"))
        .filter(|file| {
            let stem = file.path.rsplit_once('.').map_or(file.path.as_str(), |(stem, _)| stem);
            !known.contains(format!("{stem}.txt").as_str())
        })
        .map(|file| {
            format!("{}: has no .txt beside it: what is in it, origin, licence, command", file.path)
        })
        .collect()
}

/// A comment `spec: RFC 6455 5.4` in code has its twin on a test of the same crate, and the other way round.
fn spec_tags(files: &[File]) -> Violations {
    let mut code = BTreeSet::new();
    let mut tests = BTreeSet::new();
    for file in
        files.iter().filter(|file| file.is_rust() && file.under(&["src/", "codecs/", "protocols/"]))
    {
        let home = file.path.split('/').take(2).collect::<Vec<_>>().join("/");
        let before_tests = file.lines_before_tests();
        for (at, line) in file.text().lines().enumerate() {
            let Some((_, tag)) =
                line.trim_start().strip_prefix("//").and_then(|c| c.split_once("spec: "))
            else {
                continue;
            };
            let side = if at < before_tests { &mut code } else { &mut tests };
            side.insert((home.clone(), tag.trim().to_owned()));
        }
    }
    let lonely = |side: &BTreeSet<_>, other: &BTreeSet<_>, what: &str| -> Violations {
        side.difference(other)
            .map(|(home, tag): &(String, String)| format!("{home}: spec: {tag} {what}"))
            .collect()
    };
    let mut violations = lonely(&code, &tests, "is on no test");
    violations.extend(lonely(&tests, &code, "is on no code"));
    violations
}

/// Each row of the table in tests/README.md names tests whose comment names the class, and every comment names a class of
/// that table.
fn bug_classes(files: &[File]) -> Violations {
    const TABLE: &str = "tests/README.md";
    let mut marked = BTreeSet::new();
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path != "tests/tidy.rs") {
        let mut classes: Vec<&str> = Vec::new();
        for line in file.text().lines().map(str::trim_start) {
            if let Some(rest) = line.strip_prefix("/// Bug class \"") {
                classes.extend(rest.split('"').next());
            } else if let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                marked.extend(classes.drain(..).map(|class| (class.to_lowercase(), name)));
            } else if !line.starts_with("///") && !line.starts_with("#[") {
                let adrift = classes.drain(..);
                violations.extend(
                    adrift.map(|class| format!("{}: the class {class:?} is on no test", file.path)),
                );
            }
        }
    }
    let table = files.iter().find(|file| file.path == TABLE).map_or("", File::text);
    let rows = table.split_once("| class |").map_or("", |(_, rows)| rows).lines().skip(2);
    let mut known = BTreeSet::new();
    for row in rows.map_while(|line| line.strip_prefix("| ")) {
        let Some((class, tests)) = row.split_once(" | ") else { continue };
        known.insert(class.to_lowercase());
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            violations.push(format!("{TABLE}: {class} has no tests"));
        }
        let missing = tests.iter().filter(|test| !marked.contains(&(class.to_lowercase(), **test)));
        violations.extend(missing.map(|test| {
            format!("{TABLE}: {test} has no comment `/// Bug class \"{class}\": ...`")
        }));
    }
    let unknown = marked.iter().filter(|(class, _)| !known.contains(class));
    violations.extend(unknown.map(|(class, test)| {
        format!("{TABLE}: has no class {class:?}, which the comment of {test} names")
    }));
    violations
}

/// The unit, or the noun that is counted, is a word of the name.
fn limit_names(files: &[File]) -> Violations {
    const UNITS: &[&str] = &[
        "BYTES", "BITS", "NS", "US", "MS", "SECONDS", "HZ", "TICKS", "PERCENT", "MAX", "MIN",
        "COUNT", "PER", "BACKLOG", "LEN", "SHIFT",
    ];
    let Some(limits) = files.iter().find(|file| file.path == "src/limits.rs") else {
        return Vec::new();
    };
    limits
        .code
        .lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let name = line.trim_start().strip_prefix("pub const ")?.split(':').next()?;
            // A plural is what is counted.
            let says = |word: &str| word.ends_with('S') || UNITS.contains(&word);
            (!name.split('_').any(says))
                .then(|| format!("src/limits.rs:{}: {name} does not say its unit", at + 1))
        })
        .collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word)
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// The text with comments and the insides of string and character literals replaced by spaces, line for line.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (kept, length) = literal_or_comment(rest, out.ends_with(is_word));
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (hidden, after) = rest.split_at(length);
        out.push_str(kept);
        out.extend(hidden.chars().skip(kept.len()).map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// The length of the literal or comment that `rest` starts with (0 if none), and what of it stays visible.
fn literal_or_comment(rest: &str, after_word: bool) -> (&'static str, usize) {
    if rest.starts_with("//") {
        return ("", rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        let (mut depth, mut at) = (0_usize, 0);
        while at < rest.len() {
            let tail = &rest.as_bytes()[at..];
            at += match tail {
                [b'/', b'*', ..] => {
                    depth += 1;
                    2
                }
                [b'*', b'/', ..] => {
                    depth -= 1;
                    2
                }
                _ => 1,
            };
            if depth == 0 {
                break;
            }
        }
        return ("", at);
    }
    if rest.starts_with('"') {
        return ("\"", quoted(rest, '"'));
    }
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !after_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - raw.len() + hashes + 1;
            return (
                "",
                rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len()),
            );
        }
    }
    if let Some(inner) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote right after its first character.
        let mut chars = inner.chars();
        let first = chars.next();
        if first == Some('\\') || chars.next() == Some('\'') {
            return ("'", quoted(rest, '\''));
        }
    }
    ("", 0)
}

/// The length of a literal with escapes, both quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// Each rule against a violation planted in memory: a rule that finds nothing would pass forever.
mod planted {
    use super::*;

    #[track_caller]
    fn finds(rule: fn(&[File]) -> Violations, path: &str, text: &str, expected: &str) {
        let violations = rule(&[File::new(path, text)]);
        assert!(
            violations.iter().any(|v| v.contains(expected)),
            "{path}: {text:?} gave {violations:?}"
        );
    }

    #[track_caller]
    fn accepts(rule: fn(&[File]) -> Violations, path: &str, text: &str) {
        let violations = rule(&[File::new(path, text)]);
        assert!(violations.is_empty(), "{path}: {text:?} gave {violations:?}");
    }

    #[test]
    fn an_import_upwards() {
        finds(
            imports,
            "src/hub/mod.rs",
            "\nuse crate::session::Session;",
            "src/hub/mod.rs:2: hub imports session",
        );
        finds(imports, "src/hub/a.rs", "use crate::{limits::A, live::{B, C}};", "hub imports live");
        finds(imports, "src/live/a.rs", "fn f() { crate::shard::turn() }", "live imports shard");
        finds(imports, "src/session/a.rs", "use crate::ring::Sqe;", "only shard has a kernel");
        finds(imports, "src/fanout/a.rs", "use crate::observe::log;", "fanout imports observe");
        finds(imports, "src/fanout/a.rs", "use crate::config::Config;", "as arguments");
        finds(imports, "src/cellar/a.rs", "", "has no floor");
        accepts(
            imports,
            "src/fanout/a.rs",
            "use crate::observe::counters::Counters;\nuse crate::memory::Block;",
        );
        accepts(
            imports,
            "src/hub/a.rs",
            "// crate::session\nconst A: &str = \"crate::shard\"; use crate::hub::B;",
        );
        accepts(
            imports,
            "src/shard/a.rs",
            "use crate::{\n    ring::Ring,\n    session,\n    hub::{self, Hub},\n};",
        );
        accepts(imports, "src/main.rs", "use headwater::server;");
        accepts(imports, "src/hub/a.rs", "macro_rules! m { () => { $crate::limits::A } }");
    }

    #[test]
    fn an_unsafe_block_in_the_wrong_room_or_without_reason() {
        finds(
            unsafe_rooms,
            "src/hub/mod.rs",
            "fn f() {\n unsafe { g() }\n}",
            "src/hub/mod.rs:2: unsafe outside",
        );
        finds(unsafe_rooms, "src/ring/a.rs", "fn f() { unsafe { g() } }", "without a SAFETY");
        accepts(unsafe_rooms, "src/ring/a.rs", "// SAFETY: g has no precondition.\nunsafe { g() }");
        accepts(
            unsafe_rooms,
            "src/hub/a.rs",
            "#![deny(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";",
        );
    }

    #[test]
    fn a_file_without_words() {
        finds(module_docs, "src/a.rs", "use std::fs;", "src/a.rs:1:");
        finds(module_docs, "src/a.rs", "//! x\n", "src/a.rs:1:");
        accepts(module_docs, "src/a.rs", "//! The slab.\n");
    }

    #[test]
    fn a_protocol_that_lacks_something() {
        let crate_only = "[package]";
        for missing in ["fuzz/fuzz_targets/rtmp_split.rs", "src/session/rtmp.rs", "README's matrix"]
        {
            finds(protocols, "protocols/rtmp/Cargo.toml", crate_only, missing);
        }
        finds(protocols, "protocols/gopher/Cargo.toml", crate_only, "PROTOCOLS");
        finds(protocols, "README.md", "", "lists rtmp, which has no crate");
        let mut complete = Vec::new();
        let mut readme = String::new();
        for protocol in PROTOCOLS {
            let Protocol { name, session, matrix, .. } = protocol;
            complete.push(File::new(&format!("protocols/{name}/Cargo.toml"), ""));
            complete.push(File::new(&format!("fuzz/fuzz_targets/{name}_never_panics.rs"), ""));
            complete.push(File::new(&format!("fuzz/fuzz_targets/{name}_split.rs"), ""));
            complete.push(File::new(&format!("src/session/{session}.rs"), ""));
            readme.push_str(&format!("| {matrix} | in |\n"));
        }
        complete.push(File::new("README.md", &readme));
        assert_eq!(protocols(&complete), Violations::new());
    }

    #[test]
    fn a_crate_without_its_rules() {
        finds(
            crates,
            "codecs/flv/src/lib.rs",
            "//! #![forbid(unsafe_code)]\n",
            "forbid(unsafe_code)",
        );
        finds(crates, "codecs/flv/Cargo.toml", "[package]", "lints");
        let upward = "[dependencies]\nrtmp.workspace = true\n[lints]\nworkspace = true";
        finds(crates, "codecs/flv/Cargo.toml", upward, "depends on the protocol rtmp");
        accepts(crates, "protocols/hls/Cargo.toml", upward);
    }

    #[test]
    fn a_link_to_nowhere() {
        finds(links, "docs/a.md", "see [b](b.md)", "docs/a.md:1: the link b.md");
        finds(links, "a.md", "x\n[b](../b.md#part) ", "a.md:2:");
        accepts(
            links,
            "docs/a.md",
            "[a](a.md) [a](../docs/a.md#x) [d](.) [w](https://example.org/x) [t](#top)",
        );
        accepts(links, "a.md", "```\n[b](b.md)\n```");
    }

    #[test]
    fn a_file_that_never_ends() {
        let lines = |n: usize| "fn f() {}\n".repeat(n);
        finds(lengths, "src/a.rs", &lines(801), "801 lines");
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(700), lines(700));
        accepts(lengths, "src/a.rs", &tested);
        accepts(lengths, "src/a/tests.rs", &lines(2000));
    }

    #[test]
    fn a_banned_call() {
        for (rooms, banned, _) in BANNED {
            let path = format!("{}x/src/a.rs", rooms[1]);
            let text = if banned.chars().all(|c| c.is_ascii_uppercase()) {
                format!("// {banned}")
            } else {
                format!("{banned})")
            };
            finds(banned_calls, &path, &text, banned);
        }
        accepts(banned_calls, "src/a.rs", "// thread::sleep is not used\n// METHODOLOGY");
        accepts(banned_calls, "perf/src/a.rs", concat!("std::thread::", "sleep(d)"));
    }

    #[test]
    fn a_word_from_outside() {
        for word in OUTSIDE {
            finds(foreign_words, "README.md", &format!("see {word}x"), "means nothing");
        }
        for text in
            [concat!("Iss", "ue 2"), concat!("iss", "ue #17"), concat!("(iss", "ues 3 and 4)")]
        {
            finds(foreign_words, "src/a.rs", text, "names an");
        }
        accepts(foreign_words, "src/a.rs", concat!("we iss", "ue one send; RFC 6455 5.4"));
    }

    #[test]
    fn a_blob() {
        finds(blobs, "web/a.js", &"x".repeat(512 * 1024 + 1), "web/a.js: 524289 bytes");
        accepts(blobs, "web/a.js", &"x".repeat(512 * 1024));
    }

    #[test]
    fn data_of_unknown_origin() {
        finds(provenance, "tests/data/flv/a.flv", "", "has no .txt");
        finds(provenance, "codecs/aac/tests/data/a.bin", "", "has no .txt");
        let described =
            [File::new("tests/data/flv/a.flv", ""), File::new("tests/data/flv/a.txt", "")];
        assert_eq!(provenance(&described), Violations::new());
    }

    #[test]
    fn a_lonely_clause() {
        let path = "protocols/http1/src/a.rs";
        finds(
            spec_tags,
            path,
            "// spec: RFC 9112 6.3\nfn f() {}",
            "spec: RFC 9112 6.3 is on no test",
        );
        let test = "#[cfg(test)]\nmod tests {\n// spec: RFC 9112 6.3\n}";
        finds(spec_tags, path, test, "is on no code");
        accepts(spec_tags, path, &format!("// spec: RFC 9112 6.3\n{test}"));
    }

    #[test]
    fn a_bug_class_without_tests() {
        let readme = |row: &str| {
            File::new("tests/README.md", &format!("| class | tests |\n| --- | --- |\n{row}\n"))
        };
        let test = |class: &str| {
            File::new(
                "tests/e2e/a.rs",
                &format!("/// Bug class \"{class}\": x.\n#[test]\nfn f() {{}}"),
            )
        };
        let cases = [
            ("| Bombs | `f` |", "Bombs", ""),
            ("| Bombs | `f` |", "bombs", ""),
            ("| Bombs | `g` |", "Bombs", "g has no comment"),
            ("| Bombs |  |", "Bombs", "Bombs has no tests"),
            ("| Bombs | `f` |", "Booms", "has no class \"booms\""),
        ];
        for (row, class, expected) in cases {
            let violations = bug_classes(&[readme(row), test(class)]);
            let found = violations.iter().any(|violation| violation.contains(expected));
            assert_eq!(found, !expected.is_empty(), "{row} {class}: {violations:?}");
        }
        finds(
            bug_classes,
            "src/a.rs",
            "/// Bug class \"Bombs\": x.\nconst A: u8 = 0;",
            "is on no test",
        );
    }

    #[test]
    fn a_limit_without_unit() {
        finds(limit_names, "src/limits.rs", "pub const IDLE_TIMEOUT: u32 = 1;", "IDLE_TIMEOUT");
        accepts(
            limit_names,
            "src/limits.rs",
            "pub const IDLE_TIMEOUT_MS: u32 = 1;\npub const SLOTS: u32 = 1;",
        );
    }

    #[test]
    fn blanking_keeps_lines_and_code() {
        for (text, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b\"c", 'd', '\'')"#, r#"a("    ", ' ', '  ')"#),
            ("f::<'a>(x)", "f::<'a>(x)"),
            ("r#\"a\"b\"# c", "         c"),
            ("for x in 0..1 { }", "for x in 0..1 { }"),
        ] {
            let blanked = blank(text);
            assert_eq!(blanked.lines().count(), text.lines().count(), "{text:?}");
            assert_eq!(blanked.chars().count(), text.chars().count(), "{text:?}");
            let same = |a: &str| a.replace(['"', '\''], " ");
            assert_eq!(same(&blanked), same(expected), "{text:?}");
        }
    }
}
