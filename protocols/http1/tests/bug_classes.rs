//! The classes of faults that other servers of HTTP/1.1 had, each by its name, against this one's decoder.
//!
//! In: bytes as an attacker writes them. Out: how they are read: as one request, or refused by a rule. Where two readers
//! of RFC 9112 could differ, the stricter reading is ours, and the comment says why. A refusal ends the connection, so
//! nothing that is hidden behind it is ever read: each test hides a request there and counts what was seen. What the
//! whole server does with the same bytes is in its end-to-end tests.

use headwater_http1::origin::{Refusal, Scheme, check_host, check_origin};
use headwater_http1::range::{Selection, select};
use headwater_http1::{Decoder, ErrorKind, Framing, HeaderStorage, Limits, Step, Version};

/// What is hidden behind the first request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// What one connection's bytes were read as.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// `METHOD path`, and the body joined.
    requests: Vec<(String, Vec<u8>)>,
    error: Option<ErrorKind>,
}

fn read_with(bytes: &[u8], limits: &Limits) -> Seen {
    let mut decoder = Decoder::new();
    let mut storage = HeaderStorage::new();
    let mut seen = Seen { requests: Vec::new(), error: None };
    let mut rest = bytes;
    loop {
        let consumed = match decoder.receive(rest, &mut storage, limits) {
            Ok(Step::Incomplete) => return seen,
            Ok(Step::Request { consumed, request }) => {
                let line = format!("{} {}", request.method_token(), request.path());
                seen.requests.push((line, Vec::new()));
                consumed
            }
            Ok(Step::Body { consumed, data }) => {
                seen.requests.last_mut().expect("a body has a request").1.extend_from_slice(data);
                consumed
            }
            Ok(Step::End { consumed }) => consumed,
            Err(error) => {
                seen.error = Some(error.kind);
                return seen;
            }
        };
        rest = &rest[consumed..];
    }
}

fn read(bytes: impl AsRef<[u8]>) -> Seen {
    let whole = read_with(bytes.as_ref(), &Limits::default());
    // A network may cut anywhere.
    for end in 0..bytes.as_ref().len() {
        let cut = read_with(&bytes.as_ref()[..end], &Limits::default());
        assert!(cut.requests.len() <= whole.requests.len());
        assert!(cut.error.is_none() || cut.error == whole.error);
    }
    whole
}

/// The bytes are refused by this rule, and not one request is read behind the refused one.
#[track_caller]
fn refused(bytes: &str, kind: ErrorKind) {
    let seen = read(format!("{bytes}{HIDDEN}"));
    assert_eq!(seen.error, Some(kind), "{bytes:?}");
    let hidden = seen.requests.iter().any(|(line, _)| line.contains("hidden"));
    assert!(!hidden, "{bytes:?}: {:?}", seen.requests);
}

/// The bytes are one request with this body, and the next is read where it ends.
#[track_caller]
fn one_request(bytes: &str, body: &str) {
    let seen = read(format!("{bytes}{HIDDEN}"));
    assert_eq!(seen.error, None, "{bytes:?}");
    assert_eq!(seen.requests.len(), 2, "{bytes:?}: {:?}", seen.requests);
    assert_eq!(seen.requests[0].1, body.as_bytes(), "{bytes:?}");
    assert_eq!(seen.requests[1].0, "GET /hidden");
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}")
}

