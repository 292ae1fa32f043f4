//! Compressors and decompressors: the standard's examples, streams cut and broken everywhere, bombs.

use proptest::prelude::*;
use zlib_rs::{Deflate, DeflateFlush};

use crate::deflate::{
    Compressor, Decompressor, Error, Level, MemoryLevel, Outcome, Part, Settings, Status,
    WindowBits, WindowClass,
};

const LIMIT: u64 = 1 << 20;

fn compressor() -> Compressor {
    Compressor::new(&Settings::default(), WindowClass::new(WindowBits::MAX))
}

fn compressed(compressor: &mut Compressor, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compressor.compress_always(message, &mut out);
    out
}

fn inflated(decompressor: &mut Decompressor, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = b"before".to_vec();
    let result = decompressor.message(payload, &mut out);
    assert!(out.starts_with(b"before"));
    let message = out.split_off(6);
    assert!(result.is_ok() || message.is_empty(), "an error leaves nothing behind");
    result.map(|()| message)
}

fn inflate(payload: &[u8]) -> Result<Vec<u8>, Error> {
    inflated(&mut Decompressor::new(LIMIT), payload)
}

/// Piece by piece, with an output of `room` bytes.
fn stepped(
    decompressor: &mut Decompressor,
    pieces: &[&[u8]],
    room: usize,
) -> Result<Vec<u8>, Error> {
    let mut message = Vec::new();
    let mut output = vec![0; room];
    for (at, piece) in pieces.iter().enumerate() {
        let part = if at + 1 == pieces.len() { Part::Last } else { Part::More };
        let mut rest = *piece;
        loop {
            let progress = decompressor.step(rest, part, &mut output)?;
            message.extend_from_slice(&output[..progress.produced]);
            rest = &rest[progress.consumed..];
            match progress.status {
                Status::OutputFull => assert_eq!(progress.produced, room),
                Status::InputUsed => {
                    assert!(part == Part::More && rest.is_empty());
                    break;
                }
                Status::Done => {
                    assert!(part == Part::Last && rest.is_empty());
                    assert!(!decompressor.is_inside_message());
                    return Ok(message);
                }
            }
        }
    }
    unreachable!("the last piece ends the message")
}

