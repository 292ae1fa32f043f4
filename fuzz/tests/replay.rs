//! Every input of every corpus, once, without a fuzzer; and the list of targets against the folders.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use headwater_fuzz::TARGETS;

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(here(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_kept_input_keeps_its_claim() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let folder = here("corpus").join(target.name);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            inputs += 1;
            if catch_unwind(|| (target.claim)(&bytes)).is_err() {
                broken.push(path);
            }
        }
        assert!(inputs > 0, "{folder:?} is empty: cargo run --no-default-features --example seeds");
    }
    assert!(broken.is_empty(), "claims broken by {broken:#?}");
}

/// Also where no corpus was written: the generators themselves.
#[test]
fn every_seed_keeps_its_claim() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty());
        let unique: BTreeSet<&str> = seeds.iter().map(|(name, _)| *name).collect();
        assert_eq!(unique.len(), seeds.len(), "{}: two seeds of one name", target.name);
        for (_, bytes) in seeds {
            (target.claim)(&bytes);
        }
    }
}

/// Short inputs are cheap to try all of, and are where length arithmetic goes wrong.
#[test]
fn every_short_input_keeps_every_claim() {
    for target in TARGETS {
        (target.claim)(&[]);
        for a in 0..=255 {
            (target.claim)(&[a]);
            for b in 0..=255 {
                (target.claim)(&[a, b]);
            }
        }
    }
}

#[test]
fn targets_and_folders_agree() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(listed.len(), TARGETS.len());
    assert_eq!(names("fuzz_targets"), listed);
    assert_eq!(names("corpus"), listed);
}
