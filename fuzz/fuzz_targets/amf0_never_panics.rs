//! Claim: No message panics, and there are at most as many values as bytes: nothing is made from a declared count.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::amf0::never_panics(data));
