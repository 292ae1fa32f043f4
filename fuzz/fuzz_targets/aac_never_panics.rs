//! Claim: No configuration or header panics, and what is accepted has channels and a rate.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::aac::never_panics(data));