/// Bug class "request smuggling", CL.TE: a front that goes by the length, a back that goes by the coding. RFC 9112 6.1 lets
/// a server refuse both together, and 6.3 says why: it ought to be handled as an error.
#[test]
fn request_smuggling_cl_te() {
    let both = ErrorKind::LengthAndTransferEncoding;
    refused(&post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"), both);
    refused(&post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", ""), both);
}

/// Bug class "request smuggling", TE.CL.
#[test]
fn request_smuggling_te_cl() {
    let both = ErrorKind::LengthAndTransferEncoding;
    refused(
        &post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "8\r\nSMUGGLED\r\n0\r\n\r\n"),
        both,
    );
    // Also where one of them alone would be refused: which rule is named does not matter, that one is does.
    refused(&post("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", "abc"), both);
}

/// Bug class "request smuggling", TE.TE: a coding that one reader takes for `chunked` and another does not. RFC 9112 6.1: a
/// coding that is not understood is answered with 501; what is not even a list of codings is 400.
#[test]
fn request_smuggling_te_te_obfuscated_codings() {
    use ErrorKind::{
        BadHeaderName, BadHeaderValue, BadTransferEncoding, UnsupportedTransferCoding,
    };
    for (line, kind) in [
        ("Transfer-Encoding: xchunked", UnsupportedTransferCoding),
        ("Transfer-Encoding: identity", UnsupportedTransferCoding),
        ("Transfer-Encoding: identity, chunked", UnsupportedTransferCoding),
        ("Transfer-Encoding: gzip, chunked", UnsupportedTransferCoding),
        ("Transfer-Encoding: cow", UnsupportedTransferCoding),
        ("Transfer-Encoding: chunked, chunked", BadTransferEncoding),
        ("Transfer-Encoding: chunked, identity", BadTransferEncoding),
        ("Transfer-Encoding: chunked,", BadTransferEncoding),
        ("Transfer-Encoding: ,chunked", BadTransferEncoding),
        ("Transfer-Encoding: \"chunked\"", BadTransferEncoding),
        ("Transfer-Encoding: 'chunked", UnsupportedTransferCoding),
        ("Transfer-Encoding: chunked;q=1", BadTransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", BadTransferEncoding),
        ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", BadTransferEncoding),
        ("Transfer-Encoding: \x0bchunked", BadHeaderValue),
        ("Transfer-Encoding: chunked\x0c", BadHeaderValue),
        ("Transfer-Encoding: chun\0ked", BadHeaderValue),
        ("Transfer-Encoding\0: chunked", BadHeaderName),
        ("Transfer\x0bEncoding: chunked", BadHeaderName),
        ("[Transfer-Encoding: chunked", BadHeaderName),
    ] {
        refused(&post(&format!("{line}\r\n"), "0\r\n\r\n"), kind);
    }
    // Names of codings ignore case, and whitespace around a value is not part of it (RFC 9112 7, RFC 9110 5.5).
    for line in ["Transfer-Encoding: CHUNKED", "tRANSFER-eNCODING:\tchunked \t"] {
        one_request(&post(&format!("{line}\r\n"), "3\r\nabc\r\n0\r\n\r\n"), "abc");
    }
    // Another name is another field: nobody behind us turns `_` into `-`.
    one_request(&post("Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", "abc"), "abc");
}

/// Bug class "request smuggling": lengths that readers take for different numbers. RFC 9112 6.3 allows to take a repeated
/// equal length for one; we do not, because whoever repeats it is not one of the clients we know.
#[test]
fn request_smuggling_duplicate_signed_spaced_and_overlong_lengths() {
    use ErrorKind::{BadContentLength, BadHeaderValue, BodyTooLarge, DuplicateContentLength};
    for (lines, kind) in [
        ("Content-Length: 3\r\nContent-Length: 3\r\n", DuplicateContentLength),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", DuplicateContentLength),
        ("Content-Length: 3,3\r\n", DuplicateContentLength),
        ("Content-Length: 3,\r\n", DuplicateContentLength),
        ("Content-Length: +3\r\n", BadContentLength),
        ("Content-Length: -1\r\n", BadContentLength),
        ("Content-Length: 3 0\r\n", BadContentLength),
        ("Content-Length: 3\t0\r\n", BadContentLength),
        ("Content-Length: 0x3\r\n", BadContentLength),
        ("Content-Length: 3.0\r\n", BadContentLength),
        ("Content-Length: 3e0\r\n", BadContentLength),
        ("Content-Length: \"3\"\r\n", BadContentLength),
        ("Content-Length: 1_0\r\n", BadContentLength),
        ("Content-Length: \u{ff13}\r\n", BadContentLength),
        ("Content-Length:\r\n", BadContentLength),
        ("Content-Length: 3\0\r\n", BadHeaderValue),
        // 2^64 + 3 and 2^32 + 3: 3 to whoever wraps.
        ("Content-Length: 18446744073709551619\r\n", BodyTooLarge),
        ("Content-Length: 4294967299\r\n", BodyTooLarge),
    ] {
        refused(&post(lines, "abc"), kind);
    }
    let endless = format!("Content-Length: {}3\r\n", "9".repeat(4000));
    refused(&post(&endless, "abc"), BodyTooLarge);
    // RFC 9110 8.6: 1*DIGIT, so leading zeros are right, and decimal.
    one_request(&post("Content-Length: 010\r\n", "0123456789"), "0123456789");
    one_request(&post("Content-Length:3\r\n", "abc"), "abc");
}

/// Bug class "request smuggling": chunk sizes (RFC 9112 7.1: 1*HEXDIG and nothing around it).
#[test]
fn request_smuggling_chunk_sizes() {
    use ErrorKind::{BadChunkEnd, BadChunkSize, BareCarriageReturn, BareLineFeed, BodyTooLarge};
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for (body, kind) in [
        ("+3\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("-3\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("0x3\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        (" 3\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("3 \r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("3\t\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("3_0\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("\r\n3\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("3\0\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        // 2^64 + 3 in seventeen digits, and leading zeros without a bound.
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("00000000000000003\r\nabc\r\n0\r\n\r\n", BadChunkSize),
        ("ffffffffffffffff\r\nabc\r\n0\r\n\r\n", BodyTooLarge),
        ("100000003\r\nabc\r\n0\r\n\r\n", BodyTooLarge),
        // Some readers took a bare LF for the end of a line here (CVE-2025-22871).
        ("3\nabc\r\n0\r\n\r\n", BareLineFeed),
        ("3;a\nb\r\nabc\r\n0\r\n\r\n", BareLineFeed),
        ("3\rabc\r\n0\r\n\r\n", BareCarriageReturn),
        ("3\r\nabc\n0\r\n\r\n", BadChunkEnd),
        ("3\r\nabcd\r\n0\r\n\r\n", BadChunkEnd),
        ("3\r\nab\r\n0\r\n\r\n", BadChunkEnd),
        ("0\n\n", BareLineFeed),
        ("0\r\n\n", BareLineFeed),
    ] {
        refused(&chunked(body), kind);
    }
    one_request(&chunked("0000000000000003\r\nabc\r\n00\r\n\r\n"), "abc");
    one_request(&chunked("A\r\n0123456789\r\n0\r\n\r\n"), "0123456789");
}

/// Bug class "request smuggling": chunk extensions. Quotes hide nothing: CR and LF cannot stand in them (RFC 9110 5.6.4), so
/// a quote that is open at the end of the line is an error and not a line that goes on.
#[test]
fn request_smuggling_chunk_extensions() {
    use ErrorKind::{BadChunkExtension, BareLineFeed};
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for extension in [";a", ";a=b", ";a=\"b\"", ";a=\"\\\"\";b", ";chunk-signature=abc", ";a=\";\""]
    {
        one_request(&chunked(&format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n")), "abc");
    }
    for extension in
        [";", "; a", ";a =b", ";a= b", ";a=\"", ";a=\"b", ";a=\"b\"c", ";a\0", ";\u{e9}", ";a;;b"]
    {
        refused(&chunked(&format!("3{extension}\r\nabc\r\n0\r\n\r\n")), BadChunkExtension);
    }
    refused(&chunked("3;a=\"\n\"\r\nabc\r\n0\r\n\r\n"), BareLineFeed);
    // A bomb: much extension for little body, in one line or in many.
    let long = format!("1;{}\r\n", "x".repeat(300));
    refused(&chunked(&long), BadChunkExtension);
    let many = format!("1;{}\r\nx\r\n", "y".repeat(200)).repeat(30);
    refused(&chunked(&many), BadChunkExtension);
}

/// Bug class "request smuggling": trailers that frame or route (RFC 9110 6.5.1), and trailers without end.
#[test]
fn request_smuggling_trailers() {
    use ErrorKind::{
        BadTrailer, BareCarriageReturn, BareLineFeed, ForbiddenTrailer, TrailersTooLarge,
    };
    let chunked = |trailers: &str| {
        post("Transfer-Encoding: chunked\r\n", &format!("3\r\nabc\r\n0\r\n{trailers}\r\n"))
    };
    one_request(&chunked("X-Sum: 1\r\nServer-Timing: a\r\n"), "abc");
    for name in [
        "Content-Length",
        "transfer-ENCODING",
        "Host",
        "Authorization",
        "Connection",
        "X-Forwarded-For",
    ] {
        refused(&chunked(&format!("X: y\r\n{name}: 1\r\n")), ForbiddenTrailer);
    }
    for (trailers, kind) in [
        ("X\r\n", BadTrailer),
        (" X: y\r\n", BadTrailer),
        ("X : y\r\n", BadTrailer),
        (": y\r\n", BadTrailer),
        ("X: \0\r\n", BadTrailer),
        ("X: y\r\n z\r\n", BadTrailer),
        ("X: y\n", BareLineFeed),
        ("X: y\rZ: a\r\n", BareCarriageReturn),
    ] {
        refused(&chunked(trailers), kind);
    }
    refused(&chunked(&format!("X: {}\r\n", "y".repeat(5000))), TrailersTooLarge);
    refused(&chunked(&"X: y\r\n".repeat(2000)), TrailersTooLarge);
}

/// Bug class "request smuggling": line ends. RFC 9112 2.2 allows LF alone; we do not, because a proxy that does not either
/// would see one line where we saw two. A bare CR is an error by the same clause; NUL and other controls by RFC 9110 5.5.
#[test]
fn request_smuggling_bare_cr_bare_lf_nul_and_obs_fold() {
    use ErrorKind::{BadHeaderValue, BareCarriageReturn, BareLineFeed, ObsoleteFold};
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for (bytes, kind) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), BareLineFeed),
        (get("X: y\nContent-Length: 3\r\n"), BareLineFeed),
        (get("X: y\r\n\nGET / HTTP/1.1"), BareLineFeed),
        (get("X: y\rContent-Length: 3\r\n"), BareCarriageReturn),
        (get("X: y\r\r\n"), BareCarriageReturn),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BareCarriageReturn),
        (get("X: a\0b\r\n"), BadHeaderValue),
        (get("X: a\x01b\r\n"), BadHeaderValue),
        (get("X: a\x7f\r\n"), BadHeaderValue),
        // RFC 9112 5.2 allows to join folded lines; who still folds is not a client.
        (get("X: a\r\n b\r\n"), ObsoleteFold),
        (get("X: a\r\n\tContent-Length: 3\r\n"), ObsoleteFold),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), ObsoleteFold),
    ] {
        refused(&bytes, kind);
    }
}

/// Bug class "request smuggling": names of fields. RFC 9112 5.1: whitespace before the colon has to be refused.
#[test]
fn request_smuggling_space_before_colon_and_bad_names() {
    use ErrorKind::{BadHeaderName, SpaceBeforeColon};
    for (line, kind) in [
        ("Content-Length : 3", SpaceBeforeColon),
        ("Transfer-Encoding\t: chunked", SpaceBeforeColon),
        (": 3", BadHeaderName),
        ("Content Length: 3", BadHeaderName),
        ("Content-Length", BadHeaderName),
        ("Content-Length\u{a0}: 3", BadHeaderName),
        ("(X): 3", BadHeaderName),
    ] {
        refused(&post(&format!("{line}\r\n"), "abc"), kind);
    }
}

/// Bug class "request smuggling" and "cache poisoning": whom a request is for. RFC 9112 3.2: exactly one Host, valid, the
/// same as the target's; RFC 9110 4.2.1: never empty.
#[test]
fn host_missing_duplicate_empty_and_against_the_absolute_form() {
    use ErrorKind::{BadHost, BadTarget, DuplicateHost, HostMismatch, MissingHost};
    let to = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
    for (bytes, kind) in [
        (to("/", ""), MissingHost),
        (to("http://a/", ""), MissingHost),
        (to("/", "Host: a\r\nHost: a\r\n"), DuplicateHost),
        (to("/", "Host: a\r\nhOST: b\r\n"), DuplicateHost),
        (to("/", "Host:\r\n"), BadHost),
        (to("/", "Host: :80\r\n"), BadHost),
        (to("/", "Host: a b\r\n"), BadHost),
        (to("/", "Host: a, b\r\n"), BadHost),
        (to("/", "Host: user@a\r\n"), BadHost),
        (to("/", "Host: a/b\r\n"), BadHost),
        (to("/", "Host: http://a\r\n"), BadHost),
        (to("/", "Host: a:b\r\n"), BadHost),
        (to("/", "Host: a:99999\r\n"), BadHost),
        (to("/", "Host: [::1\r\n"), BadHost),
        (to("http://b/", "Host: a\r\n"), HostMismatch),
        (to("http://a:81/", "Host: a\r\n"), HostMismatch),
        (to("https://a/", "Host: a:80\r\n"), HostMismatch),
        (to("http://user@a/", "Host: a\r\n"), BadTarget),
        (to("http:///", "Host: a\r\n"), BadTarget),
        (to("ws://a/", "Host: a\r\n"), BadTarget),
        (to("a:80", "Host: a\r\n"), BadTarget),
    ] {
        refused(&bytes, kind);
    }
    one_request(&to("http://a:80/x", "Host: A\r\n"), "");
    one_request(&to("https://a", "Host: a:443\r\n"), "");
}

/// Bug class "request smuggling": HTTP/1.0 has no transfer codings (RFC 9112 6.1), so an old proxy in front did not see one.
#[test]
fn http_1_0_with_transfer_encoding() {
    let kind = ErrorKind::TransferEncodingInHttp10;
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", kind);
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"] {
        refused(&format!("GET / {version}\r\nHost: a\r\n\r\n"), ErrorKind::UnsupportedVersion);
    }
    for version in
        ["HTTP/1", "HTTP/1.1.1", "http/1.1", "HTTP/01.1", "HTTP/1.10", "HTTP /1.1", "XTTP/1.1"]
    {
        refused(&format!("GET / {version}\r\nHost: a\r\n\r\n"), ErrorKind::BadRequestLine);
    }
}

/// Bug class "request smuggling": empty lines before a request (RFC 9112 2.2 asks for at least one to be skipped): two are,
/// more are an attack on somebody's patience.
#[test]
fn leading_empty_lines_are_bounded() {
    one_request(&format!("\r\n{}", post("Content-Length: 3\r\n", "abc")), "abc");
    one_request(&format!("\r\n\r\n{}", post("Content-Length: 3\r\n", "abc")), "abc");
    refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrorKind::BadRequestLine);
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrorKind::BareLineFeed);
    assert_eq!(read("\r\n".repeat(100_000)).error, Some(ErrorKind::BadRequestLine));
}

