//! Wire formats: a publication's bytes as one kind of reader gets them, made once per shard.

use super::publication::{ID_BYTES_MAX, Position, Publication, PublicationKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use websocket::deflate::WindowClass;
use websocket::encode::{HEADER_BYTES_MAX, Opcode, frame_header};

/// How a subscriber's publications are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A WebSocket frame of the bare bytes: text stays text, binary binary.
    WebSocket,
    /// A WebSocket text frame of a JSON object with id and data (subprotocol `headwater.json`).
    WebSocketJson,
    /// An event of an event stream, in an HTTP chunk of its own.
    EventStream,
    /// As [`Self::WebSocket`], compressed for every peer of the class where that pays (RFC 7692).
    WebSocketDeflate(WindowClass),
    /// As [`Self::WebSocketJson`], likewise.
    WebSocketJsonDeflate(WindowClass),
}

const _: () = assert!(size_of::<Format>() <= 2, "it is kept with each connection");

impl Format {
    /// The same without compression.
    #[must_use]
    pub const fn plain(self) -> Self {
        match self {
            Self::WebSocketDeflate(_) => Self::WebSocket,
            Self::WebSocketJsonDeflate(_) => Self::WebSocketJson,
            Self::WebSocket | Self::WebSocketJson | Self::EventStream => self,
        }
    }

    /// The same for a peer that takes compressed messages of this class.
    #[must_use]
    pub const fn compressed(self, class: WindowClass) -> Self {
        match self.plain() {
            Self::WebSocket => Self::WebSocketDeflate(class),
            Self::WebSocketJson => Self::WebSocketJsonDeflate(class),
            other => other,
        }
    }

    /// With whom what is compressed in this format is shared.
    #[must_use]
    pub const fn window_class(self) -> Option<WindowClass> {
        match self {
            Self::WebSocketDeflate(class) | Self::WebSocketJsonDeflate(class) => Some(class),
            Self::WebSocket | Self::WebSocketJson | Self::EventStream => None,
        }
    }

    /// Appends the encoding of `publication` at `position` to `out`, without compression, which is
    /// valid in each format ([`super::Compressors`] compresses).
    pub fn encode(self, publication: &Publication, position: Position, out: &mut Vec<u8>) {
        match self.plain() {
            Self::WebSocketJson => {
                with_text_frame(out, |out| write_json(out, publication, position));
            }
            Self::EventStream => {
                let mut space = [0; ID_BYTES_MAX];
                let id = position.write_to(&mut space);
                with_chunk(out, |out| write_event(out, publication, id));
            }
            _ => {
                let opcode = opcode_of(publication.kind);
                websocket::encode::write_frame(out, opcode, &publication.payload);
            }
        }
    }

    /// Appends what tells a reader that publications are lost to it; nothing where the format has
    /// no word for it.
    pub fn encode_gap(self, position: Position, out: &mut Vec<u8>) {
        match self.plain() {
            Self::WebSocketJson => {
                let text = format!("{{\"gap\":true,\"id\":\"{position}\"}}");
                websocket::encode::write_frame(out, Opcode::Text, text.as_bytes());
            }
            Self::EventStream => {
                let id = position.to_string();
                let event = sse::Event { id: Some(&id), event: Some("gap"), data: "{}" };
                with_chunk(out, |out| {
                    // Neither the id nor the name can contain a line end.
                    let _ = event.encode(out);
                });
            }
            _ => {}
        }
    }
}

pub(super) const fn opcode_of(kind: PublicationKind) -> Opcode {
    match kind {
        PublicationKind::Binary => Opcode::Binary,
        PublicationKind::Json | PublicationKind::Text => Opcode::Text,
    }
}

/// Appends what `write` writes as one text frame.
fn with_text_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    with_frame(out, |bytes| frame_header(Opcode::Text, bytes), write);
}

/// Appends what `write` writes behind the header that `header` makes for so many bytes.
pub(super) fn with_frame(
    out: &mut Vec<u8>,
    header: impl FnOnce(usize) -> ([u8; HEADER_BYTES_MAX], usize),
    write: impl FnOnce(&mut Vec<u8>),
) {
    // The header's size depends on the payload's: the longest is reserved, what is too much goes.
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_MAX]);
    write(out);
    let (header, length) = header(out.len() - start - HEADER_BYTES_MAX);
    out[start + HEADER_BYTES_MAX - length..start + HEADER_BYTES_MAX]
        .copy_from_slice(&header[..length]);
    out.drain(start..start + HEADER_BYTES_MAX - length);
}

