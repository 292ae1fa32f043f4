//! HTTP as curl sees it: methods, conditions, ranges, who may ask, errors, metrics; and `headwater check`.
//!
//! In: requests by curl, in its own way of writing them. Out: statuses, header fields and bodies. What curl refuses to
//! send is in `smuggling`.

use crate::client::{DEADLINE, Response};
use crate::media::{SHORT, file, publish};
use crate::process::Process;
use crate::server::{BINARY, Configuration, Server};
use crate::tools::{have, output, scratch};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

/// curl with these options; the last one is the path.
fn curl(server: &Server, options: &[&str]) -> Response {
    let (path, options) = options.split_last().expect("a path");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--max-time", "15", "--noproxy", "*"]);
    curl.args(options).arg(format!("http://{}{path}", server.http));
    let mut answer = output(&mut curl);
    loop {
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).expect("text");
        let mut lines = head.trim_end().lines();
        let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).expect("a status");
        if status == 100 {
            answer = body;
            continue;
        }
        let fields = lines.map(|line| line.split_once(':').expect("a header field"));
        let headers =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        return Response { status, headers: headers.collect(), body };
    }
}

#[test]
fn errors_are_json_with_the_right_status() {
    if !have("errors_are_json_with_the_right_status", &["curl"]) {
        return;
    }
    let server = Server::start("errors", &Configuration::default());
    let upgrade = ["-H", "Upgrade: websocket", "-H", "Connection: Upgrade"];
    let key =
        ["-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGVzdHRlc3R0ZXN0dGVzdA=="];
    let foreign = ["-H", "Origin: http://evil.example"];
    let cases: [(&[&str], u16, &str); 13] = [
        (&["/nothing"], 404, "not_found"),
        (&["/live/nobody/index.m3u8"], 404, "not_found"),
        (&["/live/..%2Fetc/index.m3u8"], 404, "not_found"),
        (&["-X", "DELETE", "/pub/c"], 405, "method_not_allowed"),
        (&["-X", "POST", "/metrics"], 405, "method_not_allowed"),
        (&["-H", "Host: rebound.example", "/healthz"], 421, "host_not_served"),
        (&["-d", "x", foreign[0], foreign[1], "/pub/c"], 403, "origin_not_allowed"),
        (&["-d", "x", "-H", "Origin: null", "/pub/c"], 403, "origin_not_allowed"),
        (&["-d", "x", "/pub/a/b"], 400, "bad_channel"),
        (&["-H", "Content-Type: application/json", "-d", "{", "/pub/c"], 400, "bad_json"),
        (&["-H", "Via: 1.1 proxy", "/metrics"], 401, "key_needed"),
        (&["-H", "Expect: tea", "-d", "x", "/pub/c"], 417, "unsupported_expectation"),
        (&[upgrade[0], upgrade[1], upgrade[2], upgrade[3], "/ws/c"], 426, "websocket_version"),
    ];
    for (options, status, code) in cases {
        let answer = curl(&server, options);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{options:?}");
    }
    let answer = curl(&server, &["-X", "DELETE", "/pub/c"]);
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = curl(&server, &["-X", "PUT", "/healthz"]);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    // A page of another site may not open a WebSocket either; our own may.
    for (origin, status) in
        [("http://evil.example".to_owned(), 403), (format!("http://{}", server.http), 101)]
    {
        let origin = format!("Origin: {origin}");
        let mut curl = Command::new("curl");
        // After an upgrade there is nothing that ends the connection; the head is all we want.
        curl.args([
            "--silent",
            "--max-time",
            "1",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        curl.args(upgrade).args(key).args(["-H", &origin]);
        let answer =
            curl.arg(format!("http://{}/ws/c", server.http)).output().expect("curl is there");
        assert_eq!(String::from_utf8_lossy(&answer.stdout), status.to_string(), "{origin}");
    }
    server.stop();
}

#[test]
fn bodies_of_requests() {
    if !have("bodies_of_requests", &["curl"]) {
        return;
    }
    let server = Server::start("bodies", &Configuration::default());
    let folder = scratch("e2e");
    let (small, large, larger) =
        (folder.join("small.body"), folder.join("large.body"), folder.join("larger.body"));
    for (path, length) in [(&small, 5), (&large, 900 * 1024), (&larger, 1024 * 1024 + 1)] {
        std::fs::write(path, vec![b'a'; length]).expect("the target directory is writable");
    }
    let from = |path: &std::path::Path| format!("@{}", path.display());
    let (small, large, larger) = (from(&small), from(&large), from(&larger));
    let plain = "Content-Type: text/plain";
    let mut ids = BTreeSet::new();
    let accepted: [&[&str]; 5] = [
        &["--data-binary", &small, "/pub/bodies"],
        &["-H", plain, "--data-binary", &large, "/pub/bodies"],
        &["-H", "Transfer-Encoding: chunked", "--data-binary", &small, "/pub/bodies"],
        &["-H", "Transfer-Encoding: chunked", "--data-binary", &large, "/pub/bodies"],
        &["-H", "Expect: 100-continue", "--data-binary", &large, "/pub/bodies%2Fdeep"],
    ];
    for options in accepted {
        let answer = curl(&server, options);
        assert_eq!(answer.status, 200, "{options:?}: {}", answer.text());
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert!(ids.insert(body["id"].as_str().expect("an id").to_owned()), "{options:?}");
    }
    let answer = curl(&server, &["--data-binary", &larger, "/pub/bodies"]);
    assert_eq!(answer.status, 413, "{}", answer.text());

    let field = format!("X-Long: {}", "x".repeat(20_000));
    let answer = curl(&server, &["-H", &field, "/healthz"]);
    assert_eq!((answer.status, answer.error_code().as_str()), (431, "head_too_large"));
    let answer = curl(&server, &[&format!("/{}", "y".repeat(9_000))]);
    assert_eq!((answer.status, answer.error_code().as_str()), (414, "target_too_long"));

    // The same key is the same publication.
    let twice = ["-H", "Idempotency-Key: k1", "-d", "once", "/pub/idempotent"];
    assert_eq!(curl(&server, &twice).text(), curl(&server, &twice).text());
    server.stop();
}

#[test]
fn health_metrics_and_assets() {
    if !have("health_metrics_and_assets", &["curl"]) {
        return;
    }
    let server = Server::start("metrics", &Configuration::default());
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = curl(&server, &[path]);
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
    }
    let page = curl(&server, &["/"]);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let etag = page.header("etag").expect("an entity tag").to_owned();
    let again = curl(&server, &["-H", &format!("If-None-Match: {etag}"), "/"]);
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*etag)));
    let head = curl(&server, &["--head", "/"]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.header("content-length"));
    let policy = |path: &str| {
        let answer = curl(&server, &[path]);
        answer.header("content-security-policy").expect("a policy").to_owned()
    };
    assert!(!policy("/").contains("unsafe-inline"));
    // An example is one file with its script in it, and it has to run.
    assert!(policy("/examples/chat.html").contains("script-src 'self' 'unsafe-inline'"));
    assert_metrics_can_be_parsed(&curl(&server, &["/metrics"]));
    server.stop();
}