/// Methods and targets with bytes that no reader should see. RFC 9112 3.2 asks for 400; every visible ASCII byte but `#`
/// passes, because curl sends what people type and none of them ends a target.
#[test]
fn methods_and_targets_with_bad_bytes() {
    use ErrorKind::{BadRequestLine, BadTarget, NotHttp};
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    for (bytes, kind) in [
        (line("G(T / HTTP/1.1"), BadRequestLine),
        (line("GET\t/ HTTP/1.1"), BadRequestLine),
        (line("GET  / HTTP/1.1"), BadRequestLine),
        (line("GET /a b HTTP/1.1"), BadRequestLine),
        (line("GET / HTTP/1.1 "), BadRequestLine),
        (line("GET /\u{e9} HTTP/1.1"), BadTarget),
        (line("GET /\u{7f} HTTP/1.1"), BadTarget),
        (line("GET /#a HTTP/1.1"), BadTarget),
        (line("GET a HTTP/1.1"), BadTarget),
        (line("GET * HTTP/1.1"), BadTarget),
        (line("CONNECT a:80 HTTP/1.1"), BadTarget),
        (line("\0GET / HTTP/1.1"), NotHttp),
        (line("{\"a\": 1}"), NotHttp),
    ] {
        refused(&bytes, kind);
    }
    one_request(&line("GET /a?b=[c]|{d}^\"e\"<f>\\g`h HTTP/1.1"), "");
    // `X-HTTP-Method-Override` and its like are fields as any other.
    one_request(&line("OPTIONS * HTTP/1.1"), "");
}

