//! The decoder against its rules one by one, the smuggling classes, every cut of a pipelined
//! conversation, and random requests and bytes.

use super::*;
use proptest::prelude::*;

/// What a session would see once body pieces are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    framing: Framing,
    body: Vec<u8>,
    complete: bool,
}

/// Presents the pieces as a connection would: tail plus new bytes.
fn read(pieces: &[&[u8]], limits: &Limits) -> (Vec<Seen>, Result<usize, Error>) {
    let mut decoder = Decoder::new();
    let mut storage = HeaderStorage::new();
    let mut seen: Vec<Seen> = Vec::new();
    let mut inbox: Vec<u8> = Vec::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            let consumed = match decoder.receive(&inbox, &mut storage, limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Request { consumed, request }) => {
                    assert!(seen.last().is_none_or(|last| last.complete));
                    seen.push(Seen {
                        method: request.method_token().to_owned(),
                        path: request.path().to_owned(),
                        query: request.query().map(str::to_owned),
                        headers: request
                            .headers()
                            .map(|(name, value)| (name.to_owned(), value.to_vec()))
                            .collect(),
                        framing: request.framing(),
                        body: Vec::new(),
                        complete: request.framing() == Framing::Empty,
                    });
                    consumed
                }
                Ok(Step::Body { consumed, data }) => {
                    assert!(consumed > 0, "a step without progress");
                    seen.last_mut().unwrap().body.extend_from_slice(data);
                    consumed
                }
                Ok(Step::End { consumed }) => {
                    seen.last_mut().unwrap().complete = true;
                    consumed
                }
                Err(error) => {
                    let again = decoder.receive(&inbox, &mut storage, limits).unwrap_err();
                    assert_eq!(again.kind, error.kind, "errors stay");
                    return (seen, Err(error));
                }
            };
            inbox.drain(..consumed);
        }
    }
    (seen, Ok(inbox.len()))
}

fn fails(bytes: impl AsRef<[u8]>) -> (ErrorKind, usize) {
    let error = read(&[bytes.as_ref()], &Limits::default()).1.unwrap_err();
    (error.kind, error.offset)
}

