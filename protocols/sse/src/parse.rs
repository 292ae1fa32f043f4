//! An event stream to events, as a client reads it (WHATWG HTML 9.2.6).
//!
//! In: bytes in any pieces. Out: [`Received`] events handed to the caller's function, in order.
//! Invariants: any cut of the input gives the same events; a line and an event's data stay within
//! [`Limits`]; the id survives from event to event, the type and the data do not.
//!
//! Stricter than a browser on purpose: bytes that are not UTF-8 are an error instead of
//! replacement characters, because the one reading is a test. An event that the stream's end cuts
//! off is not dispatched, as the standard says.

use memchr::{memchr, memchr2};

/// Reads one event stream. Call [`Parser::receive`] with each piece of the body in order; after an
/// error the parser is done and answers the same error.
#[derive(Debug, Default)]
pub struct Parser {
    limits: Limits,
    line: Vec<u8>,
    data: String,
    event: String,
    /// The buffer the `id` field writes; it becomes the last id at the next dispatch.
    id: String,
    retry_ms: Option<u64>,
    /// The byte offset in the stream of the start of the current line.
    line_offset: u64,
    /// The last piece ended in CR: an LF that follows belongs to it.
    after_carriage_return: bool,
    past_first_line: bool,
    failed: Option<ParseError>,
}

/// What one stream may make the parser hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, without its end.
    pub line_bytes_max: usize,
    /// The data of one event, all its lines together.
    pub data_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes_max: 1 << 20, data_bytes_max: 4 << 20 }
    }
}

/// One dispatched event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The last event id when this event was dispatched; empty before the first `id` field.
    pub id: &'a str,
    /// The event's type; `message` when the stream named none.
    pub event: &'a str,
    /// The data with its lines joined by LF.
    pub data: &'a str,
}

/// What the server did wrong, and where in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The stream is UTF-8 by definition (WHATWG HTML 9.2.5).
    #[error("the server sent a line that is not UTF-8, starting at byte {line_offset}")]
    NotUtf8 {
        /// Where the line starts in the stream.
        line_offset: u64,
    },
    /// A line or an event's data went past [`Limits`].
    #[error("the server sent more than the limit in the line starting at byte {line_offset}")]
    TooLong {
        /// Where the line starts in the stream.
        line_offset: u64,
    },
}

impl Parser {
    /// A parser for a new stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Reads a piece of the stream and calls `dispatch` for every event it completes.
    pub fn receive(
        &mut self,
        input: &[u8],
        mut dispatch: impl FnMut(Received<'_>),
    ) -> Result<(), ParseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.receive_lines(input, &mut dispatch);
        self.failed = result.err();
        result
    }