/// Bug class "desync at upgrade" (bun#29732, CVE-2021-32715 and their like): a body on a GET that upgrades. What follows the
/// head of an upgrade is the new protocol's to some and a body to others, so it is refused.
#[test]
fn desync_at_upgrade_body_on_a_get_upgrade() {
    let kind = ErrorKind::UpgradeWithBody;
    for method in ["GET", "POST"] {
        for (lines, body) in
            [("Content-Length: 3\r\n", "abc"), ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")]
        {
            let bytes = format!(
                "{method} /ws/c HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}\r\n{body}"
            );
            refused(&bytes, kind);
        }
    }
    // Without `Connection: Upgrade` it is no upgrade (RFC 9110 7.8) but a request with a body.
    one_request(&post("Upgrade: websocket\r\nContent-Length: 3\r\n", "abc"), "abc");
    // Another protocol is not switched to: the body is read as one.
    one_request(
        &post("Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 3\r\n", "abc"),
        "abc",
    );
}

/// Bug class "desync at upgrade": an upgrade in HTTP/1.0 is ignored (RFC 9110 7.8), and `Content-Length: 0` is no body.
#[test]
fn desync_at_upgrade_old_versions_and_empty_bodies() {
    let upgrade = |version: &str, lines: &str| {
        format!(
            "GET /ws/c {version}\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}\r\n"
        )
    };
    for (version, lines, is_upgrade) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Content-Length: 0\r\n", true),
        ("HTTP/1.0", "", false),
    ] {
        let bytes = upgrade(version, lines);
        let mut storage = HeaderStorage::new();
        let step = Decoder::new().receive(bytes.as_bytes(), &mut storage, &Limits::default());
        let Ok(Step::Request { request, .. }) = step else { panic!("{step:?}") };
        assert_eq!(request.is_websocket_upgrade(), is_upgrade);
        assert_eq!(request.framing(), Framing::Empty);
        assert_eq!(request.version() == Version::Http10, version == "HTTP/1.0");
    }
}

