//! Closing: with ops in flight, with bytes unread, after a shutdown; and the end of the whole ring.

use crate::rig::{POLLED, QUIET, Rig, UNARMED, pattern, peer, read, spans, wait_until_closed};
use headwater::ring::{Armed, Completion, Failure, Op, Ring, Socket, Token};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

const ALL: Armed = Armed { poll: true, writable: true, receive_many: true };

/// Arms everything that can be armed on a socket; the wait for room needs a peer that does not read.
fn arm_all(rig: &mut Rig, socket: Socket, token: Token) {
    rig.poll(socket, token);
    rig.push(Op::ReceiveMany { socket, token });
    let message = vec![1; 1 << 20];
    while rig.send(socket, token, spans(&[&message])).0 != Err(Failure::WouldBlock) {}
    rig.push(Op::PollWritable { socket, token });
    rig.look();
}

/// Reads until the end of the stream, and says how it ended.
fn end_of(mut peer: TcpStream) -> Result<(), ErrorKind> {
    let mut sink = vec![0; 1 << 16];
    loop {
        match read(&mut peer, &mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.kind()),
        }
    }
}

#[test]
fn a_close_with_everything_armed_reaches_the_peer_at_once() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    arm_all(&mut rig, socket, token);
    rig.close(socket, token, ALL);
    assert_eq!(end_of(peer), Ok(()));
    let (mut polls, mut receives, mut rooms) = (0, 0, 0);
    for completion in rig.take_arrived() {
        match completion {
            Completion::Readable { token: late, more, failure, .. } => {
                assert_eq!((late, more, failure), (token, false, Some(Failure::Canceled)));
                polls += 1;
            }
            Completion::ReceiveManyEnded { token: late, failure } => {
                assert_eq!((late, failure), (token, Some(Failure::Canceled)));
                receives += 1;
            }
            Completion::Writable { token: late } => {
                assert_eq!(late, token);
                rooms += 1;
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }
    assert_eq!((polls, receives, rooms), (1, 1, 1), "each op tells its end once");
    rig.expect_no_lease_out();
}

#[test]
fn a_slot_is_used_again_and_late_completions_name_the_old_connection() {
    let Some(mut rig) =
        Rig::with(headwater::ring::Options { slots_per_cell: 1, ..crate::rig::options() })
    else {
        return;
    };
    let mut previous = None;
    for round in 0..20 {
        let (mut peer, socket, token) = rig.connect();
        assert_ne!(previous, Some(token));
        rig.poll(socket, token);
        rig.push(Op::ReceiveMany { socket, token });
        rig.look();
        let message = pattern(round, 100);
        peer.write_all(&message).unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < message.len() {
            let lease = rig.wait_for("bytes of this connection", |completion| match completion {
                Completion::ReceivedMany { token: found, lease, .. } => {
                    assert_eq!(found, token, "the slot's former connection got bytes");
                    Ok(lease)
                }
                other => Err(other),
            });
            bytes.extend_from_slice(lease.filled());
            rig.ring.release(lease);
        }
        assert_eq!(bytes, message);
        // Closed in the batch in which the peer's end arrives.
        drop(peer);
        rig.close(socket, token, Armed { writable: false, ..ALL });
        for completion in rig.take_arrived() {
            let (Completion::Readable { token: late, .. }
            | Completion::ReceiveManyEnded { token: late, .. }) = completion
            else {
                panic!("nobody asked for {completion:?}");
            };
            assert_eq!(late, token);
        }
        previous = Some(token);
    }
    rig.expect_no_lease_out();
}

/// What `Armed` is for: the kernel keeps a socket open for the ops that are armed on it.
#[test]
fn a_close_that_forgets_an_armed_op_does_not_reach_the_peer() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.push(Op::ReceiveMany { socket, token });
    rig.look();
    rig.close(socket, token, UNARMED);
    peer.set_read_timeout(Some(QUIET)).unwrap();
    let error = read(&mut peer, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the peer was told after all");
    // The old op still receives; it names the old connection.
    peer.write_all(b"late").unwrap();
    let lease = rig.wait_for("late bytes", |completion| match completion {
        Completion::ReceivedMany { token: late, lease, .. } if late == token => Ok(lease),
        other => Err(other),
    });
    assert_eq!(lease.filled(), b"late");
    rig.ring.release(lease);
    rig.push(Op::CancelReceiveMany { socket, token });
    // The socket is let go of when the work that the cancel left behind has run.
    rig.wait_for("end of the forgotten op", |completion| match completion {
        Completion::ReceiveManyEnded { failure: Some(Failure::Canceled), .. } => Ok(()),
        other => Err(other),
    });
    peer.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
    assert_eq!(end_of(peer), Ok(()), "the cancel lets go of the socket");
}

#[test]
fn a_cancel_that_finds_nothing_does_not_stop_the_close() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    rig.close(socket, token, ALL);
    assert_eq!(end_of(peer), Ok(()));
    assert!(rig.take_arrived().is_empty(), "cancels are silent");
}

