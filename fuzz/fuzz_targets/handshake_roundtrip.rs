//! Claim: Whatever a client offers and an operator has set, both end up knowing the same.
//! Limits: the offers and settings there are; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::handshake::roundtrip(data));
