//! Claim: Any cut of an answer is read as the whole is.
//! Limits: inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::handshake::split(data));
