//! Claim: An event that the encoder takes is read back as it was, its line ends as line feeds.
//! Limits: lines of 512 bytes, data of 1 KiB; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::sse::roundtrip(data));