/// A GET with these lines behind `Host`.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn with_request<T>(bytes: impl AsRef<[u8]>, look: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut storage = HeaderStorage::new();
    match Decoder::new().receive(bytes.as_ref(), &mut storage, &Limits::default()) {
        Ok(Step::Request { consumed, request }) => {
            assert_eq!(consumed, bytes.as_ref().len());
            look(&request)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_and_its_fields() {
    let bytes = "GET /ws/a%2Fb?x=1?2 HTTP/1.1\r\nhOsT: Example.org:8080\r\nX-Empty:\r\n\
                 X-Two: 1\r\nx-two: \t caf\u{e9}  \r\n\r\n";
    with_request(bytes, |request| {
        assert_eq!((request.method(), request.method_token()), (Method::Get, "GET"));
        assert_eq!((request.path(), request.query()), ("/ws/a%2Fb", Some("x=1?2")));
        let authority = request.authority().unwrap();
        assert_eq!((authority.host, authority.port), ("Example.org", Some(8080)));
        assert_eq!(request.header("host"), Some(&b"Example.org:8080"[..]));
        assert_eq!(request.header("X-EMPTY"), Some(&b""[..]));
        let lines: Vec<&[u8]> = request.header_lines("X-Two").collect();
        assert_eq!(lines, [&b"1"[..], "caf\u{e9}".as_bytes()]);
        assert_eq!(request.header("x"), None);
        let names: Vec<&str> = request.headers().map(|(name, _)| name).collect();
        assert_eq!(names, ["hOsT", "X-Empty", "X-Two", "x-two"]);
        assert_eq!(request.framing(), Framing::Empty);
        assert!(request.keep_alive() && !request.expects_continue());
        assert!(!format!("{request:?}").contains("x=1"), "queries may hold tickets");
    });
}

#[test]
fn targets() {
    let target = |line: &str| {
        with_request(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"), |request| {
            let host = request.authority().unwrap();
            let query = request.query().map(str::to_owned);
            (request.path().to_owned(), query, host.host.to_owned(), host.port)
        })
    };
    let expect = |path: &str, query: Option<&str>, host: &str, port| {
        (path.to_owned(), query.map(str::to_owned), host.to_owned(), port)
    };
    assert_eq!(target("GET /"), expect("/", None, "h", None));
    assert_eq!(target("GET /?"), expect("/", Some(""), "h", None));
    assert_eq!(target("GET //a//"), expect("//a//", None, "h", None));
    assert_eq!(target("OPTIONS *"), expect("*", None, "h", None));
    // RFC 9112 3.2.2: the absolute form's authority counts; Host says the same in other words.
    assert_eq!(target("GET http://H:80/a?b"), expect("/a", Some("b"), "H", Some(80)));
    assert_eq!(target("GET HTTP://h?b"), expect("/", Some("b"), "h", None));
    for line in [
        "GET *",
        "GET a",
        "GET http://",
        "GET http:///a",
        "GET http://u@h/",
        "GET ftp://h/",
        "CONNECT h:80",
        "GET /a#b",
        "GET /\u{e9}",
        "GET /a\x7f",
        "GET ?a",
        "GET http:/a",
    ] {
        let (kind, _) = fails(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(kind, ErrorKind::BadTarget, "{line}");
    }
}

#[test]
fn persistence_and_flags() {
    for (version, lines, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        with_request(bytes, |request| assert_eq!(request.keep_alive(), keep, "{version} {lines}"));
    }
    with_request("GET / HTTP/1.0\r\n\r\n", |request| assert_eq!(request.authority(), None));
    for name in [
        "Via",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
    ] {
        with_request(get(&format!("{name}: x\r\n")), |r| assert!(r.came_through_proxy()));
    }
    with_request(get("X-Other: x\r\n"), |request| assert!(!request.came_through_proxy()));
    let expect = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n";
    with_request(format!("{expect}Content-Length: 1\r\n\r\n"), |r| assert!(r.expects_continue()));
    with_request(format!("{expect}\r\n"), |request| assert!(!request.expects_continue()));
}

#[test]
fn upgrades() {
    let lines = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
    with_request(get(lines), |request| assert!(request.is_websocket_upgrade()));
    with_request(get("Upgrade: websocket\r\n"), |r| assert!(!r.is_websocket_upgrade()));
    with_request(get("Upgrade: h2c\r\nConnection: upgrade\r\n"), |request| {
        assert!(!request.is_websocket_upgrade());
    });
    let old = format!("GET / HTTP/1.0\r\n{lines}\r\n");
    with_request(old, |request| assert!(!request.is_websocket_upgrade()));
    for body in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let (kind, _) = fails(get(&format!("{lines}{body}")));
        assert_eq!(kind, ErrorKind::UpgradeWithBody);
    }
    with_request(get(&format!("{lines}Content-Length: 0\r\n")), |request| {
        assert!(request.is_websocket_upgrade());
    });
}

/// Each rule for heads, with the offset of the byte that breaks it.
#[test]
fn heads_that_are_refused() {
    use ErrorKind::*;
    let cases: &[(&str, ErrorKind, usize)] = &[
        ("\x16\x03\x01\x02", TlsOnPlainPort, 0),
        ("\0", NotHttp, 0),
        (" GET / HTTP/1.1\r\n", NotHttp, 0),
        ("\r\n\r\n\r\n", BadRequestLine, 4),
        ("\nGET / HTTP/1.1\r\n\r\n", BareLineFeed, 0),
        ("GET / HTTP/1.1\n", BareLineFeed, 14),
        ("GET / HTTP/1.1\r\nHost: a\n", BareLineFeed, 23),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed, 25),
        ("GET / HTTP/1.1\r\nHost: a\rb", BareCarriageReturn, 23),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n", BareCarriageReturn, 23),
        ("GET / HTTP/1.1\r\n\rHost: a", BareCarriageReturn, 16),
        ("GET /\r\n\r\n", BadRequestLine, 5),
        ("GET\r\n\r\n", BadRequestLine, 3),
        ("GET  / HTTP/1.1\r\n\r\n", BadRequestLine, 4),
        ("GET /  HTTP/1.1\r\n\r\n", BadRequestLine, 6),
        ("GET / HTTP/1.1 \r\n\r\n", BadRequestLine, 6),
        ("GET / http/1.1\r\n\r\n", BadRequestLine, 6),
        ("GET /\tHTTP/1.1\r\n\r\n", BadRequestLine, 14),
        ("G\x01T / HTTP/1.1\r\n\r\n", BadRequestLine, 1),
        ("GET / HTTP/2.0\r\n\r\n", UnsupportedVersion, 6),
        ("PRI * HTTP/2.0\r\n\r\n", UnsupportedVersion, 6),
        ("GET / HTTP/1.2\r\n\r\n", UnsupportedVersion, 6),
        ("GET / HTTP/0.9\r\n\r\n", UnsupportedVersion, 6),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", ObsoleteFold, 25),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsoleteFold, 16),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n", ObsoleteFold, 25),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", SpaceBeforeColon, 20),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", SpaceBeforeColon, 20),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", BadHeaderName, 20),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", BadHeaderName, 16),
        ("GET / HTTP/1.1\r\nHo st: a\r\n\r\n", BadHeaderName, 18),
        ("GET / HTTP/1.1\r\nH\u{e9}: a\r\n\r\n", BadHeaderName, 17),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", BadHeaderValue, 28),
        ("GET / HTTP/1.1\r\nHost: a\x0b\r\n\r\n", BadHeaderValue, 23),
        ("GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", BadHeaderValue, 23),
        ("GET / HTTP/1.1\r\n\r\n", MissingHost, 18),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", DuplicateHost, 31),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BadHost, 30),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BadHost, 29),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", BadHost, 25),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", HostMismatch, 35),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200\r\n\r\n", UnsupportedExpectation, 33),
    ];
    for (bytes, kind, offset) in cases {
        assert_eq!(fails(bytes), (*kind, *offset), "{bytes:?}");
    }
}

