//! Live media: a publisher of small synthetic H.264 and AAC over RTMP, and a player that polls the
//! HLS playlist and fetches every segment, each from whichever shard takes the connection.
//!
//! Every picture carries the publisher's visit and its own number, so the player sees whether one
//! is missing, doubled or out of order.

use super::link::{HTTP, Link, RTMP, State};
use super::poster::take_answer;
use super::{Client, Io, NEVER};
use crate::core::{MILLISECOND, SECOND};
use rtmp::client::{Options, Publisher, State as Progress};

/// `ffmpeg -f lavfi -i testsrc2=size=320x180:rate=30 -c:v libx264 -preset fast -bf 3 -g 15`
const AVCC: [u8; 49] = [
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1c, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41,
    0x9f, 0x9f, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e,
    0x07, 0x8a, 0x14, 0xcb, 0x01, 0x00, 0x06, 0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8,
    0x00,
];
/// AAC-LC, 8000 Hz, two channels.
const AUDIO_CONFIG: [u8; 2] = [0x15, 0x90];
/// What a picture's number follows.
const MARK: &[u8] = b"picture:";
const PICTURE_MS: u64 = 100;
const AUDIO_MS: u64 = 128;
const PICTURES_PER_GROUP: u32 = 10;

/// A publisher that comes back when it is cut off.
#[derive(Debug)]
pub(crate) struct RtmpPublisher {
    link: Link,
    machine: Option<Publisher>,
    name: String,
    visit: u32,
    started_at: Option<u64>,
    pictures: u32,
    frames: u32,
    gone: bool,
}

impl RtmpPublisher {
    pub(crate) fn new(name: String) -> Self {
        Self {
            link: Link::default(),
            machine: None,
            name,
            visit: 0,
            started_at: None,
            pictures: 0,
            frames: 0,
            gone: false,
        }
    }

    fn begin(&mut self, io: &mut Io<'_>) {
        self.link.connect(io, RTMP);
        let chunk_bytes = if io.random.chance(1, 2) { 4096 } else { 128 };
        let options = Options { chunk_bytes, entropy: io.random.next(), ..Options::default() };
        let mut machine = Publisher::with_options("live", &self.name, options);
        let mut out = Vec::new();
        machine.start(&mut out);
        self.link.write(io, &out);
        self.machine = Some(machine);
        self.started_at = None;
        self.visit += 1;
    }

    fn end(&mut self, io: &mut Io<'_>) -> u64 {
        self.link.close(io);
        self.machine = None;
        if io.leaving || io.core.draining {
            self.gone = true;
            return NEVER;
        }
        io.core.now + io.random.between(MILLISECOND, 2 * SECOND)
    }

    /// Sends what is due by now; says when the next is.
    fn send_media(&mut self, io: &Io<'_>) -> u64 {
        let Some(machine) = &mut self.machine else { return NEVER };
        let mut out = Vec::new();
        let start = *self.started_at.get_or_insert_with(|| {
            machine.video(0, &[&[0x17, 0, 0, 0, 0], &AVCC[..]].concat(), &mut out);
            machine.audio(0, &[&[0xAF, 0], &AUDIO_CONFIG[..]].concat(), &mut out);
            (self.pictures, self.frames) = (0, 0);
            io.core.now
        });
        let since_ms = (io.core.now - start) / MILLISECOND;
        loop {
            let picture_ms = u64::from(self.pictures) * PICTURE_MS;
            let audio_ms = u64::from(self.frames) * AUDIO_MS;
            let next = picture_ms.min(audio_ms);
            if next > since_ms {
                self.link.write(io, &out);
                return start + next * MILLISECOND;
            }
            if next == picture_ms {
                let is_key = self.pictures.is_multiple_of(PICTURES_PER_GROUP);
                let payload = picture(self.visit, self.pictures, is_key);
                machine.video(next as u32, &payload, &mut out);
                self.pictures += 1;
            } else {
                machine.audio(next as u32, &[0xAF, 1, 0x21, 0x10, 4, 5, 6, 7], &mut out);
                self.frames += 1;
            }
        }
    }
}

fn picture(visit: u32, number: u32, is_key: bool) -> Vec<u8> {
    let mut unit = vec![if is_key { 0x65 } else { 0x41 }, 0x9A];
    unit.extend_from_slice(MARK);
    unit.extend_from_slice(format!("{visit:08x}{number:08x}").as_bytes());
    unit.resize(if is_key { 700 } else { 90 }, 0x5A);
    let mut payload = vec![if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    payload.extend_from_slice(&(unit.len() as u32).to_be_bytes());
    payload.extend_from_slice(&unit);
    payload
}

impl Client for RtmpPublisher {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        if self.gone {
            return NEVER;
        }
        if self.machine.is_none() {
            if io.leaving || io.core.draining {
                self.gone = true;
                return NEVER;
            }
            self.begin(io);
        }
        let mut due = NEVER;
        let state = self.link.exchange(io, &mut due);
        let input = std::mem::take(&mut self.link.input);
        let machine = self.machine.as_mut().expect("begun above");
        let mut out = Vec::new();
        machine.receive(&input, &mut out).expect("the server speaks RTMP");
        let progress = machine.state().clone();
        self.link.write(io, &out);
        match progress {
            Progress::Publishing if io.leaving => {
                let mut out = Vec::new();
                self.machine.as_mut().expect("begun above").stop(&mut out);
                self.link.write(io, &out);
                self.link.exchange(io, &mut due);
                return self.end(io);
            }
            Progress::Publishing => due = due.min(self.send_media(io)),
            Progress::Refused(code) => {
                // Its former connection may not have been noticed to be gone.
                assert!(
                    self.visit > 1 && code == "NetStream.Publish.BadName"
                        || self.link.is_excused(io),
                    "a publisher was refused: {code}"
                );
                return self.end(io);
            }
            _ if io.leaving => return self.end(io),
            _ => {}
        }
        if state == State::Over {
            assert!(self.link.is_excused(io), "the server ended a publisher: {self:?}");
            return self.end(io);
        }
        due.max(io.core.now)
    }
}

