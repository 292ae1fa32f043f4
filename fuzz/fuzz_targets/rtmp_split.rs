//! Claim: Any cut of the bytes gives the same events and the same error.
//! Limits: those of `LIMITS` in `src/rtmp.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::rtmp::split(data));
