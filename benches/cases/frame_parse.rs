//! The WebSocket decoder, server role, on one masked text message that is there at once.

use std::hint::black_box;

use websocket::encode::write_masked_frame;
use websocket::{Decoder, Event, Limits, Opcode, Role, Step};

use super::{Call, Case, MESSAGE_BYTES, text};

/// Payloads are unmasked where they lie, so every other call sees a payload masked twice. A key of
/// ASCII bytes keeps ASCII text ASCII, so both are text and cost the same, and no call has to
/// restore its input.
const MASK: [u8; 4] = [0x12, 0x45, 0x07, 0x6b];

pub(super) fn cases() -> Vec<Case> {
    let case = |length: &usize| {
        let length = *length;
        Case::new(format!("frame_parse/{length}"), move || prepare(length)).bytes(length)
    };
    MESSAGE_BYTES.iter().map(case).collect()
}

fn prepare(length: usize) -> Call {
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, true, MASK, &text(length));
    let mut decoder = Decoder::new(Role::Server);
    let limits = Limits::default();
    Box::new(move || {
        let whole = frame.len();
        let step = decoder.receive(black_box(&mut frame), &limits).expect("a valid frame");
        let Step::Event { consumed, event: Event::Message { data, .. } } = step else {
            panic!("a whole message, not {step:?}");
        };
        assert_eq!(consumed, whole);
        black_box(data);
    })
}
