//! Claim: No bytes make the connection panic or keep more than it may; fragments lie within their message and in
//! order; what is answered is in proportion to what was sent.
//! Limits: those of `LIMITS` in `src/rtmp.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::rtmp::never_panics(data));
