//! What the fuzz targets claim, as plain functions of bytes.
//!
//! In: any bytes. Out: nothing, or a panic that says which claim does not hold. The targets in `fuzz_targets/` hand
//! libFuzzer's inputs to these functions; `tests/replay.rs` hands them every input of the corpora, so a claim that once
//! failed is checked by an ordinary test run. [`TARGETS`] lists all of them, and the replay holds that list and the two
//! folders together.
//!
//! Claims: `never_panics` (and whatever is returned agrees with itself), `split` (any cut of the bytes gives the same
//! events; for a codec, a prefix gives a prefix), `roundtrip` (what we write we read back).

#![forbid(unsafe_code)]

pub mod aac;
pub mod amf0;
pub mod av1;
pub mod cut;
pub mod deflate;
pub mod flv;
pub mod h264;
pub mod handshake;
pub mod http1;
pub mod mp4;
pub mod proxy;
pub mod rtmp;
pub mod sse;
pub mod websocket;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the binary and of the corpus folder.
    pub name: &'static str,
    /// The claim.
    pub claim: fn(&[u8]),
    /// Valid inputs to start from, named.
    pub seeds: fn() -> Vec<Seed>,
}

/// A corpus file: its name and its bytes.
pub type Seed = (&'static str, Vec<u8>);

/// Every target there is.
pub const TARGETS: &[Target] = &[
    Target { name: "aac_never_panics", claim: aac::never_panics, seeds: aac::seeds },
    Target { name: "aac_roundtrip", claim: aac::roundtrip, seeds: aac::seeds },
    Target { name: "aac_split", claim: aac::split, seeds: aac::adts_seeds },
    Target { name: "amf0_never_panics", claim: amf0::never_panics, seeds: amf0::seeds },
    Target { name: "amf0_roundtrip", claim: amf0::roundtrip, seeds: amf0::seeds },
    Target { name: "amf0_split", claim: amf0::split, seeds: amf0::seeds },
    Target { name: "av1_never_panics", claim: av1::never_panics, seeds: av1::seeds },
    Target { name: "av1_roundtrip", claim: av1::roundtrip, seeds: av1::seeds },
    Target { name: "av1_split", claim: av1::split, seeds: av1::seeds },
    Target {
        name: "deflate_never_panics",
        claim: deflate::never_panics,
        seeds: deflate::whole_seeds,
    },
    Target { name: "deflate_roundtrip", claim: deflate::roundtrip, seeds: deflate::message_seeds },
    Target { name: "deflate_split", claim: deflate::split, seeds: deflate::seeds },
    Target { name: "flv_never_panics", claim: flv::never_panics, seeds: flv::seeds },
    Target { name: "flv_roundtrip", claim: flv::roundtrip, seeds: flv::seeds },
    Target { name: "flv_split", claim: flv::split, seeds: flv::seeds },
    Target { name: "h264_never_panics", claim: h264::never_panics, seeds: h264::seeds },
    Target { name: "h264_split", claim: h264::split, seeds: h264::seeds },
    Target {
        name: "handshake_never_panics",
        claim: handshake::never_panics,
        seeds: handshake::seeds,
    },
    Target {
        name: "handshake_roundtrip",
        claim: handshake::roundtrip,
        seeds: handshake::offer_seeds,
    },
    Target { name: "handshake_split", claim: handshake::split, seeds: handshake::cut_seeds },
    Target { name: "http1_never_panics", claim: http1::never_panics, seeds: http1::seeds },
    Target { name: "http1_roundtrip", claim: http1::roundtrip, seeds: http1::seeds },
    Target { name: "http1_split", claim: http1::split, seeds: http1::seeds },
    Target { name: "mp4_never_panics", claim: mp4::never_panics, seeds: mp4::seeds },
    Target { name: "mp4_roundtrip", claim: mp4::roundtrip, seeds: mp4::written_seeds },
    Target { name: "mp4_split", claim: mp4::split, seeds: mp4::seeds },
    Target { name: "proxy_never_panics", claim: proxy::never_panics, seeds: proxy::seeds },
    Target { name: "proxy_roundtrip", claim: proxy::roundtrip, seeds: proxy::written_seeds },
    Target { name: "proxy_split", claim: proxy::split, seeds: proxy::cut_seeds },
    Target { name: "rtmp_never_panics", claim: rtmp::never_panics, seeds: rtmp::seeds },
    Target { name: "rtmp_split", claim: rtmp::split, seeds: rtmp::seeds },
    Target { name: "sse_never_panics", claim: sse::never_panics, seeds: sse::seeds },
    Target { name: "sse_roundtrip", claim: sse::roundtrip, seeds: sse::event_seeds },
    Target { name: "sse_split", claim: sse::split, seeds: sse::seeds },
    Target {
        name: "websocket_never_panics",
        claim: websocket::never_panics,
        seeds: websocket::seeds,
    },
    Target {
        name: "websocket_roundtrip",
        claim: websocket::roundtrip,
        seeds: websocket::message_seeds,
    },
    Target { name: "websocket_split", claim: websocket::split, seeds: websocket::seeds },
];
