//! What the echo matrix is made of, as it is written to and read from a record.

use serde::{Deserialize, Serialize};

use crate::claims::Claim;
use crate::pairs::{Pairs, Series};
use crate::peers::{Kind, Missing};
use crate::statistics::Summary;

/// The whole matrix.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Matrix {
    pub(crate) options: serde_json::Value,
    pub(crate) servers: Vec<ServerInfo>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) cells: Vec<Cell>,
    /// Cells that could not be measured, and why.
    pub(crate) failed: Vec<Missing>,
    pub(crate) claims: Vec<Claim>,
}

/// Who took part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerInfo {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) limit: bool,
    pub(crate) version: String,
    pub(crate) note: String,
}

/// One number of connections and one size.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) connections: u32,
    pub(crate) payload: u32,
    pub(crate) request_bytes: usize,
    pub(crate) reply_bytes: usize,
    /// The variants of the raw ring; the first is what the others were compared with.
    pub(crate) qualifying: Vec<Series>,
    /// Who could not be measured here, and why.
    pub(crate) failed: Vec<Missing>,
    /// The cheapest of them.
    pub(crate) limit: String,
    /// What was paired with the limit: Headwater, or for a null comparison the limit.
    pub(crate) compared: String,
    pub(crate) pairs: Pairs,
    pub(crate) ratio: Option<Summary>,
    /// Headwater first, then the limit, then the peers.
    pub(crate) rounds: Vec<Series>,
    /// The peers that speak WebSocket: only with those is Headwater compared.
    pub(crate) websockets: Vec<String>,
    pub(crate) open: Option<Open>,
}

/// Latencies at a rate that every server can keep.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    /// Messages per second: half of what the slowest did in the closed loop.
    pub(crate) rate: f64,
    pub(crate) slowest: String,
    pub(crate) rounds: Vec<Series>,
}

impl Cell {
    /// As it is named in tables.
    pub(crate) fn name(&self) -> String {
        format!("{} x {} B", self.connections, self.payload)
    }
}
