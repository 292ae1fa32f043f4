//! What can be measured, behind one set of questions: Headwater in some build, or a peer.
//!
//! In: which one, and the job. Out: its process, connections to it, its own counters. Not here:
//! Headwater's flags and names (`headwater.rs`), the peers' (`peers.rs`).

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::frames;
use crate::headwater::{self, Headwater, Setup};
use crate::http::{self, Upgrade};
use crate::load::Expected;
use crate::peers::{Kind, Peer, Peers, Publish, Role, RunningPeer};
use crate::process::{Child, Launch};

/// What a server counts about itself; `None` where it does not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) enters: Option<u64>,
    /// Enters included.
    pub(crate) system_calls: Option<u64>,
    pub(crate) allocations: Option<u64>,
    /// Messages compressed by permessage-deflate.
    pub(crate) compressions: Option<u64>,
}

/// What a server is to do, with the bytes of one message on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) role: Role,
    pub(crate) payload: &'a [u8],
    pub(crate) request: &'a [u8],
    pub(crate) reply: &'a [u8],
    pub(crate) connections: u32,
    /// Broadcast: subscribers offer permessage-deflate.
    pub(crate) deflate: bool,
    /// Pings: between two of a silent connection.
    pub(crate) ping_ms: u32,
}

/// A message in the forms that a [`Job`] borrows.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) payload: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Message {
    pub(crate) fn new(payload: Vec<u8>) -> Self {
        let (request, reply) = (frames::client_text(&payload), frames::server_text(&payload));
        Self { payload, request, reply }
    }

    pub(crate) fn job(&self, role: Role, connections: u32) -> Job<'_> {
        let Self { payload, request, reply } = self;
        Job { role, payload, request, reply, connections, deflate: false, ping_ms: PING_MS }
    }
}

/// A program that can be started as a server.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Headwater { name: String, binary: PathBuf, shards: u32 },
    Peer(Box<Peers>, Box<Peer>),
}

impl Program {
    pub(crate) fn new_peer(peers: &Peers, peer: &Peer) -> Self {
        Self::Peer(Box::new(peers.clone()), Box::new(peer.clone()))
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Headwater { name, .. } => name,
            Self::Peer(_, peer) => &peer.name,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Headwater { .. } => Kind::Websocket,
            Self::Peer(_, peer) => peer.kind,
        }
    }

    pub(crate) fn start(&self, job: &Job<'_>, launch: &Launch<'_>) -> Result<Server> {
        match self {
            Self::Headwater { binary, shards, .. } => {
                let setup = match job.role {
                    Role::Pings => Setup::with_pings(*shards, job.ping_ms),
                    _ => Setup::without_pings(*shards),
                };
                Ok(Server::Headwater(Headwater::start_as(binary, setup, launch)?))
            }
            Self::Peer(peers, peer) => Ok(Server::Peer(peers.start(peer, job, launch)?)),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) enum Server {
    Headwater(Headwater),
    Peer(RunningPeer),
}

impl Server {
    pub(crate) fn child(&self) -> &Child {
        match self {
            Self::Headwater(server) => &server.child,
            Self::Peer(server) => &server.child,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Headwater(server) => server.address,
            Self::Peer(server) => server.address,
        }
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        match self {
            Self::Headwater(server) => server.counters(),
            Self::Peer(server) => server.counters(),
        }
    }

    /// Connections that do `job`, the publisher of a broadcast first and on top.
    pub(crate) fn connect(&self, job: &Job<'_>) -> Result<Vec<TcpStream>> {
        let (address, count) = (self.address(), job.connections as usize);
        if job.role == Role::Echo {
            return match self.kind() {
                Kind::Websocket => {
                    let path = match self {
                        Self::Headwater(_) => headwater::ECHO_PATH,
                        Self::Peer(peer) => &peer.path,
                    };
                    http::open_websockets(address, Upgrade::to(path), 0, count)
                }
                Kind::Raw => http::open_raw(address, 0, count),
            };
        }
        let mut sockets = match (self.kind(), self.publish()) {
            (Kind::Websocket, Publish::Message(path)) => {
                http::open_websockets(address, Upgrade::to(&path), 0, 1)?
            }
            _ => http::open_raw(address, 0, 1)?,
        };
        sockets.extend(match (self, self.kind()) {
            (Self::Peer(_), Kind::Raw) => http::open_raw(address, 1, count)?,
            (Self::Peer(peer), Kind::Websocket) => {
                let upgrade = Upgrade { path: &peer.path, deflate: job.deflate };
                http::open_websockets(address, upgrade, 1, count)?
            }
            (Self::Headwater(_), _) => {
                let path = headwater::channel_path(CHANNEL);
                let upgrade = Upgrade { path: &path, deflate: job.deflate };
                http::open_websockets(address, upgrade, 1, count)?
            }
        });
        Ok(sockets)
    }

    /// Where the WebSockets of its role are; those of Headwater are subscribed.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Headwater(_) => headwater::channel_path(CHANNEL),
            Self::Peer(peer) => peer.path.clone(),
        }
    }

    /// What the sending connections send.
    pub(crate) fn outgoing(&self, job: &Job<'_>) -> Vec<u8> {
        match (job.role, self.publish()) {
            (Role::Broadcast, Publish::Post(path)) => {
                http::post_request(self.address(), &path, job.payload)
            }
            _ => job.request.to_vec(),
        }
    }

    /// What comes back for each message.
    pub(crate) fn expected(&self, job: &Job<'_>) -> Expected {
        match self.kind() {
            Kind::Raw => Expected::Count(job.reply.len()),
            Kind::Websocket if job.deflate => Expected::Deflated(job.payload.to_vec()),
            Kind::Websocket => Expected::Bytes(job.reply.to_vec()),
        }
    }

    /// Ends it without asking.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) fn stop(self) -> Result<()> {
        match self {
            Self::Headwater(server) => server.stop(),
            Self::Peer(server) => server.child.stop(Duration::from_secs(5)),
        }
        .context("stopping the server")
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Headwater(_) => Kind::Websocket,
            Self::Peer(peer) => peer.kind,
        }
    }

    fn publish(&self) -> Publish {
        match self {
            Self::Headwater(_) => Publish::Message(headwater::publisher_path(CHANNEL)),
            Self::Peer(peer) => peer.publish.clone(),
        }
    }
}

/// For those whose role has no pings, but whose command names them.
pub(crate) const PING_MS: u32 = 30_000;
/// Of broadcasts on Headwater.
const CHANNEL: &str = "broadcast";
