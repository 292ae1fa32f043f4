//! Tests of the probe: refusals, limits and advice on machines we do not have.

use super::facts::{Limit, ancestors, field};
use super::*;

fn eperm() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error())
}

fn machine() -> Facts {
    Facts {
        kernel_release: "6.12.9-amd64".to_owned(),
        nofile: Limit { soft: Some(1 << 20), hard: Some(1 << 20) },
        somaxconn: Some(4096),
        syn_backlog: Some(4096),
        congestion_available: vec!["reno".to_owned(), "cubic".to_owned()],
        memory_available: Some(16 << 30),
        memory_budget: Some(16 << 30),
        tcp_mem_pages: Some(1000),
        page_bytes: 4096,
        cores: 2,
        ..Facts::default()
    }
}

fn report_of(facts: Facts) -> Report {
    aimed_at(facts, None)
}

fn aimed_at(facts: Facts, target: Option<u64>) -> Report {
    Report { facts, io_uring: Ok(Features::default()), encoders: Vec::new(), target }
}

#[test]
fn refusal_names_who_and_how_to_allow() {
    let disabled = |value| Facts { io_uring_disabled: Some(value), ..machine() };
    let filtered = Facts { seccomp_filter: true, ..machine() };
    let contained = Facts { container: Some("docker"), ..filtered.clone() };
    let errno = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
    for (error, facts, by, remedy) in [
        (eperm(), disabled(2), "io_uring_disabled = 2", "kernel.io_uring_disabled=0"),
        (eperm(), disabled(1), "only CAP_SYS_ADMIN and no group", "kernel.io_uring_group="),
        (eperm(), filtered.clone(), "seccomp filter", "SystemCallFilter"),
        (eperm(), contained.clone(), "container (docker)", "--security-opt seccomp"),
        (errno(rustix::io::Errno::NOSYS), contained, "container (docker)", "--security-opt"),
        (errno(rustix::io::Errno::NOSYS), machine(), "built without", "CONFIG_IO_URING"),
        (eperm(), machine(), "security module", "ausearch"),
        (errno(rustix::io::Errno::INVAL), machine(), "lacks a flag", "6.12"),
        (errno(rustix::io::Errno::NOMEM), machine(), "memory limit", "ulimit -l"),
        (errno(rustix::io::Errno::MFILE), machine(), "open files", "ulimit -n"),
    ] {
        let refusal = Refusal::explain(&error, &facts);
        assert!(refusal.by.contains(by), "{error}: {refusal}");
        assert!(refusal.remedy.contains(remedy), "{error}: {refusal}");
        assert!(!refusal.to_string().contains('\n'), "{refusal}");
    }
}

#[test]
fn kernel_floor() {
    for (release, usable) in [
        ("6.12.0", true),
        ("6.11.99-generic", false),
        ("5.15", false),
        ("6.18.44-x", true),
        ("7.0-rc1", true),
        ("strange", true),
    ] {
        let report = report_of(Facts { kernel_release: release.to_owned(), ..machine() });
        assert_eq!(report.is_usable(), usable, "{release}");
        assert_eq!(report.advice().is_empty(), usable, "{release}");
    }
}

