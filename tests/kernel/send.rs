//! Sends: whole, in several spans, short, refused for want of room, and to a peer that is gone.

use crate::rig::{PATIENCE, Rig, pattern, reset, spans};
use headwater::memory::{Payload, Span, Spans};
use headwater::ring::{Completion, Failure, Op, Socket, Token};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Instant;

fn writable(rig: &mut Rig, socket: Socket, wanted: Token) {
    rig.push(Op::PollWritable { socket, token: wanted });
    rig.wait_for("room to send", |completion| match completion {
        Completion::Writable { token } if token == wanted => Ok(()),
        other => Err(other),
    });
}

/// Sends until the peer's and our buffers are full: the bytes taken, and the rest.
fn send_until_full(rig: &mut Rig, socket: Socket, token: Token, spans: Spans) -> (usize, Spans) {
    let (mut taken, mut rest) = (0, spans);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(!rest.is_empty() && Instant::now() < deadline, "the buffers are never full");
        let (result, unsent) = rig.send(socket, token, rest);
        rest = unsent;
        match result {
            Ok(sent) => taken += sent,
            Err(failure) => {
                assert_eq!(failure, Failure::WouldBlock);
                return (taken, rest);
            }
        }
    }
}

/// Sends the rest as there is room for it.
fn send_rest(rig: &mut Rig, socket: Socket, token: Token, mut rest: Spans) {
    while !rest.is_empty() {
        writable(rig, socket, token);
        let (result, unsent) = rig.send(socket, token, rest);
        if let Err(failure) = result {
            assert_eq!(failure, Failure::WouldBlock);
        }
        rest = unsent;
    }
}

/// Reads `count` bytes on a thread, from when it is told to.
fn reader(
    mut peer: TcpStream,
    count: usize,
) -> (mpsc::Sender<()>, std::thread::JoinHandle<Vec<u8>>) {
    let (start, started) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        started.recv().unwrap();
        let mut bytes = vec![0; count];
        peer.read_exact(&mut bytes).unwrap();
        bytes
    });
    (start, thread)
}

#[test]
fn a_send_that_is_whole_leaves_nothing() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    let (result, unsent) = rig.send(socket, token, spans(&[b"hello"]));
    assert_eq!((result, unsent.len()), (Ok(5), 0));
    let mut read = [0; 5];
    peer.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

#[test]
fn several_spans_arrive_in_order() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    for count in [2_usize, 3, 17, 64] {
        let pieces: Vec<Vec<u8>> =
            (0..count).map(|number| pattern(number as u64, 1 + number * 13)).collect();
        let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let whole = pieces.concat();
        let (result, unsent) = rig.send(socket, token, spans(&borrowed));
        assert_eq!((result, unsent.len()), (Ok(whole.len()), 0), "{count} spans");
        let mut read = vec![0; whole.len()];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(read, whole, "{count} spans");
    }
}

#[test]
fn ranges_of_one_payload_are_sent_as_ranges() {
    let Some(mut rig) = Rig::open() else { return };
    let (mut peer, socket, token) = rig.connect();
    let payload = Payload::copied_from(b"0123456789");
    let pieces: Spans = [7..9, 0..1, 3..6]
        .map(|range| Span::from_payload(payload.slice(range)))
        .into_iter()
        .collect();
    assert_eq!(rig.send(socket, token, pieces).0, Ok(6));
    let mut read = [0; 6];
    peer.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"780345");
}

#[test]
fn a_peer_that_does_not_read_makes_a_send_short_and_the_next_one_would_block() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    let message = pattern(3, 64 << 20);
    let (start, thread) = reader(peer, message.len());

    let (result, rest) = rig.send(socket, token, spans(&[&message]));
    let first = result.unwrap();
    assert!(first > 0 && first < message.len(), "{first} bytes were taken at once");
    assert_eq!(rest.iter().map(|span| span.len()).sum::<usize>(), message.len() - first);
    let (_, rest) = send_until_full(&mut rig, socket, token, rest);
    rig.push(Op::PollWritable { socket, token });
    rig.expect_quiet("there is no room until the peer reads");
    start.send(()).unwrap();
    rig.wait_for("room to send", |completion| match completion {
        Completion::Writable { token: found } if found == token => Ok(()),
        other => Err(other),
    });
    send_rest(&mut rig, socket, token, rest);
    assert!(thread.join().unwrap() == message, "what was read is not what was sent");
}

