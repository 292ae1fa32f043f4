//! HTTP as an attacker writes it, and as a hasty client does: bytes that curl would not send.
//!
//! In: raw requests. Out: 400 with the rule's name and the end of the connection, before anything that was hidden
//! behind the request is read; and pipelined requests answered in their order.

use crate::client::{Http, WebSocket};
use crate::server::{Configuration, Server};

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
    ];
    for (rest, code) in cases {
        let mut http = Http::connect(server.http);
        let head = "POST /pub/smuggled HTTP/1.1\r\nHost: localhost\r\n";
        http.send(format!("{head}{rest}{hidden}").as_bytes());
        let answer = http.response();
        assert_eq!(answer.error_code(), code, "{rest:?}");
        let status = if code == "unsupported_transfer_coding" { 501 } else { 400 };
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
