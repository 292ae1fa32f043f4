//! Scenario `idle`: what a subscribed, silent WebSocket costs in user memory.
//!
//! In: counts. Out: growth of the server's resident memory (RssAnon + RssFile + RssShmem: ring and
//! buffer pages included) between a base and a full count, per connection; then one publication that
//! must reach every connection. The base is there so that what is paid once, on the first
//! connections, is not divided among the rest.

use std::net::TcpStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::headwater::{self, Headwater};
use crate::http::Upgrade;
use crate::peers::{Kind, Missing, Peer, Peers, Role};
use crate::process::{Child, Launch, Memory};
use crate::record::{self, Surroundings};
use crate::servers::{Message, Program};
use crate::{frames, http};

/// User bytes per idle, subscribed WebSocket.
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Connections when the second reading is taken. One process holds at most its limit of
    /// descriptors.
    #[arg(long, default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(2..))]
    connections: u32,
    /// Connections when the first reading is taken.
    #[arg(long, default_value_t = 3_000)]
    base: u32,
    /// Shards of the server.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Offer permessage-deflate, and insist on it.
    #[arg(long)]
    deflate: bool,
    /// WebSocket peers to measure beside it: all, none, or names with commas between them.
    #[arg(long, default_value = "none")]
    peers: String,
    /// Directory of the peers.
    #[arg(long, default_value = "perf/peers")]
    peers_directory: PathBuf,
    /// Build the peers first.
    #[arg(long)]
    build: bool,
    /// Most bytes per connection; above, the exit code is 1.
    #[arg(long)]
    gate: Option<f64>,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    options: serde_json::Value,
    pub(crate) connections: u32,
    pub(crate) base: u32,
    pub(crate) gate: Option<f64>,
    pub(crate) memory_empty: Memory,
    pub(crate) memory_base: Memory,
    pub(crate) memory_full: Memory,
    pub(crate) bytes_per_connection: f64,
    connect_seconds: f64,
    /// From the POST until the last connection had the publication.
    delivery_seconds: f64,
    /// Peers at the same numbers, and their bytes per connection.
    pub(crate) peers: Vec<(String, f64)>,
    pub(crate) missing: Vec<Missing>,
}

/// Says whether the gate held.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let (base, full) = (options.base as usize, options.connections as usize);
    ensure!(base < full, "--base must be below --connections");
    let surroundings = Surroundings::look();
    let server = Headwater::start(&options.places.headwater, options.shards, &Launch::default())?;
    let memory_empty = settled_memory(&server.child)?;
    let started = Instant::now();
    let path = headwater::channel_path(CHANNEL);
    let upgrade = Upgrade { path: &path, deflate: options.deflate };
    let mut sockets = http::open_websockets(server.address, upgrade, 0, base)?;
    let memory_base = settled_memory(&server.child)?;
    sockets.extend(http::open_websockets(server.address, upgrade, base, full - base)?);
    let connect_seconds = started.elapsed().as_secs_f64();
    let memory_full = settled_memory(&server.child)?;
    let growth = memory_full.total() as f64 - memory_base.total() as f64;
    let bytes_per_connection = growth / f64::from(options.connections - options.base);

    let published = Instant::now();
    http::post(server.address, &headwater::publish_path(CHANNEL), PUBLICATION)?;
    let alive = await_publication(&sockets);
    let delivery_seconds = published.elapsed().as_secs_f64();
    drop(sockets);
    server.stop()?;

    println!("{} connections, {bytes_per_connection:.1} user bytes each", options.connections);
    for (name, memory) in [("empty", memory_empty), ("base", memory_base), ("full", memory_full)] {
        println!(
            "  {name:5} anonymous {} file {} shared {}",
            memory.anonymous, memory.file, memory.shared
        );
    }
    println!("  connected in {connect_seconds:.1} s, all reached in {delivery_seconds:.2} s");
    alive?;
    let mut missing = Vec::new();
    let peers = measure_peers(options, &mut missing)?;
    for (name, bytes) in &peers {
        println!("  {name}: {bytes:.1} user bytes each");
    }
    for Missing { name, why } in &missing {
        println!("  missing: {name}: {why}");
    }
    let report = Idle {
        options: serde_json::to_value(options)?,
        connections: options.connections,
        base: options.base,
        gate: options.gate,
        memory_empty,
        memory_base,
        memory_full,
        bytes_per_connection,
        connect_seconds,
        delivery_seconds,
        peers,
        missing,
    };
    record::finish(&options.places.results, "idle", &surroundings, &report)?;
    let holds = options.gate.is_none_or(|gate| bytes_per_connection <= gate);
    if !holds {
        println!("above the gate of {} bytes", options.gate.unwrap_or_default());
    }
    Ok(holds)
}