/// Bug class "handshake DoS" (CVE-2023-43669, CVE-2024-37890, CVE-2021-32640): many fields, an endless line, an endless head.
#[test]
fn handshake_dos_header_bombs() {
    use ErrorKind::{HeadTooLarge, TargetTooLong, TooManyHeaders};
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let limits = Limits::default();
    let error = |bytes: &str| read_with(bytes.as_bytes(), &limits).error;
    assert_eq!(error(&get(&"X: y\r\n".repeat(limits.headers_max))), Some(TooManyHeaders));
    assert_eq!(error(&get(&"X: y\r\n".repeat(limits.headers_max - 1))), None);
    assert_eq!(error(&get(&format!("X: {}\r\n", "y".repeat(20_000)))), Some(HeadTooLarge));
    assert_eq!(error(&get(&format!("{}: y\r\n", "X".repeat(20_000)))), Some(HeadTooLarge));
    assert_eq!(error(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000))), Some(TargetTooLong));
    assert_eq!(error(&"A".repeat(20_000)), Some(TargetTooLong));
    // An endless line is refused at the limit, not when it ends; the same for a list in one field.
    let list = "a,".repeat(1 << 20);
    for name in ["Connection", "Upgrade", "Transfer-Encoding", "Accept-Encoding", "X-Forwarded-For"]
    {
        let bytes = get(&format!("{name}: {list}\r\n"));
        assert_eq!(error(&bytes[..limits.head_bytes_max]), Some(HeadTooLarge), "{name}");
    }
}