/// RFC 7692 7.2.3.1: one block.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// RFC 7692 7.2.3.2: the same message again, with context takeover.
const HELLO_AGAIN: [u8; 5] = [0xf2, 0x00, 0x11, 0x00, 0x00];
/// RFC 7692 7.2.3.3: a block without compression.
const HELLO_STORED: [u8; 11] = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
/// RFC 7692 7.2.3.4: a block with BFINAL.
const HELLO_FINAL: [u8; 8] = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
/// RFC 7692 7.2.3.5: two blocks.
const HELLO_TWO_BLOCKS: [u8; 13] =
    [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
/// RFC 7692 7.2.3.6: the empty message.
const EMPTY: [u8; 1] = [0x00];

#[test]
fn the_examples_of_the_standard_are_inflated() {
    for payload in [&HELLO[..], &HELLO_STORED, &HELLO_FINAL, &HELLO_TWO_BLOCKS] {
        assert_eq!(inflate(payload).as_deref(), Ok(&b"Hello"[..]), "{payload:x?}");
        // Fragments of RFC 7692 7.2.3.1: every cut.
        for cut in 0..=payload.len() {
            for room in 1..7 {
                let pieces = [&payload[..cut], &payload[cut..]];
                let mut decompressor = Decompressor::new(LIMIT);
                let message = stepped(&mut decompressor, &pieces, room);
                assert_eq!(message.as_deref(), Ok(&b"Hello"[..]), "{payload:x?} at {cut}");
            }
        }
    }
    assert_eq!(inflate(&EMPTY).as_deref(), Ok(&b""[..]));
    let mut decompressor = Decompressor::with_takeover(LIMIT);
    for payload in [&HELLO[..], &HELLO_AGAIN, &EMPTY, &HELLO_AGAIN, &HELLO_STORED, &HELLO_AGAIN] {
        let message = if payload == EMPTY { &b""[..] } else { b"Hello" };
        assert_eq!(inflated(&mut decompressor, payload).as_deref(), Ok(message));
    }
    // Without takeover there is nothing to refer to, also when another message came before.
    let mut decompressor = Decompressor::new(LIMIT);
    assert!(inflated(&mut decompressor, &HELLO).is_ok());
    assert_eq!(inflated(&mut decompressor, &HELLO_AGAIN), Err(Error::Corrupt));
    assert!(inflated(&mut decompressor, &HELLO).is_ok(), "one peer's error is not another's");
}

#[test]
fn the_examples_of_the_standard_are_compressed() {
    let mut own = Compressor::with_takeover(&Settings::default(), WindowBits::MAX);
    assert_eq!(compressed(&mut own, b"Hello"), HELLO);
    assert_eq!(compressed(&mut own, b""), EMPTY);
    assert_eq!(compressed(&mut own, b"Hello"), HELLO_AGAIN);
    let mut shared = compressor();
    for _ in 0..3 {
        assert_eq!(compressed(&mut shared, b"Hello"), HELLO);
        assert_eq!(compressed(&mut shared, b""), EMPTY);
    }
}

#[test]
fn what_peers_send_beyond_the_standard() {
    // The block with BFINAL and nothing behind it.
    assert_eq!(inflate(&HELLO_FINAL[..7]).as_deref(), Ok(&b"Hello"[..]));
    // No byte at all.
    assert_eq!(inflate(b"").as_deref(), Ok(&b""[..]));
    // An empty block with BFINAL, its last four bytes left out.
    let mut decompressor = Decompressor::with_takeover(LIMIT);
    for _ in 0..3 {
        assert_eq!(inflated(&mut decompressor, &[0x01]).as_deref(), Ok(&b""[..]));
        assert_eq!(inflated(&mut decompressor, &HELLO_FINAL).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(inflated(&mut decompressor, &HELLO_FINAL[..7]).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(inflated(&mut decompressor, &HELLO).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(inflated(&mut decompressor, &HELLO_AGAIN).as_deref(), Ok(&b"Hello"[..]));
    }
    // Several streams in one message.
    let twice = [&HELLO_FINAL[..7], &HELLO_FINAL[..7], &HELLO].concat();
    assert_eq!(inflate(&twice).as_deref(), Ok(&b"HelloHelloHello"[..]));
}

/// Bug class "Deflate state errors": payloads that are not whole, or not DEFLATE. The same error at every cut and every
/// room.
#[test]
fn broken_payloads() {
    let mut cases: Vec<Vec<u8>> = vec![
        // An invalid block type, in the first block, in a later one, behind BFINAL.
        vec![0x07],
        [&HELLO_TWO_BLOCKS[..8], &[0x06]].concat(),
        [&HELLO_FINAL[..7], &[0x07]].concat(),
        // A distance before the beginning.
        HELLO_AGAIN.to_vec(),
        // A stored block whose lengths do not agree.
        vec![0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // A stored block that the tail would fill up, with and without BFINAL.
        vec![0x00, 0x05, 0x00, 0xfa, 0xff, 0x48],
        vec![0x01, 0x05, 0x00, 0xfa, 0xff, 0x48],
        // Blocks that end well, but without the header of the empty one.
        HELLO[..6].to_vec(),
        [&HELLO_TWO_BLOCKS[..8]].concat(),
        // The tail was not left out.
        [&HELLO[..], &[0, 0, 0xff, 0xff]].concat(),
        // Text.
        b"{\"type\":\"message\"}".to_vec(),
    ];
    // Every beginning of every example that is not itself a payload.
    for whole in [&HELLO[..], &HELLO_STORED, &HELLO_TWO_BLOCKS] {
        cases.extend((1..whole.len()).map(|end| whole[..end].to_vec()));
    }
    // The header alone is the empty message; and the first block with the header of the empty one
    // behind it is a message: a receiver cannot know that there was another block.
    cases.retain(|case| case != &EMPTY && case != &HELLO_TWO_BLOCKS[..4]);
    for payload in cases {
        assert_eq!(inflate(&payload), Err(Error::Corrupt), "{payload:x?}");
        for cut in 0..=payload.len() {
            for room in [1, 3, 64] {
                let pieces = [&payload[..cut], &payload[cut..]];
                let mut decompressor = Decompressor::with_takeover(LIMIT);
                let result = stepped(&mut decompressor, &pieces, room);
                assert_eq!(result, Err(Error::Corrupt), "{payload:x?} at {cut}, room {room}");
                // With takeover the connection is over.
                assert_eq!(inflated(&mut decompressor, &HELLO), Err(Error::Corrupt));
            }
        }
    }
    assert_eq!(Error::Corrupt.close_code(), 1007);
    assert_eq!(Error::TooBig.close_code(), 1009);
}

/// One byte may not be missing from a real message either, wherever the cut falls.
#[test]
fn every_beginning_of_a_long_payload_is_broken() {
    for level in [1, 3, 6, 9] {
        let settings = Settings { level: Level::new(level).unwrap(), ..Settings::default() };
        let mut compressor = Compressor::new(&settings, WindowClass::new(WindowBits::MIN));
        let message: Vec<u8> =
            (0..3000_u32).flat_map(|n| (n * n).to_string().into_bytes()).collect();
        let payload = compressed(&mut compressor, &message);
        assert_eq!(inflate(&payload).as_deref(), Ok(&message[..]));
        let mut decompressor = Decompressor::new(LIMIT);
        for end in 1..payload.len() {
            // A flush puts empty blocks between others only at the end, so no beginning is whole.
            let result = inflated(&mut decompressor, &payload[..end]);
            assert_eq!(result, Err(Error::Corrupt), "{end} of {} at level {level}", payload.len());
        }
    }
}

/// What the library makes of `zeros` zero bytes at its hardest.
fn bomb(zeros: usize) -> Vec<u8> {
    let mut deflate = Deflate::new(9, false, 15);
    let chunk = vec![0; 1 << 20];
    let mut payload = Vec::new();
    let mut output = vec![0; 1 << 16];
    let mut left = zeros;
    loop {
        let read = deflate.total_in();
        let input = &chunk[..left.min(chunk.len())];
        let flush =
            if left <= chunk.len() { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
        let before = deflate.total_out();
        deflate.compress(input, &mut output, flush).unwrap();
        let written = usize::try_from(deflate.total_out() - before).unwrap();
        payload.extend_from_slice(&output[..written]);
        left -= usize::try_from(deflate.total_in() - read).unwrap();
        if left == 0 && payload.ends_with(&[0, 0, 0xff, 0xff]) {
            payload.truncate(payload.len() - 4);
            return payload;
        }
    }
}

/// Bug class "Decompression bomb": 1.1 MiB that inflate to 1 GiB, and 1 KiB to 1 MiB, against 64 KiB: what comes out before the
/// error is counted, and so is what the vector grew to.
#[test]
fn bombs_end_at_the_limit() {
    const LIMIT: u64 = 64 << 10;
    for (zeros, payload_bytes) in [(1 << 30, 1_000_000..1_150_000), (1 << 20, 1_000..1_100)] {
        let payload = bomb(zeros);
        assert!(payload_bytes.contains(&payload.len()), "{}", payload.len());
        for takeover in [false, true] {
            let mut decompressor = if takeover {
                Decompressor::with_takeover(LIMIT)
            } else {
                Decompressor::new(LIMIT)
            };
            let mut output = [0; 4096];
            let mut produced = 0;
            let mut read = 0;
            let error = 'steps: loop {
                // As frames would bring it.
                let end = payload.len().min(read + 1000);
                let part = if end == payload.len() { Part::Last } else { Part::More };
                loop {
                    match decompressor.step(&payload[read..end], part, &mut output) {
                        Ok(progress) => {
                            produced += progress.produced as u64;
                            read += progress.consumed;
                            assert_ne!(progress.status, Status::Done);
                            if progress.status == Status::InputUsed {
                                break;
                            }
                        }
                        Err(error) => break 'steps error,
                    }
                }
            };
            assert_eq!((error, produced), (Error::TooBig, LIMIT));
            // The whole message into a vector.
            decompressor.abandon();
            let mut out = Vec::new();
            assert_eq!(decompressor.message(&payload, &mut out), Err(Error::TooBig));
            assert!(out.is_empty() && out.capacity() as u64 <= LIMIT + (16 << 10) + 1);
        }
    }
}

#[test]
fn the_limit_is_on_what_comes_out_of_one_message() {
    let message = vec![7; 1000];
    let payload = compressed(&mut compressor(), &message);
    for room in [1, 10, 999, 1000, 1001, 5000] {
        let mut decompressor = Decompressor::with_takeover(1000);
        for _ in 0..3 {
            assert_eq!(stepped(&mut decompressor, &[&payload], room).as_ref(), Ok(&message));
            assert_eq!(inflated(&mut decompressor, &payload).as_ref(), Ok(&message));
        }
        let mut decompressor = Decompressor::new(999);
        assert_eq!(stepped(&mut decompressor, &[&payload], room), Err(Error::TooBig));
        assert_eq!(inflated(&mut decompressor, &payload), Err(Error::TooBig));
        assert_eq!(inflated(&mut decompressor, &HELLO).as_deref(), Ok(&b"Hello"[..]));
    }
    assert_eq!(inflated(&mut Decompressor::new(0), &EMPTY).as_deref(), Ok(&b""[..]));
    assert_eq!(inflated(&mut Decompressor::new(0), &HELLO), Err(Error::TooBig));
    assert!(inflated(&mut Decompressor::new(u64::MAX), &payload).is_ok());
}

/// Both wrong: at any room it is the limit that breaks first, or the payload.
#[test]
fn what_breaks_first_counts() {
    // A stored block of 1000 bytes and an invalid block type.
    let payload = [&[0x00, 0xe8, 0x03, 0x17, 0xfc][..], &[7; 1000], &[0x06]].concat();
    for (limit, error) in [(999, Error::TooBig), (1000, Error::Corrupt)] {
        for room in [1, 999, 1000, 1001, 5000] {
            let result = stepped(&mut Decompressor::new(limit), &[&payload], room);
            assert_eq!(result, Err(error), "limit {limit}, room {room}");
        }
        assert_eq!(inflated(&mut Decompressor::new(limit), &payload), Err(error));
    }
}

#[test]
fn a_lent_state_is_given_back_between_messages() {
    let mut decompressor = Decompressor::new(LIMIT);
    let mut output = [0; 64];
    let progress = decompressor.step(&HELLO[..4], Part::More, &mut output).unwrap();
    assert_eq!((progress.consumed, progress.status), (4, Status::InputUsed));
    assert!(decompressor.is_inside_message());
    decompressor.abandon();
    assert!(!decompressor.is_inside_message());
    assert_eq!(inflated(&mut decompressor, &HELLO).as_deref(), Ok(&b"Hello"[..]));
}

#[test]
fn what_does_not_pay_is_not_compressed() {
    let mut compressor = compressor();
    let mut out = b"x".to_vec();
    let text = [b'a'; 1000];
    // Below the threshold of 64.
    assert_eq!(compressor.compress(&text[..63], &mut out), Outcome::DoesNotPay);
    assert_eq!(compressor.compress(b"", &mut out), Outcome::DoesNotPay);
    assert_eq!(compressor.compress(&text[..64], &mut out), Outcome::Compressed);
    assert_eq!(out[0], b'x');
    assert_eq!(inflate(&out[1..]).as_deref(), Ok(&text[..64]));
    out.clear();
    assert_eq!(compressor.compress(&noise(5000), &mut out), Outcome::DoesNotPay);
    assert!(out.is_empty());
    assert_eq!(compressor.compress(&text, &mut out), Outcome::Compressed);
    assert_eq!(inflate(&out).as_deref(), Ok(&text[..]));
}

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// What did not pay was not sent compressed, so later messages may not refer to it.
#[test]
fn with_takeover_nothing_refers_to_what_was_not_sent() {
    let settings = Settings { threshold_bytes: 0, ..Settings::default() };
    let mut compressor = Compressor::with_takeover(&settings, WindowBits::MAX);
    let mut decompressor = Decompressor::with_takeover(LIMIT);
    for noise in noise(600).chunks(200) {
        let mut out = Vec::new();
        assert_eq!(compressor.compress(noise, &mut out), Outcome::DoesNotPay);
        let message = [noise, noise].concat();
        assert_eq!(compressor.compress(&message, &mut out), Outcome::Compressed);
        assert_eq!(inflated(&mut decompressor, &out).as_ref(), Ok(&message));
    }
}

/// The library (0.6.8), stopped for want of room at level 1, is not clean after a reset: so a message
/// that does not pay must leave nothing behind, whatever the level and the memory.
#[test]
fn a_message_that_does_not_pay_leaves_the_state_clean() {
    for level in 1..=9 {
        for memory in 1..=9 {
            let settings = Settings {
                level: Level::new(level).unwrap(),
                memory_level: MemoryLevel::new(memory).unwrap(),
                ..Settings::default()
            };
            let mut compressor = Compressor::new(&settings, WindowClass::new(WindowBits::MIN));
            let mut decompressor = Decompressor::new(LIMIT);
            let mut out = Vec::new();
            for length in [100, 700, 5000, 20_000] {
                let noise = noise(length);
                assert_eq!(compressor.compress(&noise, &mut out), Outcome::DoesNotPay);
                for message in [noise, vec![b'a'; length]] {
                    let payload = compressed(&mut compressor, &message);
                    assert_eq!(inflated(&mut decompressor, &payload), Ok(message));
                }
            }
        }
    }
}

/// What stands in for a compressor that gave up.
#[test]
fn stored_messages() {
    for length in [0, 1, 65_535, 65_536, 200_000] {
        let message = noise(length);
        let mut payload = Vec::new();
        crate::deflate::compress::store(&message, &mut payload);
        assert!(payload.len() <= Compressor::bound(length));
        assert_eq!(inflate(&payload), Ok(message));
    }
}

fn settings() -> impl Strategy<Value = (Settings, WindowBits)> {
    (1_u8..=9, 1_u8..=9, 9_u8..=15).prop_map(|(level, memory, bits)| {
        let settings = Settings {
            level: Level::new(level).unwrap(),
            memory_level: MemoryLevel::new(memory).unwrap(),
            threshold_bytes: 0,
            ..Settings::default()
        };
        (settings, WindowBits::new(bits).unwrap())
    })
}

/// Text, noise and runs.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-d ]{0,300}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..2000),
        (any::<u8>(), 0_usize..40_000).prop_map(|(byte, length)| vec![byte; length]),
        (0_usize..30_000).prop_map(noise),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_compressed_is_inflated(
        (settings, bits) in settings(),
        messages in prop::collection::vec(message(), 1..6),
        takeover: bool,
        piece_bytes in 1_usize..300,
        room in 1_usize..5000,
    ) {
        let (mut compressor, mut whole, mut cut) = if takeover {
            (
                Compressor::with_takeover(&settings, bits),
                Decompressor::with_takeover(LIMIT),
                Decompressor::with_takeover(LIMIT),
            )
        } else {
            let class = WindowClass::new(bits);
            (Compressor::new(&settings, class), Decompressor::new(LIMIT), Decompressor::new(LIMIT))
        };
        for (at, message) in messages.iter().enumerate() {
            let mut payload = Vec::new();
            let pays = at % 2 == 0 && compressor.compress(message, &mut payload) == Outcome::Compressed;
            if pays {
                prop_assert!(payload.len() < message.len());
            } else {
                prop_assert!(payload.is_empty());
                compressor.compress_always(message, &mut payload);
            }
            prop_assert!(payload.len() <= Compressor::bound(message.len()));
            prop_assert_eq!(inflated(&mut whole, &payload), Ok(message.clone()));
            let pieces: Vec<&[u8]> = payload.chunks(piece_bytes).collect();
            prop_assert_eq!(stepped(&mut cut, &pieces, room), Ok(message.clone()));
        }
    }

    /// Any bytes, and messages with a byte changed: no panic, the same answer at any cut, and no
    /// more output than allowed.
    #[test]
    fn any_payload_gives_one_answer(
        mut payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 1..300),
            message().prop_map(|message| compressed(&mut compressor(), &message)),
        ],
        change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        piece_bytes in 1_usize..50,
        room in 1_usize..200,
        limit in 0_u64..50_000,
    ) {
        if let Some((at, byte)) = change {
            *at.get_mut(&mut payload) = byte;
        }
        let whole = inflated(&mut Decompressor::new(limit), &payload);
        if let Ok(message) = &whole {
            prop_assert!(message.len() as u64 <= limit);
        }
        let pieces: Vec<&[u8]> = payload.chunks(piece_bytes).collect();
        prop_assert_eq!(stepped(&mut Decompressor::new(limit), &pieces, room), whole);
    }
}
