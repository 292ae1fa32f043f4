//! Claim: A prefix gives the NAL units that are whole in it.
//! Limits: the crate's own; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::h264::split(data));