/// The smuggling classes: wherever two readers could differ on where the body ends.
#[test]
fn framing_that_is_refused() {
    use ErrorKind::*;
    for (lines, kind) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndTransferEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", LengthAndTransferEncoding),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", DuplicateContentLength),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", DuplicateContentLength),
        ("Content-Length: 5, 5\r\n", DuplicateContentLength),
        ("Content-Length: +5\r\n", BadContentLength),
        ("Content-Length: -5\r\n", BadContentLength),
        ("Content-Length: 0x5\r\n", BadContentLength),
        ("Content-Length: 5 5\r\n", BadContentLength),
        ("Content-Length:\r\n", BadContentLength),
        ("Content-Length: 5.0\r\n", BadContentLength),
        ("Content-Length: 1048577\r\n", BodyTooLarge),
        ("Content-Length: 18446744073709551621\r\n", BodyTooLarge),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked, gzip\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked,\r\n", BadTransferEncoding),
        ("Transfer-Encoding:\r\n", BadTransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", BadTransferEncoding),
        ("Transfer-Encoding: chunked x\r\n", BadTransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", UnsupportedTransferCoding),
        ("Transfer-Encoding: identity\r\n", UnsupportedTransferCoding),
        ("Transfer-Encoding: xchunked\r\n", UnsupportedTransferCoding),
        ("Transfer-Encoding : chunked\r\n", SpaceBeforeColon),
        ("Transfer-Encoding: \x0bchunked\r\n", BadHeaderValue),
        ("Transfer-Encoding:\r\n chunked\r\n", ObsoleteFold),
    ] {
        assert_eq!(fails(get(lines)).0, kind, "{lines}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(fails(old).0, TransferEncodingInHttp10);
    assert_eq!(UnsupportedTransferCoding.status(), 501);
}

#[test]
fn bodies() {
    let run = |bytes: &str| {
        let (seen, result) = read(&[bytes.as_bytes()], &Limits::default());
        assert_eq!(result, Ok(0), "{bytes}");
        assert!(seen.iter().all(|request| request.complete));
        seen.into_iter().map(|request| String::from_utf8(request.body).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(&(get("Content-Length: 005\r\n") + "hello" + &get(""))), ["hello", ""]);
    let chunked = get("Transfer-Encoding: Chunked\r\n");
    for (body, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a=b;c=\"d\"\r\nhello\r\n00\r\nX: y\r\nZ:\r\n\r\n", "hello"),
        ("1\r\n\r\r\n0000000000000002\r\n\n0\r\n0\r\n\r\n", "\r\n0"),
        ("a\r\n0123456789\r\nA;x\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
    ] {
        assert_eq!(run(&(chunked.clone() + body + &get(""))), [data, ""], "{body:?}");
    }
    // Empty lines behind a body are skipped.
    assert_eq!(run(&(get("Content-Length: 1\r\n") + "x\r\n" + &get(""))), ["x", ""]);
}

#[test]
fn chunks_that_are_refused() {
    use ErrorKind::*;
    let head = get("Transfer-Encoding: chunked\r\n");
    let extension = format!("1;{}\r\n", "x".repeat(300));
    let trailer = format!("0\r\nX: {}\r\n", "y".repeat(5000));
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(1100));
    for (body, kind) in [
        ("\r\n", BadChunkSize),
        ("g\r\n", BadChunkSize),
        ("-1\r\n", BadChunkSize),
        ("+1\r\n", BadChunkSize),
        ("0x1\r\n", BadChunkSize),
        (" 1\r\n", BadChunkSize),
        ("1 \r\n", BadChunkSize),
        ("1 ;a\r\n", BadChunkSize),
        ("00000000000000001\r\n", BadChunkSize),
        ("ffffffffffffffff\r\n", BodyTooLarge),
        ("100001\r\n", BodyTooLarge),
        ("1;a\0\r\n", BadChunkExtension),
        ("1;\r\n", BadChunkExtension),
        ("1;a=\"b\r\n", BadChunkExtension),
        (&extension, BadChunkExtension),
        ("1\n", BareLineFeed),
        ("1;a\nx", BareLineFeed),
        ("1\rx", BareCarriageReturn),
        ("1\r\nabc", BadChunkEnd),
        ("1\r\na\n", BadChunkEnd),
        ("1\r\na0\r\n\r\n", BadChunkEnd),
        ("0\r\nX y\r\n", BadTrailer),
        ("0\r\n X: y\r\n", BadTrailer),
        ("0\r\nX : y\r\n", BadTrailer),
        ("0\r\ncontent-LENGTH: 3\r\n", ForbiddenTrailer),
        ("0\r\nX: y\n", BareLineFeed),
        (&trailer, TrailersTooLarge),
        (&trailers, TrailersTooLarge),
    ] {
        let (seen, result) = read(&[head.as_bytes(), body.as_bytes()], &Limits::default());
        assert_eq!(result.unwrap_err().kind, kind, "{body:?}");
        assert!(!seen[0].complete);
    }
}

#[test]
fn sums_over_chunks_are_bounded() {
    let head = get("Transfer-Encoding: chunked\r\n");
    let limits = Limits { body_bytes_max: 10, chunk_extension_bytes_max: 9, ..Limits::default() };
    let run = |body: &str| read(&[head.as_bytes(), body.as_bytes()], &limits).1.map_err(|e| e.kind);
    assert_eq!(run("5\r\n01234\r\n5\r\n01234\r\n0\r\n\r\n"), Ok(0));
    assert_eq!(run("5\r\n01234\r\n6\r\n"), Err(ErrorKind::BodyTooLarge));
    assert_eq!(run("1;aa\r\nx\r\n1;aa\r\nx\r\n1;aa\r\nx\r\n0\r\n\r\n"), Ok(0));
    let extensions = "1;aa\r\nx\r\n1;aa\r\nx\r\n1;aaa\r\nx\r\n";
    assert_eq!(run(extensions), Err(ErrorKind::BadChunkExtension));
    // Extensions and trailers are counted apart.
    let limits = Limits { chunk_extension_bytes_max: 9, trailer_bytes_max: 9, ..limits };
    let run = |body: &str| read(&[head.as_bytes(), body.as_bytes()], &limits).1.map_err(|e| e.kind);
    assert_eq!(run("1;aaaaaaaa\r\nx\r\n0\r\nX: y\r\nX: yy\r\n\r\n"), Ok(0));
    let trailers = "1\r\nx\r\n0\r\nX: y\r\nX: yyy\r\n\r\n";
    assert_eq!(run(trailers), Err(ErrorKind::TrailersTooLarge));
}

#[test]
fn sizes_of_heads() {
    let limits =
        Limits { head_bytes_max: 200, headers_max: 3, target_bytes_max: 50, ..Limits::default() };
    let run = |bytes: &str| read(&[bytes.as_bytes()], &limits).1.map_err(|error| error.kind);
    let padded = |total: usize| {
        let empty = get("X: \r\n").len();
        get(&format!("X: {}\r\n", "y".repeat(total - empty)))
    };
    assert_eq!(run(&padded(200)), Ok(0));
    assert_eq!(run(&padded(201)), Err(ErrorKind::HeadTooLarge));
    // Without an end it is refused as soon as the limit is reached.
    assert_eq!(run(&padded(300)[..199]), Ok(199));
    assert_eq!(run(&padded(300)[..200]), Err(ErrorKind::HeadTooLarge));
    assert_eq!(run(&get("A: 1\r\nB: 2\r\n")), Ok(0));
    assert_eq!(run(&get("A: 1\r\nB: 2\r\nC: 3\r\n")), Err(ErrorKind::TooManyHeaders));
    let target = |bytes: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(bytes - 1));
    assert_eq!(run(&target(50)), Ok(0));
    assert_eq!(run(&target(51)), Err(ErrorKind::TargetTooLong));
    assert_eq!(run(&"a".repeat(113)), Ok(113));
    assert_eq!(run(&"a".repeat(114)), Err(ErrorKind::TargetTooLong));
    // More fields than the storage has room for.
    let limits = Limits { headers_max: usize::MAX, ..Limits::default() };
    let many = |count: usize| get(&"X: y\r\n".repeat(count));
    assert_eq!(read(&[many(HEADERS_MAX - 1).as_bytes()], &limits).1, Ok(0));
    let error = read(&[many(HEADERS_MAX).as_bytes()], &limits).1.unwrap_err();
    assert_eq!((error.kind, error.status()), (ErrorKind::TooManyHeaders, 431));
}

/// The head is not scanned again from its start for every byte that arrives.
#[test]
fn a_dripped_head_is_scanned_once() {
    let bytes = get(&"X-Field: some value\r\n".repeat(60));
    let mut decoder = Decoder::new();
    let mut storage = HeaderStorage::new();
    for end in 1..bytes.len() {
        let step = decoder.receive(&bytes.as_bytes()[..end], &mut storage, &Limits::default());
        assert!(matches!(step, Ok(Step::Incomplete)));
        assert!(decoder.scanned as usize >= end - 1, "{end}");
        assert!(!decoder.is_between_requests() || end == 1);
    }
}

#[test]
fn codes_are_unique_names_and_statuses_are_errors() {
    let mut codes: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
    assert!(codes.iter().all(|c| c.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))));
    assert!(ErrorKind::ALL.iter().all(|kind| (400..=505).contains(&kind.status())));
    let count = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), count);
}

