//! Answers to bytes (RFC 9112 4, 7.1).
//!
//! In: status, date and fields. Out: bytes appended to the caller's vector. Invariants: no field
//! that the caller passes can end its line (control bytes become spaces); a chunk of no bytes is not
//! written, because it would end the body. It does not decide whether the connection stays open,
//! and it does not know the time: the date comes formatted, once a second for everyone.

use std::fmt::{self, Display};
use std::io::Write as _;

use crate::{DATE_BYTES, Method, Version};

/// What a client that sent `Expect: 100-continue` waits for (RFC 9110 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What stands behind the data of every chunk (RFC 9112 7.1).
pub const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk and no trailers (RFC 9112 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Whether the connection serves another request after this one (RFC 9112 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It does.
    KeepAlive,
    /// It closes after the answer.
    Close,
}

/// Writes a response head: `Head::start`, fields, `finish`.
#[derive(Debug)]
#[must_use = "a head ends with `finish`"]
pub struct Head<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Head<'o> {
    /// Appends the status line and `Date`.
    pub fn start(out: &'o mut Vec<u8>, status: u16, date: &[u8; DATE_BYTES]) -> Self {
        debug_assert!((200..600).contains(&status));
        let mut digits = *b"HTTP/1.1 000 ";
        let mut rest = status;
        for place in digits[9..12].iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        out.extend_from_slice(&digits);
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Appends a field. Control bytes in the value become spaces.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let start = self.name(name);
        self.out.extend_from_slice(value.as_ref());
        self.value_end(start)
    }

    /// Appends a field whose value is formatted in place.
    pub fn header_display(mut self, name: &str, value: impl Display) -> Self {
        let start = self.name(name);
        // Writing to a vector does not fail.
        let _ = write!(self.out, "{value}");
        self.value_end(start)
    }

    /// Appends each of the fields.
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |head, (name, value)| head.header(name, value))
    }

    /// Appends `Content-Type`.
    pub fn content_type(self, media_type: &str) -> Self {
        self.header("Content-Type", media_type)
    }

    /// Appends `Content-Length`.
    pub fn content_length(self, body_bytes: u64) -> Self {
        self.header_display("Content-Length", body_bytes)
    }

    /// Appends `Transfer-Encoding: chunked`; only for a client that speaks HTTP/1.1
    /// (RFC 9112 6.1).
    pub fn chunked(self) -> Self {
        self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        self
    }

    /// Appends `Connection` where it differs from what the client's version implies
    /// (RFC 9112 9.3).
    pub fn persistence(self, client: Version, persistence: Persistence) -> Self {
        match (client, persistence) {
            (Version::Http11, Persistence::KeepAlive) => {}
            (Version::Http10, Persistence::KeepAlive) => {
                self.out.extend_from_slice(b"Connection: keep-alive\r\n");
            }
            (_, Persistence::Close) => self.out.extend_from_slice(b"Connection: close\r\n"),
        }
        self
    }

    /// Ends the head; the body follows.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// Appends a name; gives where its value starts.
    fn name(&mut self, name: &str) -> usize {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.len()
    }

    fn value_end(self, start: usize) -> Self {
        for byte in &mut self.out[start..] {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }
}

/// An error as clients see it: `{"code": "...", "message": "..."}` with the right status.
#[derive(Debug, Clone, Copy)]
pub struct ErrorResponse<'a> {
    /// The HTTP status.
    pub status: u16,
    /// A stable name that programs compare.
    pub code: &'a str,
    /// What to do about it, for a person.
    pub message: &'a str,
    /// More fields, such as `Allow` or `Retry-After`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The request's method: an answer to HEAD has no body.
    pub method: Method,
    /// The request's version.
    pub version: Version,
    /// Whether another request may follow.
    pub persistence: Persistence,
}

impl<'a> ErrorResponse<'a> {
    /// The answer to a request that could not be read: the connection closes behind it.
    pub const fn closing(status: u16, code: &'a str, message: &'a str) -> Self {
        Self {
            status,
            code,
            message,
            headers: &[],
            method: Method::Get,
            version: Version::Http11,
            persistence: Persistence::Close,
        }
    }

    /// Appends head and body.
    pub fn write(&self, out: &mut Vec<u8>, date: &[u8; DATE_BYTES]) {
        let frame = r#"{"code": "", "message": ""}"#;
        let body_bytes =
            frame.len() as u64 + escaped_length(self.code) + escaped_length(self.message);
        Head::start(out, self.status, date)
            .content_type("application/json")
            .content_length(body_bytes)
            .header("Cache-Control", "no-store")
            .headers(self.headers)
            .persistence(self.version, self.persistence)
            .finish();
        if self.method != Method::Head {
            // Writing to a vector does not fail.
            let _ = write!(
                out,
                r#"{{"code": "{}", "message": "{}"}}"#,
                Escaped(self.code),
                Escaped(self.message)
            );
        }
    }
}

