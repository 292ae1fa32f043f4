//! permessage-deflate: inflation of anything, and compression read back.

use websocket::deflate::{
    COMPRESSOR_BYTES_MAX, Compressor, Decompressor, Error, Level, MemoryLevel, Outcome, Part,
    Settings, Status, WindowBits, WindowClass, negotiate,
};

use crate::{Seed, cut};

/// Neither inflation nor negotiation panics; what comes out keeps to the limit, an error leaves
/// nothing behind and does not reach the next message of a shared state.
pub fn never_panics(data: &[u8]) {
    let mut shared = Decompressor::new(LIMIT);
    let mut own = Decompressor::with_takeover(LIMIT);
    for _ in 0..2 {
        let mut out = b"x".to_vec();
        let result = shared.message(data, &mut out);
        assert!(out.len() as u64 <= LIMIT + 1 && out.capacity() as u64 <= LIMIT + (32 << 10));
        if let Err(error) = result {
            assert_eq!(out, b"x");
            assert!(websocket::is_valid_on_wire(error.close_code()));
        }
        let first = own.message(data, &mut out);
        assert!(!own.is_inside_message() && !shared.is_inside_message());
        if let Err(error) = first {
            own.abandon();
            assert_eq!(own.message(&HELLO, &mut out), Err(error), "an error stays");
        }
        out.clear();
        assert_eq!((shared.message(&HELLO, &mut out), &out[..]), (Ok(()), &b"Hello"[..]));
    }
    let settings = settings(data);
    let lines = || data.split(|byte| *byte == b'\n').map(|line| ("sec-websocket-extensions", line));
    if let Some(agreement) = negotiate(lines(), &settings) {
        // The answer is one that can be asked for.
        let answer = agreement.to_string();
        let again = negotiate([("Sec-WebSocket-Extensions", answer.as_bytes())], &settings);
        let again = again.expect("our own answer as an offer");
        assert_eq!(again.server_max_window_bits, agreement.server_max_window_bits);
        assert!(agreement.server_window(&settings) <= settings.server_max_window_bits);
        assert_eq!(
            agreement.window_class(&settings).is_some(),
            agreement.server_no_context_takeover
        );
    }
}

/// Any cut of a payload, and any room for what comes out, gives the same message or the same error.
pub fn split(data: &[u8]) {
    let (payload, pieces) = cut::pieces(data);
    let whole = inflate(&mut Decompressor::new(LIMIT), &[payload], 4096);
    let room = 1 + payload.len() % 67;
    for mut decompressor in [Decompressor::new(LIMIT), Decompressor::with_takeover(LIMIT)] {
        assert_eq!(inflate(&mut decompressor, &pieces, room), whole);
    }
    let mut out = Vec::new();
    let result = Decompressor::new(LIMIT).message(payload, &mut out);
    assert_eq!(result.map(|()| out), whole);
}

/// What any compressor makes of any messages, a decompressor reads back.
pub fn roundtrip(data: &[u8]) {
    let (message, pieces) = cut::pieces(data);
    if message.len() as u64 > LIMIT {
        return;
    }
    let settings = settings(message);
    let window = settings.server_max_window_bits;
    let (mut compressor, mut decompressor) = if settings.server_context_takeover {
        (Compressor::with_takeover(&settings, window), Decompressor::with_takeover(LIMIT))
    } else {
        (Compressor::new(&settings, WindowClass::new(window)), Decompressor::new(LIMIT))
    };
    assert!(Compressor::bytes(&settings, window) <= COMPRESSOR_BYTES_MAX);
    // Once as one message, then the first pieces as one each: a reset costs more than a short message.
    for message in [message].iter().chain(pieces.iter().take(8)) {
        let mut payload = Vec::new();
        match compressor.compress(message, &mut payload) {
            Outcome::Compressed => assert!(payload.len() < message.len()),
            Outcome::DoesNotPay => {
                assert!(payload.is_empty());
                compressor.compress_always(message, &mut payload);
                // Neither state says anything of what it holds.
                assert!(format!("{compressor:?}{decompressor:?}").len() < 400);
                assert!(payload.len() <= Compressor::bound(message.len()));
            }
        }
        let mut out = Vec::new();
        assert_eq!(decompressor.message(&payload, &mut out), Ok(()));
        assert_eq!(&out, message);
    }
}