/// Appends what `write` writes as one HTTP chunk (RFC 9112 7.1).
pub(crate) fn with_chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // The size is not known yet: eight digits are reserved, leading zeroes are allowed.
    const SIZE: &[u8] = b"00000000\r\n";
    let start = out.len();
    out.extend_from_slice(SIZE);
    write(out);
    let mut length = out.len() - start - SIZE.len();
    if length == 0 {
        // A chunk of size zero would end the body.
        out.truncate(start);
        return;
    }
    for digit in out[start..start + 8].iter_mut().rev() {
        *digit = b"0123456789abcdef"[length & 15];
        length >>= 4;
    }
    out.extend_from_slice(b"\r\n");
}

fn write_event(out: &mut Vec<u8>, publication: &Publication, id: &str) {
    let event = publication.event.as_deref();
    let encoded = match (publication.kind, std::str::from_utf8(&publication.payload)) {
        (PublicationKind::Json | PublicationKind::Text, Ok(data)) => {
            sse::Event { id: Some(id), event, data }.encode(out)
        }
        // Binary has no place in an event stream: base64, marked by the event's name.
        _ => {
            let data = STANDARD.encode(&publication.payload[..]);
            let event = event.or(Some("binary"));
            sse::Event { id: Some(id), event, data: &data }.encode(out)
        }
    };
    // Event names are checked when they are published and ids are ours, so this cannot fail.
    debug_assert!(encoded.is_ok());
}

pub(super) fn write_json(out: &mut Vec<u8>, publication: &Publication, position: Position) {
    let mut space = [0; ID_BYTES_MAX];
    put(out, "{\"id\":\"");
    put(out, position.write_to(&mut space));
    put(out, "\"");
    if let Some(event) = &publication.event {
        put(out, ",\"event\":");
        write_json_string(out, event);
    }
    match (publication.kind, std::str::from_utf8(&publication.payload)) {
        (PublicationKind::Json, Ok(json)) => {
            put(out, ",\"data\":");
            put(out, json);
        }
        (PublicationKind::Text, Ok(text)) => {
            put(out, ",\"text\":");
            write_json_string(out, text);
        }
        _ => {
            put(out, ",\"base64\":\"");
            write_base64(out, &publication.payload);
            put(out, "\"");
        }
    }
    put(out, "}");
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The space is exactly what base64 with padding takes.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// Appends a JSON string (RFC 8259 7).
fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (byte >> 4),
                b"0123456789abcdef"[usize::from(byte & 15)],
            ],
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        out.extend_from_slice(escape);
        plain = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Payload;

    fn publication(kind: PublicationKind, bytes: &[u8]) -> Publication {
        let payload = Payload::copied_from(bytes);
        Publication { payload, kind, sender: 0, event: None, key: None }
    }

    fn encoded(format: Format, publication: &Publication) -> Vec<u8> {
        let mut out = Vec::new();
        format.encode(publication, Position { epoch: 10, offset: 3 }, &mut out);
        out
    }

    #[test]
    fn text_and_binary_keep_their_kind_on_a_websocket() {
        let text = encoded(Format::WebSocket, &publication(PublicationKind::Text, b"hi"));
        assert_eq!(text, [0x81, 2, b'h', b'i']);
        let binary = encoded(Format::WebSocket, &publication(PublicationKind::Binary, &[255]));
        assert_eq!(binary, [0x82, 1, 255]);
    }

    #[test]
    fn an_event_is_one_chunk() {
        let event = encoded(Format::EventStream, &publication(PublicationKind::Text, b"a\nb"));
        let text = String::from_utf8(event).expect("ASCII");
        let (size, rest) = text.split_once("\r\n").expect("a size line");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        assert_eq!(&rest[size..], "\r\n");
        assert!(rest.contains("id: a-3\n") || rest.contains("id:a-3\n"), "{rest}");
        assert!(rest[..size].ends_with("\n\n"));
    }

    #[test]
    fn json_escapes_text_and_embeds_json() {
        let text = encoded(Format::WebSocketJson, &publication(PublicationKind::Text, b"\"\n\x01"));
        assert_eq!(&text[2..], br#"{"id":"a-3","text":"\"\n\u0001"}"#);
        let all: String = (0..=0x7F_u8).map(char::from).chain("é\u{1F600}".chars()).collect();
        let escaped =
            encoded(Format::WebSocketJson, &publication(PublicationKind::Text, all.as_bytes()));
        let value: serde_json::Value = serde_json::from_slice(&escaped[4..]).expect("JSON");
        assert_eq!(value["text"], all);
        let json = encoded(Format::WebSocketJson, &publication(PublicationKind::Json, b"[1]"));
        assert_eq!(&json[2..], br#"{"id":"a-3","data":[1]}"#);
    }
}
