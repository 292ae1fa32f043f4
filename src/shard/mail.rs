//! What shards, and side threads, tell a shard.

use crate::hub::HubMail;
use crate::live::{AccessUnit, LiveMail, StreamName, TrackConfig, TrackKind};
use crate::mailbox::ShardId;

/// A message to a shard.
#[derive(Debug)]
pub enum Mail {
    /// From another shard's hub.
    Hub(ShardId, HubMail),
    /// From another shard's directory of live streams.
    Live(ShardId, LiveMail),
    /// From a thread that makes media in this process.
    Media(MediaSource),
    /// From a thread of this process: publish this text in this channel.
    Publish {
        /// The channel.
        channel: String,
        /// A JSON text.
        json: String,
    },
    /// Go away: stop accepting, tell the peers, finish.
    Drain,
}

/// What a side thread makes.
#[derive(Debug)]
pub enum MediaSource {
    /// A stream begins.
    Open {
        /// The stream.
        stream: StreamName,
        /// Its only track.
        config: Box<TrackConfig>,
    },
    /// An access unit of it.
    Unit {
        /// The stream.
        stream: StreamName,
        /// Of which track.
        kind: TrackKind,
        /// The unit.
        unit: AccessUnit,
    },
    /// It ends.
    Close {
        /// The stream.
        stream: StreamName,
    },
}