/// Bug class "handshake DoS": a head that drips in costs no more than one that comes at once. The decoder keeps 32 bytes.
#[test]
fn handshake_dos_a_dripped_head_is_not_scanned_again() {
    assert!(size_of::<Decoder>() <= 32);
    // 16 KiB byte by byte would be 128 MiB of scanning if each call began anew; a debug build would need seconds.
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(16_000));
    let mut decoder = Decoder::new();
    let mut storage = HeaderStorage::new();
    for end in 1..bytes.len() {
        let step = decoder.receive(&bytes.as_bytes()[..end], &mut storage, &Limits::default());
        assert!(matches!(step, Ok(Step::Incomplete)), "{end}");
    }
}

/// Bug class "cross-site WebSocket hijack": Origin absent, `null`, of another scheme, with user information, of another
/// site; Host rebound.
#[test]
fn cross_site_websocket_hijack_and_dns_rebinding() {
    let host = headwater_http1::Authority::parse(b"live.example:8080");
    let check = |origins: &[&[u8]], scheme| {
        check_origin(origins.iter().copied(), host, scheme, &["https://app.example"])
    };
    assert_eq!(check(&[], Scheme::Http), Ok(()), "not a browser");
    assert_eq!(check(&[b"http://live.example:8080"], Scheme::Http), Ok(()));
    assert_eq!(check(&[b"https://app.example"], Scheme::Http), Ok(()), "listed");
    for origin in [
        &b"null"[..],
        b"",
        b"https://live.example:8080",
        b"http://live.example",
        b"http://live.example:8081",
        b"http://evil.example",
        b"http://live.example:8080.evil.example",
        b"http://live.example:8080@evil.example",
        b"http://evil@live.example:8080",
        b"http://live.example:8080/",
        b"http://live.example:8080 http://live.example:8080",
        b"http://app.example",
        b"file://",
        b"*",
    ] {
        assert_eq!(check(&[origin], Scheme::Http), Err(Refusal::Origin), "{origin:?}");
    }
    let twice: [&[u8]; 2] = [b"http://live.example:8080", b"http://live.example:8080"];
    assert_eq!(check(&twice, Scheme::Http), Err(Refusal::Origin), "duplicate Origin");
    let rebound = headwater_http1::Authority::parse(b"evil.example");
    assert_eq!(check_host::<&str>(rebound, &[]), Err(Refusal::Host));
    refused(
        "GET /ws/c HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        ErrorKind::DuplicateHost,
    );
}