/// Text format 0.0.4: help and type before the samples of each family, each sample once, values are numbers.
fn assert_metrics_can_be_parsed(answer: &Response) {
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with('\n'));
    let (mut family, mut families, mut samples) = ("", BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a text");
            assert!(families.insert(name) && !help.is_empty(), "{line}");
            family = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("headwater_") && name.chars().all(is_word), "{line}");
            assert_eq!(name, family, "{line}");
            assert!(samples.insert(series), "twice: {line}");
            value.parse::<f64>().unwrap_or_else(|_| panic!("not a number: {line}"));
        }
    }
    assert!(families.len() > 10, "{text}");
}

#[test]
fn media_files_over_http() {
    if !have("media_files_over_http", &["curl", "ffmpeg"]) {
        return;
    }
    let mut server = Server::start("files", &Configuration::default());
    let mut publisher = publish(&file(SHORT), server.rtmp, "live/files", &[]);
    server.log("publisher came");
    let index = curl(&server, &["/live/files/index.m3u8"]);
    assert_eq!(index.status, 200);
    publisher.succeed(DEADLINE);
    server.log("publisher left");

    let playlist = curl(&server, &["/live/files/video.m3u8"]).text();
    let segment = playlist.lines().find(|line| !line.starts_with('#')).expect("a segment");
    let path = format!("/live/files/{segment}");
    let whole = curl(&server, &[&path]);
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(whole.header("access-control-allow-origin"), Some("*"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.header("cache-control").is_some_and(|value| value.contains("max-age")));
    let length = whole.body.len();

    let head = curl(&server, &["--head", &path]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(&*length.to_string()));

    let last = length - 1;
    for (range, first, end) in [
        ("0-99", 0, 100),
        ("100-", 100, length),
        ("-50", length - 50, length),
        ("5-99999999", 5, length),
    ] {
        let part = curl(&server, &["--range", range, &path]);
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.body, whole.body[first..end], "{range}");
        let wanted = format!("bytes {first}-{}/{length}", end - 1);
        assert_eq!(part.header("content-range"), Some(&*wanted), "{range}");
    }
    let beyond = curl(&server, &["--range", &format!("{}-", last + 1), &path]);
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{length}")));

    let etag = whole.header("etag").expect("an entity tag");
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    let same = format!("If-None-Match: W/\"other\", {etag}");
    let unchanged = curl(&server, &["-H", &same, &path]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let stale = curl(&server, &["-H", "If-Range: \"other\"", "--range", "0-9", &path]);
    assert_eq!((stale.status, stale.body.len()), (200, length));

    let preflight = curl(&server, &["-X", "OPTIONS", "-H", "Origin: http://a.example", &path]);
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").is_some_and(|v| v.contains("GET")));
    // What never was, and what is too old to be there.
    for (name, status) in [("nothing.m4s", 404), ("video_0_0_0.m4s", 410)] {
        let missing = curl(&server, &[&format!("/live/files/{name}")]);
        assert_eq!(missing.status, status, "{name}");
        assert_eq!(missing.header("access-control-allow-origin"), Some("*"), "{name}");
    }
    server.stop();
}

#[test]
fn check_names_file_and_line() {
    let path = scratch("e2e").join("broken.toml");
    for (text, line, word) in [
        ("shards = 2\n\n[http]\naddr = [\"not an address\"]\n", 4, "addr"),
        ("shards = 2\nshard = 3\n", 2, "shard"),
        ("[media]\nsegment_duration_ms = 5\n", 2, "segment_duration_ms"),
        ("[http\n", 1, ""),
    ] {
        std::fs::write(&path, text).expect("the target directory is writable");
        let mut check = Process::start(Command::new(BINARY).args(["check", "--config"]).arg(&path));
        let status = check.wait(DEADLINE);
        let said = check.text();
        assert_eq!(status.code(), Some(2), "{said}");
        let place = format!("{}:{line}: ", path.display());
        assert!(said.contains(&place) && said.contains(word), "no {place:?} in {said:?}");
    }
    // What is right is printed whole, and what is printed is right.
    std::fs::write(&path, "shards = 2\n").expect("the target directory is writable");
    let check = || output(Command::new(BINARY).args(["check", "--config"]).arg(&path));
    let mut printed = String::from_utf8(check()).expect("text");
    assert!(printed.contains("shards = 2") && printed.contains("[http]"), "{printed}");
    let first = printed.clone();
    writeln!(printed).expect("a string");
    std::fs::write(&path, printed).expect("the target directory is writable");
    assert_eq!(String::from_utf8(check()).expect("text"), first);
}

/// The same file in each coding: its own tag and length, the same bytes behind it.
#[test]
fn pages_are_compressed_as_the_client_asks() {
    if !have("pages_are_compressed_as_the_client_asks", &["curl"]) {
        return;
    }
    let server = Server::start("compressed", &Configuration::default());
    let path = "/vendor/hls.min.js";
    let plain = curl(&server, &[path]);
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        (None, Some("Accept-Encoding"))
    );
    let mut etags = BTreeSet::from([plain.header("etag").expect("an entity tag").to_owned()]);
    for (accepted, coding) in
        [("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("br;q=0.5, gzip", "gzip")]
    {
        let accept = format!("Accept-Encoding: {accepted}");
        let coded = curl(&server, &["-H", &accept, path]);
        assert_eq!(coded.header("content-encoding"), Some(coding));
        assert_eq!(coded.header("vary"), Some("Accept-Encoding"));
        assert_eq!(coded.header("content-length"), Some(&*coded.body.len().to_string()));
        assert_eq!(coded.header("content-type"), plain.header("content-type"));
        assert!(coded.body.len() * 2 < plain.body.len());
        let etag = coded.header("etag").expect("an entity tag").to_owned();
        let head = curl(&server, &["--head", "-H", &accept, path]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), coded.header("content-length"));
        assert_eq!(head.header("content-encoding"), Some(coding));
        let same = curl(&server, &["-H", &accept, "-H", &format!("If-None-Match: {etag}"), path]);
        assert_eq!((same.status, same.header("etag")), (304, Some(&*etag)));
        assert_eq!(same.header("vary"), Some("Accept-Encoding"));
        // Another form is another answer.
        let other = curl(&server, &["-H", &format!("If-None-Match: {etag}"), path]);
        assert_eq!((other.status, other.body.len()), (200, plain.body.len()));
        etags.insert(etag);
    }
    assert_eq!(etags.len(), 3);
    // curl asks for what it can undo, and undoes it.
    for options in [&["--compressed"][..], &["--compressed", "-H", "Accept-Encoding: gzip"]] {
        let unpacked = curl(&server, &[options, &[path]].concat());
        assert!(unpacked.header("content-encoding").is_some());
        assert_eq!(unpacked.body, plain.body);
    }
    for refused in ["identity;q=0", "*;q=0"] {
        let accept = format!("Accept-Encoding: {refused}");
        let answer = curl(&server, &["-H", &accept, path]);
        assert_eq!((answer.status, answer.error_code().as_str()), (406, "not_acceptable"));
    }
    let only = curl(&server, &["-H", "Accept-Encoding: identity;q=0, gzip", path]);
    assert_eq!(only.header("content-encoding"), Some("gzip"));
    // What is made for the moment, in gzip only.
    let plain = curl(&server, &["/metrics"]);
    assert_eq!(plain.header("content-encoding"), None);
    let packed = curl(&server, &["-H", "Accept-Encoding: br, gzip", "/metrics"]);
    assert_eq!(
        (packed.header("content-encoding"), packed.header("vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    assert!(packed.body.len() * 2 < plain.body.len());
    assert_metrics_can_be_parsed(&curl(&server, &["--compressed", "/metrics"]));
    // Short, and endless: as they are.
    let short = curl(&server, &["--compressed", "/healthz"]);
    assert_eq!((short.header("content-encoding"), short.text().as_str()), (None, "ok\n"));
    let error = curl(&server, &["--compressed", "/nothing"]);
    assert_eq!((error.status, error.header("content-encoding")), (404, None));
    server.stop();
}

#[test]
fn long_playlists_are_compressed_and_media_never_is() {
    if !have("long_playlists_are_compressed_and_media_never_is", &["curl", "ffmpeg"]) {
        return;
    }
    let mut server = Server::start("packed_live", &Configuration::default());
    let mut publisher = publish(&file(SHORT), server.rtmp, "live/packed", &[]);
    server.log("publisher came");
    let _ = curl(&server, &["/live/packed/index.m3u8"]);
    publisher.succeed(DEADLINE);
    server.log("publisher left");
    let gzip = "Accept-Encoding: gzip, br";
    let path = "/live/packed/manifest.mpd";
    let plain = curl(&server, &[path]);
    let packed = curl(&server, &["-H", gzip, path]);
    assert!(plain.body.len() > 1400, "{}", plain.text());
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(packed.header("access-control-allow-origin"), Some("*"));
    assert!(packed.body.len() < plain.body.len());
    assert_eq!(curl(&server, &["--compressed", path]).text(), plain.text());
    let (one, other) =
        (plain.header("etag").expect("a tag"), packed.header("etag").expect("a tag"));
    assert_ne!(one, other);
    let same = format!("If-None-Match: {other}");
    assert_eq!(curl(&server, &["-H", gzip, "-H", &same, path]).status, 304);
    assert_eq!(curl(&server, &["-H", &same, path]).status, 200);
    let head = curl(&server, &["--head", "-H", gzip, path]);
    assert_eq!(head.header("content-length"), packed.header("content-length"));
    // A range is one of the plain bytes.
    let part = curl(&server, &["-H", gzip, "--range", "0-9", path]);
    assert_eq!((part.status, part.header("content-encoding")), (206, None));
    assert_eq!(part.body, plain.body[..10]);
    let playlist = curl(&server, &["/live/packed/video.m3u8"]).text();
    let segment = playlist.lines().find(|line| !line.starts_with('#')).expect("a segment");
    for path in [format!("/live/packed/{segment}"), "/live/packed/video.m3u8".to_owned()] {
        let answer = curl(&server, &["-H", gzip, &path]);
        let is_long_text = path.ends_with("m3u8") && playlist.len() >= 1400;
        assert_eq!(answer.header("content-encoding").is_some(), is_long_text, "{path}");
    }
    server.stop();
}
