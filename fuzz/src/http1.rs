//! HTTP/1.1 requests and the texts in them.

use http1::coding::{Coding, negotiate};
use http1::forwarded::{Client, forwarded};
use http1::origin::{self, Scheme};
use http1::range::{self, Selection};
use http1::response::{self, ErrorResponse, Persistence};
use http1::{
    Authority, Decoder, ErrorKind, Framing, HeaderStorage, Limits, Method, Step, Version,
    imf_fixdate, target,
};

use crate::{Seed, cut};

/// A request as a session sees it, its body joined.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    head: String,
    framing: Framing,
    body: Vec<u8>,
    complete: bool,
}

/// No bytes make the decoder panic, and what it accepts is within the limits and says one thing about its length; nor do
/// any texts in it make the rules about hosts, origins, ranges, tags and escapes panic.
pub fn never_panics(data: &[u8]) {
    for limits in [LIMITS, Limits::default()] {
        for seen in read(&[data], &limits).0 {
            assert!(seen.head.len() <= 8 * limits.head_bytes_max, "escaped at most eightfold");
            assert!(seen.body.len() as u64 <= limits.body_bytes_max);
            if let (Framing::Length(length), true) = (seen.framing, seen.complete) {
                assert_eq!(seen.body.len() as u64, length);
            }
        }
    }
    let authority = Authority::parse(data);
    let _ = origin::check_host(authority, &["example.org"]);
    for scheme in [Scheme::Http, Scheme::Https, Scheme::Either] {
        let _ = origin::check_origin([data], authority, scheme, &["https://example.org"]);
    }
    if let Selection::Part(part) = range::select(data, 1_000) {
        assert!(part.first <= part.last && part.last < 1_000);
    }
    assert_eq!(
        range::select(data, 0) == Selection::Whole,
        !matches!(range::select(data, 0), Selection::Unsatisfiable)
    );
    let _ = (range::if_range_holds(data, "\"a\""), range::if_none_match_names(data, "\"a\""));
    let _ = range::if_match_names(data, "\"a\"");
    let names = [Coding::Identity, Coding::Gzip, Coding::Brotli].map(Coding::name);
    assert_eq!(names, [None, Some("gzip"), Some("br")]);
    let coding = negotiate([data].into_iter(), &[Coding::Gzip, Coding::Identity]);
    assert!(coding.is_none_or(|coding| coding.name() != Some("br")), "there is none");
    never_trusts(data);
    let _ = origin::check_host::<&str>(authority, &[])
        .map_err(|refusal| (refusal.status(), refusal.code()));
    for origins in [&[data][..], &[b"http://a:1", data]] {
        let checked =
            origin::check_origin::<&str>(origins.iter().copied(), authority, Scheme::Http, &[]);
        let refusal = checked.map_err(|refusal| (refusal.status(), refusal.code()));
        assert!(refusal.is_ok_and(|()| false) || refusal == Err((403, "origin_not_allowed")));
    }
    // A page of this very host, as far as it is one.
    let page = [b"http://", data].concat();
    let schemes = [Scheme::Http, Scheme::Either, Scheme::Https];
    let ours = schemes
        .map(|scheme| origin::check_origin::<&str>([&page[..]], authority, scheme, &[]).is_ok());
    let is_host = authority.is_some_and(|authority| !authority.host.is_empty());
    assert_eq!(ours, [is_host, is_host, false]);
    if let Some(authority) = authority.filter(|authority| !authority.host.is_empty()) {
        assert_eq!(origin::check_host(Some(authority), &[authority.host]), Ok(()));
    }
    if let Ok(text) = str::from_utf8(data) {
        for decoded in
            [target::decode_segment(text), target::decode_query(text)].into_iter().flatten()
        {
            assert!(decoded.len() <= text.len() && !decoded.contains('\0'));
        }
        assert!(
            target::query_pairs(text).all(|(key, value)| key.len() + value.len() <= text.len())
        );
    }
}

/// A value that a client wrote is never taken for the word of the proxy that appended its own behind it.
fn never_trusts(data: &[u8]) {
    if data.len() > 512 || data.iter().any(u8::is_ascii_control) {
        return;
    }
    for (name, appended) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: ");
        let tail = format!("\r\n{name}: {appended}\r\n\r\n");
        let bytes = [head.as_bytes(), data, tail.as_bytes()].concat();
        let mut storage = HeaderStorage::new();
        if let Ok(Step::Request { request, .. }) =
            Decoder::new().receive(&bytes, &mut storage, &LIMITS)
        {
            let said = forwarded(&request, |address| address.is_loopback());
            assert_eq!(said.client, Client::Address([192, 0, 2, 1].into()));
        }
    }
}