#[test]
fn a_close_in_the_batch_of_its_last_send_comes_after_it() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    rig.push(Op::Send { socket, token, spans: spans(&[b"good", b"bye"]) });
    rig.push(Op::Close { socket, token, armed: POLLED });
    rig.closed(token, socket);
    let mut read = String::new();
    peer.read_to_string(&mut read).unwrap();
    assert_eq!(read, "goodbye");
}

/// TCP's way (RFC 9293 3.6.1): who closes with bytes unread resets the connection, and the peer may
/// lose what it had not read. That is why the shard shuts down and lingers first.
#[test]
fn a_close_with_bytes_unread_resets_the_peer() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"unread").unwrap();
    rig.readable(token);
    rig.close(socket, token, POLLED);
    assert_eq!(end_of(peer), Err(ErrorKind::ConnectionReset));
}

#[test]
fn after_a_shutdown_the_peer_reads_everything_and_may_still_send() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    peer.write_all(b"unread").unwrap();
    rig.readable(token);
    assert_eq!(rig.send(socket, token, spans(&[b"goodbye"])).0, Ok(7));
    rig.push(Op::Shutdown { socket, token });
    rig.wait_for("end of the shutdown", |completion| match completion {
        Completion::ShutDown { token: found } if found == token => Ok(()),
        other => Err(other),
    });
    let mut read = String::new();
    peer.read_to_string(&mut read).unwrap();
    assert_eq!(read, "goodbye");

    peer.write_all(b" and more").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.receive_exactly(socket, token, 15), b"unread and more");
    while rig.receive(socket, token).0 != Ok(Vec::new()) {}
    rig.close(socket, token, POLLED);
    assert_eq!(end_of(peer), Ok(()));
}

/// A shutdown runs on a thread of the kernel, so a close may overtake it. The peer must see the end
/// all the same, whichever comes first.
#[test]
fn a_close_that_overtakes_a_shutdown_still_reaches_the_peer() {
    let Some(mut rig) = Rig::open() else { return };
    for _ in 0..50 {
        let (peer, socket, token) = rig.connect();
        rig.poll(socket, token);
        rig.look();
        rig.push(Op::Shutdown { socket, token });
        rig.push(Op::Close { socket, token, armed: POLLED });
        rig.closed(token, socket);
        rig.wait_for("end of the shutdown", |completion| match completion {
            Completion::ShutDown { token: found } if found == token => Ok(()),
            other => Err(other),
        });
        assert_eq!(end_of(peer), Ok(()));
    }
}

#[test]
fn a_slot_that_is_closed_twice_says_so_twice() {
    let Some(mut rig) = Rig::open() else { return };
    let (_peer, socket, token) = rig.connect();
    rig.close(socket, token, UNARMED);
    rig.close(socket, token, UNARMED);
}

#[test]
fn dropping_the_ring_with_ops_in_flight_ends_every_connection() {
    let Some(mut rig) = Rig::open() else { return };
    let mut peers = Vec::new();
    for number in 0..20 {
        let (mut peer, socket, token) = rig.connect();
        arm_all(&mut rig, socket, token);
        if number % 2 == 0 {
            peer.write_all(&pattern(number, 3000)).unwrap();
        }
        peers.push(peer);
    }
    let (peer, socket, token) = rig.connect();
    peers.push(peer);
    // Some completions are reaped and hold leases, some are not reaped, some ops are not submitted.
    rig.look();
    let held: Vec<_> = std::iter::from_fn(|| {
        rig.find(|completion| match completion {
            Completion::ReceivedMany { lease, .. } => Ok(lease),
            other => Err(other),
        })
    })
    .collect();
    assert!(!held.is_empty());
    let before: Vec<Vec<u8>> = held.iter().map(|lease| lease.filled().to_vec()).collect();
    rig.push(Op::Receive { socket, token });
    rig.push(Op::Send { socket, token, spans: spans(&[b"never", b"sent"]) });
    rig.push(Op::Close { socket, token, armed: UNARMED });
    drop(rig);
    for peer in peers {
        // With bytes unread on our side the end is a reset.
        assert!(matches!(end_of(peer), Ok(()) | Err(ErrorKind::ConnectionReset)));
    }
    let after: Vec<Vec<u8>> = held.iter().map(|lease| lease.filled().to_vec()).collect();
    assert!(before == after, "the kernel wrote into a lease that was out");
}

#[test]
fn dropping_the_ring_closes_its_listener() {
    let Some(mut rig) = Rig::open() else { return };
    rig.accept_on(0);
    let _connected = peer(rig.address);
    rig.accepted();
    let address = rig.address;
    drop(rig);
    wait_until_closed(address);
}
