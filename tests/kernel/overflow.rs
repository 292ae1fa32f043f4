//! More completions at once than the queue holds: multishot ops end, completions are kept, nothing
//! is lost, and the counter says that it happened.

use crate::rig::{POLLED, Rig, options, pattern, peer};
use headwater::ring::{Completion, Failure, Gathers, Op, Options, Ring, Token, Wait};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

/// A completion queue that a handful of connections fill.
const fn narrow() -> Options {
    Options { submission_entries: 8, completion_entries: 8, ..options() }
}

/// Waits for several completions, so that one enter runs more deferred work than the queue holds.
const GREEDY: Wait = Wait {
    timeout: Duration::from_millis(200),
    completions: 64,
    batch: Duration::ZERO,
    gathers: Gathers::Nothing,
};

#[test]
fn polls_that_overflow_are_kept_or_end_and_lose_no_byte() {
    let Some(mut rig) = Rig::with(narrow()) else { return };
    let mut connections: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    rig.look();
    for round in 0..3 {
        for (number, (peer, ..)) in connections.iter_mut().enumerate() {
            peer.write_all(&pattern(number as u64 * 10 + round, 33)).unwrap();
        }
        let mut readable: BTreeMap<Token, bool> = BTreeMap::new();
        while readable.len() < connections.len() {
            rig.enter(GREEDY);
            let arrived = rig.take_arrived();
            assert!(!arrived.is_empty(), "{} polls of 100 said something", readable.len());
            for completion in arrived {
                match completion {
                    Completion::Readable { token, more, failure: None, .. } => {
                        let goes_on = readable.entry(token).or_insert(true);
                        assert!(*goes_on, "a poll that ended says no more");
                        *goes_on = more;
                    }
                    other => panic!("nobody asked for {other:?}"),
                }
            }
        }
        for (number, (_, socket, token)) in connections.iter().enumerate() {
            let expected = pattern(number as u64 * 10 + round, 33);
            assert_eq!(rig.receive_exactly(*socket, *token, 33), expected);
            if !readable[token] {
                rig.poll(*socket, *token);
            }
        }
        rig.take_arrived();
    }
    let overflows = rig.ring.counters().overflows;
    for (_, socket, token) in connections {
        rig.close(socket, token, POLLED);
    }
    rig.expect_no_lease_out();
    assert!(overflows > 0, "completions were kept aside, and the counter does not say so");
}

#[test]
fn an_accept_that_overflows_ends_and_loses_no_connection() {
    let Some(mut rig) = Rig::with(narrow()) else { return };
    let _peers: Vec<_> = (0..60).map(|_| peer(rig.address)).collect();
    rig.accept_on(0);
    let (mut accepted, mut ended) = (0, 0);
    while accepted < 60 {
        rig.enter(GREEDY);
        let arrived = rig.take_arrived();
        assert!(!arrived.is_empty(), "{accepted} of 60 were accepted");
        for completion in arrived {
            match completion {
                Completion::Accepted { .. } => accepted += 1,
                Completion::AcceptEnded { failure, .. } => {
                    assert_eq!(failure, Failure::Canceled, "it ended for no fault of its own");
                    ended += 1;
                    rig.accept_again(0);
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }
    assert!(ended > 0, "60 connections fit into a queue of 8");
}

#[test]
fn a_multishot_receive_that_overflows_ends_and_loses_no_byte() {
    let options = Options { ring_buffers: 64, ring_buffer_bytes: 16, ..narrow() };
    let Some(mut rig) = Rig::with(options) else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.push(Op::ReceiveMany { socket, token });
    rig.look();
    let message = pattern(5, 5000);
    peer.write_all(&message).unwrap();
    let (mut bytes, mut ended) = (Vec::new(), 0);
    while bytes.len() < message.len() {
        let (result, more) =
            rig.wait_for("received bytes", |completion| crate::rig::arrival(completion, token));
        match result {
            Ok(lease) => {
                let lease = lease.expect("bytes");
                bytes.extend_from_slice(lease.filled());
                rig.ring.release(lease);
            }
            Err(failure) => assert_eq!(failure, Failure::NoBuffers),
        }
        if !more {
            ended += 1;
            rig.push(Op::ReceiveMany { socket, token });
        }
    }
    assert!(bytes == message, "what was received is not what was sent");
    assert!(ended > 0, "300 completions fit into a queue of 8");
}

#[test]
fn sends_and_closes_that_overflow_are_all_told() {
    let Some(mut rig) = Rig::with(narrow()) else { return };
    let connections: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    // A queue that is full is entered by the push itself, and nothing is reaped meanwhile.
    for (_, socket, token) in &connections {
        let spans = crate::rig::spans(&[b"one"]);
        rig.push(Op::Send { socket: *socket, token: *token, spans });
    }
    for (_, socket, token) in &connections {
        rig.push(Op::Close { socket: *socket, token: *token, armed: crate::rig::UNARMED });
    }
    for (_, socket, token) in &connections {
        rig.closed(*token, *socket);
    }
    assert_eq!(rig.ring.counters().bytes_sent, 3 * 100);
}

#[test]
fn sends_that_fail_and_overflow_are_told_by_the_enter_that_submitted_them() {
    let Some(mut rig) = Rig::with(narrow()) else { return };
    let connections: Vec<_> = (0..100)
        .map(|number| {
            let (peer, socket, token) = rig.connect();
            rig.poll(socket, token);
            rig.look();
            if number % 2 == 0 {
                crate::rig::reset(peer);
                rig.readable(token);
                return (None, socket, token);
            }
            (Some(peer), socket, token)
        })
        .collect();
    for (_, socket, token) in &connections {
        let spans = crate::rig::spans(&[b"one", b"two"]);
        rig.push(Op::Send { socket: *socket, token: *token, spans });
    }
    rig.look();
    for (peer, _, token) in &connections {
        let (result, unsent) = rig.sent(*token, 6);
        assert_eq!(result.is_ok(), peer.is_some());
        let left: usize = unsent.iter().map(|span| span.len()).sum();
        assert_eq!(left, if peer.is_some() { 0 } else { 6 });
    }
    assert_eq!(rig.ring.counters().bytes_sent, 6 * 50);
}

/// It takes many enters to fetch what one enter kept aside.
#[test]
fn an_overflow_is_counted_once() {
    let Some(mut rig) = Rig::with(narrow()) else { return };
    let mut connections: Vec<_> = (0..60).map(|_| rig.connect()).collect();
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    rig.look();
    let before = rig.ring.counters();
    for (peer, ..) in &mut connections {
        peer.write_all(b"all at once").unwrap();
    }
    let mut told = BTreeMap::new();
    while told.len() < connections.len() {
        rig.enter(GREEDY);
        for completion in rig.take_arrived() {
            let Completion::Readable { token, .. } = completion else { panic!("{completion:?}") };
            told.insert(token, ());
        }
    }
    let after = rig.ring.counters();
    let (enters, overflows) = (after.enters - before.enters, after.overflows - before.overflows);
    println!("{overflows} overflows in {enters} enters");
    for (_, socket, token) in connections {
        rig.close(socket, token, POLLED);
    }
    // An enter runs some of the deferred work, and more of it may overflow once what it kept was fetched.
    assert!(overflows >= 1 && overflows * 3 <= enters, "{overflows} overflows in {enters} enters");
}