/// Any cut of the bytes gives the same requests, bodies and error.
pub fn split(data: &[u8]) {
    let (stream, pieces) = cut::pieces(data);
    assert_eq!(read(&[stream], &LIMITS), read(&pieces, &LIMITS));
}

/// A body in our chunks is read back; no text of ours or of a peer can add a line to a head, and an error's length is right.
pub fn roundtrip(data: &[u8]) {
    let (body, pieces) = cut::pieces(data);
    if body.len() as u64 <= LIMITS.body_bytes_max {
        let mut stream =
            b"POST /pub/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in pieces {
            response::write_chunk(&mut stream, piece);
            // No data is no chunk: an empty one would end the body.
            response::write_chunk(&mut stream, b"");
        }
        stream.extend_from_slice(response::LAST_CHUNK);
        let (seen, error) = read(&[&stream], &LIMITS);
        assert_eq!(error, None);
        assert!(seen.len() == 1 && seen[0].complete && seen[0].body == body);
    }
    let choice = u16::from(data.first().copied().unwrap_or(0));
    let second =
        body.iter().take(5).fold(u64::from(choice), |sum, byte| sum << 8 | u64::from(*byte));
    let date = imf_fixdate(second);
    if second <= 253_402_300_799 {
        assert_eq!(civil_second(&date), second);
    }
    let version = if choice & 1 == 0 { Version::Http10 } else { Version::Http11 };
    let persistence = if choice & 2 == 0 { Persistence::Close } else { Persistence::KeepAlive };
    let mut out = Vec::new();
    response::Head::start(&mut out, 200 + choice, &date)
        .header("X-Peer", body)
        .header_display("X-Text", String::from_utf8_lossy(body))
        .chunked()
        .persistence(version, persistence)
        .finish();
    assert_eq!(head_lines(&out).0, out.len(), "a line was added");
    let text = String::from_utf8_lossy(body);
    let method = if choice & 4 == 0 { Method::Get } else { Method::Head };
    let headers = [("Retry-After", "1")];
    let closing = ErrorResponse::closing(400 + choice % 200, "code", &text);
    for answer in
        [ErrorResponse { method, version, persistence, headers: &headers, ..closing }, closing]
    {
        let mut out = Vec::new();
        answer.write(&mut out, &date);
        let (head, length) = head_lines(&out);
        let expected =
            if answer.method == Method::Head { 0 } else { length.expect("a Content-Length") };
        assert_eq!(out.len() - head, expected);
        assert!(out[head..].iter().all(|byte| *byte >= b' '), "JSON without control bytes");
    }
    if let [a, b, c, d, ..] = *body {
        range_roundtrip(u64::from(a) << 8 | u64::from(b), u64::from(c) << 8 | u64::from(d));
    }
}

/// A range is served as it was asked for, as far as there is something (RFC 9110 14.1.2), and said so.
fn range_roundtrip(one: u64, other: u64) {
    let (first, last, length) = (one.min(other), one.max(other), 0x8000);
    let part = |value: &str| match range::select(value.as_bytes(), length) {
        Selection::Part(part) => Some((part.first, part.last, part)),
        Selection::Unsatisfiable => None,
        Selection::Whole => panic!("{value}: a range"),
    };
    let served = part(&format!("bytes={first}-{last}"));
    assert_eq!(
        served.map(|(first, last, _)| (first, last)),
        (first < length).then_some((first, last.min(length - 1)))
    );
    let open = part(&format!("bytes={first}-"));
    assert_eq!(
        open.map(|(first, last, _)| (first, last)),
        (first < length).then_some((first, length - 1))
    );
    let suffix = part(&format!("bytes=-{last}"));
    let from = length.saturating_sub(last);
    assert_eq!(
        suffix.map(|(first, last, _)| (first, last)),
        (last > 0).then_some((from, length - 1))
    );
    let shown = range::ContentRange { part: served.map(|(.., part)| part), length }.to_string();
    let expected = match served {
        Some((first, last, part)) => {
            assert_eq!(part.length(), last - first + 1);
            format!("bytes {first}-{last}/{length}")
        }
        None => format!("bytes */{length}"),
    };
    assert_eq!(shown, expected);
}

