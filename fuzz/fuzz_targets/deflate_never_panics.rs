//! Claim: Neither inflation nor negotiation panics, and what comes out keeps to the limit.
//! Limits: messages of 10,000 bytes; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::deflate::never_panics(data));
