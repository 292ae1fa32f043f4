//! Claim: The record made of a temporal unit is a record, with the same sequence header.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::av1::roundtrip(data));
