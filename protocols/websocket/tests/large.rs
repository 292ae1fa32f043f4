//! Messages to 16 MiB and in 100,000 fragments: read as they come, nothing assembled, nothing
//! scanned twice; and the limits just below them.

use headwater_websocket::encode::{Opcode, write_masked_frame};
use headwater_websocket::{Decoder, ErrorKind, Event, Kind, Limits, Role, Step};

const MASK: [u8; 4] = [1, 2, 3, 4];

/// What is left of a message once its pieces were looked at.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    pieces: u64,
    longest: usize,
    pings: u64,
    messages: u64,
    sum: u64,
}

/// Presents the stream through a window of `window` bytes, as a lease does.
fn read(stream: &[u8], window: usize, limits: &Limits) -> Result<Sum, ErrorKind> {
    let mut decoder = Decoder::new(Role::Server);
    let (mut seen, mut inbox, mut given) = (Sum::default(), Vec::new(), 0);
    loop {
        let more = (stream.len() - given).min(window - inbox.len());
        inbox.extend_from_slice(&stream[given..given + more]);
        given += more;
        let mut start = 0;
        loop {
            match decoder.receive(&mut inbox[start..], limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event { consumed, event }) => {
                    start += consumed;
                    let (data, last) = match event {
                        Event::Message { kind: Kind::Text, data, .. } => (data, true),
                        Event::Fragment { kind: Kind::Text, data, last, .. } => (data, last),
                        Event::Ping(_) => {
                            seen.pings += 1;
                            continue;
                        }
                        other => panic!("not sent: {other:?}"),
                    };
                    seen.bytes += data.len() as u64;
                    seen.pieces += 1;
                    seen.longest = seen.longest.max(data.len());
                    seen.messages += u64::from(last);
                    seen.sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                Err(error) => return Err(error.kind),
            }
        }
        inbox.drain(..start);
        if given == stream.len() {
            assert!(inbox.is_empty(), "all of the stream is read");
            return Ok(seen);
        }
        assert!(inbox.len() < window, "a full window always yields something");
    }
}

#[test]
fn a_message_of_16_mib_in_one_frame() {
    const BYTES: usize = 16 << 20;
    let text = "ünïcödé ".repeat(BYTES / 12);
    let text = &text.as_bytes()[..BYTES / 12 * 12];
    let mut stream = Vec::new();
    write_masked_frame(&mut stream, Opcode::Text, true, MASK, text);
    let limits = Limits { message_bytes_max: text.len() as u64, ..Limits::default() };
    let sum = text.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let seen = read(&stream, 16 * 1024, &limits);
    let seen = seen.expect("within the limits");
    assert_eq!((seen.bytes, seen.messages, seen.sum), (text.len() as u64, 1, sum));
    assert!(seen.longest <= 16 * 1024 && seen.pieces <= text.len() as u64 / (16 * 1024) + 2);
    // One byte less is allowed: it fails at the header, before any payload.
    let less = Limits { message_bytes_max: text.len() as u64 - 1, ..limits };
    assert_eq!(read(&stream[..14], 16 * 1024, &less), Err(ErrorKind::MessageTooBig));
}

#[test]
fn a_message_in_100_000_fragments_with_pings_between() {
    const FRAGMENTS: u32 = 100_000;
    let letters = "grüße ".as_bytes();
    let mut stream = Vec::new();
    let mut sum = 0;
    for n in 0..FRAGMENTS {
        let opcode = if n == 0 { Opcode::Text } else { Opcode::Continuation };
        // One byte each, so that characters are cut; whole at the end.
        let byte = letters[n as usize % letters.len()];
        sum += u64::from(byte);
        write_masked_frame(&mut stream, opcode, n + 1 == FRAGMENTS, MASK, &[byte]);
        if n % 100 == 0 {
            write_masked_frame(&mut stream, Opcode::Ping, true, MASK, b"p");
        }
    }
    let limits = Limits { fragments_max: FRAGMENTS, ..Limits::default() };
    for window in [16 * 1024, 128 * 1024] {
        let seen = read(&stream, window, &limits).expect("within the limits");
        let expected = Sum {
            bytes: u64::from(FRAGMENTS),
            pieces: u64::from(FRAGMENTS),
            longest: 1,
            pings: 1000,
            messages: 1,
            sum,
        };
        assert_eq!(seen, expected);
    }
    let less = Limits { fragments_max: FRAGMENTS - 1, ..limits };
    assert_eq!(read(&stream, 16 * 1024, &less), Err(ErrorKind::TooManyFragments));
}

/// Bug class "Length arithmetic": a header may claim what it likes: nothing is allocated for it and nothing waits for it.
#[test]
fn claimed_lengths_of_63_bits() {
    let claim = |length: u64| {
        let mut header = vec![0x82, 0xff];
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&MASK);
        header
    };
    let unlimited = Limits { message_bytes_max: u64::MAX, ..Limits::default() };
    for (length, limits, answer) in [
        (1 << 63, unlimited, Some(ErrorKind::LengthHighBit)),
        (u64::MAX, unlimited, Some(ErrorKind::LengthHighBit)),
        ((1 << 63) - 1, Limits::default(), Some(ErrorKind::MessageTooBig)),
        ((1 << 63) - 1, unlimited, None),
        (0xffff, unlimited, Some(ErrorKind::LengthNotMinimal)),
        (0, unlimited, Some(ErrorKind::LengthNotMinimal)),
    ] {
        let mut bytes = claim(length);
        bytes.extend_from_slice(b"abc");
        let mut decoder = Decoder::new(Role::Server);
        match (decoder.receive(&mut bytes, &limits), answer) {
            (Err(error), Some(kind)) => assert_eq!(error.kind, kind),
            (Ok(Step::Event { event: Event::Fragment { data, last, .. }, .. }), None) => {
                assert_eq!((data.len(), last), (3, false));
            }
            other => panic!("{length:x}: {other:?}"),
        }
    }
}
