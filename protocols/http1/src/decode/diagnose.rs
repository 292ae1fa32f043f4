//! Which byte of a refused head is wrong, and why: the slow path, walked once per bad connection.
//!
//! In: a head whose lines all end in CR LF, and what `httparse` said. Out: the first rule that its
//! bytes break. When the walk finds nothing, the parser's word stands, without a place.

use memchr::{memchr, memmem};

use super::ErrorKind;
use super::head::is_token_byte;

/// Names the fault.
#[cold]
pub(super) fn diagnose(head: &[u8], error: httparse::Error) -> (ErrorKind, usize) {
    let line_end = memmem::find(head, b"\r\n").unwrap_or(head.len());
    if let Some(fault) = request_line(&head[..line_end]) {
        return fault;
    }
    let mut start = line_end + 2;
    while start + 2 < head.len() {
        let end = memmem::find(&head[start..], b"\r\n").map_or(head.len(), |found| start + found);
        if let Some((kind, offset)) = header_line(&head[start..end]) {
            return (kind, start + offset);
        }
        start = end + 2;
    }
    let kind = match error {
        httparse::Error::TooManyHeaders => ErrorKind::TooManyHeaders,
        httparse::Error::HeaderName => ErrorKind::BadHeaderName,
        httparse::Error::HeaderValue => ErrorKind::BadHeaderValue,
        httparse::Error::Version => ErrorKind::UnsupportedVersion,
        _ => ErrorKind::BadRequestLine,
    };
    (kind, head.len())
}

fn request_line(line: &[u8]) -> Option<(ErrorKind, usize)> {
    let bad = |offset| Some((ErrorKind::BadRequestLine, offset));
    let Some(method_end) = memchr(b' ', line) else { return bad(line.len()) };
    if let Some(offset) = line[..method_end].iter().position(|byte| !is_token_byte(*byte)) {
        return bad(offset);
    }
    let target_start = method_end + 1;
    let Some(target_end) = memchr(b' ', &line[target_start..]).map(|found| target_start + found)
    else {
        return bad(line.len());
    };
    if method_end == 0 || target_end == target_start {
        return bad(target_start);
    }
    let is_wrong = |byte: &u8| !byte.is_ascii_graphic();
    if let Some(offset) = line[target_start..target_end].iter().position(is_wrong) {
        return Some((ErrorKind::BadTarget, target_start + offset));
    }
    let version_start = target_end + 1;
    match &line[version_start..] {
        b"HTTP/1.0" | b"HTTP/1.1" => None,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Some((ErrorKind::UnsupportedVersion, version_start))
        }
        _ => bad(version_start),
    }
}

/// What is wrong with a header or trailer line, and where in it.
pub(super) fn header_line(line: &[u8]) -> Option<(ErrorKind, usize)> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some((ErrorKind::ObsoleteFold, 0));
    }
    let Some(name_end) = line.iter().position(|byte| !is_token_byte(*byte)) else {
        return Some((ErrorKind::BadHeaderName, line.len()));
    };
    match line[name_end] {
        b':' if name_end > 0 => {}
        b' ' | b'\t' if line[name_end..].trim_ascii_start().starts_with(b":") => {
            return Some((ErrorKind::SpaceBeforeColon, name_end));
        }
        _ => return Some((ErrorKind::BadHeaderName, name_end)),
    }
    let value_start = name_end + 1;
    let is_wrong = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let offset = line[value_start..].iter().position(is_wrong)?;
    Some((ErrorKind::BadHeaderValue, value_start + offset))
}