/// The second that a date names, by counting days one year and one month at a time.
fn civil_second(date: &[u8]) -> u64 {
    let number = |range: std::ops::Range<usize>| {
        date[range].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let year = number(12..16);
    let names =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = names.iter().position(|name| name.as_bytes() == &date[8..11]).expect("a month");
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = years + lengths[..month].iter().sum::<u64>() + number(5..7) - 1;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    assert_eq!(&date[..3], weekday.as_bytes());
    days * 86_400 + number(17..19) * 3_600 + number(20..22) * 60 + number(23..25)
}

/// Where the first head ends, and its Content-Length.
fn head_lines(answer: &[u8]) -> (usize, Option<usize>) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let lines = answer[..end].split(|byte| *byte == b'\n');
    let length = lines.filter_map(|line| line.strip_prefix(b"Content-Length: ")).next_back();
    let length = length.and_then(|digits| str::from_utf8(digits.trim_ascii()).ok()?.parse().ok());
    (end + 4, length)
}

/// Requests as clients send them and as attackers do, behind a byte that chooses the cuts.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let get = "GET /ws/chat?echo=0 HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\n\
               Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://localhost:8080\r\n\r\n";
    let post = "POST /pub/a%2Fb HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    let chunked = "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;a=\"b\"\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let seed = |name, choice: u8, text: &str| (name, [&[choice], text.as_bytes()].concat());
    vec![
        seed("upgrade", 0, get),
        seed("post", 1, post),
        seed("chunked-then-pipelined", 2, chunked),
        seed("head-1.0", 3, "HEAD /live/cam/index.m3u8 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        seed(
            "absolute",
            4,
            "GET http://example.org:80/a?b HTTP/1.1\r\nHost: example.org\r\nRange: bytes=0-9\r\n\r\n",
        ),
        seed(
            "both-lengths",
            5,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        seed(
            "two-lengths",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        ),
        seed("obs-fold", 0, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        seed("bare-lf", 0, "GET / HTTP/1.1\nHost: a\n\n"),
        seed("space-before-colon", 0, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        seed("two-hosts", 0, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        seed(
            "bad-chunk",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
        ),
        seed(
            "huge-chunk",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ),
        seed(
            "proxied",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nVia: 1.1 y\r\n\r\n",
        ),
        seed(
            "forwarded",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"[::1]:8\";proto=https;host=b, for=_x\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nAccept-Encoding: gzip;q=0.5, *;q=0\r\n\r\n",
        ),
        ("text-forwarded", b"for=\"[2001:db8::1]:4711\";by=_x, for=unknown".to_vec()),
        ("text-forwarded-for", b"127.0.0.1, [::1]:80,unknown".to_vec()),
        ("text-codings", b"gzip;q=0.5, br, identity;q=0, *;q=0.1".to_vec()),
        seed("options", 0, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        seed(
            "upgrade-with-body",
            0,
            "GET /ws/a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
        ),
        seed(
            "other-coding",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        seed(
            "chunked-twice",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        ),
        seed("bad-coding", 0, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ;\r\n\r\n"),
        seed("no-coding", 0, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n"),
        seed(
            "forbidden-trailer",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
        ),
        seed(
            "chunk-extensions",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\\\"b\\\\\";c\r\nx\r\n0\r\n\r\n",
        ),
        seed(
            "open-extension",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\r\nx\r\n0\r\n\r\n",
        ),
        seed(
            "control-in-extension",
            0,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\u{1}\"\r\nx\r\n0\r\n\r\n",
        ),
        ("many-extensions", {
            let chunk = format!("1;{}\r\nx\r\n", "a".repeat(50)).repeat(4);
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            [&[0], head.as_bytes(), chunk.as_bytes()].concat()
        }),
        ("many-headers", {
            let lines = (0..20).map(|n| format!("X{n}: a\r\n")).collect::<String>();
            format!("\0GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
        }),
        seed("http-2", 0, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        seed(
            "hidden-port",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"1.2.3.4:_a\";proto=http;host=b\r\n\r\n",
        ),
        seed(
            "forwarded-escape",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"\\\"1.2.3.4\";host=b;host=c, for=127.0.0.1\r\n\r\n",
        ),
        seed(
            "forwarded-malformed-host",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nForwarded: host=b;host=c\r\n\r\n",
        ),
        seed(
            "forwarded-host-twice",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.2.3.4;host=b;proto=x\r\nX-Forwarded-Host: b\r\n\r\n",
        ),
        seed(
            "forwarded-two-hosts",
            0,
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: b\r\nX-Forwarded-Host: c\r\nX-Forwarded-Proto: ws\r\n\r\n",
        ),
        // Days on which a year's number is guessed one too large or too small.
        ("date-2072-12-31", b"\0\x00\xc1\xbc\xae\x00".to_vec()),
        ("date-1972-01-01", b"\0\x00\x03\xc2\x67\x00".to_vec()),
        ("range-behind-the-end", b"\0\xff\xff\xff\xfe".to_vec()),
        ("text-host", b"example.org:80".to_vec()),
        ("text-weights", b"gzip;q=1.000, br;q=1.001, identity;q=2, x;q=0.1234, *;q=0.5".to_vec()),
        ("text-page", b"http://example.org".to_vec()),
        ("tls", b"\x00\x16\x03\x01\x02\x00\x01".to_vec()),
        ("text-authority", b"[::1]:8080".to_vec()),
        ("text-origin", b"https://example.org".to_vec()),
        ("text-range", b"bytes=-5".to_vec()),
        ("text-tags", b"W/\"a\", \"b\"".to_vec()),
        ("text-escapes", b"a%2Fb+%c3%a9&x=%00".to_vec()),
    ]
}

/// Presents the pieces as a connection does: what is left of before, and the new bytes behind it.
fn read(pieces: &[&[u8]], limits: &Limits) -> (Vec<Seen>, Option<ErrorKind>) {
    let mut decoder = Decoder::default();
    let mut storage = HeaderStorage::default();
    let mut seen: Vec<Seen> = Vec::new();
    let mut inbox: Vec<u8> = Vec::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let was_in_head = decoder.is_in_head();
            match decoder.receive(&inbox[start..], &mut storage, limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Request { consumed, request }) => {
                    assert!(
                        seen.last().is_none_or(|last| last.complete),
                        "a request inside a body"
                    );
                    let _ = (
                        request.keep_alive(),
                        request.expects_continue(),
                        request.method().is_safe(),
                    );
                    let _ = (request.header("Origin"), request.header_lines("origin").count());
                    let _ = (request.is_websocket_upgrade(), request.came_through_proxy());
                    let said = forwarded(&request, |address| address.is_loopback());
                    assert!(request.came_through_proxy() || said.client == Client::Proxy);
                    let accepted = request.header_lines("accept-encoding");
                    let _ = negotiate(accepted, &[Coding::Brotli, Coding::Gzip, Coding::Identity]);
                    assert!(was_in_head && !format!("{request:?}").contains('\n'));
                    let headers: Vec<_> = request.headers().collect();
                    let head = format!(
                        "{} {} {:?} {:?} {:?} {headers:?}",
                        request.method_token(),
                        request.path(),
                        request.query(),
                        request.authority(),
                        request.version()
                    );
                    let framing = request.framing();
                    seen.push(Seen {
                        head,
                        framing,
                        body: Vec::new(),
                        complete: framing == Framing::Empty,
                    });
                    start += consumed;
                }
                Ok(Step::Body { consumed, data }) => {
                    let last = seen.last_mut().expect("a body follows a request");
                    last.body.extend_from_slice(data);
                    start += consumed;
                }
                Ok(Step::End { consumed }) => {
                    assert!(!was_in_head && decoder.is_between_requests());
                    seen.last_mut().expect("an end follows a request").complete = true;
                    start += consumed;
                }
                Err(error) => {
                    assert!((400..600).contains(&error.status()) && !error.code().is_empty());
                    let again = decoder.receive(&inbox, &mut storage, limits);
                    assert!(again.is_err_and(|again| again.kind == error.kind), "an error stays");
                    return (seen, Some(error.kind));
                }
            }
        }
        inbox.drain(..start);
    }
    (seen, None)
}

/// Small, so that inputs reach them.
const LIMITS: Limits = Limits {
    head_bytes_max: 1_024,
    headers_max: 16,
    target_bytes_max: 256,
    body_bytes_max: 1_024,
    chunk_line_bytes_max: 64,
    chunk_extension_bytes_max: 128,
    trailer_bytes_max: 128,
};
