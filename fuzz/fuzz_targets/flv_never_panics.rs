//! Claim: No message or file panics; a header is no longer than the message and the limit.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::flv::never_panics(data));
