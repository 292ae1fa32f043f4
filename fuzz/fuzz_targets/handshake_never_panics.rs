//! Claim: Neither a request's fields nor an answer make us panic, and a client takes our answer to any request.
//! Limits: answers of 16 KiB; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::handshake::never_panics(data));
