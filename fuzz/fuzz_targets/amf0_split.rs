//! Claim: A prefix gives the values that are whole in it, and then an error that says it is cut.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::amf0::split(data));