/// The same growth of other servers, whose connections read one channel or all there is.
fn measure_peers(options: &Options, missing: &mut Vec<Missing>) -> Result<Vec<(String, f64)>> {
    if options.peers == "none" {
        return Ok(Vec::new());
    }
    let mut peers = Peers::read(&options.peers_directory)?;
    peers.select(Role::Broadcast, &options.peers)?;
    peers.list.retain(|peer| peer.kind == Kind::Websocket);
    missing.extend(peers.prepare(options.build));
    let mut measured = Vec::new();
    for peer in &peers.list {
        match measure_peer(options, &peers, peer) {
            Ok(bytes) => measured.push((peer.name.clone(), bytes)),
            Err(error) => {
                missing.push(Missing { name: peer.name.clone(), why: format!("{error:#}") });
            }
        }
    }
    Ok(measured)
}

fn measure_peer(options: &Options, peers: &Peers, peer: &Peer) -> Result<f64> {
    let message = Message::new(frames::payload(64));
    let job = |connections| message.job(Role::Broadcast, connections);
    let program = Program::new_peer(peers, peer);
    let server = program.start(&job(options.connections), &Launch::default())?;
    let mut sockets = server.connect(&job(options.base))?;
    let base = settled(|| server.child().family()?.resident())?;
    let added = options.connections - options.base;
    sockets.extend(server.connect(&job(added))?);
    let full = settled(|| server.child().family()?.resident())?;
    server.stop()?;
    drop(sockets);
    // The publisher's connection of the second half counts too.
    Ok((full as f64 - base as f64) / f64::from(added + 1))
}

/// Memory when it no longer changes, or after a while anyway.
fn settled_memory(child: &Child) -> Result<Memory> {
    settled(|| child.memory())
}

fn settled<T: PartialEq>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = read()?;
    for _ in 0..25 {
        sleep(Duration::from_millis(200));
        let now = read()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Every connection must get the publication; says how many did not and why the first.
fn await_publication(sockets: &[TcpStream]) -> Result<()> {
    let mut lost = 0_usize;
    let mut first = None;
    for (index, socket) in sockets.iter().enumerate() {
        // Once many are lost, the rest is asked without patience.
        let patience = if lost < 3 { PATIENCE } else { Duration::from_millis(1) };
        if let Err(error) = read_publication(socket, patience) {
            lost += 1;
            first.get_or_insert_with(|| error.context(format!("connection {index}")));
        }
    }
    match first {
        None => Ok(()),
        Some(error) => Err(error.context(format!("{lost} connections were not alive"))),
    }
}

fn read_publication(mut socket: &TcpStream, patience: Duration) -> Result<()> {
    socket.set_read_timeout(Some(patience))?;
    let mut bytes = Vec::with_capacity(64);
    let mut piece = [0; 256];
    loop {
        while let Some(frame) = frames::parse(&bytes) {
            match frame.opcode {
                frames::TEXT if frame.payload == PUBLICATION.as_bytes() => return Ok(()),
                frames::PING => {}
                opcode => bail!("a frame with opcode {opcode} and {:?}", frame.payload),
            }
            bytes.drain(..frame.length);
        }
        let read = http::read_some(&mut socket, &mut piece).context("no publication")?;
        ensure!(read > 0, "the server closed it");
        bytes.extend_from_slice(&piece[..read]);
    }
}

const CHANNEL: &str = "idle";
/// Too short to be compressed.
const PUBLICATION: &str = "is everybody there";
const PATIENCE: Duration = Duration::from_secs(10);
