//! Content codings of whole bodies: gzip (RFC 1952) and brotli (RFC 7932).
//!
//! In: a body. Out: the same in fewer bytes, or nothing when it would not be fewer. Two uses: the console's files, once,
//! as small as they get; and long texts of the moment, on a shard, fast, each once. Deliberately absent: streaming, and
//! decompression (nothing that a peer sends is ever decompressed here).

use flate2::{Compress, Compression, FlushCompress, Status};
use std::sync::Arc;

/// Texts shorter than this fit into one packet as they are: compressing them saves nobody a round trip.
pub const TEXT_BYTES_MIN: usize = 1400;
/// Longer texts are sent as they are: a shard has others to serve. Measured: 5 us for 1,500 bytes, 16 us for 4,000, 0.5 ms
/// for this many bytes of a minified script, which is harder than a playlist.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Texts that a shard keeps beside their compressed form.
const TEXTS_MAX: usize = 16;

/// As small as gzip gets it; for what is compressed once.
#[must_use]
pub fn gzip_smallest(body: &[u8]) -> Option<Vec<u8>> {
    gzip(&mut Compress::new_gzip(Compression::best(), WINDOW_BITS), body)
}

/// As small as brotli gets it in reasonable time; for what is compressed once.
#[must_use]
pub fn brotli_small(body: &[u8]) -> Option<Vec<u8>> {
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 9,
        lgwin: 20,
        size_hint: body.len(),
        ..Default::default()
    };
    let mut out = Vec::new();
    // Reading from and writing to memory does not fail.
    brotli::BrotliCompress(&mut &*body, &mut out, &parameters).ok()?;
    (out.len() < body.len()).then_some(out)
}

/// A shard's compressor of texts and the last texts it compressed: many ask for the same playlist.
#[derive(Debug, Default)]
pub struct Texts {
    /// Made at the first use; 256 KiB.
    state: Option<Box<Compress>>,
    /// The oldest first.
    kept: Vec<Kept>,
}

/// A text, plain and compressed.
#[derive(Debug)]
struct Kept {
    plain: Arc<[u8]>,
    small: Arc<[u8]>,
}

impl Texts {
    /// The text in gzip; `None` when it is too short, too long or does not shrink.
    pub fn gzip(&mut self, text: &[u8]) -> Option<Arc<[u8]>> {
        if let Some(kept) = self.kept.iter().find(|kept| *kept.plain == *text) {
            return Some(Arc::clone(&kept.small));
        }
        let small: Arc<[u8]> = self.gzip_once(text)?.into();
        if self.kept.len() == TEXTS_MAX {
            self.kept.remove(0);
        }
        self.kept.push(Kept { plain: text.into(), small: Arc::clone(&small) });
        Some(small)
    }

    /// The same for a text that nobody asks for twice.
    pub fn gzip_once(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if !(TEXT_BYTES_MIN..=TEXT_BYTES_MAX).contains(&text.len()) {
            return None;
        }
        let state = self
            .state
            .get_or_insert_with(|| Box::new(Compress::new_gzip(Compression::fast(), WINDOW_BITS)));
        state.reset();
        gzip(state, text)
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let kept: usize = self.kept.iter().map(|kept| kept.plain.len() + kept.small.len()).sum();
        kept + if self.state.is_some() { STATE_BYTES } else { 0 }
    }
}

/// Runs a fresh compressor over a whole body.
fn gzip(state: &mut Compress, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    // What does not fit into the room of the plain body is not wanted.
    let status = state.compress_vec(body, &mut out, FlushCompress::Finish).ok()?;
    (status == Status::StreamEnd && out.len() < body.len()).then(|| {
        out.shrink_to_fit();
        out
    })
}

/// 32 KiB, the largest window there is.
const WINDOW_BITS: u8 = 15;
/// About what a compressor takes with that window.
const STATE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn text(bytes: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u32| format!("line {n} of a playlist\n").into_bytes())
            .take(bytes)
            .collect()
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
        out
    }

    #[test]
    fn bodies_come_back() {
        let body = text(100_000);
        let small = gzip_smallest(&body).expect("smaller");
        assert!(small.len() * 3 < body.len());
        assert_eq!(gunzip(&small), body);
        let smaller = brotli_small(&body).expect("smaller");
        assert!(smaller.len() < small.len());
        let mut out = Vec::new();
        brotli::Decompressor::new(&*smaller, 4096).read_to_end(&mut out).expect("brotli");
        assert_eq!(out, body);
        let noise: Vec<u8> =
            (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let random = gzip_smallest(&noise);
        assert!(random.is_none_or(|small| small.len() < noise.len()));
        assert_eq!((gzip_smallest(b"abc"), brotli_small(b"")), (None, None));
    }

    #[test]
    fn texts_are_compressed_once_within_their_bounds() {
        let mut texts = Texts::default();
        assert_eq!(texts.gzip(&text(TEXT_BYTES_MIN - 1)), None);
        assert_eq!(texts.gzip(&text(TEXT_BYTES_MAX + 1)), None);
        assert_eq!(texts.resident_bytes(), 0);
        let first = texts.gzip(&text(3000)).expect("smaller");
        assert_eq!(gunzip(&first), text(3000));
        assert!(Arc::ptr_eq(&first, &texts.gzip(&text(3000)).expect("known")));
        for more in 0..100 {
            let body = text(3001 + more);
            assert_eq!(gunzip(&texts.gzip(&body).expect("smaller")), body);
            assert_eq!(gunzip(&texts.gzip_once(&body).expect("smaller")), body);
        }
        assert!(texts.kept.len() == TEXTS_MAX);
        assert!(texts.resident_bytes() < STATE_BYTES + 2 * TEXTS_MAX * 3101);
        assert!(!Arc::ptr_eq(&first, &texts.gzip(&text(3000)).expect("forgotten")));
    }
}
