//! Which steps there are.
//!
//! The short ones share one profile (`ci`) and one target directory, so that a dependency is compiled once. The long
//! ones that need other compiler flags have directories of their own below `target/`.

use crate::step::{Invocation, Step};

/// `tests/run`
pub(crate) fn short() -> Vec<Step> {
    let fuzz = "--manifest-path fuzz/Cargo.toml --no-default-features --locked";
    vec![
        Step::new(
            "toolchain",
            "rustc is at least rust-version (cargo refuses if not)",
            vec![cargo("check --locked --profile ci -p headwater-check")],
        ),
        Step::new(
            "format",
            "rustfmt would change nothing",
            vec![
                cargo("fmt --all --check"),
                cargo("fmt --manifest-path fuzz/Cargo.toml --check"),
                cargo("fmt --all --manifest-path perf/peers/Cargo.toml --check"),
            ],
        ),
        Step::new(
            "clippy",
            "no warning in any target",
            vec![cargo("clippy --locked --workspace --all-targets --profile ci -- -D warnings")],
        ),
        Step::new(
            "docs",
            "every link in the documentation resolves, private items included",
            vec![
                cargo("doc --locked --workspace --no-deps --document-private-items --profile ci")
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ],
        ),
        Step::new(
            "tests",
            "all tests of all crates: unit, pair, tidy, kernel, simulator, end to end",
            vec![cargo("test --locked --workspace --profile ci --no-fail-fast")],
        ),
        Step::new(
            "fuzz-corpora",
            "every input a fuzzer or a person ever kept, once",
            vec![
                cargo(&format!("clippy {fuzz} --all-targets --profile ci -- -D warnings")),
                cargo(&format!("test {fuzz} --profile ci")),
            ],
        ),
        Step::new(
            "peers",
            "what the server is compared with builds without a warning",
            vec![
                peers("clippy --locked --workspace --all-targets", "-- -D warnings"),
                peers("test --locked --workspace", ""),
            ],
        ),
    ]
}

/// `tests/run --long`, after the short ones
pub(crate) fn long() -> Vec<Step> {
    let mut steps = vec![Step::new(
        "simulator",
        "20,000 seeds",
        vec![
            cargo("test --locked --profile ci -p headwater --test sim")
                .env("HEADWATER_SIM_SEEDS", "20000"),
        ],
    )];
    for bug in [
        "reordered_mailbox",
        "leaked_lease",
        "double_release",
        "lost_doorbell",
        "mail_waits_for_room",
        "dropped_mail",
    ] {
        let planted = |arguments: &str| {
            cargo(arguments)
                .env("RUSTFLAGS", format!("--cfg planted=\"{bug}\""))
                .env("CARGO_TARGET_DIR", "target/planted")
        };
        let test = "test --locked --profile ci -p headwater --no-default-features --test sim";
        steps.push(Step::new(
            format!("planted-{bug}"),
            "the simulator finds a bug that was put in on purpose",
            vec![planted(&format!("{test} --no-run")), planted(test).must_fail_a_test()],
        ));
    }
    steps.extend([
        Step::new(
            "features",
            "without the encoder, nothing is unused or missing",
            vec![cargo(
                "clippy --locked --profile ci -p headwater --no-default-features --all-targets -- -D warnings",
            )],
        ),
        Step::new(
            "address-sanitizer",
            "the pools and the vector kernels touch only what is theirs",
            vec![
                sanitized("test --locked -p headwater-simd --lib"),
                sanitized("test --locked -p headwater --no-default-features --lib memory::"),
            ],
        ),
        Step::new(
            "benches",
            "every bench runs once",
            vec![cargo("bench --locked --workspace --profile ci -- --test")],
        ),
        Step::new(
            "instructions",
            "hot paths take the instructions and allocations that benches/instructions.txt says",
            vec![cargo(
                "run --locked --profile ci -p headwater-check --bin headwater-instructions",
            )],
        )
        .needs(&["valgrind", "getconf"]),
        Step::new(
            "peers-talk",
            "every peer that is installed echoes and broadcasts",
            vec![
                peers("build --locked --release --workspace", ""),
                Invocation::new("npm ci --no-audit --no-fund --prefix perf/peers/ws"),
                Invocation::new("npm ci --no-audit --no-fund --prefix perf/peers/bun"),
                peers("run --locked --release --package check", ""),
            ],
        )
        .needs(&["node", "npm"]),
        Step::new(
            "dependencies",
            "licences, bans and sources of everything we link",
            vec![
                Invocation::new("tests/check/install cargo-deny 0.20.2"),
                cargo("deny --offline --all-features check licenses bans sources"),
            ],
        ),
        Step::new(
            "fuzz",
            "each target for two minutes and a million executions",
            vec![Invocation::new("tests/check/install cargo-fuzz 0.13.2"), Invocation::new("fuzz/run")],
        )
        .needs(&["c++"]),
    ]);
    steps
}

fn cargo(arguments: &str) -> Invocation {
    Invocation::new(&format!("cargo {arguments}"))
}

/// In the workspace of the peers, whose own target directory `peers.toml` names.
fn peers(command: &str, end: &str) -> Invocation {
    let (subcommand, arguments) = command.split_once(' ').unwrap_or((command, ""));
    cargo(&format!("{subcommand} --manifest-path perf/peers/Cargo.toml {arguments} {end}"))
        .env("CARGO_TARGET_DIR", "perf/peers/target")
}

/// The sanitizer's runtime comes with the stable compiler; only the flag that links it is not stable.
fn sanitized(arguments: &str) -> Invocation {
    cargo(&format!("{arguments} --target x86_64-unknown-linux-gnu"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("CARGO_TARGET_DIR", "target/sanitized")
}
