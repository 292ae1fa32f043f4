//! Claim: A header cut short is not there yet; whole, it does not depend on what follows.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::aac::split(data));
