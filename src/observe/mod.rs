//! What the operator sees: counts, the state of the server, the console's pages.
//!
//! Everything here reads what shards write down; nothing below imports it but the counters' types.

pub mod board;
pub mod console;
pub mod counters;
pub mod exposition;

pub use board::{Board, ChannelState, ShardBoard, StreamState, TrackState};
pub use counters::Counters;
