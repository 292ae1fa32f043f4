//! Texts of the moment in gzip (RFC 1952), on a shard: fast, and each once.
//!
//! In: a text. Out: the same in fewer bytes, or nothing when it would not be fewer or is not worth it. The console's
//! files are compressed by the build script. Deliberately absent: streaming, and decompression (only
//! WebSocket messages arrive compressed, which `session/deflate.rs` inflates).

use flate2::{Compress, Compression, FlushCompress, Status};
use std::sync::Arc;

/// Texts shorter than this fit into one packet as they are: compressing them saves nobody a round trip.
pub const TEXT_BYTES_MIN: usize = 1400;
/// Longer texts are sent as they are: a shard has others to serve. Measured: 5 us for 1,500 bytes, 16 us for 4,000, 0.5 ms
/// for this many bytes of a minified script, which is harder than a playlist.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Texts that a shard keeps beside their compressed form.
const TEXTS_MAX: usize = 16;

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
    fn what_does_not_shrink_is_sent_as_it_is() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let mut texts = Texts::default();
        assert_eq!(texts.gzip_once(&noise), None);
        // The compressor is as new after it.
        assert_eq!(gunzip(&texts.gzip_once(&text(5000)).expect("smaller")), text(5000));
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
