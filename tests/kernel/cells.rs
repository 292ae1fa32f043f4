//! Several rings behind one eventfd: the thread sleeps in the first and hears of all.

use crate::rig::{LISTENER, PATIENCE, POLLED, Rig, at_most, options, pattern, peer, read, spans};
use headwater::ring::{
    AcceptCount, Armed, Completion, Failure, Op, Options, Ring, RingError, Socket, Token, Wait,
};
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn cells_open_up_to_their_bound() {
    let Some(mut rig) = Rig::with(Options { cells_max: 3, ..options() }) else { return };
    let before = rig.ring.resident_bytes();
    assert_eq!(rig.ring.open_cell().unwrap(), 1);
    assert_eq!(rig.ring.open_cell().unwrap(), 2);
    let refused = rig.ring.open_cell();
    assert!(matches!(refused, Err(RingError::CellsExhausted(3))), "{refused:?}");
    assert!(rig.ring.resident_bytes() > before);
    // What was refused changed nothing.
    let (_peer, socket, token) = rig.connect_on(2);
    assert_eq!(rig.send(socket, token, spans(&[b"hello"])).0, Ok(5));
}

#[test]
fn accepting_moves_to_the_next_cell_with_the_listener_open() {
    let Some(mut rig) = Rig::with(Options { slots_per_cell: 8, ..options() }) else { return };
    let mut connections: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    rig.push(Op::CancelAccept { listener: LISTENER, cell: 0 });
    assert_eq!(rig.accept_ended(), Failure::Canceled);
    let cell = rig.ring.open_cell().unwrap();
    // Whoever comes meanwhile waits in the backlog.
    let waiting: Vec<_> = (0..4).map(|_| peer(rig.address)).collect();
    rig.accept_on(cell);
    for peer in waiting {
        let socket = rig.accepted();
        assert_eq!(socket.cell(), cell);
        let token = rig.token();
        connections.push((peer, socket, token));
    }
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    for (number, (peer, socket, token)) in connections.iter_mut().enumerate() {
        let message = pattern(number as u64, 100);
        peer.write_all(&message).unwrap();
        rig.readable(*token);
        assert_eq!(rig.receive_exactly(*socket, *token, 100), message);
        assert_eq!(rig.send(*socket, *token, spans(&[&message])).0, Ok(100));
        let mut echo = vec![0; 100];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(echo, message);
    }
    for (mut peer, socket, token) in connections {
        rig.close(socket, token, POLLED);
        assert_eq!(read(&mut peer, &mut [0]).unwrap(), 0);
    }
}

#[test]
fn the_same_slot_of_two_cells_is_two_sockets() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut first_peer, first, first_token) = rig.connect();
    rig.push(Op::CancelAccept { listener: LISTENER, cell: 0 });
    rig.accept_ended();
    let cell = rig.ring.open_cell().unwrap();
    let (mut second_peer, second, second_token) = rig.connect_on(cell);
    assert_eq!(first.slot(), second.slot());
    assert_ne!(first, second);
    assert_eq!(rig.send(first, first_token, spans(&[b"first"])).0, Ok(5));
    assert_eq!(rig.send(second, second_token, spans(&[b"second"])).0, Ok(6));
    for (peer, expected) in [(&mut first_peer, &b"first"[..]), (&mut second_peer, b"second")] {
        let mut read = vec![0; expected.len()];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(read, expected);
    }
    rig.close(first, first_token, Armed::default());
    assert_eq!(read(&mut first_peer, &mut [0]).unwrap(), 0);
    assert_eq!(rig.send(second, second_token, spans(&[b"still"])).0, Ok(5));
}

/// The thread sleeps in cell 0 while bytes arrive for the others, one cell after the other.
#[test]
fn what_arrives_for_any_cell_wakes_the_sleeper_every_time() {
    let Some(mut rig) = Rig::open() else { return };
    let mut connections = vec![rig.connect()];
    for _ in 0..3 {
        let cell = rig.ring.open_cell().unwrap();
        connections.push(rig.connect_on(cell));
    }
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    rig.look();
    rig.take_arrived();
    let mut writers: Vec<_> =
        connections.iter().map(|(peer, ..)| peer.try_clone().unwrap()).collect();
    let (told, tell) = mpsc::channel::<usize>();
    let writing = std::thread::spawn(move || {
        for number in tell {
            writers[number].write_all(&[number as u8]).unwrap();
        }
    });
    let started = Instant::now();
    for round in 0..400_usize {
        let number = round * 7 % connections.len();
        let (_, socket, token) = connections[number];
        told.send(number).unwrap();
        // The timeout is longer than all rounds may take: a wake-up that is lost is seen.
        while rig
            .find(|completion| match completion {
                Completion::Readable { token: found, more, failure, .. } if found == token => {
                    assert_eq!((more, failure), (true, None));
                    Ok(())
                }
                Completion::Doorbell => Err(Completion::Doorbell),
                other => panic!("nobody asked for {other:?}"),
            })
            .is_none()
        {
            rig.enter(at_most(PATIENCE));
        }
        assert_eq!(rig.receive_exactly(socket, token, 1), [number as u8]);
        rig.take_arrived();
    }
    assert!(started.elapsed() < PATIENCE, "a sleeper was not woken");
    drop(told);
    writing.join().unwrap();
}

