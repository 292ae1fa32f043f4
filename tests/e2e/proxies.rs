//! Behind a proxy: the PROXY protocol, forwarded requests, sockets with a path.
//!
//! In: what proxies write, by curl where it can, and what liars write, as raw bytes. Out: whether the one who asks counts
//! as this machine, seen in `/metrics`, which is for it alone; closed connections; files in a folder.

use crate::client::{DEADLINE, Http, WebSocket};
use crate::process::Process;
use crate::server::{BINARY, Server};
use crate::tools::{have, output, scratch};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A server with these lines in its `[http]`.
fn serve(test: &str, http: &str) -> Server {
    serve_with(test, http, "")
}

fn serve_with(test: &str, http: &str, rtmp: &str) -> Server {
    let file = scratch("e2e").join(format!("{test}.toml"));
    let text = format!(
        "shards = 2\nhosts = [\"localhost\", \"127.0.0.1\", \"live.example\"]\n[http]\naddr = [\"127.0.0.1:0\"]\n{http}\n\
         [rtmp]\naddr = [\"127.0.0.1:0\"]\n{rtmp}\n"
    );
    std::fs::write(&file, text).expect("the target directory is writable");
    Server::from_file(&file)
}

/// A header of version 2 for a client and a server of IPv4.
fn v2(client: SocketAddr, command: u8) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { panic!("an IPv4 address") };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(client.ip().octets());
    header.extend([127, 0, 0, 1]);
    header.extend(client.port().to_be_bytes());
    header.extend([0, 80]);
    header
}

/// The status of `GET /metrics` behind these bytes, on a connection of its own; `None` when it is closed.
fn status_behind(server: &Server, first: &[u8], fields: &str) -> Option<u16> {
    let mut http = Http::connect(server.http);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    http.send(&[first, request.as_bytes()].concat());
    http.try_response().map(|answer| answer.status)
}

#[test]
fn proxy_protocol_says_who_asks() {
    let lines = "proxy_protocol = true\nproxies = [\"127.0.0.0/8\"]";
    let server = serve_with("proxy_protocol", lines, "proxy_protocol = true");
    let far: SocketAddr = "192.0.2.7:4711".parse().expect("an address");
    let near: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
    let tlvs =
        [&v2(far, 1)[..14], &[0, 12 + 7], &v2(far, 1)[16..], &[4, 0, 4, 0, 0, 0, 0]].concat();
    for (header, status) in [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n".to_vec(), Some(401)),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), Some(401)),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 80\r\n".to_vec(), Some(200)),
        (b"PROXY TCP6 ::ffff:127.0.0.1 ::1 4711 80\r\n".to_vec(), Some(200)),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some(401)),
        (v2(far, 1), Some(401)),
        (v2(near, 1), Some(200)),
        // LOCAL: the proxy itself asks, whatever the header names.
        (v2(far, 0), Some(200)),
        (tlvs, Some(401)),
        // Without a header, with a wrong one or with two, nothing is answered.
        (Vec::new(), None),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\n".to_vec(), None),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 99999\r\n".to_vec(), None),
        (v2(near, 2), None),
        (b"\r\n\r\n\0\r\nQUIT\nx".to_vec(), None),
    ] {
        assert_eq!(status_behind(&server, &header, ""), status, "{header:?}");
    }
    let twice = [v2(near, 1), v2(near, 1)].concat();
    assert_eq!(status_behind(&server, &twice, ""), Some(400), "the second is a broken request");
    // The client that the header names is no proxy, so its own fields are only a reason for doubt.
    let forged = "X-Forwarded-For: 127.0.0.1\r\n";
    assert_eq!(status_behind(&server, &v2(far, 1), forged), Some(401));
    // Byte by byte, and a connection that goes on.
    let mut http = Http::connect(server.http);
    for byte in v2(near, 1) {
        http.send(&[byte]);
    }
    assert_eq!(http.get("/healthz").status, 200);
    assert_eq!(http.get("/metrics").status, 200);
    // Publishers are behind the same header: without one, RTMP is closed.
    let mut rtmp = crate::client::connect(server.rtmp);
    rtmp.write_all(&[3; 64]).expect("the server reads");
    assert_eq!(rtmp.read(&mut [0; 16]).unwrap_or(0), 0);
    let mut rtmp = crate::client::connect(server.rtmp);
    rtmp.write_all(&[&v2(near, 1)[..], &[3], &[0; 1536]].concat()).expect("the server reads");
    let mut version = [0];
    rtmp.read_exact(&mut version).expect("S0 of the handshake");
    assert_eq!(version, [3]);
    drop(rtmp);
    if have("proxy_protocol_says_who_asks", &["curl"]) {
        let url = format!("http://{}/healthz", server.http);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "15", "--noproxy", "*", "--haproxy-protocol", &url]);
        assert_eq!(output(&mut curl), b"ok\n");
    }
    drop(http);
    // The drain goes by the signal; no request has to be made for it.
    server.stop();
}

