//! Boxes into a growing buffer, for the init section.
//!
//! A box is written by a closure; its size is filled in when the closure returns, so that sizes
//! cannot be wrong. Used once per configuration: the buffer may grow.

/// The bytes written so far.
pub(crate) struct BoxWriter {
    bytes: Vec<u8>,
}

impl BoxWriter {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024) }
    }

    /// A box with the content that `content` writes.
    pub(crate) fn boxed(&mut self, kind: [u8; 4], content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.bytes(&kind);
        content(self);
        // The configurations in an init section are bounded to 64 KiB by their crates.
        let size = u32::try_from(self.bytes.len() - start).expect("an init section is small");
        self.bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// A FullBox: version (8 bits) and flags (24 bits) in front of the content.
    pub(crate) fn full_box(
        &mut self,
        kind: [u8; 4],
        version: u8,
        flags: u32,
        content: impl FnOnce(&mut Self),
    ) {
        self.boxed(kind, |out| {
            out.u32(u32::from(version) << 24 | flags);
            content(out);
        });
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
