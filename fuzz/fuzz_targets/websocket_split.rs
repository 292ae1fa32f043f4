//! Claim: Any cut of the frames gives the same messages, and the same error.
//! Limits: messages of 2 KiB in 64 fragments, whole up to 200 bytes; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::websocket::split(data));
