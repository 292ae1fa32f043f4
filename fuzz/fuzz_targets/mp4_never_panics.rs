//! Claim: No bytes make the walk panic or go on forever; each box lies in the data, behind the one before it, and
//! in its parent.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::mp4::never_panics(data));