/// A player.
#[derive(Debug)]
pub(crate) struct HlsReader {
    link: Link,
    name: String,
    asked: Option<String>,
    /// Segments to be fetched, oldest first.
    to_fetch: Vec<String>,
    last_listed: Option<u64>,
    /// When it last asked for something.
    asked_at: u64,
    /// When it asked for the playlist it follows: the answer may have waited for a slow peer.
    listed_at: u64,
    /// The last segment it took up, by number.
    last_taken: u64,
    last_picture: Option<(u32, u32)>,
    next_at: u64,
    gone: bool,
}

impl HlsReader {
    pub(crate) fn new(name: String) -> Self {
        Self {
            link: Link::default(),
            name,
            asked: None,
            to_fetch: Vec::new(),
            last_listed: None,
            asked_at: 0,
            listed_at: 0,
            last_taken: 0,
            last_picture: None,
            next_at: 0,
            gone: false,
        }
    }

    fn ask(&mut self, io: &mut Io<'_>, file: String) {
        if !self.link.is_open() || io.random.chance(1, 3) {
            self.link.connect(io, HTTP);
        }
        let request = format!("GET /live/{}/{file} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.name);
        self.link.write(io, request.as_bytes());
        self.asked = Some(file);
        self.asked_at = io.core.now;
    }

    fn on_answer(&mut self, io: &mut Io<'_>, file: &str, status: u16, body: &[u8]) {
        if file.ends_with(".m3u8") {
            if status == 200 {
                self.listed_at = self.asked_at;
                self.on_playlist(std::str::from_utf8(body).expect("a playlist is UTF-8"));
            } else {
                let known = self.last_listed.is_some();
                assert!(matches!(status, 404 | 503), "a playlist: {status}, known {known}");
            }
            self.next_at = io.core.now + io.random.between(SECOND / 5, SECOND);
            return;
        }
        self.to_fetch.remove(0);
        // A jump, or a slow peer, may take a segment out of the window between list and fetch.
        let late = io.core.now - self.listed_at > 4 * SECOND;
        let excused = late || io.core.jumped_at.is_some() || self.link.is_excused(io);
        let now = io.core.now;
        assert!(status == 200 || excused, "{file} was listed, now {status} at {now}: {self:?}");
        if status == 200 {
            io.ledger.file(&format!("{}/{file}", self.name), body);
            self.check_pictures(body);
        } else {
            self.last_picture = None;
        }
    }

    fn on_playlist(&mut self, text: &str) {
        let first = text
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")?.parse().ok())
            .expect("a media sequence");
        // Another shard may be behind the one that answered before.
        if self.last_listed.is_none_or(|last| first > last) {
            self.last_listed = Some(first);
        }
        let segments = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for (number, segment) in (first..).zip(segments) {
            if number > self.last_taken {
                if number != self.last_taken + 1 {
                    self.last_picture = None;
                }
                self.last_taken = number;
                self.to_fetch.push(segment.to_string());
            }
        }
    }

    /// Pictures follow each other, from segment to segment too.
    fn check_pictures(&mut self, body: &[u8]) {
        let mut rest = body;
        while let Some(at) = rest.windows(MARK.len()).position(|bytes| bytes == MARK) {
            let digits = &rest[at + MARK.len()..at + MARK.len() + 16];
            let digits = std::str::from_utf8(digits).expect("digits");
            let number = |digits| u32::from_str_radix(digits, 16).expect("hexadecimal");
            let picture = (number(&digits[..8]), number(&digits[8..]));
            if let Some(last) = self.last_picture {
                let follows = picture == (last.0, last.1 + 1) || picture.0 > last.0;
                assert!(follows, "picture {picture:?} after {last:?}");
            }
            self.last_picture = Some(picture);
            rest = &rest[at + MARK.len() + 16..];
        }
    }
}

impl Client for HlsReader {
    fn step(&mut self, io: &mut Io<'_>) -> u64 {
        if io.leaving || io.core.draining {
            self.link.close(io);
            self.gone = true;
        }
        if self.gone {
            return NEVER;
        }
        let mut due = NEVER;
        if self.asked.is_none() {
            if let Some(segment) = self.to_fetch.first().cloned() {
                self.ask(io, segment);
            } else if io.core.now >= self.next_at {
                self.ask(io, "video.m3u8".to_string());
            } else {
                due = self.next_at;
            }
        }
        let state = self.link.exchange(io, &mut due);
        if let Some(answer) = take_answer(&mut self.link.input, false)
            && let Some(file) = self.asked.take()
        {
            self.on_answer(io, &file, answer.status, &answer.body);
            due = due.min(io.core.now + MILLISECOND);
        }
        if state == State::Over {
            assert!(self.link.is_excused(io), "the server ended a player: {self:?}");
            self.link.close(io);
            self.asked = None;
            due = due.min(io.core.now + io.random.between(MILLISECOND, SECOND / 4));
        }
        due
    }
}
