//! Compressed messages in frames: the limits of the decoder and of the decompressor together.

use crate::deflate::{
    Compressor, Decompressor, Error, Level, MemoryLevel, Settings, WindowBits, WindowClass,
    write_masked_frame,
};
use crate::encode::{self, Opcode};
use crate::{Decoder, ErrorKind, Event, Limits, Role, Step};

/// A linear congruential generator: nothing that a compressor could use.
fn noise(length: usize) -> Vec<u8> {
    let step = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(step(&1), step).map(|state| state.to_be_bytes()[0]).take(length).collect()
}

/// The payload of the one message in these frames.
fn payload_of(mut frames: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, ErrorKind> {
    let mut decoder = Decoder::with_deflate(Role::Server);
    let (mut payload, mut start) = (Vec::new(), 0);
    while start < frames.len() {
        match decoder.receive(&mut frames[start..], limits).map_err(|error| error.kind)? {
            Step::Event { consumed, event: Event::Message { data, compressed: true, .. } }
            | Step::Event { consumed, event: Event::Fragment { data, compressed: true, .. } } => {
                payload.extend_from_slice(data);
                start += consumed;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    Ok(payload)
}

/// Browsers compress whatever they send, also what only gets longer: the limit is on the message.
#[test]
fn what_compression_makes_longer_is_taken_up_to_the_limit() {
    let message = noise(20_000);
    let most = message.len() as u64;
    let limits = Limits { message_bytes_max: most, ..Limits::default() };
    for memory in 1..=9 {
        let memory_level = MemoryLevel::new(memory).unwrap();
        let settings =
            Settings { memory_level, level: Level::new(1).unwrap(), ..Settings::default() };
        let mut payload = Vec::new();
        Compressor::new(&settings, WindowClass::new(WindowBits::MIN))
            .compress_always(&message, &mut payload);
        assert!(payload.len() > message.len());
        let (begin, end) = payload.split_at(payload.len() / 3);
        let mut whole = Vec::new();
        write_masked_frame(&mut whole, Opcode::Binary, true, [1, 2, 3, 4], &payload);
        let mut fragments = Vec::new();
        write_masked_frame(&mut fragments, Opcode::Binary, false, [1, 2, 3, 4], begin);
        encode::write_masked_frame(&mut fragments, Opcode::Continuation, true, [5; 4], end);
        for frames in [whole, fragments] {
            let read = payload_of(frames, &limits).unwrap();
            let mut out = Vec::new();
            assert_eq!(Decompressor::new(most).message(&read, &mut out), Ok(()));
            assert!(out == message);
            // The limit is still one of the message.
            assert_eq!(Decompressor::new(most - 1).message(&read, &mut out), Err(Error::TooBig));
        }
    }
}

/// No compressor makes a message this much longer, so it is refused by its header.
#[test]
fn what_no_compressor_writes_is_refused_by_its_length() {
    let limits = Limits { message_bytes_max: 1 << 10, ..Limits::default() };
    let bound = Compressor::bound(1 << 10);
    for (bytes, taken) in [(bound, true), (bound + 1, false)] {
        let payload = vec![0; bytes];
        let mut frame = Vec::new();
        write_masked_frame(&mut frame, Opcode::Binary, true, [0; 4], &payload);
        let read = payload_of(frame, &limits);
        assert_eq!(read, if taken { Ok(payload) } else { Err(ErrorKind::MessageTooBig) });
    }
    // Without compression the limit is the limit.
    let mut frame = Vec::new();
    encode::write_masked_frame(&mut frame, Opcode::Binary, true, [0; 4], &[0; 1025]);
    assert_eq!(payload_of(frame, &limits), Err(ErrorKind::MessageTooBig));
    // And the largest limit there is has room for nothing more.
    let limits = Limits { message_bytes_max: u64::MAX, ..limits };
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Binary, true, [0; 4], b"abc");
    assert_eq!(payload_of(frame, &limits), Ok(b"abc".to_vec()));
}
