//! Claim: What is decoded is encoded to bytes that decode to the same. Compared as bytes, since a number may be
//! NaN.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::amf0::roundtrip(data));
