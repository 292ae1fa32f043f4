//! The head of a request: where it ends, and what it says (RFC 9112 2 to 6).
//!
//! In: bytes from the first of a request. Out: a [`Request`], or nothing while the head is not
//! whole. Invariants: bytes already looked at are not looked at again while more arrive; `httparse`
//! sees a head only when all its lines end in CR LF; every leniency it has beyond that is closed
//! here. On a failing head the slow path finds which byte is wrong.

use std::mem::MaybeUninit;

use memchr::{memchr, memchr2};

use super::request::{Flags, HEADERS_MAX, HeaderStorage, Method, Request, Span, Version};
use super::{ErrorKind, Fallible, Framing, Limits};
use crate::Authority;

/// Skips the empty lines before a request that old clients send behind a body (RFC 9112 2.2).
/// Gives how many bytes, at most [`LEADING_EMPTY_LINES_MAX`] lines.
pub(super) fn leading_empty_lines(input: &[u8]) -> usize {
    let (pairs, _) = input.as_chunks::<2>();
    2 * pairs.iter().take(LEADING_EMPTY_LINES_MAX).take_while(|pair| *pair == b"\r\n").count()
}

/// Finds the end of the head in `input`, which starts with the request line. `scanned` is how far
/// earlier calls came and is moved on.
pub(super) fn find_end(
    input: &[u8],
    scanned: &mut u32,
    limits: &Limits,
) -> Fallible<Option<usize>> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    let window = &input[..input.len().min(head_bytes_max)];
    let line_bytes_max = limits.target_bytes_max.saturating_add(REQUEST_LINE_SLACK);
    let request_line_fits = |seen: usize| {
        if seen >= line_bytes_max && memchr(b'\n', &window[..line_bytes_max]).is_none() {
            return Err((ErrorKind::TargetTooLong, line_bytes_max));
        }
        Ok(())
    };
    let mut at = *scanned as usize;
    let seen = loop {
        let Some(found) = memchr2(b'\r', b'\n', &window[at..]) else { break window.len() };
        at += found;
        request_line_fits(at)?;
        if !line_ends(window, at)? {
            break at;
        }
        match at.checked_sub(1).map(|before| window[before]) {
            None => return Err((ErrorKind::BadRequestLine, 0)),
            Some(b'\n') => return Ok(Some(at + 2)),
            Some(_) => at += 2,
        }
    };
    request_line_fits(seen)?;
    if window.len() == head_bytes_max {
        return Err((ErrorKind::HeadTooLarge, head_bytes_max));
    }
    // What was seen is within HEAD_BYTES_CEILING.
    *scanned = u32::try_from(seen).unwrap_or_default();
    Ok(None)
}

/// Whether a line ends at `at`, where CR or LF stands; `false` when its LF has not arrived.
pub(super) fn line_ends(bytes: &[u8], at: usize) -> Fallible<bool> {
    match (bytes[at], bytes.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(true),
        (b'\r', None) => Ok(false),
        (b'\r', Some(_)) => Err((ErrorKind::BareCarriageReturn, at)),
        _ => Err((ErrorKind::BareLineFeed, at)),
    }
}

