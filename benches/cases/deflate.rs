//! permessage-deflate on one JSON message: compressed once per publication and window class, and
//! inflated once per message of a peer. Each message stands alone, which is the default, or refers
//! to the one before.

use std::hint::black_box;

use websocket::deflate::{
    Compressor, Decompressor, Level, Outcome, Settings, WindowBits, WindowClass,
};

use super::{Call, Case, MESSAGE_BYTES};

pub(super) fn cases() -> Vec<Case> {
    let compress = |name: &str, level: u8, length: usize| {
        let name = format!("deflate/compress-{name}{length}");
        Case::new(name, move || compress(level, length)).bytes(length)
    };
    let [_, middle, long] = MESSAGE_BYTES;
    vec![
        compress("", 6, middle),
        compress("", 6, long),
        compress("level-1-", 1, middle),
        compress("level-3-", 3, middle),
        Case::new(format!("deflate/compress-takeover-{middle}"), move || {
            compress_with_takeover(middle)
        })
        .bytes(middle)
        // A window of 32 KiB slides every 64 messages.
        .calls(1024),
        Case::new(format!("deflate/inflate-{middle}"), move || inflate(middle)).bytes(middle),
        Case::new(format!("deflate/inflate-{long}"), move || inflate(long)).bytes(long),
    ]
}

fn compress(level: u8, length: usize) -> Call {
    let settings = Settings { level: Level::new(level).expect("1 to 9"), ..Settings::default() };
    run(Compressor::new(&settings, WindowClass::new(WindowBits::MAX)), length)
}

fn compress_with_takeover(length: usize) -> Call {
    run(Compressor::with_takeover(&Settings::default(), WindowBits::MAX), length)
}

fn run(mut compressor: Compressor, length: usize) -> Call {
    let message = json(length);
    // Callers compress into a buffer they keep.
    let mut out = Vec::with_capacity(2 * length + 256);
    Box::new(move || {
        out.clear();
        assert_eq!(compressor.compress(black_box(&message), &mut out), Outcome::Compressed);
        black_box(&out);
    })
}

fn inflate(length: usize) -> Call {
    let message = json(length);
    let mut payload = Vec::new();
    let settings = Settings::default();
    Compressor::new(&settings, WindowClass::new(WindowBits::MAX))
        .compress_always(&message, &mut payload);
    let mut decompressor = Decompressor::new(1 << 20);
    let mut out = Vec::with_capacity(length + 32 * 1024);
    Box::new(move || {
        out.clear();
        decompressor.message(black_box(&payload), &mut out).expect("our own payload");
        assert_eq!(out.len(), message.len());
        black_box(&out);
    })
}

/// Objects as a ticker sends them: the same names, other numbers.
fn json(length: usize) -> Vec<u8> {
    let mut text = String::from("[");
    let mut number = 1_u32;
    while text.len() < length {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (symbol, price, volume) = (number >> 28, number >> 20 & 0xfff, number >> 4 & 0xffff);
        text += &format!(
            "{{\"symbol\":\"SYM{symbol}\",\"price\":{}.{:02},\"volume\":{volume},\"time\":17325{}}},",
            price,
            number % 100,
            number >> 8 & 0xf_ffff
        );
    }
    text.truncate(length - 1);
    text.push(']');
    text.into_bytes()
}
