//! Bytes to values.
//!
//! In: one whole message (RTMP says how long it is, so a value that runs past the end is an error,
//! not a wait). Out: values borrowing from it, or an [`Error`] with the offset of the byte at
//! fault.
//!
//! Invariants: each loop turn consumes at least one byte; a vector grows only as items are really
//! read.

use std::borrow::Cow;

use crate::{DEPTH_MAX, Properties, Value, marker};

/// What the sender got wrong, and at which byte of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value runs past the end of the message.
    #[error("the sender's AMF0 value runs past the end of the message at byte {at}")]
    Truncated {
        /// Where the missing bytes should have begun.
        at: usize,
    },
    /// Values nest deeper than [`DEPTH_MAX`].
    #[error("the sender's AMF0 value nests deeper than {DEPTH_MAX} at byte {at}")]
    TooDeep {
        /// The marker of the value that is too deep.
        at: usize,
    },
    /// A strict array declares more items than there are bytes left.
    #[error("the sender's AMF0 array at byte {at} declares {count} items, more than fit")]
    TooManyItems {
        /// The count's first byte.
        at: usize,
        /// The declared count.
        count: u32,
    },
    /// A marker that AMF0 reserves (movieclip, recordset), switches to AMF3 with, or does not have.
    #[error("the sender's AMF0 marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// The marker's offset.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// A reference to an object that has not been sent.
    #[error("the sender's AMF0 reference at byte {at} names object {index}, which does not exist")]
    Reference {
        /// The index's first byte.
        at: usize,
        /// The index.
        index: u16,
    },
}

/// All values of a message.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Value<'_>>, Error> {
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    while let Some(value) = decoder.decode()? {
        values.push(value);
    }
    Ok(values)
}

/// Reads the values of one message in turn. References count over the whole message (AMF0 2.9).
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Objects and arrays begun so far: what a reference may name.
    complex_count: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the first byte of a message.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, complex_count: 0 }
    }

    /// How many bytes have been read.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The next value; `None` at the end of the message.
    pub fn decode(&mut self) -> Result<Option<Value<'a>>, Error> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        self.value(0).map(Some)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        let at = self.at;
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep { at });
        }
        let [marker] = self.array()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            marker::BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::OBJECT => {
                self.complex_count += 1;
                Value::Object(self.object(depth)?)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => self.reference()?,
            marker::ECMA_ARRAY => {
                self.complex_count += 1;
                // The count is a hint: encoders write 0 or a wrong number, the end marker decides.
                self.array::<4>()?;
                Value::EcmaArray(self.object(depth)?)
            }
            marker::STRICT_ARRAY => {
                self.complex_count += 1;
                self.strict_array(depth)?
            }
            marker::DATE => Value::Date {
                unix_ms: f64::from_be_bytes(self.array()?),
                time_zone: i16::from_be_bytes(self.array()?),
            },
            marker::LONG_STRING => Value::LongString(self.long_text()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_text()?),
            marker::TYPED_OBJECT => {
                self.complex_count += 1;
                let class = self.short_text()?;
                Value::TypedObject { class, properties: self.object(depth)? }
            }
            _ => return Err(Error::Marker { at, marker }),
        })
    }

    /// Members up to the empty name followed by the end marker (AMF0 2.11).
    fn object(&mut self, depth: usize) -> Result<Properties<'a>, Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_text()?;
            if name.is_empty() && self.peek()? == marker::OBJECT_END {
                self.at += 1;
                return Ok(properties);
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn strict_array(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        let at = self.at;
        let count = u32::from_be_bytes(self.array()?);
        if usize::try_from(count).is_ok_and(|count| count > self.bytes.len() - self.at) {
            return Err(Error::TooManyItems { at, count });
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::StrictArray(items))
    }

    fn reference(&mut self) -> Result<Value<'a>, Error> {
        let at = self.at;
        let index = u16::from_be_bytes(self.array()?);
        if usize::from(index) >= self.complex_count {
            return Err(Error::Reference { at, index });
        }
        Ok(Value::Reference(index))
    }

    fn short_text(&mut self) -> Result<Cow<'a, str>, Error> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        self.text(length)
    }

    fn long_text(&mut self) -> Result<Cow<'a, str>, Error> {
        let at = self.at;
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| Error::Truncated { at })?;
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<Cow<'a, str>, Error> {
        let left = &self.bytes[self.at..];
        let text = left.get(..length).ok_or(Error::Truncated { at: self.bytes.len() })?;
        self.at += length;
        Ok(String::from_utf8_lossy(text))
    }

    fn peek(&self) -> Result<u8, Error> {
        self.bytes.get(self.at).copied().ok_or(Error::Truncated { at: self.at })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let left = &self.bytes[self.at..];
        let array = left.first_chunk().ok_or(Error::Truncated { at: self.bytes.len() })?;
        self.at += N;
        Ok(*array)
    }
}
