//! Every scenario of the lab once, small: that it runs, and that what it counts is right.
//!
//! In: the lab and the server as Cargo built them side by side. Out: the records that the lab writes, compared with what
//! must hold. 18,000 connections, so that the memory of one is read over thousands, where a process may have 20,000
//! descriptors. Invariants: one scenario at a time, also against other test processes; no time is judged, except by a
//! patience that only a hang exceeds, and what is counted is counted until it is complete, not until a time; nobody has
//! a core of his own (`--anywhere`); whatever was started is ended. How fast anything is: the scenario files.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open};
use serde_json::Value;

/// What a number of the record's result must be.
#[derive(Debug, Clone, Copy)]
enum Must {
    Be(f64),
    AtLeast(f64),
    AtMost(f64),
    /// As another one.
    Equal(&'static str),
}
use Must::{AtLeast, AtMost, Be, Equal};

/// A row is a test: its name, the arguments of `headwater-perf`, and what must hold of the JSON pointers of the result.
macro_rules! scenarios {
    ($($name:ident: $arguments:literal, $holds:expr;)+) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $arguments, &$holds);
        })+
    };
}

scenarios! {
    // Memory is read of connections that nobody pings meanwhile, however long they take to come.
    connections:
        "connections --count 18000 --base 4000 --crowd 12000 --hold-seconds 0.5 --ping-seconds 600 --gate 256",
        [
            ("/held", Be(18_000.0)),
            ("/lost", Be(0.0)),
            ("/crowd", Be(12_000.0)),
            ("/delivered", Equal("/crowd")),
            ("/user_bytes_each", AtMost(256.0)),
        ];
    connections_with_pings:
        "connections --count 18000 --base 4000 --crowd 12000 --hold-seconds 2.5 --ping-seconds 2",
        [
            ("/held", Be(18_000.0)),
            ("/lost", Be(0.0)),
            ("/delivered", Be(12_000.0)),
            ("/pings", AtLeast(18_000.0)),
        ];
    connections_with_deflate:
        "connections --count 18000 --base 4000 --crowd 12000 --hold-seconds 0.5 --ping-seconds 600 --deflate \
         --gate 256",
        [
            ("/held", Be(18_000.0)),
            ("/lost", Be(0.0)),
            ("/delivered", Be(12_000.0)),
            ("/user_bytes_each", AtMost(256.0)),
        ];
    broadcast:
        "broadcast --subscribers 18000 --payload 64 --rounds 1 --seconds 0.5 --warmup 0 --judge 0 --peers none \
         --peers-directory {peers} --any-distance",
        [
            ("/subscribers", Be(18_000.0)),
            // Every byte of every delivery is compared, and each publication reaches all before the next.
            ("/rounds/0/runs/0/messages", AtLeast(18_000.0)),
        ];
    fan_out:
        "fan-out --subscribers 18000 --pairs 1 --deliveries 1 --any-distance --against {server}",
        [
            ("/sizes/0/subscribers", Be(18_000.0)),
            // Each had the first publication byte for byte; of the others every byte is counted.
            ("/sizes/0/checked", Be(18_000.0)),
        ];
    channels:
        "fan-out --subscribers 18000 --channels 180 --pairs 1 --deliveries 1 --any-distance --against {server}",
        [("/sizes/0/checked", Be(18_000.0)), ("/channels", Be(180.0))];
    storm:
        "storm --count 17000 --missed 2 --in-flight 256 --subscribers 100 --seconds 0.3",
        [
            ("/count", Be(17_000.0)),
            // They are all back, and each had what it missed or was told of a gap.
            ("/failed", Be(0.0)),
            ("/lost", Be(0.0)),
            ("/due", AtLeast(34_000.0)),
            ("/received", Equal("/due")),
        ];
    idle_pings:
        "idle-pings --count 18000 --ping-seconds 6 --speak-seconds 0.5 --rounds 1",
        [
            ("/count", Be(18_000.0)),
            ("/lost", Be(0.0)),
            // It ends when all of them were.
            ("/silent", Be(16_200.0)),
            ("/pinged", Equal("/silent")),
            // Who spoke is not pinged; whom the lab let be late does not count.
            ("/spoken", AtLeast(1_800.0)),
            ("/pings_of_speakers", AtMost(180.0)),
        ];
    handshake:
        "handshake --rounds 1 --count 2000 --peers-directory {peers}",
        [
            ("/count", Be(2_000.0)),
            // A subscription and an echo.
            ("/rounds/0/runs/0/messages", AtLeast(2_000.0)),
            ("/rounds/1/runs/0/messages", AtLeast(2_000.0)),
        ];
    together:
        "together --pairs 1 --readers 8000 --reconnecting 8000 --seconds 1 --warmup 0.2 --judge 0 --any-distance",
        [
            // Those that read keep their connection, whatever the others do.
            ("/storms/0/lost", Be(0.0)),
            ("/storms/0/failed", Be(0.0)),
            // Those 800 that stall aside, everybody got something.
            ("/storms/0/deliveries", AtLeast(7_200.0)),
            ("/storms/0/reconnects", AtLeast(1.0)),
        ];
    cross_shard:
        "cross-shard --rates 2000 --crowd 1000 --rounds 1 --seconds 0.05 --warmup 0 --judge 0",
        [
            ("/paces/0/runs/0/costs/messages", AtLeast(1.0)),
            ("/paces/0/runs/7/costs/messages", AtLeast(1.0)),
            ("/paces/2/subscribers", Be(1_000.0)),
            ("/paces/2/runs/0/costs/messages", AtLeast(1_000.0)),
            // The third run goes there and back, the fifth from the shard of the home to the other. There are
            // three publications at least, and the mail of the last one may come after the counting.
            ("/paces/2/runs/2/mail", AtLeast(4.0 / 3.0 - 0.01)),
            ("/paces/2/runs/4/mail", AtLeast(2.0 / 3.0 - 0.01)),
            ("/paces/1/runs/4/costs/messages", AtLeast(1.0)),
        ];
}

