//! Clients that others wrote, unchanged: npm `ws`, npm `eventsource`, PyPI `websockets`, curl, Chromium.
//!
//! Each joins a channel, receives what the test publishes, publishes itself and receives that; and those that speak
//! WebSocket echo messages of every kind and size, with compression and without. In: the scripts in `sdks/` and
//! `browser/`. Out: what they saw, as one line of JSON, and what a client of ours received on the same channel.

use crate::client::{DEADLINE, Http, WebSocket};
use crate::process::Process;
use crate::server::Server;
use crate::tools::{find, have, node_folder, python_folder, scratch};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;
use websocket::deflate::Decompressor;
use websocket::{Decoder, Event, Kind, Limits, Role, Step};

/// Lines of `[websocket]`, and whether the server then compresses for those who offer it.
const SETTINGS: &[(&str, bool)] = &[("", true), ("deflate = false", false)];

/// The answer to an offer that asks for no window, which none of these clients does.
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn npm_ws() {
    let Some(folder) = node_folder("npm_ws") else { return };
    for (lines, compresses) in SETTINGS {
        for offers in [true, false] {
            let mut server = start("npm_ws", lines);
            let reader = WebSocket::open(server.http, "/ws/sdk-ws");
            let mut command = Command::new("node");
            command.arg(folder.join("ws.mjs")).arg(arguments(&server, offers));
            let (seen, read) = drive(&mut server, command, "sdk-ws", reader);
            assert_eq!(read, ["from the test", "from ws"]);

            let deflates = *compresses && offers;
            let extensions = if deflates { "permessage-deflate" } else { "" };
            let mut expected = scenario_seen(extensions);
            let more = json!({
                "fromTest": "text from the test",
                "own": "text from ws",
                "fragments": {
                    "short": "text in three fragments",
                    "long": true,
                    "pongs": ["ping 1", "ping 2", "ping 3", "ping 4"],
                    "closed": "1000 ",
                },
                "brokenText": { "code": 1007, "says": true },
                "wire": { "same": true, "compressedIn": deflates, "compressedOut": deflates },
                "refused": [403, 404, 426],
                "drained": 1001,
            });
            extend(&mut expected, more);
            assert_eq!(seen, expected, "{lines:?}, offers: {offers}");
        }
    }
}