/// The size line of a chunk and how many of its bytes count (RFC 9112 7.1).
///
/// Made for bodies encoded once and sent to many: the data and [`CHUNK_END`] follow by reference.
pub const fn chunk_header(data_bytes: usize) -> ([u8; 18], usize) {
    debug_assert!(data_bytes > 0);
    let mut line = [0; 18];
    let digits = if data_bytes == 0 { 1 } else { (data_bytes.ilog2() / 4 + 1) as usize };
    let mut rest = data_bytes;
    let mut at = digits;
    while at > 0 {
        at -= 1;
        line[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    line[digits] = b'\r';
    line[digits + 1] = b'\n';
    (line, digits + 2)
}

/// Appends one whole chunk; nothing for no data.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let (line, line_bytes) = chunk_header(data.len());
    out.extend_from_slice(&line[..line_bytes]);
    out.extend_from_slice(data);
    out.extend_from_slice(CHUNK_END);
}

/// Text inside a JSON string (RFC 8259 7).
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(needs_escape) {
            let (plain, from) = rest.split_at(at);
            f.write_str(plain)?;
            // The byte that needs an escape is one ASCII character.
            match from.as_bytes()[0] {
                byte @ (b'"' | b'\\') => write!(f, "\\{}", char::from(byte))?,
                byte => write!(f, "\\u{byte:04x}")?,
            }
            rest = &from[1..];
        }
        f.write_str(rest)
    }
}

const fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\') || byte < 0x20
}

fn escaped_length(text: &str) -> u64 {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// The reason phrase, for people who read traffic (RFC 9110 15).
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        // The phrase may be empty (RFC 9112 4).
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &[u8; DATE_BYTES] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn a_head() {
        let mut out = b"before ".to_vec();
        Head::start(&mut out, 206, DATE)
            .content_type("video/mp4")
            .content_length(u64::MAX)
            .header("ETag", "\"a\"")
            .header_display("Content-Range", format_args!("bytes {}-{}/9", 1, 2))
            .persistence(Version::Http11, Persistence::KeepAlive)
            .finish();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "before HTTP/1.1 206 Partial Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: video/mp4\r\nContent-Length: 18446744073709551615\r\nETag: \"a\"\r\n\
             Content-Range: bytes 1-2/9\r\n\r\n"
        );
    }

    #[test]
    fn persistence_is_said_where_it_is_not_implied() {
        for (version, persistence, expected) in [
            (Version::Http11, Persistence::KeepAlive, ""),
            (Version::Http11, Persistence::Close, "Connection: close\r\n"),
            (Version::Http10, Persistence::KeepAlive, "Connection: keep-alive\r\n"),
            (Version::Http10, Persistence::Close, "Connection: close\r\n"),
        ] {
            let mut out = Vec::new();
            Head::start(&mut out, 599, DATE).persistence(version, persistence).chunked().finish();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!(
                    "HTTP/1.1 599 \r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{expected}\
                     Transfer-Encoding: chunked\r\n\r\n"
                )
            );
        }
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = Vec::new();
        Head::start(&mut out, 200, DATE)
            .header("X", "a\r\nSet-Cookie: b\0\x7f\tc")
            .header_display("Y", "\r\n")
            .finish();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("GMT\r\nX: a  Set-Cookie: b  \tc\r\nY:   \r\n\r\n"), "{text:?}");
    }

    #[test]
    fn an_error_body() {
        let mut out = Vec::new();
        let mut error = ErrorResponse::closing(400, "bad_header", "line \"x\\\"\n\u{e9}");
        error.headers = &[("Allow", "GET")];
        error.write(&mut out, DATE);
        let text = String::from_utf8(out).unwrap();
        let body = "{\"code\": \"bad_header\", \"message\": \"line \\\"x\\\\\\\"\\u000a\u{e9}\"}";
        assert_eq!(
            text,
            format!(
                "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\
                 Cache-Control: no-store\r\nAllow: GET\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        );
        error.method = Method::Head;
        let mut head_only = Vec::new();
        error.write(&mut head_only, DATE);
        assert_eq!(String::from_utf8(head_only).unwrap() + body, text);
    }

    #[test]
    fn chunks() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        write_chunk(&mut out, b"hello, chunks of HTTP");
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(out, b"15\r\nhello, chunks of HTTP\r\n0\r\n\r\n");
        for data_bytes in [1, 15, 16, 255, 256, 4096, 0xdead_beef, usize::MAX] {
            let (line, line_bytes) = chunk_header(data_bytes);
            assert_eq!(line[..line_bytes], *format!("{data_bytes:x}\r\n").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_length_of_an_error_is_the_length_of_its_body(message in "(\\PC|[\0-\x1f\"]){0,60}") {
            let mut out = Vec::new();
            ErrorResponse::closing(500, "x", &message).write(&mut out, DATE);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = format!("Content-Length: {}\r\n", body.len());
            prop_assert!(head.contains(&length));
            prop_assert!(!body.bytes().any(|byte| byte < 0x20));
        }
    }
}
