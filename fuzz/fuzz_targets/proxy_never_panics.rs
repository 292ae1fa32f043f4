//! Claim: No bytes make the reader panic, and what it accepts ends inside them.
//! Limits: those of `LIMITS` in `src/proxy.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::proxy::never_panics(data));
