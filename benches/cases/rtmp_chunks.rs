//! One second of H.264 and AAC through the RTMP server half: chunk headers to media fragments.
//!
//! The bytes are those of the publisher's second second, whose headers are relative to the first,
//! so the same bytes can follow themselves for ever. They arrive in the pieces that receive buffers
//! would cut; what a piece ends in the middle of is presented again, not copied. The bytes inside
//! the messages are not looked at here, and neither are they by the server.

use std::hint::black_box;

use headwater::limits::LEASE_BYTES;
use rtmp::client::{self, Publisher, State};
use rtmp::{Connection, Event, Options};

use super::{Call, Case};

/// 30 pictures a second, about 4 Mbit/s: one that is coded alone, 29 that lean on others.
const PICTURES: u32 = 30;
const KEY_PICTURE_BYTES: usize = 64_000;
const PICTURE_BYTES: usize = 15_000;
/// 1024 samples at 48 kHz are 21.3 ms; about 128 kbit/s.
const AUDIO_FRAMES: u32 = 47;
const AUDIO_FRAME_BYTES: usize = 341;

pub(super) fn cases() -> Vec<Case> {
    let case = |chunk_bytes: u32| {
        let second = KEY_PICTURE_BYTES
            + (PICTURES as usize - 1) * PICTURE_BYTES
            + AUDIO_FRAMES as usize * AUDIO_FRAME_BYTES;
        Case::new(format!("rtmp_chunks/{chunk_bytes}"), move || prepare(chunk_bytes))
            .bytes(second)
            .calls(40)
    };
    vec![case(128), case(4096)]
}

fn prepare(chunk_bytes: u32) -> Call {
    let options = client::Options { chunk_bytes, ..client::Options::default() };
    let mut publisher = Publisher::with_options("live", "cam", options);
    let mut server = Connection::new(Options::default());
    introduce(&mut publisher, &mut server);
    let mut replies = Vec::with_capacity(4096);
    feed(&mut server, &second(&mut publisher, 0), &mut replies);
    let bytes = second(&mut publisher, 1000);
    Box::new(move || {
        // Now and then an acknowledgement.
        replies.clear();
        feed(&mut server, black_box(&bytes), &mut replies);
    })
}

/// Handshake, connect, publish.
fn introduce(publisher: &mut Publisher, server: &mut Connection) {
    let (mut to_server, mut to_publisher) = (Vec::new(), Vec::new());
    publisher.start(&mut to_server);
    while publisher.state() != &State::Publishing {
        assert!(!to_server.is_empty(), "stuck in {:?}", publisher.state());
        feed(server, &std::mem::take(&mut to_server), &mut to_publisher);
        let answer = std::mem::take(&mut to_publisher);
        publisher.receive(&answer, &mut to_server).expect("our own server");
    }
}

/// One second of media that begins at `start`, as the publisher chunks it.
fn second(publisher: &mut Publisher, start: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut audio = 0;
    for picture in 0..PICTURES {
        let (first_byte, length) =
            if picture == 0 { (0x17, KEY_PICTURE_BYTES) } else { (0x27, PICTURE_BYTES) };
        let timestamp = start + picture * 1000 / PICTURES;
        publisher.video(timestamp, &payload(&[first_byte, 1, 0, 0, 0], length), &mut out);
        while audio < AUDIO_FRAMES && audio * PICTURES < (picture + 1) * AUDIO_FRAMES {
            let timestamp = start + audio * 1000 / AUDIO_FRAMES;
            publisher.audio(timestamp, &payload(&[0xaf, 1], AUDIO_FRAME_BYTES), &mut out);
            audio += 1;
        }
    }
    out
}

fn payload(head: &[u8], length: usize) -> Vec<u8> {
    let mut payload = head.to_vec();
    payload.resize(length, 0x5a);
    payload
}

/// Gives the server `bytes` in pieces, as a session that says yes to everything.
fn feed(server: &mut Connection, bytes: &[u8], out: &mut Vec<u8>) {
    let (mut at, mut end) = (0, 0);
    while end < bytes.len() {
        end = (end + LEASE_BYTES).min(bytes.len());
        loop {
            let received = server.receive(0, &bytes[at..end], out).expect("a valid publisher");
            at += received.consumed;
            match received.event {
                Some(Event::Connect(_)) => server.accept_connect(out),
                Some(Event::Publish { stream, .. }) => server.accept_publish(stream, out),
                Some(event) => {
                    black_box(event);
                }
                None if received.consumed == 0 => break,
                None => {}
            }
        }
    }
    assert_eq!(at, bytes.len(), "whole messages");
}
