//! A real publisher in, HLS and DASH out, byte for byte and millisecond for millisecond.
//!
//! ffmpeg publishes a file in real time; a reader of ours follows each media playlist from the first segment to the
//! end and keeps what it saw. ffmpeg's FLV muxer lifts all decoding times so that none is negative, by the same amount
//! for both tracks; so times are compared after taking away one offset that both tracks share, which also shows that
//! sound and picture stay together.

use crate::client::{DEADLINE, Http};
use crate::media::{
    LONG, SHORT, Source, Track, codecs, decoding_times, file, publish, stream_hash,
};
use crate::server::{Configuration, Server};
use crate::tools::{have, scratch};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[test]
fn rtmp_to_hls_and_dash() {
    if !have("rtmp_to_hls_and_dash", &["ffmpeg", "ffprobe"]) {
        return;
    }
    let (long, short) = (file(LONG), file(SHORT));
    // Short enough a window that segments leave it while we watch.
    let sections = "[media]\nwindow_segments = 5\nkeep_segments = 6\n";
    let mut server = Server::start("rtmp", &Configuration { sections, ..Configuration::default() });
    let started = Instant::now();
    let mut publisher = publish(&long, server.rtmp, "live/cam", &[]);
    server.log("publisher came");

    // Both answers wait at the server until there is something to play.
    for file in ["index.m3u8", "manifest.mpd"] {
        let url = format!("http://{}/live/cam/{file}", server.http);
        assert_eq!(codecs(&url), ["aac", "h264"], "{file}");
    }
    let playable = started.elapsed();
    assert!(playable < Duration::from_secs(5), "both tracks were there after {playable:?}");

    let followers = Track::ALL.map(|track| Follower::start(server.http, track));
    second_publisher_is_refused(&server, &long);
    manifest_names_what_is_there(&server);

    publisher.succeed(Duration::from_secs(40));
    server.log("publisher left");
    let mut returned = publish(&short, server.rtmp, "live/cam", &[]);
    server.log("publisher came");
    returned.succeed(DEADLINE);
    server.log("publisher left");

    let [video, audio] = followers.map(|follower| {
        follower.wait_for(1, f64::from(SHORT.seconds) - 0.1);
        follower.stop()
    });
    for (period, source) in [LONG, SHORT].into_iter().enumerate() {
        assert_same_packets(period, source, [&video[period], &audio[period]]);
    }
    let url = format!("http://{}/live/cam/index.m3u8", server.http);
    assert_eq!(codecs(&url), ["aac", "h264"], "after the return");
    server.stop();
}

/// ffmpeg ends with an error, the reason is in the protocol's words, and the first publisher does not notice.
fn second_publisher_is_refused(server: &Server, file: &std::path::Path) {
    let mut second = publish(file, server.rtmp, "live/cam", &["-loglevel", "debug"]);
    let status = second.wait(DEADLINE);
    assert!(!status.success(), "two publishers on one name");
    let said = second.text();
    assert!(said.contains("publishes this stream already"), "{said}");
}

/// Every segment of the manifest's time line can be fetched under the name its template gives.
fn manifest_names_what_is_there(server: &Server) {
    let mut http = Http::connect(server.http);
    let manifest = http.get("/live/cam/manifest.mpd");
    assert_eq!(manifest.header("content-type"), Some("application/dash+xml"));
    let text = manifest.text();
    let mut fetched = 0;
    for template in text.split("<SegmentTemplate ").skip(1) {
        let init = attribute(template, "initialization").expect("an init section");
        assert_eq!(http.get(&format!("/live/cam/{init}")).status, 200, "{init}");
        let media = attribute(template, "media").expect("a template");
        let (timeline, _) = template.split_once("</SegmentTimeline>").expect("a time line");
        let mut time: u64 = 0;
        for entry in timeline.split("<S ").skip(1) {
            let number = |name| attribute(entry, name).map(|text| text.parse().expect("a number"));
            time = number("t").unwrap_or(time);
            for _ in 0..=number("r").unwrap_or(0) {
                let name = media.replace("$Time$", &time.to_string());
                assert_eq!(http.get(&format!("/live/cam/{name}")).status, 200, "{name}");
                time += number("d").expect("a duration");
                fetched += 1;
            }
        }
    }
    assert!(fetched >= 2, "a segment of each track: {text}");
    let (_, rest) = text.split_once("http-iso:2014\" value=\"").expect("a clock to follow");
    let clock = rest.split('"').next().expect("its address");
    let answer = http.get(&format!("/live/cam/{clock}"));
    assert_eq!((answer.status, answer.text().get(4..5)), (200, Some("-")), "a date of ISO 8601");
}

