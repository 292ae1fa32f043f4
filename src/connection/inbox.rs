//! Received bytes that are not consumed yet: the beginning of a message whose rest has not come.

/// Bytes kept for later; no memory while there are none.
#[derive(Debug, Default)]
pub struct Inbox {
    // A thin pointer: a connection without unconsumed input pays eight bytes.
    #[expect(clippy::box_collection, reason = "eight bytes instead of twenty-four when empty")]
    kept: Option<Box<Vec<u8>>>,
}

impl Inbox {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_none()
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.len())
    }

    /// Adds bytes behind those that are kept.
    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.kept.get_or_insert_default().extend_from_slice(bytes);
        }
    }

    /// Takes everything that is kept; [`Self::put_back`] returns what was not consumed.
    pub fn take(&mut self) -> Option<Box<Vec<u8>>> {
        self.kept.take()
    }

    /// Keeps `bytes` without the first `consumed`.
    pub fn put_back(&mut self, mut bytes: Box<Vec<u8>>, consumed: usize) {
        debug_assert!(self.kept.is_none(), "taken before it is put back");
        if consumed < bytes.len() {
            bytes.drain(..consumed);
            self.kept = Some(bytes);
        }
    }
}