#[test]
fn a_short_send_of_many_spans_goes_on_inside_a_span() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    let pieces: Vec<Vec<u8>> =
        (0..48).map(|number| pattern(number, 1_000_003 + number as usize)).collect();
    let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let whole = pieces.concat();
    let (start, thread) = reader(peer, whole.len());
    let (taken, rest) = send_until_full(&mut rig, socket, token, spans(&borrowed));
    assert!(taken > 0 && taken < whole.len());
    assert_eq!(rest.iter().map(|span| span.len()).sum::<usize>(), whole.len() - taken);
    start.send(()).unwrap();
    send_rest(&mut rig, socket, token, rest);
    assert!(thread.join().unwrap() == whole, "what was read is not what was sent");
}

#[test]
fn many_sends_of_one_turn_each_reach_their_peer() {
    let Some(mut rig) = Rig::open() else { return };
    let mut connections: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    // One payload for everyone, as a publication is, and a few bytes of each one's own.
    let shared = Payload::copied_from(&pattern(8, 500));
    for (number, (_, socket, token)) in connections.iter().enumerate() {
        let mut pieces = spans(&[&[number as u8]]);
        pieces.push(Span::from_payload(shared.clone()));
        rig.push(Op::Send { socket: *socket, token: *token, spans: pieces });
    }
    rig.look();
    for (number, (peer, ..)) in connections.iter_mut().enumerate() {
        let mut read = vec![0; 501];
        peer.read_exact(&mut read).unwrap();
        assert_eq!((read[0], &read[1..]), (number as u8, &pattern(8, 500)[..]));
    }
}

#[test]
fn a_send_after_a_reset_is_a_disconnection_each_time_and_raises_no_signal() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    rig.look();
    reset(peer);
    rig.readable(token);
    // ECONNRESET first, EPIPE from then on; SIGPIPE would have ended this process.
    for _ in 0..3 {
        assert_eq!(rig.send(socket, token, spans(&[b"hello"])).0, Err(Failure::Disconnected));
        let both = spans(&[b"hel", b"lo"]);
        assert_eq!(rig.send(socket, token, both).0, Err(Failure::Disconnected));
    }
}

#[test]
fn a_reset_ends_a_wait_for_room() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    let message = vec![7; 64 << 20];
    let (_, rest) = send_until_full(&mut rig, socket, token, spans(&[&message]));
    rig.push(Op::PollWritable { socket, token });
    rig.look();
    reset(peer);
    rig.wait_for("word that the socket failed", |completion| match completion {
        Completion::Writable { token: found } if found == token => Ok(()),
        other => Err(other),
    });
    assert_eq!(rig.send(socket, token, rest).0, Err(Failure::Disconnected));
}

#[test]
fn both_directions_at_once() {
    let Some(mut rig) = Rig::open() else { return };
    let (peer, socket, token) = rig.connect();
    rig.poll(socket, token);
    let (inbound, outbound) = (pattern(1, 3_000_000), pattern(2, 3_000_000));
    let (start, reading) = reader(peer.try_clone().unwrap(), outbound.len());
    let (mut writer, copy) = (peer, inbound.clone());
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    start.send(()).unwrap();
    rig.push(Op::Send { socket, token, spans: spans(&[&outbound]) });
    let received = rig.receive_exactly(socket, token, inbound.len());
    assert!(received == inbound);
    let (result, unsent) = rig.sent(token, outbound.len());
    assert!(result.is_ok());
    send_rest(&mut rig, socket, token, unsent);
    writing.join().unwrap();
    assert!(reading.join().unwrap() == outbound);
}
