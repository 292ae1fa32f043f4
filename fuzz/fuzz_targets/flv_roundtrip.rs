//! Claim: A header that was read is written so that it reads the same; so is a file of tags.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::flv::roundtrip(data));
