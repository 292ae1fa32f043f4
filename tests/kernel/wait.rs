//! Waiting: how long, for how much, who may wake it; and a submission queue that is too short.

use crate::rig::{POLLED, Rig, at_most, options, read};
use headwater::ring::{Completion, Gathers, Op, Options, Ring, Wait};
use std::io::Write as _;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_wait_lasts_as_long_as_it_was_asked_to() {
    let Some(mut rig) = Rig::open() else { return };
    rig.look();
    for milliseconds in [1, 20, 70] {
        let timeout = Duration::from_millis(milliseconds);
        let (started, before) = (Instant::now(), rig.ring.now().monotonic);
        rig.enter(at_most(timeout));
        assert!(started.elapsed() >= timeout, "{:?} of {timeout:?}", started.elapsed());
        assert!(rig.ring.now().monotonic.since(before) >= timeout);
        assert!(rig.take_arrived().is_empty());
    }
}

#[test]
fn a_wait_of_no_time_only_looks() {
    let Some(mut rig) = Rig::open() else { return };
    let started = Instant::now();
    for _ in 0..100 {
        rig.enter(Wait {
            timeout: Duration::ZERO,
            completions: 100,
            batch: LONG,
            gathers: Gathers::Nothing,
        });
    }
    assert!(started.elapsed() < LONG);
    assert!(rig.take_arrived().is_empty());
}

#[test]
fn a_completion_ends_a_wait() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"hello").unwrap();
    let started = Instant::now();
    rig.enter(at_most(LONG));
    assert!(started.elapsed() < LONG / 2);
    rig.readable(token);
}

#[test]
fn a_batch_of_one_is_enough_after_the_batch_time() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    rig.look();
    peer.write_all(b"hello").unwrap();
    let started = Instant::now();
    rig.enter(Wait {
        timeout: LONG,
        completions: 32,
        batch: Duration::from_millis(2),
        gathers: Gathers::Nothing,
    });
    assert!(started.elapsed() < LONG / 2, "one completion was there, and it waited for 32");
    assert_eq!(rig.take_arrived().len(), 1);
}

#[test]
fn a_batch_that_is_whole_does_not_wait_for_the_batch_time() {
    let Some(mut rig) = Rig::open() else { return };
    let mut connections: Vec<_> = (0..60).map(|_| rig.connect()).collect();
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    rig.look();
    for (peer, ..) in &mut connections {
        peer.write_all(b"hello").unwrap();
    }
    let started = Instant::now();
    rig.enter(Wait { timeout: LONG, completions: 60, batch: LONG, gathers: Gathers::Nothing });
    assert!(started.elapsed() < LONG / 2);
    // One enter runs 20 deferred completions unless more are waited for.
    assert_eq!(rig.take_arrived().len(), 60);
}

#[test]
fn a_batch_without_a_bound_lasts_until_the_timeout() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    rig.look();
    peer.write_all(b"hello").unwrap();
    let (started, timeout) = (Instant::now(), Duration::from_millis(50));
    rig.enter(Wait { timeout, completions: 2, batch: Duration::ZERO, gathers: Gathers::Nothing });
    assert!(started.elapsed() >= timeout);
    assert_eq!(rig.take_arrived().len(), 1);
}

#[test]
fn a_doorbell_of_another_thread_wakes_a_sleeper_every_time() {
    let Some(mut rig) = Rig::open() else { return };
    let doorbell = rig.ring.doorbell();
    let (told, tell) = std::sync::mpsc::channel::<()>();
    let ringing = std::thread::spawn(move || {
        for () in tell {
            doorbell.ring();
        }
    });
    let started = Instant::now();
    for _ in 0..500 {
        told.send(()).unwrap();
        rig.enter(at_most(LONG));
        let arrived = rig.take_arrived();
        assert!(!arrived.is_empty(), "a doorbell was not heard");
        assert!(arrived.iter().all(|completion| matches!(completion, Completion::Doorbell)));
    }
    assert!(started.elapsed() < LONG, "a doorbell was heard late");
    drop(told);
    ringing.join().unwrap();
}

#[test]
fn a_doorbell_that_rang_before_the_wait_is_heard() {
    let Some(mut rig) = Rig::open() else { return };
    // Before the first enter, so before anything listens to it; and many times at once.
    let doorbell = rig.ring.doorbell();
    for _ in 0..1000 {
        doorbell.ring();
    }
    let started = Instant::now();
    rig.enter(at_most(LONG));
    assert!(started.elapsed() < LONG / 2);
    assert!(!rig.take_arrived().is_empty());
    drop(rig);
    doorbell.ring();
}

#[test]
fn a_full_submission_queue_is_submitted_by_the_push() {
    let Some(mut rig) = Rig::with(Options { submission_entries: 8, ..options() }) else { return };
    let mut connections: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    let before = rig.ring.counters();
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    assert_eq!(rig.ring.counters().submitted - before.submitted, 100);
    for (peer, ..) in &mut connections {
        peer.write_all(b"hello").unwrap();
    }
    for (_, socket, token) in &connections {
        assert_eq!(rig.readable(*token), (true, None));
        rig.push(Op::Receive { socket: *socket, token: *token });
        assert_eq!(rig.received(*token).0, Ok(b"hello".to_vec()));
    }
    // A close is a chain of two entries, which must not be torn at the end of the queue.
    for (_, socket, token) in &connections {
        rig.push(Op::Close { socket: *socket, token: *token, armed: POLLED });
    }
    for (peer, socket, token) in &mut connections {
        rig.closed(*token, *socket);
        assert_eq!(read(peer, &mut [0]).unwrap(), 0);
    }
}

#[test]
fn counters_count() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.look();
    let before = rig.ring.counters();
    peer.write_all(b"hello").unwrap();
    assert_eq!(rig.receive_exactly(socket, token, 5), b"hello");
    let after = rig.ring.counters();
    assert!(after.enters > before.enters);
    assert_eq!(after.submitted - before.submitted, after.completed - before.completed);
    assert_eq!((after.overflows, after.leases_out), (0, 0));
}

#[test]
fn the_clock_goes_on() {
    let Some(rig) = Rig::open() else { return };
    let first = rig.ring.now();
    let second = rig.ring.now();
    assert!(second.monotonic >= first.monotonic);
    assert!(first.wall.unix_seconds() > 1_700_000_000);
}
