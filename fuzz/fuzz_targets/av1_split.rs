//! Claim: A prefix gives the OBUs that are whole in it; only one without a size may reach to the cut.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::av1::split(data));