    /// The id to send as `Last-Event-ID` when reconnecting.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// The reconnection time the server asked for last, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn receive_lines(
        &mut self,
        mut input: &[u8],
        dispatch: &mut impl FnMut(Received<'_>),
    ) -> Result<(), ParseError> {
        loop {
            if self.after_carriage_return && !input.is_empty() {
                self.after_carriage_return = false;
                if input[0] == b'\n' {
                    input = &input[1..];
                    self.line_offset += 1;
                }
            }
            let Some(end) = memchr2(b'\r', b'\n', input) else {
                return self.hold(input);
            };
            self.after_carriage_return = input[end] == b'\r';
            self.hold(&input[..end])?;
            // The line leaves the parser for the time it is read, so its buffer is kept.
            let line = std::mem::take(&mut self.line);
            let result = self.line(&line, dispatch);
            self.line_offset += line.len() as u64 + 1;
            self.line = line;
            self.line.clear();
            result?;
            input = &input[end + 1..];
        }
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if piece.len() > self.limits.line_bytes_max.saturating_sub(self.line.len()) {
            return Err(ParseError::TooLong { line_offset: self.line_offset });
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn line(
        &mut self,
        line: &[u8],
        dispatch: &mut impl FnMut(Received<'_>),
    ) -> Result<(), ParseError> {
        let Ok(mut line) = std::str::from_utf8(line) else {
            return Err(ParseError::NotUtf8 { line_offset: self.line_offset });
        };
        if !self.past_first_line {
            self.past_first_line = true;
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(dispatch);
            return Ok(());
        }
        let (name, value) = match memchr(b':', line.as_bytes()) {
            Some(0) => return Ok(()),
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(' ').unwrap_or(value))
            }
            None => (line, ""),
        };
        self.field(name, value)
    }

    fn field(&mut self, name: &str, value: &str) -> Result<(), ParseError> {
        match name {
            "data" => {
                if value.len() >= self.limits.data_bytes_max.saturating_sub(self.data.len()) {
                    return Err(ParseError::TooLong { line_offset: self.line_offset });
                }
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            // Unknown fields, an id with NUL and a retry that is no number are ignored.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, dispatch: &mut impl FnMut(Received<'_>)) {
        if let Some(data) = self.data.strip_suffix('\n') {
            let event = if self.event.is_empty() { "message" } else { &self.event };
            dispatch(Received { id: &self.id, event, data });
        }
        self.data.clear();
        self.event.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, encode_comment, encode_retry};
    use proptest::prelude::*;

    type Owned = (String, String, String);

    fn read(pieces: &[&[u8]]) -> (Vec<Owned>, Parser) {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            let sink = |event: Received<'_>| {
                events.push((event.id.to_owned(), event.event.to_owned(), event.data.to_owned()));
            };
            parser.receive(piece, sink).unwrap();
        }
        (events, parser)
    }

    fn owned(id: &str, event: &str, data: &str) -> Owned {
        (id.to_owned(), event.to_owned(), data.to_owned())
    }

    /// The examples of WHATWG HTML 9.2.6.
    #[test]
    fn the_examples_of_the_standard() {
        let (events, _) = read(&[b"data: YHOO\ndata: +2\ndata: 10\n\n"]);
        assert_eq!(events, [owned("", "message", "YHOO\n+2\n10")]);

        let stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let (events, _) = read(&[stream]);
        assert_eq!(
            events,
            [
                owned("1", "message", "first event"),
                owned("", "message", "second event"),
                owned("", "message", " third event"),
            ]
        );

        let (events, _) = read(&[b"data\n\ndata\ndata\n\ndata:"]);
        assert_eq!(events, [owned("", "message", ""), owned("", "message", "\n")]);

        let (events, _) = read(&[b"data:test\n\ndata: test\n\n"]);
        assert_eq!(events, [owned("", "message", "test"), owned("", "message", "test")]);
    }

    #[test]
    fn odd_lines() {
        for (stream, expected) in [
            (&b"\xef\xbb\xbfdata: bom\n\n"[..], vec![owned("", "message", "bom")]),
            (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", vec![owned("", "message", "a")]),
            (b"event: x\n\ndata: a\n\n", vec![owned("", "message", "a")]),
            (b"id: 7\n\ndata: a\n\n", vec![owned("7", "message", "a")]),
            (b"id: 7\nid: a\0b\ndata: a\n\n", vec![owned("7", "message", "a")]),
            (
                b"data: a\r\rdata: b\r\n\r\n",
                vec![owned("", "message", "a"), owned("", "message", "b")],
            ),
            (b"Data: a\n\n data: b\n\n", vec![]),
            (b"data: cut off\n", vec![]),
        ] {
            assert_eq!(read(&[stream]).0, expected, "{stream:?}");
        }
    }

    #[test]
    fn retry_takes_digits_only() {
        for (stream, expected) in [
            (&b"retry: 1500\n"[..], Some(1500)),
            (b"retry: 1500\nretry: +1\nretry: 1.5\nretry:\nretry: 9x\n", Some(1500)),
            (b"retry: 99999999999999999999999\n", None),
        ] {
            assert_eq!(read(&[stream]).1.retry_ms(), expected, "{stream:?}");
        }
    }

    #[test]
    fn errors_name_the_line_and_stay() {
        let mut parser = Parser::default();
        let error = ParseError::NotUtf8 { line_offset: 9 };
        assert_eq!(parser.receive(b"data: a\n\ndata: \xff\n", |_| {}), Err(error));
        assert_eq!(parser.receive(b"\n\n", |_| panic!("dispatched after an error")), Err(error));

        let limits = Limits { line_bytes_max: 10, data_bytes_max: 8 };
        let mut parser = Parser::new(limits);
        assert_eq!(parser.receive(b"data: 1234\n", |_| {}), Ok(()));
        let error = ParseError::TooLong { line_offset: 11 };
        assert_eq!(parser.receive(b"data: 567\n", |_| {}), Err(error));
        let mut parser = Parser::new(limits);
        let error = ParseError::TooLong { line_offset: 0 };
        assert_eq!(parser.receive(b"12345678901", |_| {}), Err(error));
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let stream = "\u{feff}: hello\r\n\r\nid: 1\rdata: a\r\ndata: \u{1f600}\n\revent: tick\ndata\n\nretry: 12\n\n";
        let stream = stream.as_bytes();
        let (whole, _) = read(&[stream]);
        assert_eq!(whole.len(), 2);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(read(&pieces).0, whole, "cut at {first} and {second}");
            }
        }
    }

    proptest! {
        #[test]
        fn encoded_events_come_back(
            events in prop::collection::vec(
                (
                    prop::option::of("[^\r\n\0]{0,12}"),
                    prop::option::of("[^\r\n\0]{1,12}"),
                    "(\\PC|[ \r\n\t:]){0,60}",
                ),
                0..8,
            ),
            piece_bytes in 1_usize..40,
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            let mut last_id = String::new();
            for (id, event, data) in &events {
                encode_comment(&mut stream, data);
                encode_retry(&mut stream, 3000);
                Event { id: id.as_deref(), event: event.as_deref(), data }
                    .encode(&mut stream)
                    .unwrap();
                if let Some(id) = id {
                    last_id.clone_from(id);
                }
                let data = data.replace("\r\n", "\n").replace('\r', "\n");
                expected.push(owned(&last_id, event.as_deref().unwrap_or("message"), &data));
            }
            let pieces: Vec<&[u8]> = stream.chunks(piece_bytes).collect();
            let (received, parser) = read(&pieces);
            prop_assert_eq!(received, expected);
            prop_assert_eq!(parser.last_event_id(), last_id);
        }

        #[test]
        fn any_bytes_any_cut_same_answer(
            bytes in prop::collection::vec(
                prop::sample::select(b"data:idevntry \r\n\0\x31\xef\xbb\xbf".to_vec()), 0..120),
            cut in any::<prop::sample::Index>(),
        ) {
            let run = |pieces: &[&[u8]]| {
                let mut parser = Parser::default();
                let mut events = Vec::new();
                let mut result = Ok(());
                for piece in pieces {
                    result = parser.receive(piece, |event| events.push(format!("{event:?}")));
                }
                (events, result)
            };
            let cut = cut.index(bytes.len() + 1);
            prop_assert_eq!(run(&[&bytes]), run(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
