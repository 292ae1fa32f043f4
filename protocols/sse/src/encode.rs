//! Events, comments and retry hints to bytes (WHATWG HTML 9.2.5).
//!
//! In: borrowed text. Out: lines appended to the caller's vector; nothing else is allocated.
//! Invariants: an id or event name that could end its line is refused before a byte is written;
//! data may hold line ends and becomes one `data` field per line, so a client sees every line end
//! as a single line feed.

use memchr::memchr3;

/// One event to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event<'a> {
    /// The `id` field: what the client will answer with in `Last-Event-ID`. Empty text resets it.
    pub id: Option<&'a str>,
    /// The `event` field. Absent or empty: the client dispatches `message`.
    pub event: Option<&'a str>,
    /// The data. Empty data is still dispatched, as an empty string.
    pub data: &'a str,
}

impl Event<'_> {
    /// Appends the event with its closing empty line. On an error `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.id.is_some_and(breaks_field) {
            return Err(EncodeError::Id);
        }
        if self.event.is_some_and(breaks_field) {
            return Err(EncodeError::EventName);
        }
        if let Some(id) = self.id {
            field(out, b"id", id.as_bytes());
        }
        if let Some(event) = self.event.filter(|event| !event.is_empty()) {
            field(out, b"event", event.as_bytes());
        }
        for_each_line(self.data.as_bytes(), |line| field(out, b"data", line));
        out.push(b'\n');
        Ok(())
    }
}

/// Appends a comment followed by an empty line: a heartbeat that no client dispatches
/// (WHATWG HTML 9.2.7 suggests one about every 15 seconds). Each line of `text` becomes one comment.
pub fn encode_comment(out: &mut Vec<u8>, text: &str) {
    for_each_line(text.as_bytes(), |line| field(out, b"", line));
    out.push(b'\n');
}

/// Appends the reconnection time followed by an empty line (WHATWG HTML 9.2.6, `retry`).
pub fn encode_retry(out: &mut Vec<u8>, retry_ms: u32) {
    // u32::MAX has ten digits.
    let mut digits = [0_u8; 10];
    let mut at = digits.len();
    let mut rest = retry_ms;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    field(out, b"retry", &digits[at..]);
    out.push(b'\n');
}

/// Why an event was refused. The fault is the publisher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A line end would start another field; an id with NUL is ignored by clients.
    #[error("an event id must not contain CR, LF or NUL")]
    Id,
    /// A line end would start another field.
    #[error("an event name must not contain CR, LF or NUL")]
    EventName,
}

fn breaks_field(text: &str) -> bool {
    memchr3(b'\r', b'\n', 0, text.as_bytes()).is_some()
}

/// The client drops one space after the colon, so a value that starts with a space survives.
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(memchr::memchr2(b'\r', b'\n', value).is_none());
    out.extend_from_slice(name);
    out.push(b':');
    if !value.is_empty() {
        out.push(b' ');
        out.extend_from_slice(value);
    }
    out.push(b'\n');
}

/// Calls `line` for each piece between CR LF, CR or LF; at least once.
fn for_each_line(text: &[u8], mut line: impl FnMut(&[u8])) {
    let mut rest = text;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        line(&rest[..end]);
        let ended_by_pair = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        rest = &rest[end + 1 + usize::from(ended_by_pair)..];
    }
    line(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(event: Event<'_>) -> String {
        let mut out = Vec::new();
        event.encode(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_come_in_order_and_end_with_an_empty_line() {
        let event = Event { id: Some("e1:42"), event: Some("tick"), data: "{\"a\":1}" };
        assert_eq!(encoded(event), "id: e1:42\nevent: tick\ndata: {\"a\":1}\n\n");
    }

    /// Bug class "SSE / framing injection": every line end in data.
    #[test]
    fn every_line_end_of_the_data_becomes_a_field() {
        for (data, expected) in [
            ("", "data:\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\rb", "data: a\ndata: b\n\n"),
            ("a\r\nb", "data: a\ndata: b\n\n"),
            ("a\n\rb", "data: a\ndata:\ndata: b\n\n"),
            ("\n", "data:\ndata:\n\n"),
            ("a\r\n", "data: a\ndata:\n\n"),
            (" a", "data:  a\n\n"),
            ("x\n\nevent: forged\n", "data: x\ndata:\ndata: event: forged\ndata:\n\n"),
        ] {
            assert_eq!(encoded(Event { data, ..Event::default() }), expected, "{data:?}");
        }
    }

    /// Bug class "SSE / framing injection": line ends and NUL in an id or a name.
    #[test]
    fn an_id_or_name_that_could_break_its_line_is_refused_whole() {
        for bad in ["a\n", "\r", "a\0b", "x\ndata: forged"] {
            let mut out = b"before".to_vec();
            let id = Event { id: Some(bad), ..Event::default() };
            assert_eq!(id.encode(&mut out), Err(EncodeError::Id));
            let name = Event { id: Some("1"), event: Some(bad), data: "" };
            assert_eq!(name.encode(&mut out), Err(EncodeError::EventName));
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn an_empty_id_is_sent_and_an_empty_name_is_not() {
        let event = Event { id: Some(""), event: Some(""), data: "a" };
        assert_eq!(encoded(event), "id:\ndata: a\n\n");
    }

    #[test]
    fn comments_and_retry() {
        let mut out = Vec::new();
        encode_comment(&mut out, "");
        encode_comment(&mut out, "still\nhere");
        encode_retry(&mut out, 0);
        encode_retry(&mut out, u32::MAX);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            ":\n\n: still\n: here\n\nretry: 0\n\nretry: 4294967295\n\n"
        );
    }
}