#[test]
fn cells_have_receive_buffers_of_their_own() {
    let options = Options { ring_buffers: 2, ring_buffer_bytes: 64, ..options() };
    let Some(mut rig) = Rig::with(options) else { return };
    let first = rig.connect();
    rig.push(Op::CancelAccept { listener: LISTENER, cell: 0 });
    rig.accept_ended();
    let cell = rig.ring.open_cell().unwrap();
    let second = rig.connect_on(cell);
    let mut held = Vec::new();
    let mut exhaust = |rig: &mut Rig, connection: &(std::net::TcpStream, Socket, Token)| {
        let (mut peer, socket, token) = (&connection.0, connection.1, connection.2);
        peer.write_all(&[connection.1.cell(); 200]).unwrap();
        rig.push(Op::ReceiveMany { socket, token });
        loop {
            let (result, _) =
                rig.wait_for("received bytes", |completion| crate::rig::arrival(completion, token));
            match result {
                Ok(lease) => held.push(lease.expect("bytes")),
                Err(failure) => {
                    assert_eq!(failure, Failure::NoBuffers);
                    return;
                }
            }
        }
    };
    exhaust(&mut rig, &first);
    exhaust(&mut rig, &second);
    let bytes: Vec<Vec<u8>> = held.iter().map(|lease| lease.filled().to_vec()).collect();
    assert_eq!(bytes, [vec![0; 64], vec![0; 64], vec![1; 64], vec![1; 64]]);
    // Each goes back to the cell it came from, whatever the order.
    for lease in held.into_iter().rev() {
        rig.ring.release(lease);
    }
    for (_, socket, token) in [&first, &second] {
        rig.push(Op::ReceiveMany { socket: *socket, token: *token });
        let lease = rig.wait_for("received bytes", |completion| match completion {
            Completion::ReceivedMany { token: found, lease, .. } if found == *token => Ok(lease),
            other => Err(other),
        });
        assert_eq!(lease.filled(), [socket.cell(); 64]);
        rig.ring.release(lease);
    }
}

/// A wake-up through the eventfd costs a bounded number of enters, and then the thread sleeps again.
#[test]
fn a_woken_ring_goes_back_to_sleep() {
    let Some(mut rig) = Rig::open() else { return };
    let cell = rig.ring.open_cell().unwrap();
    let (mut peer, socket, token) = rig.connect_on(cell);
    rig.poll(socket, token);
    rig.look();
    for _ in 0..20 {
        peer.write_all(b"x").unwrap();
        rig.readable(token);
        rig.receive_exactly(socket, token, 1);
    }
    rig.take_arrived();
    let before = rig.ring.counters().enters;
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        rig.enter(at_most(Duration::from_millis(100)));
    }
    let enters = rig.ring.counters().enters - before;
    assert!(enters < 12, "{enters} enters while nothing happened");
}

/// An enter does only some of the work that the kernel put off, and what a poll was woken for may be gone by then.
#[test]
fn nobody_sleeps_while_work_of_another_cell_was_left_over() {
    let options =
        Options { submission_entries: 256, slots_per_cell: 512, leases: 200, ..options() };
    let Some(mut rig) = Rig::with(options) else { return };
    let cell = rig.ring.open_cell().unwrap();
    let mut connections: Vec<_> = (0..200).map(|_| rig.connect_on(cell)).collect();
    for (_, socket, token) in &connections {
        rig.poll(*socket, *token);
    }
    rig.look();
    rig.take_arrived();
    for (peer, socket, token) in &mut connections {
        // A poll that was woken once says so in any case.
        peer.write_all(b"x").unwrap();
        peer.write_all(b"x").unwrap();
        rig.push(Op::Receive { socket: *socket, token: *token });
    }
    rig.look();
    for (_, _, token) in &connections {
        assert_eq!(rig.received(*token).0.unwrap(), b"xx");
    }
    // The poll of the last one waits for its turn: it was woken and wakes nobody again.
    let (peer, _, token) = connections.last_mut().unwrap();
    peer.write_all(b"y").unwrap();
    let started = Instant::now();
    while rig
        .find(|completion| match completion {
            Completion::Readable { token: found, .. } if found == *token => Ok(()),
            other => Err(other),
        })
        .is_none()
    {
        rig.enter(at_most(PATIENCE / 10));
    }
    assert!(started.elapsed() < PATIENCE / 10, "it slept");
}

/// What was looked at, and not wanted, is told behind the next enter as that cell's.
#[test]
fn what_was_looked_at_stays_its_cells() {
    let Some(mut rig) = Rig::open() else { return };
    let cell = rig.ring.open_cell().unwrap();
    let (mut sender, socket, token) = rig.connect_on(cell);
    rig.push(Op::CancelAccept { listener: LISTENER, cell });
    rig.accept_ended();
    rig.push(Op::Accept { listener: LISTENER, cell, count: AcceptCount::One });
    rig.push(Op::ReceiveMany { socket, token });
    rig.look();
    rig.take_arrived();
    let _peer = peer(rig.address);
    sender.write_all(b"hello").unwrap();
    rig.ring.enter(Wait::default()).unwrap();
    let next = |rig: &mut Rig| rig.ring.pop().expect("a completion");
    while !matches!(next(&mut rig), Completion::Accepted { .. }) {}
    assert_eq!(rig.ring.answer_received(9, |_, _| false), 0);
    assert!(matches!(next(&mut rig), Completion::AcceptEnded { .. }));
    rig.ring.enter(Wait::default()).unwrap();
    let Completion::ReceivedMany { lease, .. } = next(&mut rig) else { panic!("not received") };
    assert_eq!(lease.filled(), b"hello");
    rig.ring.release(lease);
    rig.expect_no_lease_out();
}
