//! Claim: Neither a record nor a temporal unit panics; OBUs lie behind one another and fill the data.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::av1::never_panics(data));
