//! Claim: Any cut of the stream gives the same events, and the same error at the same line.
//! Limits: lines of 512 bytes, data of 1 KiB; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::sse::split(data));
