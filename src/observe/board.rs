//! What is known of all shards: their counters, and once a second what they serve.

use super::counters::Counters;
use crate::governor::{Governor, Plan};
use crate::time::Now;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// All shards.
#[derive(Debug)]
pub struct Board {
    shards: Vec<Arc<ShardBoard>>,
    governor: Governor,
    /// What threads beside the shards count.
    sides: Mutex<Vec<SideCounters>>,
}

/// Counters of a thread beside the shards.
struct SideCounters(Box<dyn Fn() -> Vec<SideCount> + Send>);

/// A count that only grows: metric name, help, value.
pub type SideCount = (&'static str, &'static str, u64);

impl std::fmt::Debug for SideCounters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SideCounters")
    }
}

/// One shard's part.
#[derive(Debug, Default)]
pub struct ShardBoard {
    /// Its counts.
    pub counters: Counters,
    /// What it serves, written once a second; not on the path of data.
    served: Mutex<Served>,
}

/// What a shard serves.
#[derive(Clone, Debug, Default)]
struct Served {
    streams: Vec<StreamState>,
    channels: Vec<ChannelState>,
}

/// A live stream at home on a shard.
#[derive(Clone, Debug)]
pub struct StreamState {
    /// Its name.
    pub name: String,
    /// Whether someone publishes it now.
    pub publishing: bool,
    /// Its tracks.
    pub tracks: Vec<TrackState>,
}

/// A track of a live stream.
#[derive(Clone, Debug)]
pub struct TrackState {
    /// `video` or `audio`.
    pub kind: &'static str,
    /// The codec string.
    pub codec: String,
    /// Width and height of pictures.
    pub resolution: Option<(u16, u16)>,
    /// Sampling frequency and channels of sound.
    pub audio: Option<(u32, u8)>,
}

/// A channel, as one shard knows it.
#[derive(Clone, Debug)]
pub struct ChannelState {
    /// Its name.
    pub name: String,
    /// Subscribers on this shard.
    pub subscribers: u64,
    /// Publications, if it is at home here.
    pub publications: u64,
}

/// Channels that the console lists.
const CHANNELS_SHOWN: usize = 100;

impl ShardBoard {
    /// Writes down what the shard serves.
    pub fn set_served(&self, streams: Vec<StreamState>, channels: Vec<ChannelState>) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Served { streams, channels };
    }

    fn served(&self) -> Served {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Board {
    /// A board of `shards` shards without a memory budget.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self::with_budget(shards, Plan::unlimited())
    }

    /// A board of `shards` shards that keep to a memory budget.
    #[must_use]
    pub fn with_budget(shards: usize, plan: Plan) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            governor: Governor::new(shards, plan),
            sides: Mutex::default(),
        }
    }

    /// Who has what of the memory.
    #[must_use]
    pub const fn governor(&self) -> &Governor {
        &self.governor
    }

    /// Shows what a thread beside the shards counts.
    pub fn add_side(&self, counts: impl Fn() -> Vec<SideCount> + Send + 'static) {
        let mut sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
        sides.push(SideCounters(Box::new(counts)));
    }

    /// What threads beside the shards count now.
    #[must_use]
    pub fn side_counts(&self) -> Vec<SideCount> {
        let sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
        sides.iter().flat_map(|SideCounters(counts)| counts()).collect()
    }

    /// Every shard's part.
    #[must_use]
    pub fn shards(&self) -> &[Arc<ShardBoard>] {
        &self.shards
    }

    /// The sum of a counter over all shards.
    pub fn sum(&self, value: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| value(&shard.counters)).sum()
    }

    /// What the console shows.
    #[must_use]
    pub fn state_json(&self, now: Now) -> String {
        let mut streams = Vec::new();
        let mut channels: Vec<ChannelState> = Vec::new();
        for shard in &self.shards {
            let served = shard.served();
            streams.extend(served.streams);
            for channel in served.channels {
                match channels.iter_mut().find(|known| known.name == channel.name) {
                    Some(known) => {
                        known.subscribers += channel.subscribers;
                        known.publications += channel.publications;
                    }
                    None => channels.push(channel),
                }
            }
        }
        streams.sort_by(|one, other| one.name.cmp(&other.name));
        channels.sort_by(|one, other| {
            (other.subscribers, &one.name).cmp(&(one.subscribers, &other.name))
        });
        channels.truncate(CHANNELS_SHOWN);
        self.render(&streams, &channels, now)
    }

    fn render(&self, streams: &[StreamState], channels: &[ChannelState], now: Now) -> String {
        let streams: Vec<_> = streams.iter().map(stream_value).collect();
        let channels: Vec<_> = channels
            .iter()
            .map(|channel| {
                serde_json::json!({
                    "name": channel.name,
                    "subscribers": channel.subscribers,
                    "publications": channel.publications,
                })
            })
            .collect();
        let value = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": now.monotonic.as_millis() / 1000,
            "shards": self.shards.len(),
            "connections": self.sum(|counters| counters.connections.value()),
            "streams": streams,
            "channels": channels,
            "totals": {
                "accepted": self.sum(|counters| counters.accepted.value()),
                "publications": self.sum(|counters| counters.publications.value()),
                "deliveries": self.sum(|counters| counters.deliveries.value()),
                "bytes_in": self.sum(|counters| counters.bytes_in.value()),
                "bytes_out": self.sum(|counters| counters.bytes_out.value()),
            },
        });
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{value}");
        text
    }
}

fn stream_value(stream: &StreamState) -> serde_json::Value {
    let tracks: Vec<_> = stream
        .tracks
        .iter()
        .map(|track| {
            let mut value = serde_json::json!({ "kind": track.kind, "codec": track.codec });
            if let Some((width, height)) = track.resolution {
                value["width"] = width.into();
                value["height"] = height.into();
            }
            if let Some((sample_rate, channels)) = track.audio {
                value["sample_rate"] = sample_rate.into();
                value["channels"] = channels.into();
            }
            value
        })
        .collect();
    serde_json::json!({ "name": stream.name, "publishing": stream.publishing, "tracks": tracks })
}