/// The value of an attribute of the element that `text` is inside of.
fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let element = text.split('>').next()?;
    let (_, value) = element.split_once(&format!("{name}=\""))?;
    value.split('"').next()
}

fn assert_same_packets(period: usize, source: Source, joined: [&PathBuf; 2]) {
    let original = file(source);
    let mut shifts: Vec<f64> = Vec::new();
    for (track, joined) in Track::ALL.into_iter().zip(joined) {
        let (came, sent) = (decoding_times(joined, track), decoding_times(&original, track));
        assert_eq!(came.len(), sent.len(), "{track:?} packets of period {period}");
        assert_eq!(
            stream_hash(joined, track),
            stream_hash(&original, track),
            "{track:?} payloads of period {period}"
        );
        shifts.extend(came.iter().zip(&sent).map(|(came, sent)| came - sent));
    }
    let least = shifts.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shifts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let off = (most - least) / 2.0;
    eprintln!("period {period}: {} packets, times within {:.3} ms", shifts.len(), off * 1000.0);
    assert!(off <= 0.001, "decoding times are up to {off} s off the common offset");
}

/// A thread that follows one media playlist.
struct Follower {
    stop: Sender<()>,
    /// Seconds of each period, after every change.
    progress: Receiver<Vec<f64>>,
    thread: JoinHandle<Vec<PathBuf>>,
}

impl Follower {
    fn start(address: SocketAddr, track: Track) -> Self {
        let (stop, stopped) = channel();
        let (report, progress) = channel();
        let thread = std::thread::spawn(move || {
            let mut playlist = Playlist::new(address, track);
            loop {
                if playlist.reload() {
                    let seconds = playlist.periods.iter().map(|period| period.seconds).collect();
                    // Nobody asks yet, or any more.
                    let _ = report.send(seconds);
                }
                match stopped.recv_timeout(Duration::from_millis(400)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return playlist.join(),
                }
            }
        });
        Self { stop, progress, thread }
    }

    /// Waits until this period is this long.
    fn wait_for(&self, period: usize, seconds: f64) {
        let deadline = Instant::now() + DEADLINE;
        let mut last = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.progress.recv_timeout(left) {
                Ok(now) if now.get(period).is_some_and(|length| *length >= seconds) => return,
                Ok(now) => last = now,
                Err(error) => panic!("{error} at {last:?}, waiting for {seconds} s of {period}"),
            }
        }
    }

    /// The joined files, one for each period.
    fn stop(self) -> Vec<PathBuf> {
        self.stop.send(()).expect("the follower runs");
        self.thread.join().expect("the follower did not fail")
    }
}

/// What was seen of one media playlist.
struct Playlist {
    http: Http,
    track: Track,
    uri: String,
    media_sequence: u64,
    discontinuity_sequence: u64,
    first_discontinuity: Option<u64>,
    /// The name of every segment by its sequence number: a number never names another.
    names: BTreeMap<u64, String>,
    periods: Vec<Period>,
}

/// What lies between two discontinuities.
#[derive(Default)]
struct Period {
    init: String,
    seconds: f64,
    bytes: Vec<u8>,
}