/// Payloads of every kind of block, and offers, behind a byte that chooses the cuts.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let payload = |message: &[u8], level| {
        let settings =
            Settings { level: Level::new(level).expect("1 to 9"), ..Settings::default() };
        let mut out = vec![3];
        Compressor::new(&settings, WindowClass::new(WindowBits::MAX))
            .compress_always(message, &mut out);
        out
    };
    let text: Vec<u8> = (0..100_u32).flat_map(|n| (n * n * n).to_string().into_bytes()).collect();
    let final_twice = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(2);
    vec![
        ("hello", [&[1][..], &HELLO].concat()),
        ("stored", b"\x02\x00\x05\x00\xfa\xffHello\x00".to_vec()),
        ("final", [&[1][..], &final_twice, &[0]].concat()),
        ("two-blocks", b"\x01\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00".to_vec()),
        ("empty", b"\x00\x00".to_vec()),
        ("dynamic", payload(&text, 6)),
        ("fixed", payload(&text, 1)),
        ("run", payload(&[7; 4000], 9)),
        ("bomb", payload(&[0; 20_000], 9)),
        ("distance", b"\x01\xf2\x00\x11\x00\x00".to_vec()),
        ("block-type", b"\x00\x07".to_vec()),
        ("offer", b"permessage-deflate; client_max_window_bits; server_max_window_bits=10".to_vec()),
        ("offers", b"x, permessage-deflate; server_max_window_bits=8\n permessage-deflate; \
            server_no_context_takeover; client_no_context_takeover; client_max_window_bits=\"1\\5\"".to_vec()),
    ]
}

/// The same without that byte: for where nothing is cut.
#[must_use]
pub fn whole_seeds() -> Vec<Seed> {
    let mut whole: Vec<Seed> = seeds();
    for (_, bytes) in &mut whole {
        bytes.remove(0);
    }
    // What a stream that has ended makes of the tail, and of another message.
    whole.push(("ended", vec![0x03, 0x00]));
    whole.push(("ended-in-full", vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
    for (name, offer) in [
        ("bare-server-window", "permessage-deflate; server_max_window_bits"),
        ("small-window", "permessage-deflate; server_max_window_bits=8"),
        ("takeover", "permessage-deflate"),
    ] {
        whole.push((name, [&[0xff; 6][..], b"\n", offer.as_bytes()].concat()));
    }
    whole
}

/// Messages behind a byte that chooses their cuts.
#[must_use]
pub fn message_seeds() -> Vec<Seed> {
    let json = br#"{"symbol":"ABC","price":12.5},"#.repeat(12);
    let noise: Vec<u8> =
        (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        ("json", [&[9][..], &json].concat()),
        ("noise", [&[4][..], &noise].concat()),
        ("run", [&[2][..], &[b'x'; 1500]].concat()),
        ("short", b"\x00abc".to_vec()),
        ("empty", b"\x00".to_vec()),
    ]
}

/// Settings that the first bytes choose.
fn settings(data: &[u8]) -> Settings {
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    let one_of = |at, first, count| first + byte(at) % count;
    Settings {
        level: Level::new(one_of(0, 1, 9)).expect("1 to 9"),
        memory_level: MemoryLevel::new(one_of(1, 1, 9)).expect("1 to 9"),
        server_max_window_bits: WindowBits::new(one_of(2, 9, 7)).expect("9 to 15"),
        client_max_window_bits: WindowBits::new(one_of(3, 9, 7)).expect("9 to 15"),
        server_context_takeover: byte(4) & 1 != 0,
        client_context_takeover: byte(4) & 2 != 0,
        threshold_bytes: usize::from(byte(5) & 15),
        enabled: true,
    }
}

/// Inflates a message that comes in pieces, `room` bytes at a time.
fn inflate(
    decompressor: &mut Decompressor,
    pieces: &[&[u8]],
    room: usize,
) -> Result<Vec<u8>, Error> {
    let mut message = Vec::new();
    let mut output = vec![0; room];
    let last = [&[][..]];
    // An empty last piece: where a message ends is told with it or behind it.
    for (at, piece) in pieces.iter().chain(&last).enumerate() {
        let part = if at == pieces.len() { Part::Last } else { Part::More };
        let mut rest = *piece;
        loop {
            let progress = decompressor.step(rest, part, &mut output)?;
            message.extend_from_slice(&output[..progress.produced]);
            assert!(message.len() as u64 <= LIMIT);
            rest = &rest[progress.consumed..];
            if progress.status != Status::OutputFull {
                assert!(rest.is_empty());
                assert_eq!(progress.status == Status::Done, part == Part::Last);
                break;
            }
        }
    }
    Ok(message)
}

/// RFC 7692 7.2.3.1.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// Small, so that inputs reach it.
const LIMIT: u64 = 10_000;
