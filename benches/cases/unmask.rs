//! XOR with the masking key, in place: the only work per byte of what a WebSocket client sends.

use std::hint::black_box;

use super::{Call, Case, MESSAGE_BYTES, text};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

type Kernel = fn(&mut [u8], [u8; 4], usize) -> simd::Ascii;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, kernel: Kernel, length: usize| {
        Case::new(format!("unmask/{name}{length}"), move || prepare(kernel, length)).bytes(length)
    };
    let mut cases: Vec<Case> =
        MESSAGE_BYTES.iter().map(|length| case("", simd::unmask, *length)).collect();
    // What a processor without AVX2 runs.
    cases.push(case("portable-", simd::unmask_portable, MESSAGE_BYTES[2]));
    cases
}

fn prepare(kernel: Kernel, length: usize) -> Call {
    let mut bytes = text(length);
    Box::new(move || {
        black_box(kernel(black_box(&mut bytes), black_box(MASK), 0));
    })
}