/// Reads a whole head: all its lines end in CR LF and the last is empty.
pub(super) fn parse<'a>(
    head: &'a [u8],
    storage: &'a mut HeaderStorage,
    limits: &Limits,
) -> Fallible<Request<'a>> {
    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let slots = &mut slots[..limits.headers_max.min(HEADERS_MAX)];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => {}
        Ok(_) => return Err((ErrorKind::BadRequestLine, 0)),
        Err(error) => return Err(super::diagnose::diagnose(head, error)),
    }
    let (Some(method_token), Some(target), Some(minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err((ErrorKind::BadRequestLine, 0));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::from_token(method_token);
    let target = Target::parse(head, target, method, limits)?;

    let mut facts = Facts::default();
    for (header, span) in parsed.headers.iter().zip(&mut storage.spans) {
        *span = span_of(head, header);
        facts.note(header).map_err(|kind| (kind, usize::from(span.value_start)))?;
    }
    let spans = &storage.spans[..parsed.headers.len()];
    let at_end = |kind| (kind, head.len());
    let host = facts.host(version).map_err(at_end)?;
    let request = Request {
        head,
        spans,
        method,
        method_token,
        path: target.path,
        query: target.query,
        authority: target.authority(host).map_err(at_end)?,
        version,
        framing: facts.framing(version, limits).map_err(at_end)?,
        flags: facts.flags,
    };
    if request.framing != Framing::Empty && request.wants_websocket() {
        return Err(at_end(ErrorKind::UpgradeWithBody));
    }
    Ok(request)
}

/// What the request is aimed at (RFC 9112 3.2).
struct Target<'a> {
    path: &'a str,
    query: Option<&'a str>,
    /// In absolute form, with the scheme's own port.
    authority: Option<(Authority<'a>, u16)>,
}

impl<'a> Target<'a> {
    fn parse(head: &[u8], text: &'a str, method: Method, limits: &Limits) -> Fallible<Self> {
        let start = offset_in(head, text.as_bytes());
        if text.len() > limits.target_bytes_max {
            return Err((ErrorKind::TargetTooLong, start + limits.target_bytes_max));
        }
        // A fragment is never sent (RFC 9110 7.1), and only visible ASCII may be.
        let is_wrong = |byte: u8| !byte.is_ascii_graphic() || byte == b'#';
        if let Some(offset) = text.bytes().position(is_wrong) {
            return Err((ErrorKind::BadTarget, start + offset));
        }
        let bad = (ErrorKind::BadTarget, start);
        if text == "*" && method == Method::Options {
            return Ok(Self { path: text, query: None, authority: None });
        }
        let (authority, rest) = if text.starts_with('/') {
            (None, text)
        } else {
            let (rest, default_port) = [("http://", 80), ("https://", 443)]
                .iter()
                .find_map(|(scheme, port)| {
                    let head = text.get(..scheme.len())?;
                    head.eq_ignore_ascii_case(scheme).then(|| (&text[scheme.len()..], *port))
                })
                .ok_or(bad)?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let authority = Authority::parse(&rest.as_bytes()[..end])
                .filter(|authority| !authority.host.is_empty())
                .ok_or(bad)?;
            (Some((authority, default_port)), &rest[end..])
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // RFC 9112 3.2.1: an empty path of an absolute target is `/`.
        Ok(Self { path: if path.is_empty() { "/" } else { path }, query, authority })
    }

    /// Whom the request is meant for. The target's word counts before `Host` (RFC 9112 3.2.2), and
    /// the two have to agree (RFC 9112 3.2): if they did not, somebody on the way may have gone by
    /// the other.
    fn authority(&self, host: Option<Authority<'a>>) -> Result<Option<Authority<'a>>, ErrorKind> {
        let Some((named, default_port)) = self.authority else { return Ok(host) };
        let port = |authority: Authority<'_>| authority.port.unwrap_or(default_port);
        match host {
            Some(host)
                if !host.host.eq_ignore_ascii_case(named.host) || port(host) != port(named) =>
            {
                Err(ErrorKind::HostMismatch)
            }
            _ => Ok(Some(named)),
        }
    }
}

/// What the fields that steer the connection said, collected in one pass.
#[derive(Default)]
struct Facts<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    transfer_encoding: Option<&'a [u8]>,
    flags: Flags,
}

impl<'a> Facts<'a> {
    fn note(&mut self, header: &httparse::Header<'a>) -> Result<(), ErrorKind> {
        let (name, value) = (header.name, header.value);
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // The length alone tells most fields apart from those looked for.
        match name.len() {
            3 if is("via") => self.flags.through_proxy = true,
            4 if is("host") => once(&mut self.host, value, ErrorKind::DuplicateHost)?,
            6 if is("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(ErrorKind::UnsupportedExpectation);
                }
                self.flags.expect_continue = true;
            }
            7 if is("upgrade") => self.flags.upgrade_websocket |= has_token(value, b"websocket"),
            9 if is("forwarded") || is("x-real-ip") => self.flags.through_proxy = true,
            10 if is("connection") => {
                self.flags.close |= has_token(value, b"close");
                self.flags.keep_alive |= has_token(value, b"keep-alive");
                self.flags.connection_upgrade |= has_token(value, b"upgrade");
            }
            14 if is("content-length") => once(
                &mut self.content_length,
                content_length(value)?,
                ErrorKind::DuplicateContentLength,
            )?,
            15 if is("x-forwarded-for") => self.flags.through_proxy = true,
            16 if is("x-forwarded-host") => self.flags.through_proxy = true,
            17 if is("x-forwarded-proto") => self.flags.through_proxy = true,
            17 if is("transfer-encoding") => {
                once(&mut self.transfer_encoding, value, ErrorKind::BadTransferEncoding)?
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 3.2.
    fn host(&self, version: Version) -> Result<Option<Authority<'a>>, ErrorKind> {
        match self.host {
            // An http URL without a host is invalid (RFC 9110 4.2.1), so an empty field is too.
            Some(value) => Authority::parse(value)
                .filter(|authority| !authority.host.is_empty())
                .map(Some)
                .ok_or(ErrorKind::BadHost),
            None if version == Version::Http10 => Ok(None),
            None => Err(ErrorKind::MissingHost),
        }
    }

    /// RFC 9112 6.3, with everything that two readers could read differently refused.
    fn framing(&self, version: Version, limits: &Limits) -> Result<Framing, ErrorKind> {
        match (self.transfer_encoding, self.content_length) {
            (None, None | Some(0)) => Ok(Framing::Empty),
            (None, Some(length)) if length > limits.body_bytes_max => Err(ErrorKind::BodyTooLarge),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(ErrorKind::LengthAndTransferEncoding),
            (Some(_), None) if version == Version::Http10 => {
                Err(ErrorKind::TransferEncodingInHttp10)
            }
            (Some(value), None) => transfer_encoding(value).map(|()| Framing::Chunked),
        }
    }
}

/// Fills a slot that may be filled once.
fn once<T>(slot: &mut Option<T>, value: T, duplicate: ErrorKind) -> Result<(), ErrorKind> {
    if slot.replace(value).is_some() { Err(duplicate) } else { Ok(()) }
}

/// Decimal digits and nothing else (RFC 9110 8.6). A number that does not fit is larger than any
/// limit.
fn content_length(value: &[u8]) -> Result<u64, ErrorKind> {
    if memchr(b',', value).is_some() {
        return Err(ErrorKind::DuplicateContentLength);
    }
    if value.is_empty() {
        return Err(ErrorKind::BadContentLength);
    }
    value.iter().try_fold(0_u64, |length, byte| {
        if !byte.is_ascii_digit() {
            return Err(ErrorKind::BadContentLength);
        }
        Ok(length.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// Exactly `chunked` (RFC 9112 6.1, 7). Other codings, well-formed and with `chunked` at most once
/// and last, are something we lack; all else is wrong.
fn transfer_encoding(value: &[u8]) -> Result<(), ErrorKind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut names_other = false;
    let mut past_chunked = false;
    for element in value.split(|byte| *byte == b',') {
        let element = element.trim_ascii();
        let is_coding = !element.is_empty() && element.iter().all(|byte| is_token_byte(*byte));
        if !is_coding || past_chunked {
            return Err(ErrorKind::BadTransferEncoding);
        }
        past_chunked = element.eq_ignore_ascii_case(b"chunked");
        names_other |= !past_chunked;
    }
    Err(if names_other {
        ErrorKind::UnsupportedTransferCoding
    } else {
        ErrorKind::BadTransferEncoding
    })
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether a trailer line, which is a header field, is one that must not come behind a message
/// (RFC 9110 6.5.1): whoever merges trailers into the head would read another message.
pub(super) fn is_forbidden_in_trailers(line: &[u8]) -> bool {
    let name = &line[..memchr(b':', line).unwrap_or(line.len())];
    FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

/// RFC 9110 5.6.2.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn span_of(head: &[u8], header: &httparse::Header<'_>) -> Span {
    let name_start = offset_in(head, header.name.as_bytes());
    let value_start = offset_in(head, header.value);
    // A head is shorter than 64 KiB, so every offset in it fits.
    let fit = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
    Span {
        name_start: fit(name_start),
        name_end: fit(name_start + header.name.len()),
        value_start: fit(value_start),
        value_end: fit(value_start + header.value.len()),
    }
}

/// Where `part`, which is a slice of `whole`, begins in it. The parser may give a constant for an
/// empty part; its place does not matter and 0 is given.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    let is_inside = part.len() <= whole.len() && offset <= whole.len() - part.len();
    debug_assert!(is_inside || part.is_empty());
    if is_inside { offset } else { 0 }
}

/// What frames a message, says whom it is for, steers the connection or says who asks.
const FORBIDDEN_TRAILERS: [&str; 17] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "te",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
];

/// Offsets in a head fit 16 bits.
const HEAD_BYTES_CEILING: usize = 0xffff;

/// What a request line needs beside its target: the longest method we wait for, and the version.
const REQUEST_LINE_SLACK: usize = 64;

/// RFC 9112 2.2 asks for at least one.
const LEADING_EMPTY_LINES_MAX: usize = 2;