#[test]
fn proxy_protocol_from_others_is_closed() {
    let server =
        serve("proxy_others", "proxy_protocol = true\nproxies = [\"10.0.0.0/8\", \"::1\"]");
    let near: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
    assert_eq!(status_behind(&server, &v2(near, 1), ""), None);
    assert_eq!(status_behind(&server, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", ""), None);
    assert_eq!(status_behind(&server, b"", ""), None);
    server.stop();
}

#[test]
fn forwarded_requests_are_believed_from_configured_proxies_only() {
    let trusting = serve("forwarded", "proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let doubting = serve("not_forwarded", "");
    for (fields, trusted) in [
        ("", 200),
        ("X-Forwarded-For: 127.0.0.1\r\n", 200),
        ("Forwarded: for=127.0.0.1;proto=http\r\n", 200),
        ("Forwarded: for=\"[::1]:80\"\r\n", 200),
        ("X-Forwarded-For: 127.0.0.1, 10.1.2.3\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1\r\n", 401),
        // What the client wrote stands left of what the proxy wrote.
        ("X-Forwarded-For: 127.0.0.1, 192.0.2.1\r\n", 401),
        ("X-Forwarded-For: 127.0.0.1, 192.0.2.1, 10.1.2.3\r\n", 401),
        ("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n", 401),
        ("Forwarded: for=127.0.0.1, for=192.0.2.1\r\n", 401),
        ("Forwarded: for=127.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n", 401),
        // Hooks and ids: empty and broken values.
        ("X-Forwarded-For:\r\n", 401),
        ("X-Forwarded-For: ,\r\n", 401),
        ("X-Forwarded-For: localhost\r\n", 401),
        ("Forwarded:\r\n", 401),
        ("Forwarded: for=\r\n", 401),
        ("Forwarded: for=\"127.0.0.1\r\n", 401),
        ("Forwarded: for=unknown\r\n", 401),
        ("Via: 1.1 proxy\r\n", 401),
        ("X-Real-IP: 127.0.0.1\r\n", 401),
    ] {
        assert_eq!(status_behind(&trusting, b"", fields), Some(trusted), "{fields:?}");
        let doubted = if fields.is_empty() { 200 } else { 401 };
        assert_eq!(status_behind(&doubting, b"", fields), Some(doubted), "{fields:?}");
    }
    // The scheme and the host are the client's, so the origin of its page has to be theirs.
    let post = |server: &Server, fields: &str| {
        let mut http = Http::connect(server.http);
        let head = "POST /pub/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n";
        http.send(format!("{head}{fields}\r\nx").as_bytes());
        http.response().status
    };
    let secure = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: live.example\r\n";
    for (fields, trusted, doubted) in [
        ("Origin: https://live.example\r\n", 200, 403),
        ("Origin: http://live.example\r\n", 403, 403),
        ("Origin: http://localhost\r\n", 403, 200),
        ("Origin: https://evil.example\r\n", 403, 403),
    ] {
        let fields = format!("{secure}{fields}");
        assert_eq!(post(&trusting, &fields), trusted, "{fields}");
        assert_eq!(post(&doubting, &fields), doubted, "{fields}");
    }
    for host in ["evil.example", "live.example, localhost", ""] {
        assert_eq!(post(&trusting, &format!("X-Forwarded-Host: {host}\r\n")), 421, "{host}");
        // Whoever is not configured is not asked whom he means.
        assert_eq!(post(&doubting, &format!("X-Forwarded-Host: {host}\r\n")), 200, "{host}");
    }
    trusting.stop();
    doubting.stop();
}

/// A short path: that of a socket has 107 bytes.
fn socket_path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("headwater-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder.join("h.sock")
}

fn remove(path: &Path) {
    let folder = path.parent().expect("a folder");
    let _ = std::fs::remove_dir_all(folder);
}

fn request_by(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn metrics_by(path: &Path, fields: &str) -> String {
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    request_by(path, &format!("{head}{fields}\r\n"))
}

#[test]
fn a_path_is_served_and_removed() {
    let path = socket_path("path");
    let second = path.with_file_name("second.sock");
    // What a former process left behind, and nobody listens on.
    drop(UnixListener::bind(&path).expect("a fresh folder"));
    assert!(path.exists());
    let list =
        format!("unix = [\"{}\", \"{}\"]\nunix_mode = \"600\"", path.display(), second.display());
    let mut server = serve("unix", &list);
    server.log(&format!("path={}", second.display()));
    for path in [&path, &second] {
        let file = std::fs::metadata(path).expect("the socket is there");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(metrics_by(path, "").starts_with("HTTP/1.1 200 "));
        // Nobody behind a path is a proxy unless the configuration says so.
        assert!(metrics_by(path, "X-Forwarded-For: 127.0.0.1\r\n").starts_with("HTTP/1.1 401 "));
    }
    if have("a_path_is_served_and_removed", &["curl"]) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "15", "--unix-socket"]).arg(&path);
        assert_eq!(
            output(curl.args([
                "-d",
                "by path",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "http://localhost/pub/c"
            ])),
            b"200"
        );
    }
    // A second server does not take a path from one that lives.
    let file = scratch("e2e").join("unix_second.toml");
    let text = format!(
        "shards = 1\n[http]\naddr = []\nunix = \"{}\"\n[rtmp]\naddr = []\n",
        path.display()
    );
    std::fs::write(&file, text).expect("the target directory is writable");
    let mut rival = Process::start(Command::new(BINARY).arg("serve").arg("--config").arg(&file));
    assert_eq!(rival.wait(Duration::from_secs(15)).code(), Some(1));
    assert!(rival.text().contains("cannot listen on"), "{}", rival.text());
    assert!(metrics_by(&path, "").starts_with("HTTP/1.1 200 "));
    server.stop();
    assert!(!path.exists() && !second.exists(), "the paths are removed with the listeners");
    remove(&path);
}

#[test]
fn a_path_of_a_proxy_and_what_is_not_ours() {
    let path = socket_path("proxy");
    let lines = format!("unix = \"{}\"\nproxies = [\"unix\"]", path.display());
    let server = serve("unix_proxy", &lines);
    for (fields, status) in [
        ("", "200"),
        ("X-Forwarded-For: 127.0.0.1\r\n", "200"),
        ("X-Forwarded-For: 192.0.2.1\r\n", "401"),
        ("X-Forwarded-For:\r\n", "401"),
    ] {
        assert_eq!(&metrics_by(&path, fields)[9..12], status, "{fields}");
    }
    // Over TCP nobody is a proxy here.
    assert_eq!(status_behind(&server, b"", "X-Forwarded-For: 127.0.0.1\r\n"), Some(401));
    // Somebody else's socket in our place is not ours to remove.
    std::fs::remove_file(&path).expect("the socket is there");
    let other = UnixListener::bind(&path).expect("the path is free");
    server.stop();
    assert!(path.exists());
    drop(other);
    // A file that is no socket stays, and is an error.
    std::fs::remove_file(&path).expect("the socket is there");
    std::fs::write(&path, "not a socket").expect("a temporary folder");
    let file = scratch("e2e").join("unix_proxy.toml");
    let mut server = Process::start(Command::new(BINARY).arg("serve").arg("--config").arg(&file));
    assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "not a socket");
    remove(&path);
}

