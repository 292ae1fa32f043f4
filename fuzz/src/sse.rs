//! Event streams: our parser against any bytes, and against our encoder.

use sse::{Event, Limits, ParseError, Parser, encode_comment, encode_retry};

use crate::{Seed, cut};

/// Id, event and data of a dispatched event.
type Seen = (String, String, String);

/// No stream panics, and what is dispatched stays within the limits.
pub fn never_panics(data: &[u8]) {
    let (events, _) = read(&[data]);
    for (id, event, data) in events {
        assert!(id.len() <= LIMITS.line_bytes_max && event.len() <= LIMITS.line_bytes_max);
        assert!(data.len() <= LIMITS.data_bytes_max);
    }
}

/// Any cut of the stream gives the same events, and the same error at the same line.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    assert_eq!(read(&[stream]), read(&pieces));
}

/// An event that the encoder takes is read back as it was, its line ends as line feeds.
pub fn roundtrip(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '|');
    let (id, name) = (parts.next(), parts.next());
    let data = parts.next().unwrap_or("");
    let event = Event { id, event: name, data };
    let mut out = Vec::new();
    encode_comment(&mut out, data);
    encode_retry(&mut out, 2_000);
    let before = out.len();
    if event.encode(&mut out).is_err() {
        assert_eq!(out.len(), before, "a refused event leaves nothing behind");
        return;
    }
    let (events, result) = read(&[&out]);
    if result.is_err() {
        // Only the limits of this reader, which are smaller than an input may be.
        assert!(matches!(result, Err(ParseError::TooLong { .. })));
        return;
    }
    let lines = data.replace("\r\n", "\n").replace('\r', "\n");
    let name = name.filter(|name| !name.is_empty()).unwrap_or("message");
    assert_eq!(events, [(id.unwrap_or("").to_owned(), name.to_owned(), lines)]);
}

/// Streams behind a byte that chooses the cuts.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let stream = |choice: u8, text: &str| [&[choice], text.as_bytes()].concat();
    vec![
        ("plain", stream(0, "data: a\n\n")),
        ("all-fields", stream(1, "id: 1\nevent: e\nretry: 10\ndata: a\ndata: b\n\n: c\n\n")),
        ("line-ends", stream(2, "data: a\r\n\r\ndata: b\r\rdata\n\ndata:\r\n\n")),
        ("byte-order-mark", stream(3, "\u{feff}data: \u{e9}\u{1f600}\n\n")),
        ("nul-in-id", stream(4, "id: a\0b\ndata: x\n\nid\ndata: y\n\n")),
        ("cut-off", stream(5, "data: a\n\ndata: never")),
        ("not-utf8", b"\x00data: \xff\n\n".to_vec()),
        ("too-long", [&b"\x00data: "[..], &[b'x'; 600]].concat()),
    ]
}

/// Events as `id|name|data`.
#[must_use]
pub fn event_seeds() -> Vec<Seed> {
    let seed = |name, text: &str| (name, text.as_bytes().to_vec());
    vec![
        seed("plain", "1|tick|data"),
        seed("lines", "1||a\nb\r\nc\rd\n"),
        seed("colons", ":|:| : "),
        seed("no-data", "||"),
        seed("line-end-in-id", "a\nb|x|y"),
        seed("nul", "\0|x|\0"),
    ]
}

fn read(pieces: &[&[u8]]) -> (Vec<Seen>, Result<(), ParseError>) {
    let mut parser = Parser::new(LIMITS);
    let mut events = Vec::new();
    for piece in pieces {
        let dispatch = |event: sse::Received<'_>| {
            events.push((event.id.to_owned(), event.event.to_owned(), event.data.to_owned()));
        };
        if let Err(error) = parser.receive(piece, dispatch) {
            return (events, Err(error));
        }
    }
    (events, Ok(()))
}

/// Small, so that inputs reach them.
const LIMITS: Limits = Limits { line_bytes_max: 512, data_bytes_max: 1_024 };
