//! Claim: Any cut of a payload, and any room for what comes out, gives the same message or the same error.
//! Limits: messages of 10,000 bytes; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::deflate::split(data));
