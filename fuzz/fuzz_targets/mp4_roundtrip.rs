//! Claim: What is written is boxes to the last byte: the sample entry holds the configuration, the fragment's
//! header is as long as announced, and its samples add up.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::mp4::roundtrip(data));
