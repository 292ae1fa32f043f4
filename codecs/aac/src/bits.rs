//! Bits of a configuration, most significant first.
//!
//! In: bytes, or values with a width. Out: values, or bytes padded with zero bits. A read past the
//! end is [`Error::Truncated`] with its place. Widths are at most 24 bits, the widest field here.

use crate::Error;

pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.bit
    }

    pub(crate) fn read(&mut self, width: u32) -> Result<u32, Error> {
        debug_assert!(width <= 24);
        if self.remaining() < width as usize {
            return Err(Error::Truncated { bit: self.bit });
        }
        let mut value = 0;
        for _ in 0..width {
            let byte = self.bytes[self.bit / 8];
            value = value << 1 | u32::from(byte >> (7 - self.bit % 8) & 1);
            self.bit += 1;
        }
        Ok(value)
    }

    /// A field of at most eight bits.
    pub(crate) fn read_u8(&mut self, width: u32) -> Result<u8, Error> {
        debug_assert!(width <= 8);
        Ok((self.read(width)? & 0xff).to_be_bytes()[3])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.read(1)? == 1)
    }

    pub(crate) fn skip(&mut self, width: usize) -> Result<(), Error> {
        if self.remaining() < width {
            return Err(Error::Truncated { bit: self.bit });
        }
        self.bit += width;
        Ok(())
    }

    /// To the next byte boundary, counted from the first byte.
    pub(crate) fn align(&mut self) {
        self.bit = self.bit.next_multiple_of(8);
    }
}

#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    bit: usize,
}

impl BitWriter {
    pub(crate) fn write(&mut self, width: u32, value: u32) {
        debug_assert!(width <= 24 && value < 1 << width);
        for shift in (0..width).rev() {
            if self.bit.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> shift & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 0x80 >> (self.bit % 8);
            }
            self.bit += 1;
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
