//! A publisher in virtual time, and a reader's window beside the stream.
//!
//! Every access unit's bytes are unlike any other's, so that the oracle can tell a lost one from a
//! doubled one.

use std::sync::Arc;

use h264::AvcDecoderConfigurationRecord;

use super::oracle;
use crate::live::*;
use crate::memory::{BlockWriter, Payload};
use crate::time::{Monotonic, Now, Wall};

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v libx264 -preset fast -bf 3 -g 15`
const AVCC: [u8; 49] = [
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1c, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41,
    0x9f, 0x9f, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e,
    0x07, 0x8a, 0x14, 0xcb, 0x01, 0x00, 0x06, 0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
    0x00,
];
/// The same at 1920 x 1080, Baseline.
const AVCC_1080: [u8; 40] = [
    0x01, 0x42, 0xc0, 0x28, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x28, 0xda, 0x01, 0xe0, 0x08,
    0x9f, 0x97, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83,
    0x2a, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

pub(super) const ME: PublisherId = PublisherId(7);
/// 2023-11-14T22:13:20Z
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(super) fn avc() -> TrackConfig {
    TrackConfig::H264(AvcDecoderConfigurationRecord::parse(&AVCC).unwrap())
}

pub(super) fn avc_1080() -> TrackConfig {
    TrackConfig::H264(AvcDecoderConfigurationRecord::parse(&AVCC_1080).unwrap())
}

pub(super) fn aac(rate: u32) -> TrackConfig {
    let parameters = aac::Parameters::low_complexity(rate, 2);
    TrackConfig::Aac(aac::AudioSpecificConfig::new(parameters).unwrap())
}

/// An access unit on its way: when it arrives, and what it is.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at_ms: i64,
    pub(super) kind: TrackKind,
    pub(super) unit: AccessUnit,
}

/// Pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Video {
    /// Pictures per 1000 seconds.
    pub(super) rate: i64,
    pub(super) gop: i64,
    pub(super) b_frames: bool,
    /// The timestamp of the first picture.
    pub(super) start_ms: i64,
}

pub(super) const VIDEO: Video = Video { rate: 25_000, gop: 50, b_frames: true, start_ms: 0 };

impl Video {
    pub(super) fn send(self, millis: i64) -> Vec<Sent> {
        let count = millis * self.rate / 1_000_000;
        let ms = |picture: i64| self.start_ms + (picture * 1_000_000 + self.rate / 2) / self.rate;
        let mut block = BlockWriter::with_capacity(1 << 24);
        let sent = |picture: i64| {
            let key = picture % self.gop == 0;
            // Two pictures of delay; decoded I P B b b P B b b, B being referred to.
            let delay = match (self.b_frames, picture % self.gop) {
                (false, _) => 0,
                (true, 0) => 2,
                (true, place) => [5, 2, 0, 1][(place as usize - 1) % 4],
            };
            let size = if key { 4000 } else { 300 + picture * 37 % 500 };
            Sent {
                at_ms: ms(picture) - self.start_ms,
                kind: TrackKind::Video,
                unit: AccessUnit {
                    dts: ms(picture) * 90,
                    composition_offset: ((ms(picture + delay) - ms(picture)) * 90) as i32,
                    random_access: key,
                    payload: payload(&mut block, "video", ms(picture), size as usize),
                },
            }
        };
        (0..count).map(sent).collect()
    }
}

/// Sound in frames of 1024 samples, stamped in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audio {
    pub(super) rate: i64,
    pub(super) start_ms: i64,
}

pub(super) const AUDIO: Audio = Audio { rate: 44_100, start_ms: 0 };

impl Audio {
    pub(super) fn send(self, millis: i64) -> Vec<Sent> {
        let mut block = BlockWriter::with_capacity(1 << 24);
        let ms = |frame: i64| self.start_ms + (frame * 1_024_000 + self.rate / 2) / self.rate;
        let sent = |frame: i64| Sent {
            at_ms: ms(frame) - self.start_ms,
            kind: TrackKind::Audio,
            unit: AccessUnit {
                dts: (ms(frame) * self.rate + 500) / 1000,
                composition_offset: 0,
                random_access: true,
                payload: payload(&mut block, "audio", frame, 150 + (frame as usize * 13) % 60),
            },
        };
        (0..millis * self.rate / 1_024_000).map(sent).collect()
    }
}

fn payload(block: &mut BlockWriter, kind: &str, number: i64, size: usize) -> Payload {
    let head = format!("{kind} {number} ");
    if block.room() < size + head.len() {
        *block = BlockWriter::with_capacity(1 << 24);
    }
    block.push(head.as_bytes());
    block.push(&vec![number as u8; size]);
    block.finish()
}

/// Both in the order of arrival, as a publisher interleaves them.
pub(super) fn interleave(lists: impl IntoIterator<Item = Vec<Sent>>) -> Vec<Sent> {
    let mut all: Vec<Sent> = lists.into_iter().flatten().collect();
    all.sort_by_key(|sent| sent.at_ms);
    all
}

/// A stream, who publishes it, and a shard that reads it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) stream: LiveStream,
    pub(super) reader: Window,
    pub(super) oracle: oracle::Oracle,
    pub(super) clock_ms: i64,
    seen_version: u64,
    pub(super) segments: [Vec<Arc<Segment>>; 2],
}

pub(super) fn settings() -> Settings {
    Settings { epoch: 1000, ..Settings::default() }
}

impl Stage {
    pub(super) fn new(settings: Settings) -> Self {
        let now = now(0);
        let name = StreamName::parse("live/cam").unwrap();
        let stream = LiveStream::new(name, settings, now);
        let reader = stream.snapshot();
        Self {
            stream,
            reader,
            oracle: oracle::Oracle::default(),
            clock_ms: 0,
            seen_version: 0,
            segments: [Vec::new(), Vec::new()],
        }
    }

    /// With a publisher that has configured both tracks.
    pub(super) fn published(settings: Settings) -> Self {
        let mut stage = Self::new(settings);
        stage.open();
        stage.configure(avc());
        stage.configure(aac(44_100));
        stage
    }

    pub(super) fn open(&mut self) {
        self.stream.open_publisher(ME, now(self.clock_ms)).unwrap();
        self.drain();
    }

    pub(super) fn close(&mut self) {
        self.stream.close_publisher(ME, now(self.clock_ms));
        self.drain();
    }

    pub(super) fn configure(&mut self, config: TrackConfig) {
        self.stream.configure(ME, config, now(self.clock_ms));
        self.drain();
    }

    /// Sends everything, in virtual time, and expects to find it again.
    pub(super) fn send(&mut self, list: Vec<Sent>) {
        let start = self.clock_ms;
        for sent in list {
            self.oracle.expect(&sent);
            self.send_one(sent, start);
        }
    }

    /// Sends everything and expects none of it.
    pub(super) fn send_in_vain(&mut self, list: Vec<Sent>) {
        let start = self.clock_ms;
        for sent in list {
            self.send_one(sent, start);
        }
    }

    fn send_one(&mut self, sent: Sent, start: i64) {
        self.clock_ms = self.clock_ms.max(start + sent.at_ms);
        self.stream.push(ME, sent.kind, sent.unit, now(self.clock_ms));
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(update) = self.stream.poll_update() {
            if let Change::Segment(segment) = &update.change {
                self.segments[segment.kind.index()].push(Arc::clone(segment));
            }
            self.reader.apply(update);
        }
        if self.seen_version != self.reader.content_version {
            self.seen_version = self.reader.content_version;
            let now = now(self.clock_ms);
            self.oracle.check_playlists(&mut self.reader, now);
            for path in ["index.m3u8", "video.m3u8", "audio.m3u8", "manifest.mpd"] {
                let here = found(&mut self.reader, path, now);
                let home = found(self.stream.window(), path, now);
                assert_eq!(here, home, "{path} is the same on every shard");
            }
        }
    }

    /// Ends the stream and reads all segments back.
    pub(super) fn finish(mut self) -> Self {
        self.close();
        self.stream.end(now(self.clock_ms));
        self.drain();
        self.oracle.check_segments(&self.segments);
        self
    }

    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        let (_, bytes) = found(&mut self.reader, path, now(self.clock_ms))?;
        Some(String::from_utf8(bytes).unwrap())
    }
}

pub(super) fn now(clock_ms: i64) -> Now {
    Now {
        monotonic: Monotonic::from_millis(1_000_000 + clock_ms as u64),
        wall: Wall::from_unix_millis(EPOCH_MS + clock_ms),
    }
}

/// The validator and bytes of a resource, if it is there.
pub(super) fn found(window: &mut Window, path: &str, now: Now) -> Option<(String, Vec<u8>)> {
    match window.lookup(path, now) {
        Lookup::Found(resource) => {
            let bytes = resource.body.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
            Some((resource.etag, bytes))
        }
        _ => None,
    }
}
