//! Multishot receives into buffers that the kernel picks, and the four ways they end.

use crate::rig::{Arrival, Rig, UNARMED, arrival, options, pattern, reset};
use headwater::memory::Lease;
use headwater::ring::{Armed, Failure, Op, Options, Ring, Socket, Token};
use std::io::Write as _;
use std::net::Shutdown;

const MANY: Armed = Armed { poll: false, writable: false, receive_many: true };

fn arm(rig: &mut Rig, socket: Socket, token: Token) {
    rig.push(Op::ReceiveMany { socket, token });
}

fn next(rig: &mut Rig, wanted: Token) -> Arrival {
    rig.wait_for("arrival of a multishot receive", |completion| arrival(completion, wanted))
}

/// Receives until `count` bytes are there, gives leases back at once and arms again when it ended.
fn receive_exactly(rig: &mut Rig, socket: Socket, token: Token, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let (result, more) = next(rig, token);
        match result {
            Ok(Some(lease)) => {
                bytes.extend_from_slice(lease.filled());
                rig.ring.release(lease);
            }
            Ok(None) => panic!("the stream ended after {} of {count} bytes", bytes.len()),
            Err(Failure::NoBuffers) => assert!(!more),
            Err(failure) => panic!("{failure:?} after {} of {count} bytes", bytes.len()),
        }
        if !more {
            arm(rig, socket, token);
        }
    }
    bytes
}

#[test]
fn one_receive_brings_everything() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    arm(&mut rig, socket, token);
    rig.look();
    for round in 0..40 {
        let message = pattern(round, 1 + round as usize * 20);
        peer.write_all(&message).unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < message.len() {
            let (result, more) = next(&mut rig, token);
            assert!(more, "it goes on while there are buffers");
            let lease = result.unwrap().expect("bytes");
            bytes.extend_from_slice(lease.filled());
            rig.ring.release(lease);
        }
        assert_eq!(bytes, message);
    }
    rig.expect_no_lease_out();
}

#[test]
fn without_buffers_it_ends_and_nothing_is_lost() {
    let options = Options { ring_buffers: 4, ring_buffer_bytes: 64, ..options() };
    let Some(mut rig) = Rig::with(options) else { return };
    let (mut peer, socket, token) = rig.connect();
    arm(&mut rig, socket, token);
    rig.look();
    let message = pattern(1, 1000);
    peer.write_all(&message).unwrap();

    // All leases are held until the kernel has none left.
    let mut held = Vec::new();
    loop {
        let (result, more) = next(&mut rig, token);
        match result {
            Ok(lease) => held.push(lease.expect("bytes")),
            Err(failure) => {
                assert_eq!((failure, more), (Failure::NoBuffers, false));
                break;
            }
        }
    }
    assert_eq!(held.len(), 4);
    assert_eq!(rig.ring.counters().leases_out, 4);
    let mut bytes: Vec<u8> = held.iter().flat_map(|lease| lease.filled().to_vec()).collect();

    // Armed with nothing to pick from, it fails at once, and takes nothing from the socket.
    arm(&mut rig, socket, token);
    let (result, more) = next(&mut rig, token);
    assert_eq!((result.unwrap_err(), more), (Failure::NoBuffers, false));

    // Buffers that come back do not start it again by themselves.
    for lease in held {
        rig.ring.release(lease);
    }
    rig.expect_quiet("it was not armed again");
    arm(&mut rig, socket, token);
    bytes.extend(receive_exactly(&mut rig, socket, token, message.len() - bytes.len()));
    assert!(bytes == message, "what was received is not what was sent");
    rig.expect_no_lease_out();
}

#[test]
fn buffers_of_a_cell_are_shared_and_come_back_in_any_order() {
    let options = Options { ring_buffers: 8, ring_buffer_bytes: 32, ..options() };
    let Some(mut rig) = Rig::with(options) else { return };
    let mut connections: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for (_, socket, token) in &connections {
        arm(&mut rig, *socket, *token);
    }
    let mut expected: Vec<Vec<u8>> = vec![Vec::new(); 4];
    let mut received: Vec<Vec<u8>> = vec![Vec::new(); 4];
    let mut held: Vec<Lease> = Vec::new();
    for round in 0..60_usize {
        let piece = pattern(round as u64, 1 + round * 3 % 50);
        let number = round * 7 % 4;
        connections[number].0.write_all(&piece).unwrap();
        expected[number].extend_from_slice(&piece);
        while received[number].len() < expected[number].len() {
            let (result, more) = next(&mut rig, connections[number].2);
            match result {
                Ok(lease) => {
                    let lease = lease.expect("bytes");
                    received[number].extend_from_slice(lease.filled());
                    held.push(lease);
                }
                Err(failure) => assert_eq!(failure, Failure::NoBuffers),
            }
            // Some stay out, and the newest and the oldest go back first by turns.
            while held.len() > 3 {
                let lease = if round % 2 == 0 { held.remove(0) } else { held.pop().unwrap() };
                rig.ring.release(lease);
            }
            if !more {
                arm(&mut rig, connections[number].1, connections[number].2);
            }
        }
    }
    assert_eq!(received, expected);
    for lease in held {
        rig.ring.release(lease);
    }
    rig.expect_no_lease_out();
}

#[test]
fn an_end_of_stream_ends_it() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    arm(&mut rig, socket, token);
    rig.look();
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive_exactly(&mut rig, socket, token, 4), b"last");
    let (result, more) = next(&mut rig, token);
    let filled = result.unwrap().map(|lease| {
        let filled = lease.filled().len();
        rig.ring.release(lease);
        filled
    });
    assert!(matches!(filled, None | Some(0)), "an end of stream has no bytes: {filled:?}");
    assert!(!more);
    rig.close(socket, token, UNARMED);
    rig.expect_no_lease_out();
}

#[test]
fn a_reset_ends_it() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    arm(&mut rig, socket, token);
    rig.look();
    reset(peer);
    let (result, more) = next(&mut rig, token);
    assert_eq!((result.unwrap_err(), more), (Failure::Disconnected, false));
    rig.close(socket, token, UNARMED);
    rig.expect_no_lease_out();
}

#[test]
fn a_cancel_ends_it_and_leaves_the_socket_as_it_is() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    arm(&mut rig, socket, token);
    rig.look();
    rig.push(Op::CancelReceiveMany { socket, token });
    let (result, more) = next(&mut rig, token);
    assert_eq!((result.unwrap_err(), more), (Failure::Canceled, false));
    peer.write_all(b"later").unwrap();
    rig.expect_quiet("nothing is armed");
    assert_eq!(rig.receive_exactly(socket, token, 5), b"later");
    // A cancel that finds nothing is silent.
    rig.push(Op::CancelReceiveMany { socket, token });
    rig.expect_quiet("there was nothing to cancel");
    rig.expect_no_lease_out();
}

#[test]
fn it_follows_a_poll_on_the_same_socket() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"hello").unwrap();
    rig.readable(token);
    assert_eq!(rig.receive_exactly(socket, token, 5), b"hello");
    // A connection that turns out to be heavy keeps its poll and gets a multishot receive.
    arm(&mut rig, socket, token);
    rig.look();
    let message = pattern(9, 20_000);
    let mut writer = peer.try_clone().unwrap();
    let copy = message.clone();
    let thread = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    assert!(receive_exactly(&mut rig, socket, token, message.len()) == message);
    thread.join().unwrap();
    rig.close(socket, token, Armed { poll: true, ..MANY });
}
