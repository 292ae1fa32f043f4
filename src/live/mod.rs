//! Live media: what a stream is at its home shard, and what every shard with readers knows of it.
//!
//! ```text
//! access units -> LiveStream { collect -> decode clock -> segmenter } -> Update -> Window -> playlist, segment
//!                 (home shard)                                          (mailbox)  (any shard)
//! ```
//!
//! In: access units in `mdat` layout with the publisher's timestamps, from one publisher at a time.
//! Out: [`Update`]s, which a shard applies to its [`Window`]; what a request gets, as ranges of the
//! payloads that came in ([`Window::lookup`]). Between the two no media byte is copied.
//!
//! Invariants:
//! - Within a period and track, decode times are contiguous: each fragment begins where the one
//!   before ended. They stay within 1 ms of the publisher's; where the publisher breaks off, jumps
//!   or changes its configuration a new [`Period`] begins (EXT-X-DISCONTINUITY, a DASH Period).
//! - Every access unit from the first random access unit on is in exactly one segment, in order;
//!   audio from the very first one.
//! - The target duration never changes, and no segment is longer when rounded (RFC 8216bis 4.4.3.1).
//! - Segment numbers never fall, and a name never stands for other bytes, also after a restart
//!   (`Settings::epoch`).
//! - Equal updates give equal playlists on every shard, so that their validators agree.
//!
//! Deliberately absent: connections, shards, clocks (`now` is an argument), transcoding, several
//! renditions of one stream, and files.

mod clock;
mod collect;
mod directory;
mod live_stream;
mod lookup;
mod name;
mod part;
mod render;
mod segmenter;
mod settings;
mod track;
mod update;
mod window;

pub use directory::{Directory, Found, LiveEvent, LiveMail};
pub use live_stream::{Faults, LiveStream, PublishRefused, PublisherId};
pub use lookup::{CacheControl, Lookup, Resource, ResourceBody};
pub use name::{NameError, StreamName};
pub use part::Part;
pub use settings::Settings;
pub use track::{AccessUnit, TrackConfig, TrackDescription, TrackKind};
pub use update::{Change, Period, Segment, Update};
pub use window::Window;

/// `ticks` of `from` per second, in ticks of `to` per second, rounded down.
fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    let scaled = (i128::from(ticks) * i128::from(to)).div_euclid(i128::from(from.max(1)));
    // Ticks are bounded by `clock::DTS_MAX`, timescales by 2^24 and 2^32.
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// Milliseconds of `ticks`, rounded down.
fn millis_of(ticks: i64, timescale: u32) -> i64 {
    rescale(ticks, timescale, 1000)
}

/// Ticks of `millis`, rounded down.
fn ticks_of(millis: i64, timescale: u32) -> i64 {
    rescale(millis, 1000, timescale)
}

#[cfg(test)]
mod tests;
