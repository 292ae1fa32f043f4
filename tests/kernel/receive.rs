//! A poll that says when, and receives that never wait.

use crate::rig::{POLLED, Rig, UNARMED, options, pattern, reset, spans};
use headwater::ring::{Completion, Failure, Op, Options, Refusal, Refused, Ring};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;

#[test]
fn what_a_poll_announces_is_received_and_sent_back() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    for round in 0..50 {
        let message = pattern(round, 1 + round as usize * 7);
        peer.write_all(&message).unwrap();
        assert_eq!(rig.readable(token), (true, None), "one poll serves every round");
        assert_eq!(rig.receive(socket, token), (Ok(message.clone()), false));
        assert_eq!(rig.send(socket, token, spans(&[&message])).0, Ok(message.len()));
        let mut echo = vec![0; message.len()];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(echo, message);
    }
    rig.expect_no_lease_out();
}

#[test]
fn a_poll_armed_late_announces_what_is_there() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    peer.write_all(b"early").unwrap();
    rig.poll(socket, token);
    assert_eq!(rig.readable(token), (true, None));
    assert_eq!(rig.receive(socket, token).0, Ok(b"early".to_vec()));
}

#[test]
fn a_poll_is_not_repeated_for_what_was_left_unread() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"first").unwrap();
    rig.readable(token);
    // Edge-like: whoever leaves bytes in the socket is not told again until more come.
    rig.expect_quiet("nothing new came");
    peer.write_all(b"second").unwrap();
    rig.readable(token);
    assert_eq!(rig.receive_exactly(socket, token, 11), b"firstsecond");
}

#[test]
fn a_receive_says_whether_more_is_waiting() {
    let Some(mut rig) = Rig::with(Options { lease_bytes: 16, ..options() }) else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    let message = pattern(1, 40);
    peer.write_all(&message).unwrap();
    rig.readable(token);
    assert_eq!(rig.receive(socket, token), (Ok(message[..16].to_vec()), true));
    assert_eq!(rig.receive(socket, token), (Ok(message[16..32].to_vec()), true));
    assert_eq!(rig.receive(socket, token), (Ok(message[32..].to_vec()), false));
}

#[test]
fn a_receive_of_nothing_does_not_wait() {
    let Some(mut rig) = Rig::open() else { return };
    let (_peer, socket, token) = rig.connect();
    assert_eq!(rig.receive(socket, token).0, Err(Failure::WouldBlock));
    rig.expect_no_lease_out();
}

#[test]
fn an_end_of_stream_is_readable_and_empty() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    rig.readable(token);
    assert_eq!(rig.receive_exactly(socket, token, 4), b"last");
    loop {
        match rig.receive(socket, token).0 {
            Ok(bytes) => {
                assert_eq!(bytes, b"");
                break;
            }
            Err(failure) => assert_eq!(failure, Failure::WouldBlock),
        }
        rig.readable(token);
    }
    // The other half still works.
    assert_eq!(rig.send(socket, token, spans(&[b"answer"])).0, Ok(6));
    rig.close(socket, token, POLLED);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    rig.expect_no_lease_out();
}

#[test]
fn a_reset_is_readable_and_a_disconnection() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    rig.look();
    reset(peer);
    // A poll that finds an error may end with it or go on; either way the receive says what it is.
    let (_, failure) = rig.readable(token);
    assert_eq!(failure, None);
    assert_eq!(rig.receive(socket, token).0, Err(Failure::Disconnected));
    rig.close(socket, token, POLLED);
    rig.expect_no_lease_out();
}

#[test]
fn when_all_leases_are_out_the_op_comes_back_unchanged() {
    let Some(mut rig) = Rig::with(Options { leases: 2, ..options() }) else { return };
    let mut connections: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for (number, (peer, ..)) in connections.iter_mut().enumerate() {
        peer.write_all(&[b'a' + number as u8]).unwrap();
    }
    let (first, second, third) = (&connections[0], &connections[1], &connections[2]);
    rig.push(Op::Receive { socket: first.1, token: first.2 });
    rig.push(Op::Receive { socket: second.1, token: second.2 });
    let refused = rig.ring.push(Op::Receive { socket: third.1, token: third.2 });
    let Err(Refused { op: Op::Receive { socket, token }, reason: Refusal::NoLease }) = refused
    else {
        panic!("a third receive went without a lease: {refused:?}");
    };
    assert_eq!((socket, token), (third.1, third.2));
    assert_eq!(rig.ring.counters().leases_out, 2);

    // A lease that is held is out as well as one that is in flight.
    let held = rig.wait_for("received bytes", |completion| match completion {
        Completion::Received { result: Ok(lease), .. } => Ok(lease),
        other => Err(other),
    });
    assert!(rig.ring.push(Op::Receive { socket, token }).is_err());
    rig.ring.release(held);
    assert_eq!(rig.receive(socket, token).0, Ok(b"c".to_vec()));
}

#[test]
fn a_receive_into_a_closed_slot_fails_and_loses_no_lease() {
    let Some(mut rig) = Rig::open() else { return };
    let (_peer, socket, token) = rig.connect();
    rig.close(socket, token, UNARMED);
    let (result, _) = rig.receive(socket, token);
    assert_eq!(result, Err(Failure::Other(rustix::io::Errno::BADF.raw_os_error())));
    rig.expect_no_lease_out();
}
