//! `headwater demo`: the server feeds itself with a moving picture and a message a second.
//!
//! The picture is encoded in this process on a worker thread and goes the way of any live stream;
//! the messages go the way of any publication.

use crate::encode::Packet;
use crate::encode::worker::{Full, PacketSink};
use crate::live::{AccessUnit, StreamName, TrackConfig, TrackKind};
use crate::mailbox::SideSender;
use crate::memory::{BlockPool, BlockWriter};
use crate::shard::{Mail, MediaSource};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

/// The stream that the demo publishes.
pub const STREAM: &str = "live/demo";
/// The channel that the demo publishes in.
pub const CHANNEL: &str = "demo";

/// Bytes of a block of the picture's track.
const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks that are kept for use again.
const BLOCKS_MAX: usize = 64;

/// Carries packets of the encoder to the shard, as access units of [`STREAM`].
#[derive(Debug)]
pub struct StreamSink {
    shard: SideSender<Mail>,
    stream: StreamName,
    pool: BlockPool,
    writer: Option<BlockWriter>,
    is_open: bool,
}

impl StreamSink {
    /// A sink into `shard`.
    ///
    /// # Panics
    /// Never: the stream's name is a good one.
    #[must_use]
    pub fn new(shard: SideSender<Mail>) -> Self {
        Self {
            shard,
            // A constant that the name's own tests accept.
            stream: StreamName::parse(STREAM).expect("the demo's stream name"),
            pool: BlockPool::new(BLOCK_BYTES, BLOCKS_MAX),
            writer: None,
            is_open: false,
        }
    }

    fn open(&mut self, packet: &Packet) -> Result<(), Full> {
        let Ok(Some(config)) = av1::Av1CodecConfigurationRecord::of_temporal_unit(&packet.data)
        else {
            // Only a key frame says what configures the decoder; the worker begins with one.
            return Ok(());
        };
        let config = Box::new(TrackConfig::Av1(config));
        let open = MediaSource::Open { stream: self.stream.clone(), config };
        self.shard.send(Mail::Media(open)).map_err(|_| Full)?;
        self.is_open = true;
        Ok(())
    }
}

impl PacketSink for StreamSink {
    fn send(&mut self, packet: Packet) -> Result<(), Full> {
        if !self.is_open {
            self.open(&packet)?;
        }
        if self.writer.as_ref().is_none_or(|writer| writer.room() < packet.data.len()) {
            self.writer = Some(if packet.data.len() > BLOCK_BYTES {
                BlockWriter::with_capacity(packet.data.len())
            } else {
                self.pool.take()
            });
        }
        // The branch above left a block with room.
        let writer = self.writer.as_mut().expect("a block");
        writer.push(&packet.data);
        let unit = AccessUnit {
            dts: packet.dts,
            composition_offset: i32::try_from(packet.pts - packet.dts).unwrap_or(0),
            random_access: packet.key_frame,
            payload: writer.finish(),
        };
        let stream = self.stream.clone();
        let mail = Mail::Media(MediaSource::Unit { stream, kind: TrackKind::Video, unit });
        self.shard.send(mail).map_err(|_| Full)
    }
}

impl Drop for StreamSink {
    fn drop(&mut self) {
        let close = MediaSource::Close { stream: self.stream.clone() };
        // A full queue at the very end: the stream falls silent instead of ending.
        let _ = self.shard.send(Mail::Media(close));
    }
}

/// Publishes a message a second in [`CHANNEL`] until `stop` hangs up or says so.
pub fn publish_messages(mut shard: SideSender<Mail>, stop: &Receiver<()>) {
    for number in 1_u64.. {
        match stop.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let json = format!(
            "{{\"n\":{number},\"time\":\"{:02}:{:02}:{:02}Z\",\"text\":\"hello from headwater\"}}",
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60
        );
        // A message that finds no room is one that no one will miss.
        let _ = shard.send(Mail::Publish { channel: CHANNEL.to_string(), json });
    }
}