impl Playlist {
    fn new(address: SocketAddr, track: Track) -> Self {
        let mut http = Http::connect(address);
        let index = http.get("/live/cam/index.m3u8");
        assert_eq!(index.header("content-type"), Some("application/vnd.apple.mpegurl"));
        let index = index.text();
        let uri = match track {
            Track::Video => index.lines().find(|line| !line.starts_with('#')),
            Track::Audio => index
                .lines()
                .find(|line| line.starts_with("#EXT-X-MEDIA:TYPE=AUDIO"))
                .and_then(|line| line.split("URI=\"").nth(1)?.split('"').next()),
        };
        let uri = uri.unwrap_or_else(|| panic!("{track:?} has no playlist in\n{index}")).to_owned();
        Self {
            http,
            track,
            uri,
            media_sequence: 0,
            discontinuity_sequence: 0,
            first_discontinuity: None,
            names: BTreeMap::new(),
            periods: Vec::new(),
        }
    }

    /// Loads the playlist and every new segment; whether there was one.
    fn reload(&mut self) -> bool {
        let response = self.http.get(&format!("/live/cam/{}", self.uri));
        assert_eq!(response.status, 200, "{}", response.text());
        let text = response.text();
        // RFC 8216 4.3.3.2, 4.3.3.3: without its tag, each is 0.
        let number = |tag: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(tag));
            line.map_or(0, |line| line.parse().expect("a number"))
        };
        let media_sequence = number("#EXT-X-MEDIA-SEQUENCE:");
        let discontinuity_sequence = number("#EXT-X-DISCONTINUITY-SEQUENCE:");
        assert!(media_sequence >= self.media_sequence, "the media sequence fell:\n{text}");
        assert!(discontinuity_sequence >= self.discontinuity_sequence, "it fell:\n{text}");
        // Players keep a sparse array by this number, and copy it: hls.js 1.7 needs minutes for one of ten digits.
        assert!(discontinuity_sequence < 1_000, "too large for players:\n{text}");
        // Periods count from where we came in.
        let first_discontinuity = *self.first_discontinuity.get_or_insert(discontinuity_sequence);
        self.media_sequence = media_sequence;
        self.discontinuity_sequence = discontinuity_sequence;
        self.segments(&text, media_sequence, discontinuity_sequence - first_discontinuity)
    }

    fn segments(&mut self, text: &str, mut sequence: u64, discontinuities: u64) -> bool {
        let mut period = usize::try_from(discontinuities).expect("few");
        let (mut init, mut seconds, mut is_new) = (String::new(), 0.0, false);
        for line in text.lines() {
            if line == "#EXT-X-DISCONTINUITY" {
                period += 1;
            } else if let Some(map) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
                map.trim_end_matches('"').clone_into(&mut init);
            } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
                seconds = duration.trim_end_matches(',').parse().expect("a duration");
            } else if !line.starts_with('#') {
                is_new |= self.segment(sequence, line, period, &init, seconds);
                sequence += 1;
            }
        }
        is_new
    }

    /// Loads a segment unless it was seen; whether it was new.
    fn segment(&mut self, sequence: u64, name: &str, period: usize, init: &str, s: f64) -> bool {
        if let Some(known) = self.names.get(&sequence) {
            assert_eq!(known, name, "the name of sequence number {sequence}");
            return false;
        }
        if let Some((last, _)) = self.names.last_key_value() {
            assert_eq!(*last + 1, sequence, "we followed closely, yet numbers are missing");
        }
        self.names.insert(sequence, name.to_owned());
        self.periods.resize_with(self.periods.len().max(period + 1), Period::default);
        if self.periods[period].init != init {
            assert!(self.periods[period].init.is_empty(), "another init section within a period");
            self.periods[period].init = init.to_owned();
            self.load(period, init);
        }
        self.load(period, name);
        self.periods[period].seconds += s;
        true
    }

    fn load(&mut self, period: usize, name: &str) {
        let response = self.http.get(&format!("/live/cam/{name}"));
        assert_eq!(response.status, 200, "{name}");
        self.periods[period].bytes.extend_from_slice(&response.body);
    }

    fn join(self) -> Vec<PathBuf> {
        let track = self.track;
        let write = |(number, period): (usize, Period)| {
            let path = scratch("e2e").join(format!("joined-{track:?}-{number}.mp4"));
            std::fs::write(&path, period.bytes).expect("the target directory is writable");
            path
        };
        self.periods.into_iter().enumerate().map(write).collect()
    }
}
