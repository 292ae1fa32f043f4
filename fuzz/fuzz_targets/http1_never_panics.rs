//! Claim: No bytes make the decoder panic, and what it accepts is within the limits and says one thing about its
//! length; nor do any texts in it make the rules about hosts, origins, ranges, tags and escapes panic.
//! Limits: those of `LIMITS` in `src/http1.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::http1::never_panics(data));