fn run(name: &str, arguments: &str, holds: &[(&str, Must)]) {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < DESCRIPTORS_MIN {
        let is_ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
        assert!(!is_ci, "{name}: only {limit} descriptors per process, and CI is set");
        eprintln!("SKIPPED {name}: only {limit} descriptors per process");
        return;
    }
    assert!(
        Path::new(LAB).with_file_name("headwater").exists(),
        "no server beside {LAB}: test the whole workspace, or build it in this profile first"
    );
    let _alone = exclusive();
    let results = scratch("scenarios").join(name);
    // What an earlier run left.
    let _ = fs::remove_dir_all(&results);
    fs::create_dir_all(&results).expect("the target directory is writable");
    let output = results.join("output.txt");
    let peers = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
    let server = Path::new(LAB).with_file_name("headwater");
    let arguments =
        arguments.replace("{peers}", peers).replace("{server}", &server.display().to_string());
    let succeeded = Lab::start(&arguments, &results, &output).succeeds();
    let said = fs::read_to_string(&output).unwrap_or_default();
    assert!(succeeded, "headwater-perf {arguments}\n{said}");

    let result = record(&results).unwrap_or_else(|| panic!("no record was written:\n{said}"));
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64);
    for (pointer, must) in holds {
        let is = number(pointer).unwrap_or_else(|| panic!("{pointer} is no number:\n{said}"));
        let holds = match must {
            Be(value) => (is - value).abs() < f64::EPSILON,
            AtLeast(least) => is >= *least,
            AtMost(most) => is <= *most,
            Equal(other) => number(other).is_some_and(|value| (is - value).abs() < f64::EPSILON),
        };
        assert!(holds, "{pointer} is {is} and must {must:?}\n{said}");
    }
}

/// The result in the only record of a directory.
fn record(results: &Path) -> Option<Value> {
    let files = fs::read_dir(results).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "json"))?;
    let record: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    record.get("result").cloned()
}

/// The running program; told to end, and reaped, when it is dropped.
struct Lab {
    child: Child,
    pid: Pid,
}

impl Lab {
    fn start(arguments: &str, results: &Path, output: &Path) -> Self {
        let file = File::create(output).expect("the target directory is writable");
        let child = Command::new(LAB)
            .args(arguments.split_whitespace())
            .args(["--anywhere", "--results"])
            .arg(results)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .expect("the lab starts");
        let pid = Pid::from_child(&child);
        Self { child, pid }
    }

    fn succeeds(mut self) -> bool {
        self.ends_within(PATIENCE)
            && self.child.try_wait().expect("our child").is_some_and(|status| status.success())
    }

    fn ends_within(&self, time: Duration) -> bool {
        let ended = pidfd_open(self.pid, PidfdFlags::empty()).expect("our child is not reaped yet");
        let timeout = Timespec::try_from(time).expect("a short time");
        let mut polled = [PollFd::new(&ended, PollFlags::IN)];
        poll(&mut polled, Some(&timeout)).expect("a descriptor of our child") > 0
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It ends its server at this; if it cannot, nobody is asked.
            let _ = kill_process(self.pid, Signal::TERM);
            if !self.ends_within(Duration::from_secs(10)) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// A folder for what a test writes, below Cargo's target directory.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// The lock that the end-to-end tests take while they measure memory or keep both cores busy.
fn exclusive() -> File {
    let file = File::create(scratch("e2e").join("exclusive")).expect("the target is writable");
    file.lock().expect("a lock of a file of ours");
    file
}

const LAB: &str = env!("CARGO_BIN_EXE_headwater-perf");
const DESCRIPTORS_MIN: u64 = 19_000;
const PATIENCE: Duration = Duration::from_secs(600);
