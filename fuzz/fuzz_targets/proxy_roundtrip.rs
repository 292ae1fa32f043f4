//! Claim: A header of either version says what it was written for.
//! Limits: headers of 4 KiB; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::proxy::roundtrip(data));