#[test]
fn the_check_prints_the_keys_and_refuses_what_cannot_work() {
    let check = |text: &str| {
        let file = scratch("e2e").join("check_proxies.toml");
        std::fs::write(&file, text).expect("the target directory is writable");
        let mut check =
            Process::start(Command::new(BINARY).arg("check").arg("--config").arg(&file));
        let status = check.wait(Duration::from_secs(15));
        (status.code(), check.text())
    };
    let (code, text) = check(
        "[http]\nunix = \"/run/headwater.sock\"\nunix_mode = \"0666\"\nproxies = [\"10.0.0.0/8\", \"::1\", \"unix\"]\n\
         proxy_protocol = true\n",
    );
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "unix = [\"/run/headwater.sock\"]",
        "unix_mode = \"666\"",
        "proxies = [\"10.0.0.0/8\", \"::1/128\", \"unix\"]",
        "proxy_protocol = true",
        "compression = true",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    for (text, wrong) in [
        ("[http]\nproxy_protocol = true\n", "check_proxies.toml:2: http.proxy_protocol"),
        ("[http]\nproxies = [\"10.0.0.1/8\"]\n", "check_proxies.toml:2"),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(wrong), "{said}");
    }
}

/// What follows an upgrade on a connection behind the header is the WebSocket's, as without it.
#[test]
fn websockets_behind_the_proxy_protocol() {
    let server = serve("proxy_ws", "proxy_protocol = true\nproxies = [\"127.0.0.1\"]");
    let near: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
    let mut stream = crate::client::connect(server.http);
    stream.write_all(&v2(near, 1)).expect("the server reads");
    let mut socket = WebSocket::over(stream, server.http, "/ws/c");
    let mut http = Http::connect(server.http);
    http.send(&v2(near, 1));
    assert_eq!(http.post("/pub/c", b"hello").status, 200);
    assert_eq!(socket.text(), "hello");
    drop((socket, http));
    server.stop();
}
