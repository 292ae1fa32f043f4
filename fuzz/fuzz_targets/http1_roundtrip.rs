//! Claim: A body in our chunks is read back; no text of ours or of a peer can add a line to a head, and an error's
//! length is right.
//! Limits: those of `LIMITS` in `src/http1.rs`; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::http1::roundtrip(data));
