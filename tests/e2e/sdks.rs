//! Clients that others wrote, unchanged: npm `ws`, npm `eventsource`, PyPI `websockets`.
//!
//! Each joins a channel, receives what the test publishes, publishes itself and receives that. In: the scripts in
//! `sdks/`. Out: the lines they print, and what a client of ours received on the same channel.

use crate::client::{DEADLINE, Http, WebSocket};
use crate::process::Process;
use crate::server::{Configuration, Server};
use crate::tools::{node_folder, python_folder};
use std::process::Command;

#[test]
fn npm_ws() {
    let Some(folder) = node_folder("npm_ws") else { return };
    let server = Server::start("npm_ws", &Configuration::default());
    let mut reader = WebSocket::open(server.http, "/ws/sdk-ws");
    let mut command = Command::new("node");
    let mut client =
        Process::start(command.arg(folder.join("ws.mjs")).arg(server.http.to_string()));
    client.wait_for_line("joined", DEADLINE);
    publish(&server, "sdk-ws", "from the test");
    let said = client.succeed(DEADLINE);
    assert!(said.contains("received text from the test\nreceived text from ws\n"), "{said}");
    assert!(said.contains("received binary") && said.ends_with("closed 1000"), "{said}");
    assert_eq!([reader.text(), reader.text()], ["from the test", "from ws"]);
    server.stop();
}

#[test]
fn npm_eventsource() {
    let Some(folder) = node_folder("npm_eventsource") else { return };
    let server = Server::start("npm_eventsource", &Configuration::default());
    let mut reader = WebSocket::open(server.http, "/ws/sdk-eventsource");
    let mut command = Command::new("node");
    let mut client =
        Process::start(command.arg(folder.join("eventsource.mjs")).arg(server.http.to_string()));
    client.wait_for_line("joined", DEADLINE);
    publish(&server, "sdk-eventsource", "from the test");
    let said = client.succeed(DEADLINE);
    for line in
        ["received from the test with an id", "published 200", "greeting \"from\\neventsource\""]
    {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(!said.contains("error"), "{said}");
    assert_eq!([reader.text(), reader.text()], ["from the test", "from\neventsource"]);
    server.stop();
}

#[test]
fn pypi_websockets() {
    let Some(folder) = python_folder("pypi_websockets", "websockets==17.4") else { return };
    let server = Server::start("pypi_websockets", &Configuration::default());
    let mut reader = WebSocket::open(server.http, "/ws/sdk-websockets");
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("sdks/client.py"), &server.http.to_string()]);
    let mut client = Process::start(command.env("PYTHONPATH", folder));
    client.wait_for_line("joined", DEADLINE);
    publish(&server, "sdk-websockets", "from the test");
    let said = client.succeed(DEADLINE);
    let received = "received from the test\nreceived from websockets\nreceived in three fragments";
    assert!(said.contains(received), "{said}");
    assert!(said.ends_with("ponged\nclosed 1000"), "{said}");
    let texts = [reader.text(), reader.text(), reader.text()];
    assert_eq!(texts, ["from the test", "from websockets", "in three fragments"]);
    server.stop();
}

fn publish(server: &Server, channel: &str, text: &str) {
    let answer = Http::connect(server.http).post(&format!("/pub/{channel}"), text.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}