#[test]
fn npm_eventsource() {
    let Some(folder) = node_folder("npm_eventsource") else { return };
    let server = start("npm_eventsource", "");
    let mut reader = WebSocket::open(server.http, "/ws/sdk-eventsource");
    let mut command = Command::new("node");
    let mut client =
        Process::start(command.arg(folder.join("eventsource.mjs")).arg(server.http.to_string()));
    client.wait_for_line("joined", DEADLINE);
    publish(&server, "sdk-eventsource", b"from the test");
    let said = client.succeed(DEADLINE);
    for line in
        ["received from the test with an id", "published 200", "greeting \"from\\neventsource\""]
    {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(!said.contains("error"), "{said}");
    assert_eq!([reader.text(), reader.text()], ["from the test", "from\neventsource"]);
    drop(reader);
    server.stop();
}

#[test]
fn pypi_websockets() {
    let Some(folder) = python_folder("pypi_websockets") else { return };
    for (lines, compresses) in SETTINGS {
        for offers in [true, false] {
            let mut server = start("pypi_websockets", lines);
            let reader = WebSocket::open(server.http, "/ws/sdk-websockets");
            let mut command = Command::new("python3");
            command.args(["-c", include_str!("sdks/client.py"), &arguments(&server, offers)]);
            command.env("PYTHONPATH", &folder);
            let (seen, read) = drive(&mut server, command, "sdk-websockets", reader);
            assert_eq!(read, ["from the test", "from websockets"]);

            let deflates = *compresses && offers;
            let expected = json!({
                "from_test": "from the test",
                "own": "from websockets",
                "extensions": if deflates { AGREED } else { "" },
                "known": if deflates { vec!["permessage-deflate"] } else { vec![] },
                "lost": [],
                "fragments": "in three fragments",
                "long_fragments": true,
                "ponged": [true, true, true],
                "closed": "4001 ",
                "broken_text": { "code": 1007, "says": true },
                "channel": {
                    "protocol": "headwater.json",
                    "read": ["text True", "data True", "base64 True"],
                },
                "refused": [403, 404, 426],
                "drained": 1001,
            });
            assert_eq!(seen, expected, "{lines:?}, offers: {offers}");
        }
    }
}

/// Chromium always offers, so it is the server that decides.
#[test]
fn chromium_web_sockets() {
    let test = "chromium_web_sockets";
    if !have(test, &["chromium"]) {
        return;
    }
    let Some(folder) = node_folder(test) else { return };
    for (lines, compresses) in SETTINGS {
        let mut server = start(test, lines);
        let arguments = json!({
            "chromium": find("chromium").expect("looked for above"),
            "address": server.http.to_string(),
            "port": server.http.port(),
        });
        let mut command = Command::new("node");
        command.arg(folder.join("websocket.mjs")).arg(arguments.to_string());
        let mut client = Process::start(&mut command);
        let seen = result_of(&mut server, &mut client);
        let mut expected = scenario_seen(if *compresses { AGREED } else { "" });
        let more = json!({
            "refused": [["error", 1006, false], ["error", 1006, false]],
            "statuses": ["404", "403"],
            "drained": { "code": 1001, "wasClean": true },
        });
        extend(&mut expected, more);
        assert_eq!(seen, expected, "{lines:?}");
    }
}

/// An upgrade by hand: curl passes on the frames as they come, our own reader takes them apart.
#[test]
fn curl_reads_a_channel() {
    if !have("curl_reads_a_channel", &["curl"]) {
        return;
    }
    let json = br#"{"symbol":"ABC","price":12.5},"#.repeat(137);
    let noise = noise(64 << 10);
    let messages = [&b"twenty bytes of text"[..], &json, &noise, "\u{1f600}".as_bytes()];
    for (lines, compresses) in SETTINGS {
        for offers in [true, false] {
            // curl does not answer a Close frame, so the drain takes all the time it has.
            let mut server = start_with("curl_reads_a_channel", "drain_timeout_ms = 300", lines);
            let frames = scratch("e2e").join("curl-frames");
            let mut command = Command::new("curl");
            command.args([
                "--silent",
                "--show-error",
                "--no-buffer",
                "--http1.1",
                "--noproxy",
                "*",
            ]);
            command.args(["--dump-header", "-", "--output"]).arg(&frames);
            for field in [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ] {
                command.args(["-H", field]);
            }
            if offers {
                command.args(["-H", "Sec-WebSocket-Extensions: permessage-deflate"]);
            }
            let mut curl = Process::start(command.arg(format!("http://{}/ws/curl", server.http)));
            curl.wait_for_line("HTTP/1.1 101 ", DEADLINE);
            curl.wait_for_line("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", DEADLINE);
            let deflates = *compresses && offers;
            if deflates {
                curl.wait_for_line(&format!("Sec-WebSocket-Extensions: {AGREED}"), DEADLINE);
            }
            for message in messages {
                publish(&server, "curl", message);
            }
            drain(&mut server);
            let said = curl.succeed(DEADLINE);
            assert_eq!(said.contains("Sec-WebSocket-Extensions"), deflates, "{said}");
            let bytes = std::fs::read(&frames).expect("what curl wrote");
            let (read, compressed) = read_frames(bytes, deflates);
            assert_eq!(read.len(), messages.len());
            assert!(read.iter().map(Vec::as_slice).eq(messages), "{lines:?}, offers: {offers}");
            // What is short, or only gets longer, is sent as it is.
            assert_eq!(compressed, [false, deflates, false, false]);
        }
    }
}

/// The messages in what the server sent up to its Close frame, and which came compressed.
fn read_frames(mut bytes: Vec<u8>, deflates: bool) -> (Vec<Vec<u8>>, Vec<bool>) {
    let mut decoder =
        if deflates { Decoder::with_deflate(Role::Client) } else { Decoder::new(Role::Client) };
    let mut decompressor = Decompressor::new(1 << 20);
    let limits = Limits { coalesce_bytes: 1 << 20, ..Limits::default() };
    let (mut messages, mut marks, mut start) = (Vec::new(), Vec::new(), 0);
    loop {
        match decoder.receive(&mut bytes[start..], &limits).expect("correct frames") {
            Step::Event { consumed, event: Event::Message { kind, compressed, data } } => {
                let mut message = Vec::new();
                if compressed {
                    decompressor.message(data, &mut message).expect("what can be inflated");
                } else {
                    message.extend_from_slice(data);
                }
                assert_eq!(kind == Kind::Text, std::str::from_utf8(&message).is_ok());
                messages.push(message);
                marks.push(compressed);
                start += consumed;
            }
            Step::Event { event: Event::Close { code, .. }, .. } => {
                assert_eq!(code, Some(1001));
                return (messages, marks);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// What `sdks/scenario.mjs` sees of a server that does all it should.
fn scenario_seen(extensions: &str) -> Value {
    json!({
        "extensions": extensions,
        "protocol": "",
        "lost": [],
        // The answer to a Close frame has its code and need not repeat the reason (RFC 6455 5.5.1).
        "closed": { "code": 4001, "reason": "", "wasClean": true },
        "channel": {
            "protocol": "headwater.json",
            "readerExtensions": extensions,
            "read": ["text true", "data true", "base64 true"],
            "ids": 3,
        },
    })
}

/// The same as the scripts' noise: nothing that a compressor could use.
fn noise(length: usize) -> Vec<u8> {
    let step = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(step(&1), step).map(|state| state.to_be_bytes()[0]).take(length).collect()
}

fn extend(object: &mut Value, more: Value) {
    let (Value::Object(object), Value::Object(more)) = (object, more) else {
        panic!("two objects");
    };
    object.extend(more);
}

/// A server with these lines in `[websocket]`, an echo and room for messages of 1 MiB.
fn start(test: &str, lines: &str) -> Server {
    start_with(test, "", lines)
}

/// The same with these lines before the first section.
fn start_with(test: &str, top: &str, lines: &str) -> Server {
    let file = scratch("e2e").join(format!("{test}.toml"));
    let text = format!(
        "shards = 2\n{top}\n[http]\naddr = [\"127.0.0.1:0\"]\necho = true\n[rtmp]\naddr = [\"127.0.0.1:0\"]\n\
         [websocket]\nmessage_bytes_max = 1048576\n{lines}\n"
    );
    std::fs::write(&file, text).expect("the target directory is writable");
    Server::from_file(&file)
}

fn arguments(server: &Server, offers: bool) -> String {
    json!({ "address": server.http.to_string(), "offers": offers }).to_string()
}

/// Runs a client that joins `channel`; what it saw up to the server's drain, and what `reader` read meanwhile.
fn drive(
    server: &mut Server,
    mut command: Command,
    channel: &str,
    mut reader: WebSocket,
) -> (Value, [String; 2]) {
    let mut client = Process::start(&mut command);
    client.wait_for_line("JOINED", DEADLINE);
    publish(server, channel, b"from the test");
    let read = [reader.text(), reader.text()];
    // It would not answer a Close frame, and the server waits for that.
    drop(reader);
    (result_of(server, &mut client), read)
}

/// Lets a client do what it does, then drains the server under it.
fn result_of(server: &mut Server, client: &mut Process) -> Value {
    client.wait_for_line("WAITING", 4 * DEADLINE);
    drain(server);
    let said = client.succeed(DEADLINE);
    let result = said.lines().find_map(|line| line.strip_prefix("RESULT ")).expect("a result");
    serde_json::from_str(result).expect("JSON")
}

fn drain(server: &mut Server) {
    server.process.signal(Signal::TERM);
    let status = server.process.wait(DEADLINE);
    assert_eq!(status.code(), Some(0), "{}", server.process.text());
}

fn publish(server: &Server, channel: &str, message: &[u8]) {
    let answer = Http::connect(server.http).post(&format!("/pub/{channel}"), message);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
