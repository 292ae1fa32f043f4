//! Values to bytes, appended to a `Vec<u8>`.
//!
//! The free functions write the common kinds without building a [`Value`]. A string over 65,535
//! bytes becomes a long string; a member name or class over 65,535 bytes, which AMF0 has no form
//! for, is cut at a character.

use crate::{Properties, Value, marker};

impl Value<'_> {
    /// Appends this value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(value) => number(out, *value),
            Self::Boolean(value) => boolean(out, *value),
            Self::String(text) => string(out, text),
            Self::Object(properties) => {
                out.push(marker::OBJECT);
                members(out, properties);
            }
            Self::Null => null(out),
            Self::Undefined => out.push(marker::UNDEFINED),
            Self::Reference(index) => {
                out.push(marker::REFERENCE);
                out.extend_from_slice(&index.to_be_bytes());
            }
            Self::EcmaArray(properties) => {
                out.push(marker::ECMA_ARRAY);
                count(out, properties.len());
                members(out, properties);
            }
            Self::StrictArray(items) => {
                out.push(marker::STRICT_ARRAY);
                count(out, items.len());
                for item in items {
                    item.encode(out);
                }
            }
            Self::Date { unix_ms, time_zone } => {
                out.push(marker::DATE);
                out.extend_from_slice(&unix_ms.to_be_bytes());
                out.extend_from_slice(&time_zone.to_be_bytes());
            }
            Self::LongString(text) => long_text(out, marker::LONG_STRING, text),
            Self::Unsupported => out.push(marker::UNSUPPORTED),
            Self::XmlDocument(text) => long_text(out, marker::XML_DOCUMENT, text),
            Self::TypedObject { class, properties } => {
                out.push(marker::TYPED_OBJECT);
                name(out, class);
                members(out, properties);
            }
        }
    }
}

/// AMF0 2.2.
pub fn number(out: &mut Vec<u8>, value: f64) {
    out.push(marker::NUMBER);
    out.extend_from_slice(&value.to_be_bytes());
}

/// AMF0 2.3.
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(&[marker::BOOLEAN, u8::from(value)]);
}

/// AMF0 2.4, or 2.14 when it is too long for 2.4.
pub fn string(out: &mut Vec<u8>, text: &str) {
    match u16::try_from(text.len()) {
        Ok(length) => {
            out.push(marker::STRING);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Err(_) => long_text(out, marker::LONG_STRING, text),
    }
}

/// AMF0 2.7.
pub fn null(out: &mut Vec<u8>) {
    out.push(marker::NULL);
}

/// AMF0 2.5, from borrowed members.
pub fn object(out: &mut Vec<u8>, properties: &[(&str, Value<'_>)]) {
    out.push(marker::OBJECT);
    for (key, value) in properties {
        name(out, key);
        value.encode(out);
    }
    out.extend_from_slice(&OBJECT_END);
}

fn members(out: &mut Vec<u8>, properties: &Properties<'_>) {
    for (key, value) in properties {
        name(out, key);
        value.encode(out);
    }
    out.extend_from_slice(&OBJECT_END);
}

fn name(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn long_text(out: &mut Vec<u8>, marker: u8, text: &str) {
    let text = &text[..text.floor_char_boundary(LONG_TEXT_BYTES_MAX)];
    out.push(marker);
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Callers stay under 4 Gi items: bytes of that many do not fit an RTMP message.
fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// An empty name and the end marker (AMF0 2.11).
const OBJECT_END: [u8; 3] = [0, 0, marker::OBJECT_END];

/// The longest text whose length is sure to fit in 32 bits.
const LONG_TEXT_BYTES_MAX: usize = 0x7fff_ffff;