fn conversation() -> String {
    "\r\n".to_owned()
        + &get("")
        + &get("Content-Length: 7\r\n")
        + "a\r\nb\r\n\r"
        + "HEAD /x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "3;ext\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: 1\r\n\r\n"
        + "\r\n\r\nGET /last HTTP/1.0\r\n\r\nGET /unfinished HT"
}

#[test]
fn every_split_gives_the_same_requests() {
    let bytes = conversation();
    let bytes = bytes.as_bytes();
    let limits = Limits::default();
    let whole = read(&[bytes], &limits);
    assert_eq!(whole.0.len(), 4);
    assert_eq!(whole.0[1].body, b"a\r\nb\r\n\r");
    assert_eq!(whole.0[2].body, b"abc0123456789abcdef");
    assert_eq!(whole.1, Ok("GET /unfinished HT".len()));
    for first in 0..=bytes.len() {
        for second in (first..=bytes.len()).step_by(7) {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(read(&pieces, &limits), whole, "cut at {first} and {second}");
        }
    }
    for piece_bytes in 1..20 {
        let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
        assert_eq!(read(&pieces, &limits), whole, "pieces of {piece_bytes}");
    }
}

/// Requests made of parts that are right or nearly right.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET * HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "4\r\nabcd\r\n",
        "0\r\n\r\n",
        "0\r\nA: b\r\n",
        "abcd",
        " ",
        ":",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
        "0123456789012345678901234567890123456789",
    ]);
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn nearly_requests_any_cut_same_answer(bytes in nearly_requests(), piece_bytes in 1_usize..30) {
        let limits = Limits { head_bytes_max: 200, target_bytes_max: 30, ..Limits::default() };
        let (whole, whole_result) = read(&[&bytes], &limits);
        let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
        let (cut, cut_result) = read(&pieces, &limits);
        prop_assert_eq!(cut, whole);
        prop_assert_eq!(cut_result.map_err(|e| e.kind), whole_result.map_err(|e| e.kind));
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[b"GET / HTTP/1.1\r\nHost: ", &bytes], &Limits::default());
        let _ = read(&[&bytes], &Limits::default());
    }
}
