//! Starts every peer of `peers.toml` that is installed, and talks to it.
//!
//! In: names of peers (none: all), and a number, if it is to be tried with that many connections and
//! 20 B only. Out: a line for each and role; success if none failed. A peer that
//! is not installed is named as skipped. For 20 B, 512 B and 16 KiB: echoes of a whole message, of one
//! that comes in two pieces and of three at once; a broadcast to 50 connections, and to those of five
//! channels; two pings; and the end by
//! SIGTERM. The client is a few blocking sockets and frames by hand: it measures nothing.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the lines are what it is for")]

mod client;
mod peers;

use std::process::ExitCode;

use client::Connection;
use peers::{Peer, Running, Wire};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is tried with each peer.
struct Trial {
    payloads: &'static [usize],
    echo_connections: usize,
    broadcast_connections: usize,
}

const USUAL: Trial =
    Trial { payloads: &[20, 512, 16 * 1024], echo_connections: 3, broadcast_connections: 50 };

fn main() -> ExitCode {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut trial = USUAL;
    wanted.retain(|argument| {
        let Ok(connections) = argument.parse() else { return true };
        trial = Trial {
            payloads: &[20],
            echo_connections: connections,
            broadcast_connections: connections,
        };
        false
    });
    peers::raise_descriptor_limit();
    let peers = match peers::read() {
        Ok(peers) => peers,
        Err(error) => {
            eprintln!("check: {error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for peer in peers.iter().filter(|peer| wanted.is_empty() || wanted.contains(&peer.name)) {
        if let Some(missing) = peer.missing() {
            println!("skipped  {:32} {missing} is not there", peer.name);
            continue;
        }
        for role in &peer.roles {
            match check(peer, role, &trial) {
                Ok(()) => println!("passed   {:32} {role}", peer.name),
                Err(error) => {
                    failed = true;
                    println!("FAILED   {:32} {role}: {error}", peer.name);
                }
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn check(peer: &Peer, role: &str, trial: &Trial) -> Result {
    for &payload in trial.payloads {
        let wire = Wire::of(payload);
        let checked = match role {
            "echo" => echo(peer, &wire, trial.echo_connections),
            "broadcast" => broadcast(peer, &wire, trial.broadcast_connections),
            "accept" => accept(peer, &wire, trial.echo_connections),
            "channels" => channels(peer, &wire, trial.broadcast_connections),
            // A ping has no payload, so one round is enough.
            "pings" if payload == trial.payloads[0] => pings(peer, &wire, trial.echo_connections),
            "pings" => Ok(()),
            _ => Err("a role is echo, broadcast, channels, accept or pings".into()),
        };
        checked.map_err(|error| format!("with {payload} B: {error}"))?;
    }
    Ok(())
}

fn echo(peer: &Peer, wire: &Wire, count: usize) -> Result {
    let running = Running::start(peer, "echo", wire, count)?;
    let mut connections = open(peer, &running, peer.echo_path.as_deref(), count)?;
    let (start, end) = wire.request.split_at(wire.request.len() / 2);
    let three = wire.request.repeat(3);
    for connection in &mut connections {
        connection.send(&wire.request)?;
        connection.expect(wire, 1)?;
        connection.send(start)?;
        connection.silent()?;
        connection.send(end)?;
        connection.expect(wire, 1)?;
        connection.send(&three)?;
        connection.expect(wire, 3)?;
    }
    running.end()
}

/// Each gets its bytes without having asked.
fn accept(peer: &Peer, wire: &Wire, count: usize) -> Result {
    let running = Running::start(peer, "accept", wire, count)?;
    for connection in &mut open(peer, &running, None, count)? {
        connection.expect(wire, 1)?;
        connection.silent()?;
    }
    running.end()
}

/// Who is silent is pinged, and who answers again.
fn pings(peer: &Peer, wire: &Wire, count: usize) -> Result {
    let running = Running::start(peer, "pings", wire, count)?;
    let mut connections = open(peer, &running, Some("/"), count)?;
    for _ in 0..2 {
        for connection in &mut connections {
            connection.expect_ping()?;
        }
    }
    running.end()
}

/// Each has the publications of its channel and no others.
fn channels(peer: &Peer, wire: &Wire, count: usize) -> Result {
    let running = Running::start(peer, "channels", wire, count)?;
    let mut publisher = open(peer, &running, Some("/publish"), 1)?;
    let mut subscribers = Vec::new();
    for number in 0..CHANNELS {
        let path = format!("/c/{number}");
        subscribers.push(open(peer, &running, Some(&path), count / CHANNELS)?);
    }
    for _ in 0..2 {
        for (number, subscribers) in subscribers.iter_mut().enumerate() {
            publisher[0].send(&wire.publication(number))?;
            for connection in subscribers {
                connection.expect(wire, 1)?;
            }
        }
    }
    for connection in subscribers.iter_mut().flatten() {
        connection.silent()?;
    }
    running.end()
}

fn broadcast(peer: &Peer, wire: &Wire, count: usize) -> Result {
    let running = Running::start(peer, "broadcast", wire, count)?;
    let path = peer.broadcast_path.as_deref();
    let mut connections = open(peer, &running, path, count)?;
    for _ in 0..2 {
        let receivers = match peer.publish.as_deref() {
            Some("message") => {
                connections[0].send(&wire.request)?;
                &mut connections[1..]
            }
            Some(publish) => {
                let path =
                    publish.strip_prefix("post:").ok_or("publish is message or post:/path")?;
                client::post(running.address, path, &wire.payload)?;
                &mut connections[..]
            }
            None => return Err("publish is missing".into()),
        };
        for connection in receivers {
            connection.expect(wire, 1)?;
        }
    }
    running.end()
}

fn open(
    peer: &Peer,
    running: &Running,
    path: Option<&str>,
    count: usize,
) -> Result<Vec<Connection>> {
    let websocket = peer.kind == "websocket";
    (0..count)
        .map(|_| match (websocket, path) {
            (false, _) => Connection::open_raw(running.address),
            (true, Some(path)) => Connection::open_websocket(running.address, path),
            (true, None) => Err("its path is missing".into()),
        })
        .collect()
}

const CHANNELS: usize = 5;