#[test]
fn a_good_machine_needs_nothing_and_a_small_one_is_told() {
    assert_eq!(report_of(machine()).advice(), []);
    let small = Facts {
        nofile: Limit { soft: Some(1024), hard: Some(20_000) },
        memlock: Limit { soft: Some(1), hard: Some(8 << 20) },
        somaxconn: Some(128),
        syn_backlog: Some(64),
        conntrack_max: Some(65_536),
        congestion_available: vec!["reno".to_owned()],
        ..machine()
    };
    let report = report_of(small);
    assert_eq!(report.advice().len(), 7);
    let text = report.to_string();
    for part in ["LimitNOFILE", "ulimit -n", "LimitMEMLOCK", "somaxconn=4096", "modprobe"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// The lowest bound, and which it is.
fn lowest(facts: Facts) -> (u64, String) {
    let bounds = report_of(facts).bounds();
    assert!(bounds.is_sorted_by_key(|bound| bound.connections));
    let first = bounds.into_iter().next().expect("there always is one");
    (first.connections, first.what.split(':').next().unwrap_or_default().to_owned())
}

#[test]
fn the_lowest_bound_ends_it() {
    // 55 % of 16 GiB at 4,352 B.
    assert_eq!(lowest(machine()), (2_171_169, "memory".to_owned()));
    let taken = Facts { memory_available: Some(1 << 30), ..machine() };
    assert_eq!(lowest(taken), (215_883, "free memory now".to_owned()));
    let small =
        |soft, hard| Facts { nofile: Limit { soft: Some(soft), hard: Some(hard) }, ..machine() };
    assert_eq!(lowest(small(1024, 20_000)), (2 * 128 * 1024, "slots".to_owned()));
    // With its hard limit this machine holds more than its memory does: cells get around it.
    assert_eq!(lowest(small(20_000, 20_000)).1, "memory");
    let tracked = Facts { conntrack_max: Some(65_536), conntrack_count: Some(1), ..machine() };
    assert_eq!(lowest(tracked.clone()).0, 65_536);
    // The module is there, but no rule makes it track anything.
    assert_eq!(lowest(Facts { conntrack_count: Some(0), ..tracked }).1, "memory");
    let unknown = Facts { memory_available: None, memory_budget: None, ..machine() };
    assert_eq!(lowest(unknown.clone()), (8_000_000, "tables".to_owned()));
    assert!(report_of(unknown).to_string().contains("unknown"));
    let text = report_of(machine()).to_string();
    assert!(text.contains("     2171169  memory: 55 % of a budget of 16 GiB"), "{text}");
    assert!(text.contains("1000 connections can have data queued"), "{text}");
}

/// What is said to who wants so many.
fn advice_for(facts: Facts, target: u64) -> String {
    let lines = |advice: &Advice| format!("{}\n{}\n", advice.why, advice.commands);
    aimed_at(facts, Some(target)).advice().iter().map(lines).collect()
}

#[test]
fn a_target_gets_the_lines_that_are_missing_and_no_others() {
    let roomy = Facts { tcp_mem_pages: Some(1 << 30), ..machine() };
    assert_eq!(advice_for(roomy.clone(), 1_000_000), "");
    // More than its share of the budget, but not of the budget.
    let text = advice_for(roomy.clone(), 3_000_000);
    assert!(text.contains("connections_percent = 76\nhistory_percent = 6\n"), "{text}");
    let text = advice_for(roomy.clone(), 5_000_000);
    assert!(
        text.contains("no setting gives that here") && text.contains("of about 29 GiB"),
        "{text}"
    );
    assert!(text.contains("3355443 connections fit here"), "{text}");

    let limited = |hard| Facts {
        nofile: Limit { soft: Some(hard), hard: Some(hard) },
        nr_open: Some(1 << 17),
        ..roomy.clone()
    };
    // A hard limit of 20,000 is no obstacle for 2,000,000 on two shards.
    let text = advice_for(limited(20_000), 2_000_000);
    assert!(
        text.contains("opens 50 rings by itself") && text.contains("nothing has to be done"),
        "{text}"
    );
    assert!(text.contains("sysctl -w fs.nr_open=1048576"), "{text}");
    let text = advice_for(limited(1_000), 2_000_000);
    assert!(
        text.contains("a ring needs 7813 slots") && text.contains("LimitNOFILE=8192"),
        "{text}"
    );
    assert!(!text.contains("ulimit") && !text.contains("nr_open"), "{text}");
    let root = Facts { may_raise: true, ..limited(1_000) };
    assert!(advice_for(root, 2_000_000).contains("ulimit -Hn 8192; ulimit -n 8192"));

    let others = Facts {
        conntrack_max: Some(65_536),
        file_max: Some(100_000),
        port_range: Some((32_768, 60_999)),
        tcp_mem_pages: Some(575_802),
        ..roomy
    };
    let text = advice_for(others, 2_000_000);
    for part in [
        "nf_conntrack_max=2500000",
        "fs.file-max=2500000",
        "71 such pairs",
        "tcp_mem allows 575802",
        "there is too little memory for that",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = advice_for(Facts { tcp_mem_pages: Some(575_802), ..machine() }, 1_000_000);
    assert!(text.contains("net.ipv4.tcp_mem=\"625000 937500 1250000\""), "{text}");
    let shown = aimed_at(machine(), Some(3_000_000)).to_string();
    assert!(shown.contains("3000000 connections do not fit as it is"), "{shown}");
}

#[test]
fn a_group_is_in_all_above_it() {
    assert_eq!(ancestors("/a/b.slice").collect::<Vec<_>>(), ["/a/b.slice", "/a", ""]);
    assert_eq!(ancestors("/").collect::<Vec<_>>(), [""]);
}

#[test]
fn refused_machine_says_so() {
    let facts = Facts { io_uring_disabled: Some(2), ..machine() };
    let io_uring = Err(Refusal::explain(&eperm(), &facts));
    let report = Report { facts, io_uring, encoders: vec!["av1 (rav1e)".to_owned()], target: None };
    assert!(!report.is_usable());
    let text = report.to_string();
    assert!(text.contains("REFUSED") && text.contains("sysctl -w") && text.contains("rav1e"));
}

#[test]
fn this_machine_can_be_read() {
    let facts = Facts::read();
    assert!(facts.kernel_version().is_some(), "{}", facts.kernel_release);
    assert!(facts.memory_available.is_some_and(|bytes| bytes > 1 << 20));
    assert!(facts.tcp_mem_bytes().is_some() && facts.port_range.is_some());
    assert!(facts.page_bytes >= 4096 && facts.cores > 0);
    println!("{}", report(|| Ok(Features::default()), Vec::new(), Some(2_000_000)));
    assert!(memory_budget_bytes().is_some_and(|bytes| bytes > 1 << 26));
    assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    assert!(tcp_queued_bytes().is_some());
}

#[test]
fn fields_of_proc_files() {
    assert_eq!(field("A: 1\nSeccomp:\t2\n", "Seccomp:"), Some(2));
    assert_eq!(field("MemAvailable:   1234 kB", "MemAvailable:"), Some(1234));
    assert_eq!(field("x", "Seccomp:"), None);
}
