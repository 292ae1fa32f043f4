//! Claim: Any cut of the bytes gives the same header or error.
//! Limits: those of `LIMITS` in `src/proxy.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::proxy::split(data));
