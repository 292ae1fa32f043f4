//! Programs that are not ours: whether they are there, where their packages are put, one heavy test at a time.
//!
//! In: names of programs and packages. Out: folders below Cargo's target directory. A missing program or package is a
//! named skip on a developer's machine and a failure where `CI` is set, so that nothing is green for want of a tool.

use crate::process::Process;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a package manager may take.
const INSTALL: Duration = Duration::from_secs(120);

/// Whether every program is there.
pub(crate) fn have(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|program| find(program).is_none()).collect();
    missing.is_empty() || skip(test, &format!("missing {}", missing.join(", ")))
}

/// Says that a test is skipped; where `CI` is set, fails it.
pub(crate) fn skip(test: &str, reason: &str) -> bool {
    let is_ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    assert!(!is_ci, "{test}: {reason}, and CI is set");
    eprintln!("SKIPPED {test}: {reason}");
    false
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A folder for what one test writes, below Cargo's target directory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// A folder beside Cargo's own, for what stays from run to run or is looked at.
pub(crate) fn target(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let folder = target.join(name);
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// Held while a test measures memory or pictures or keeps both cores busy, also against other test processes.
pub(crate) fn exclusive() -> File {
    let file = File::create(scratch("e2e").join("exclusive")).expect("the target is writable");
    file.lock().expect("a lock of a file of ours");
    file
}

/// Our folder of node packages with our scripts in it, as `import` looks for packages above the script.
pub(crate) fn node_folder(test: &str) -> Option<PathBuf> {
    if !have(test, &["node", "npm"]) {
        return None;
    }
    let folder = target("e2e-node");
    let lock = File::create(folder.join(".lock")).expect("the target is writable");
    lock.lock().expect("a lock of a file of ours");
    for (name, text) in SCRIPTS {
        fs::write(folder.join(name), text).expect("the target is writable");
    }
    let installed = fs::read_to_string(folder.join(".installed")).unwrap_or_default();
    if installed == PACKAGE_LOCK {
        return Some(folder);
    }
    let mut npm = Process::start(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .arg("--prefix")
            .arg(&folder)
            .current_dir(&folder),
    );
    if !npm.wait(INSTALL).success() {
        skip(test, &format!("npm ci failed: {}", npm.text()));
        return None;
    }
    fs::write(folder.join(".installed"), PACKAGE_LOCK).expect("the target is writable");
    Some(folder)
}

/// A folder for `PYTHONPATH` with our packages in it.
pub(crate) fn python_folder(test: &str) -> Option<PathBuf> {
    if !have(test, &["python3"]) {
        return None;
    }
    let folder = target("e2e-python");
    let lock = File::create(folder.join(".lock")).expect("the target is writable");
    lock.lock().expect("a lock of a file of ours");
    if fs::read_to_string(folder.join(".installed")).is_ok_and(|text| text == REQUIREMENTS) {
        return Some(folder);
    }
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).expect("the target is writable");
    let mut pip = Process::start(
        Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"])
            // The wheel for every Python and machine: one hash.
            .args(["--require-hashes", "--no-deps", "--platform", "any", "--only-binary", ":all:"])
            .arg("--target")
            .arg(&folder)
            .arg("--requirement")
            .arg(&requirements),
    );
    if !pip.wait(INSTALL).success() {
        skip(test, &format!("pip install failed: {}", pip.text()));
        return None;
    }
    fs::write(folder.join(".installed"), REQUIREMENTS).expect("the target is writable");
    Some(folder)
}

/// Runs a program to its end; it must succeed. Returns its stdout.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().expect("the program is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}: {stderr}", output.status);
    output.stdout
}

const PACKAGE_JSON: &str = include_str!("browser/package.json");
const PACKAGE_LOCK: &str = include_str!("browser/package-lock.json");
const REQUIREMENTS: &str = include_str!("sdks/requirements.txt");
const SCRIPTS: [(&str, &str); 8] = [
    ("package.json", PACKAGE_JSON),
    ("package-lock.json", PACKAGE_LOCK),
    ("console.mjs", include_str!("browser/console.mjs")),
    ("chromium.mjs", include_str!("browser/chromium.mjs")),
    ("websocket.mjs", include_str!("browser/websocket.mjs")),
    ("scenario.mjs", include_str!("sdks/scenario.mjs")),
    ("ws.mjs", include_str!("sdks/ws.mjs")),
    ("eventsource.mjs", include_str!("sdks/eventsource.mjs")),
];
