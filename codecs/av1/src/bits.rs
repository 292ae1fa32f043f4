//! Bits of an OBU's payload, most significant first (AV1 4.10).
//!
//! In: the payload. Out: f(n) and uvlc() values. A read past the end is [`Error::Truncated`] with
//! its place.

use crate::Error;

pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    /// f(width), at most 32 bits.
    pub(crate) fn read(&mut self, width: u32) -> Result<u32, Error> {
        debug_assert!(width <= 32);
        if self.bytes.len() * 8 - self.bit < width as usize {
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

    /// f(width), at most eight bits.
    pub(crate) fn read_u8(&mut self, width: u32) -> Result<u8, Error> {
        debug_assert!(width <= 8);
        Ok((self.read(width)? & 0xff).to_be_bytes()[3])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.read(1)? == 1)
    }

    /// uvlc(), AV1 4.10.3. Values of 32 leading zeros and more are refused, none is sensible.
    pub(crate) fn uvlc(&mut self) -> Result<u32, Error> {
        let mut leading_zeros = 0;
        while !self.flag()? {
            leading_zeros += 1;
            if leading_zeros == 32 {
                return Err(Error::Uvlc);
            }
        }
        Ok(self.read(leading_zeros)? + ((1 << leading_zeros) - 1))
    }
}
