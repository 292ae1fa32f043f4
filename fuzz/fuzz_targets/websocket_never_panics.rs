//! Claim: No bytes make the decoder panic in either role, with or without compression; messages keep to the limits, text is UTF-8.
//! Limits: messages of 2 KiB in 64 fragments, whole up to 200 bytes; inputs of 4 KiB, which is libFuzzer's default.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headwater_fuzz::websocket::never_panics(data));
