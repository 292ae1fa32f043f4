//! Claim: What the fields say is what is read from the bytes made of them.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::aac::roundtrip(data));
