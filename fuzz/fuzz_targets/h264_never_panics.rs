//! Claim: Neither a record nor an access unit panics; NAL units are not empty and lie within the access unit.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::h264::never_panics(data));
