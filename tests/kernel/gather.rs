//! Sends of a fan-out that wait for others, so that an enter takes many.

use crate::rig::{LISTENER, Rig, options, read, spans};
use headwater::limits::{GATHERED_SENDS_ENOUGH, GATHERING_ENTERS_MAX};
use headwater::ring::{Cell, Completion, Gathers, Op, Options, Ring, Socket, Token, Wait};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

const GATHERS: Wait = Wait {
    timeout: std::time::Duration::ZERO,
    completions: 1,
    batch: std::time::Duration::ZERO,
    gathers: Gathers::InTurn,
};

/// A rig with a connection on the cell.
fn connected_on(cell: Cell) -> Option<(Rig, TcpStream, Socket, Token)> {
    // The queue has room for more than what is enough.
    let mut rig = Rig::with(Options { submission_entries: 256, ..options() })?;
    for expected in 1..=cell {
        assert_eq!(rig.ring.open_cell().unwrap(), expected);
    }
    let (peer, socket, token) = rig.connect_on(cell);
    // Of the accept nothing is left to be told, which would be a reason to enter.
    rig.look();
    peer.set_nonblocking(true).unwrap();
    Some((rig, peer, socket, token))
}

fn has_nothing(peer: &mut TcpStream) -> bool {
    read(peer, &mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn has(peer: &mut TcpStream, expected: &[u8]) -> bool {
    // On the loopback what was sent is there when the send is over.
    let mut bytes = vec![0; expected.len()];
    peer.read_exact(&mut bytes).is_ok() && bytes == expected && has_nothing(peer)
}

/// Enters after which the peer has what was sent.
fn enters_until_sent(rig: &mut Rig, peer: &mut TcpStream, socket: Socket, token: Token) -> u8 {
    let cell = socket.cell();
    let round = rig.ring.round(cell);
    rig.ring.send_gathered(socket, token, spans(&[b"hello"])).unwrap();
    for enters in 1..=GATHERING_ENTERS_MAX {
        rig.enter(GATHERS);
        if rig.ring.round(cell) != round {
            assert!(has(peer, b"hello"), "what it took is known before it was sent");
            return enters;
        }
        assert!(has_nothing(peer), "it was sent and the round goes on");
    }
    panic!("cell {cell}: it waits longer than it may");
}

#[test]
fn few_sends_wait_but_only_for_some_enters() {
    for cell in [0, 1] {
        let Some((mut rig, mut peer, socket, token)) = connected_on(cell) else { return };
        enters_until_sent(&mut rig, &mut peer, socket, token);
        for _ in 0..3 {
            let enters = enters_until_sent(&mut rig, &mut peer, socket, token);
            assert_eq!(enters, GATHERING_ENTERS_MAX, "from the last time on");
        }
    }
}

#[test]
fn no_cell_has_its_turn_while_a_fan_out_was_cut_short() {
    let Some((mut rig, mut peer, socket, token)) = connected_on(0) else { return };
    rig.ring.send_gathered(socket, token, spans(&[b"hello"])).unwrap();
    for _ in 0..3 * GATHERING_ENTERS_MAX {
        rig.enter(Wait { gathers: Gathers::All, ..GATHERS });
    }
    assert!(has_nothing(&mut peer));
    rig.enter(Wait { gathers: Gathers::Nothing, ..GATHERS });
    assert!(has(&mut peer, b"hello"));
}

#[test]
fn cells_take_turns() {
    let Some((mut rig, mut first, socket, token)) = connected_on(0) else { return };
    rig.push(Op::CancelAccept { listener: LISTENER, cell: 0 });
    rig.accept_ended();
    assert_eq!(rig.ring.open_cell().unwrap(), 1);
    let (mut second, other_socket, other_token) = rig.connect_on(1);
    second.set_nonblocking(true).unwrap();
    rig.look();
    // The first may go with what the other cell woke this one for.
    enters_until_sent(&mut rig, &mut first, socket, token);
    enters_until_sent(&mut rig, &mut first, socket, token);
    rig.ring.send_gathered(socket, token, spans(&[b"hello"])).unwrap();
    let others = enters_until_sent(&mut rig, &mut second, other_socket, other_token);
    assert_eq!(others, GATHERING_ENTERS_MAX - 1);
    assert!(has_nothing(&mut first));
    rig.enter(GATHERS);
    assert!(has(&mut first, b"hello"));
}

#[test]
fn sends_do_not_wait_where_they_are_many_or_nothing_more_comes() {
    let Some((mut rig, mut peer, socket, token)) = connected_on(1) else { return };
    let send = |rig: &mut Rig| rig.ring.send_gathered(socket, token, spans(&[b"x"])).unwrap();
    for _ in 0..GATHERED_SENDS_ENOUGH - 1 {
        send(&mut rig);
    }
    rig.enter(GATHERS);
    assert!(has_nothing(&mut peer));
    send(&mut rig);
    rig.enter(GATHERS);
    assert!(has(&mut peer, &[b'x'; GATHERED_SENDS_ENOUGH]));

    send(&mut rig);
    rig.enter(Wait { gathers: Gathers::Nothing, ..GATHERS });
    assert!(has(&mut peer, b"x"));
}

#[test]
fn what_is_pushed_behind_sends_that_wait_takes_them_along() {
    let Some((mut rig, mut first, socket, token)) = connected_on(1) else { return };
    let (mut second, other_socket, other_token) = rig.connect_on(1);
    rig.look();
    rig.ring.send_gathered(socket, token, spans(&[b"gathered"])).unwrap();
    rig.enter(GATHERS);
    assert!(has_nothing(&mut first));
    rig.ring.send(other_socket, other_token, spans(&[b"reply"])).unwrap();
    rig.enter(GATHERS);
    assert!(has(&mut first, b"gathered"));
    second.set_nonblocking(true).unwrap();
    assert!(has(&mut second, b"reply"));
}

#[test]
fn events_do_not_wait_for_one_fan_out_after_the_other() {
    const SPEAKERS: usize = 100;
    let Some((mut rig, _peer, socket, token)) = connected_on(0) else { return };
    let mut speakers: Vec<_> = (0..SPEAKERS)
        .map(|_| {
            let (peer, socket, token) = rig.connect_on(0);
            rig.poll(socket, token);
            peer
        })
        .collect();
    rig.look();
    rig.take_arrived();
    for gathers in [Gathers::Nothing, Gathers::All, Gathers::InTurn] {
        for speaker in &mut speakers {
            speaker.write_all(b"x").unwrap();
        }
        for _ in 0..GATHERED_SENDS_ENOUGH {
            rig.ring.send_gathered(socket, token, spans(&[b"x"])).unwrap();
        }
        rig.enter(Wait { gathers, ..GATHERS });
        let readable = |completion: &Completion| matches!(completion, Completion::Readable { .. });
        let heard = rig.take_arrived().iter().filter(|completion| readable(completion)).count();
        assert_eq!(heard, SPEAKERS, "{gathers:?}: the others come after as many sends again");
    }
}