/// Range sets: many, overlapping, in any order. RFC 9110 14.2 lets a server ignore a set; one that does not multiplies
/// its answer by the set's size. One member is served, any set is the whole once.
#[test]
fn range_sets_do_not_multiply_the_answer() {
    let many = format!("bytes={}", vec!["0-"; 5000].join(","));
    for set in [
        &many,
        "bytes=0-9,0-9",
        "bytes=0-1,5-6",
        "bytes=-5,-5",
        "bytes=0-,-1",
        "bytes=0-0,",
        "bytes=,0-0",
    ] {
        assert_eq!(select(set.as_bytes(), 1 << 20), Selection::Whole, "{set:.40}");
    }
    let endless = format!("bytes={}-", "9".repeat(10_000));
    assert_eq!(select(endless.as_bytes(), 10), Selection::Unsatisfiable);
    let suffix = format!("bytes=-{}", "9".repeat(10_000));
    assert!(matches!(select(suffix.as_bytes(), 10), Selection::Part(part) if part.length() == 10));
}

/// What curl, Chromium, ffmpeg and Node send passes as it is.
#[test]
fn what_real_clients_send_is_read() {
    for request in [
        "GET /live/cam/index.m3u8 HTTP/1.1\r\nHost: a:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        "GET /live/cam/index.m3u8 HTTP/1.1\r\nUser-Agent: Lavf/59.27.100\r\nAccept: */*\r\nRange: bytes=0-\r\n\
         Connection: close\r\nHost: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\r\n",
        "GET /ws/c HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0\r\nUpgrade: websocket\r\nOrigin: http://127.0.0.1:8080\r\n\
         Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
    ] {
        one_request(request, "");
    }
    let node = "POST /pub/c HTTP/1.1\r\nhost: localhost:8080\r\nconnection: keep-alive\r\nContent-Type: application/json\r\n\
                accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
                accept-encoding: gzip, deflate\r\ncontent-length: 2\r\n\r\n{}";
    one_request(node, "{}");
    let curl =
        post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "3\r\nabc\r\n0\r\n\r\n");
    one_request(&curl, "abc");
}
