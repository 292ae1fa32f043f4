//! Claim: What any compressor makes of any messages, a decompressor reads back.
//! Limits: messages of 10,000 bytes; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::deflate::roundtrip(data));
