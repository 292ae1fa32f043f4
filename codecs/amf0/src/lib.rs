//! Action Message Format 0 (Adobe, "Action Message Format - AMF 0", 2007): the values that RTMP
//! commands and FLV script data are made of.
//!
//! In: bytes a peer sent, through [`Decoder`]; values we made, through [`Value::encode`] and
//! [`encode`]. Out: [`Value`]s that borrow their text from the input; bytes appended to a
//! `Vec<u8>`.
//!
//! Invariants: decoding never panics, never recurses deeper than [`DEPTH_MAX`], never allocates
//! from a declared count or length, and advances by at least one byte per value. What it decodes,
//! it encodes back to the same value.
//!
//! Deliberately absent: AMF3 (the avmplus marker is reported as unsupported), resolving references
//! into shared graphs (they are range-checked and kept as numbers), serde.
#![forbid(unsafe_code)]

use std::borrow::Cow;

mod decode;
pub mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Error, decode_all};

/// How deep values may nest. Real metadata nests two or three levels.
pub const DEPTH_MAX: usize = 32;

/// Named members, in the order in which they were sent.
pub type Properties<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// One AMF0 value (AMF0 2.1). Text that is not UTF-8 is decoded with U+FFFD in place of the broken
/// bytes, since encoders put operating-system strings of other code pages into metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// 2.2: an IEEE 754 double.
    Number(f64),
    /// 2.3.
    Boolean(bool),
    /// 2.4: at most 65,535 bytes; a longer one is encoded as a long string.
    String(Cow<'a, str>),
    /// 2.5: an anonymous object.
    Object(Properties<'a>),
    /// 2.7.
    Null,
    /// 2.8.
    Undefined,
    /// 2.9: the index of an object or array earlier in the same message, checked to exist.
    Reference(u16),
    /// 2.10: an associative array. Its declared count is a hint that many encoders get wrong, so it
    /// is not kept.
    EcmaArray(Properties<'a>),
    /// 2.12.
    StrictArray(Vec<Self>),
    /// 2.13.
    Date {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: f64,
        /// Reserved by the specification, in practice minutes off UTC or zero.
        time_zone: i16,
    },
    /// 2.14.
    LongString(Cow<'a, str>),
    /// 2.15: what the sender could not serialise.
    Unsupported,
    /// 2.17.
    XmlDocument(Cow<'a, str>),
    /// 2.18: an object with a class.
    TypedObject {
        /// The class's registered alias.
        class: Cow<'a, str>,
        /// Its members.
        properties: Properties<'a>,
    },
}

impl<'a> Value<'a> {
    /// The text of a string or long string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::LongString(text) => Some(text),
            _ => None,
        }
    }

    /// The number; a boolean is not one.
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The members of an object, typed object or ECMA array.
    pub fn properties(&self) -> Option<&[(Cow<'a, str>, Self)]> {
        match self {
            Self::Object(properties)
            | Self::EcmaArray(properties)
            | Self::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// The first member of that name.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.properties()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The same value, owning its text.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Number(number) => Value::Number(number),
            Self::Boolean(boolean) => Value::Boolean(boolean),
            Self::String(text) => Value::String(own(text)),
            Self::Object(properties) => Value::Object(own_properties(properties)),
            Self::Null => Value::Null,
            Self::Undefined => Value::Undefined,
            Self::Reference(index) => Value::Reference(index),
            Self::EcmaArray(properties) => Value::EcmaArray(own_properties(properties)),
            Self::StrictArray(items) => {
                Value::StrictArray(items.into_iter().map(Self::into_owned).collect())
            }
            Self::Date { unix_ms, time_zone } => Value::Date { unix_ms, time_zone },
            Self::LongString(text) => Value::LongString(own(text)),
            Self::Unsupported => Value::Unsupported,
            Self::XmlDocument(text) => Value::XmlDocument(own(text)),
            Self::TypedObject { class, properties } => {
                Value::TypedObject { class: own(class), properties: own_properties(properties) }
            }
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_properties(properties: Properties<'_>) -> Properties<'static> {
    properties.into_iter().map(|(name, value)| (own(name), value.into_owned())).collect()
}

/// The type markers (AMF0 2.1).
mod marker {
    pub(crate) const NUMBER: u8 = 0x00;
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const STRING: u8 = 0x02;
    pub(crate) const OBJECT: u8 = 0x03;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const UNDEFINED: u8 = 0x06;
    pub(crate) const REFERENCE: u8 = 0x07;
    pub(crate) const ECMA_ARRAY: u8 = 0x08;
    pub(crate) const OBJECT_END: u8 = 0x09;
    pub(crate) const STRICT_ARRAY: u8 = 0x0A;
    pub(crate) const DATE: u8 = 0x0B;
    pub(crate) const LONG_STRING: u8 = 0x0C;
    pub(crate) const UNSUPPORTED: u8 = 0x0D;
    pub(crate) const XML_DOCUMENT: u8 = 0x0F;
    pub(crate) const TYPED_OBJECT: u8 = 0x10;
}
