//! HTTP as an attacker writes it, and as a hasty client does: bytes that curl would not send.
//!
//! In: raw requests. Out: 400 with the rule's name and the end of the connection, before anything that was hidden
//! behind the request is read; pipelined requests answered in their order; upgrades after which both sides agree on who
//! reads what. Slow attackers are in the simulator, where time costs nothing.

use crate::client::{DEADLINE, Http, Received, WebSocket, connect};
use crate::server::{Configuration, Server};
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Instant;
use websocket::encode::{Opcode, write_masked_frame};
use websocket::handshake::{ClientRequest, Key};

#[test]
fn smuggled_requests_are_refused() {
    let server = Server::start("smuggling", &Configuration::default());
    let hidden = "POST /pub/hidden HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhidden";
    let mut witness = WebSocket::open(server.http, "/ws/hidden");
    let cases = [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "length_and_transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            "length_and_transfer_encoding",
        ),
        ("Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", "duplicate_content_length"),
        ("Content-Length: +4\r\n\r\nabcd", "bad_content_length"),
        ("Content-Length: 4, 4\r\n\r\nabcd", "duplicate_content_length"),
        ("Transfer-Encoding: xchunked\r\n\r\n", "unsupported_transfer_coding"),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n", "bad_transfer_encoding"),
        ("Transfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n", "bad_chunk_size"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nabcdef\r\n0\r\n\r\n", "bad_chunk_end"),
        ("Content-Length: 0\nX: y\r\n\r\n", "bare_line_feed"),
        ("X: y\r\n Content-Length: 4\r\n\r\nabcd", "obsolete_fold"),
        ("Content-Length : 4\r\n\r\nabcd", "space_before_colon"),
        ("Host: other\r\nContent-Length: 0\r\n\r\n", "duplicate_host"),
        ("X: a\rContent-Length: 4\r\n\r\n", "bare_carriage_return"),
        ("Content-Length: 18446744073709551620\r\n\r\nabcd", "body_too_large"),
        ("Transfer-Encoding: identity\r\n\r\n", "unsupported_transfer_coding"),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n", "bad_header_value"),
        ("Transfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n", "bare_line_feed"),
        ("Transfer-Encoding: chunked\r\n\r\n4;a=\"\r\nabcd\r\n0\r\n\r\n", "bad_chunk_extension"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n", "forbidden_trailer"),
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 4\r\n\r\nabcd",
            "upgrade_with_body",
        ),
    ];
    for (rest, code) in cases {
        let mut http = Http::connect(server.http);
        let head = "POST /pub/smuggled HTTP/1.1\r\nHost: localhost\r\n";
        http.send(format!("{head}{rest}{hidden}").as_bytes());
        let answer = http.response();
        assert_eq!(answer.error_code(), code, "{rest:?}");
        let status = match code {
            "unsupported_transfer_coding" => 501,
            "body_too_large" => 413,
            _ => 400,
        };
        assert_eq!(answer.status, status, "{rest:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{rest:?}");
        assert!(http.is_at_end(), "{rest:?}: something was answered after the refusal");
    }
    // Nothing hidden was published: the first thing the channel's reader sees is this.
    assert_eq!(Http::connect(server.http).post("/pub/hidden", b"seen").status, 200);
    assert_eq!(witness.text(), "seen");
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start("pipelining", &Configuration::default());
    let mut reader = WebSocket::open(server.http, "/ws/pipe");
    let mut http = Http::connect(server.http);
    let mut bytes = Vec::new();
    for round in 0..20 {
        let body = format!("body {round}");
        let length = body.len();
        let requests = [
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            format!(
                "POST /pub/pipe HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
            "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "POST /pub/pipe HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n1;ext=1\r\nd\r\n0\r\nX-Trailer: y\r\n\r\n"
                .to_owned(),
            "GET /live/nobody/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        ];
        requests.iter().for_each(|request| bytes.extend_from_slice(request.as_bytes()));
    }
    http.send(&bytes);
    for round in 0..20 {
        let statuses: Vec<u16> = (0..5).map(|_| http.response().status).collect();
        assert_eq!(statuses, [200, 200, 404, 200, 404], "round {round}");
        assert_eq!(reader.text(), format!("body {round}"));
        assert_eq!(reader.text(), "abcd");
    }
    server.stop();
}

#[test]
fn connections_are_kept_and_closed_as_said() {
    let server = Server::start("keep_alive", &Configuration::default());
    let mut http = Http::connect(server.http);
    for _ in 0..100 {
        let answer = http.get("/healthz");
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    // An error that leaves no doubt about where the next request begins does not end the connection, HEAD included.
    http.send(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(http.head_response().status, 404);
    http.send(b"HEAD /live/nobody/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(http.head_response().status, 404);
    assert_eq!(http.get("/healthz").text(), "ok\n");
    http.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(http.response().header("connection"), Some("close"));
    assert!(http.is_at_end());

    let mut old = Http::connect(server.http);
    old.send(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(old.response().status, 200);
    assert!(old.is_at_end(), "HTTP/1.0 without keep-alive");

    let mut patient = Http::connect(server.http);
    let head = b"POST /pub/c HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    patient.send(head);
    assert_eq!(patient.head_response().status, 100);
    patient.send(b"body");
    assert_eq!(patient.response().status, 200);
    server.stop();
}

/// A request that upgrades to the WebSocket of a channel.
fn upgrade(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// Bug class "Desync at upgrade": an upgrade that is refused leaves a connection on which the next request, pipelined
/// behind it, is answered as that request. Also bug class "Hooks and ids": what is switched off answers cleanly.
#[test]
fn desync_at_upgrade_a_refused_upgrade_leaves_a_clean_connection() {
    let server = Server::start("refused_upgrade", &Configuration::default());
    let next = "POST /pub/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nnext";
    let mut reader = WebSocket::open(server.http, "/ws/c");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        (upgrade("/ws/c", "Origin: http://evil.example\r\n"), 403, "origin_not_allowed"),
        (upgrade("/ws/c", "Origin: null\r\n"), 403, "origin_not_allowed"),
        (upgrade("/ws/a/b", ""), 400, "bad_channel"),
        // The echo is off: there is no such path.
        (upgrade("/echo", ""), 404, "not_found"),
        (upgrade("/nothing", ""), 404, "not_found"),
        (upgrade("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"), 404, "not_found"),
        (upgrade("/ws/c", "").replace("Version: 13", "Version: 8"), 426, "websocket_version"),
        (upgrade("/ws/c", "").replace(key, ""), 400, "websocket_key"),
    ];
    for (request, status, code) in cases {
        let mut http = Http::connect(server.http);
        http.send(format!("{request}{next}").as_bytes());
        let answer = http.response();
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{request}");
        assert_eq!(answer.header("connection"), None, "{request}");
        assert_eq!(http.response().status, 200, "{request}");
        assert_eq!(reader.text(), "next");
        assert_eq!(http.get("/healthz").status, 200);
    }
    // A client that goes on as if it had been accepted writes no request: its frames are refused, never answered.
    let mut http = Http::connect(server.http);
    let mut frame = Vec::new();
    write_masked_frame(&mut frame, Opcode::Text, true, [0; 4], next.as_bytes());
    let refused = upgrade("/ws/c", "Origin: null\r\n").into_bytes();
    http.send(&[refused, frame].concat());
    assert_eq!(http.response().status, 403);
    assert_eq!(http.response().error_code(), "not_http");
    assert!(http.is_at_end());
    server.stop();
}

/// Bug class "Desync at upgrade": what is pipelined behind an upgrade that is accepted belongs to the WebSocket, in the
/// same segment as in the next; a request there is a broken frame and is not answered.
#[test]
fn desync_at_upgrade_pipelined_bytes_belong_to_the_websocket() {
    let server = Server::start("after_upgrade", &Configuration::default());
    let asked = ClientRequest::default();
    let mut frames = Vec::new();
    write_masked_frame(&mut frames, Opcode::Text, true, [1, 2, 3, 4], b"first");
    write_masked_frame(&mut frames, Opcode::Text, true, [5, 6, 7, 8], b"second");
    let bytes = [upgrade("/ws/c", "").as_bytes(), &frames].concat();
    for cut in [bytes.len(), bytes.len() - frames.len(), bytes.len() - frames.len() + 3, 40] {
        let mut stream = connect(server.http);
        stream.write_all(&bytes[..cut]).expect("the server reads");
        stream.write_all(&bytes[cut..]).expect("the server reads");
        let mut socket =
            WebSocket::upgraded(stream, &asked, &Key::from_nonce(*b"the sample nonce"));
        assert_eq!((socket.text(), socket.text()), ("first".to_owned(), "second".to_owned()));
    }
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = connect(server.http);
    stream
        .write_all(&[upgrade("/ws/c", "").as_bytes(), request].concat())
        .expect("the server reads");
    let mut socket = WebSocket::upgraded(stream, &asked, &Key::from_nonce(*b"the sample nonce"));
    assert_eq!(socket.receive(), Received::Close(Some(1002)));
    server.stop();
}

/// Bug class "Request smuggling": who waits for 100 and is refused may send the body or not (RFC 9110 10.1.1). What
/// comes next is not read as a request.
#[test]
fn an_expectation_that_is_refused_ends_the_connection() {
    let server = Server::start("expectation", &Configuration::default());
    let hidden = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (target, fields, status) in
        [("/pub/c", "Origin: null\r\n", 403), ("/pub/a/b", "", 400), ("/healthz", "", 405)]
    {
        let mut http = Http::connect(server.http);
        let length = hidden.len();
        http.send(
            format!(
                "POST {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n{fields}\r\n"
            )
            .as_bytes(),
        );
        let answer = http.response();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close")),
            "{target}"
        );
        assert!(http.is_at_end(), "{target}");
    }
    server.stop();
}

/// Pipelining has a depth: whoever asks and does not read is not read either, and the server keeps little of him.
#[test]
fn pipelining_without_reading_is_bounded() {
    let server = Server::start("pipelining_depth", &Configuration::default());
    let request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let many = request.repeat(1000);
    let before = server.resident_bytes();
    let mut stream = connect(server.http);
    stream.set_nonblocking(true).expect("a socket option");
    let (mut sent, deadline) = (0, Instant::now() + DEADLINE);
    // Until the kernel's two buffers are full and stay so: nobody takes anything out of them.
    let mut refusals = 0;
    while refusals < 200 {
        assert!(Instant::now() < deadline && sent < 256 << 20, "{sent} bytes were taken");
        match stream.write(&many[sent % request.len()..]) {
            Ok(count) => (sent, refusals) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refusals += 1;
                // The server answers others in the meantime.
                assert_eq!(Http::connect(server.http).get("/healthz").status, 200);
            }
            Err(error) => panic!("{error}"),
        }
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for one connection");
    // Every request that was taken is answered, in full, when it is read on.
    stream.set_nonblocking(false).expect("a socket option");
    let whole = sent / request.len();
    let rest = request.len() - sent % request.len();
    let writer = std::thread::spawn({
        let mut stream = stream.try_clone().expect("a descriptor");
        move || stream.write_all(&request[request.len() - rest..])
    });
    let mut answers = 0;
    let mut bytes = Vec::new();
    let mut piece = vec![0; 256 * 1024];
    while answers < whole {
        let count = stream.read(&mut piece).expect("answers in time");
        assert!(count > 0, "closed after {answers} of {whole}");
        bytes.extend_from_slice(&piece[..count]);
        let found: Vec<usize> = starts_of(&bytes, b"HTTP/1.1 404 ");
        answers += found.len().saturating_sub(1);
        let keep = found.last().copied().unwrap_or(0);
        bytes.drain(..keep);
        if answers + 1 == whole {
            break;
        }
    }
    writer.join().expect("no panic").expect("the server reads on");
    drop(stream);
    server.stop();
}

/// Where `wanted` stands.
fn starts_of(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows.filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect()
}
