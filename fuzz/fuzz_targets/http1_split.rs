//! Claim: Any cut of the bytes gives the same requests, bodies and error.
//! Limits: those of `LIMITS` in `src/http1.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::http1::split(data));
