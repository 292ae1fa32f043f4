//! Real media by ffmpeg: files to publish, publishers, and what ffprobe and streamhash say about what came out.
//!
//! In: sizes and durations. Out: H.264 (3 B-frames in a row, a key frame every two seconds) with AAC, made once per
//! target directory. Files and streams are compared by the hash of each track's packets, as they are in the container
//! but for the one difference there is: NAL units behind start codes on both sides.

use crate::process::Process;
use crate::tools::{output, scratch};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) size: &'static str,
    pub(crate) seconds: u32,
}

pub(crate) const LONG: Source = Source { name: "long", size: "640x360", seconds: 20 };
pub(crate) const SHORT: Source = Source { name: "short", size: "320x180", seconds: 6 };

/// The file, made unless it is there.
pub(crate) fn file(source: Source) -> PathBuf {
    let folder = scratch("e2e");
    let Source { name, size, seconds } = source;
    let path = folder.join(format!("{name}-{size}-{seconds}.mp4"));
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("the target is writable");
    lock.lock().expect("a lock of a file of ours");
    if path.exists() {
        return path;
    }
    let unfinished = folder.join(format!("{name}.unfinished.mp4"));
    // 30000/1001 pictures/s and 1024/44100 s: neither fits the milliseconds of RTMP.
    let picture = format!("testsrc2=size={size}:rate=30000/1001");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-y"]);
    ffmpeg.args(["-f", "lavfi", "-i", &picture]);
    ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]);
    ffmpeg.args(["-t", &seconds.to_string(), "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", "600k"]);
    ffmpeg.args(["-x264-params", "bframes=3:b-adapt=0:keyint=60:min-keyint=60:scenecut=0"]);
    ffmpeg.args(["-c:a", "aac", "-b:a", "96k", "-ac", "2"]);
    output(ffmpeg.arg(&unfinished));
    std::fs::rename(&unfinished, &path).expect("the target is writable");
    path
}

/// `ffmpeg -re -i FILE -c copy -f flv URL`, with options before the input.
pub(crate) fn publish(file: &Path, rtmp: SocketAddr, stream: &str, options: &[&str]) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error"]).args(options).arg("-re");
    ffmpeg.arg("-i").arg(file).args([
        "-c",
        "copy",
        "-f",
        "flv",
        &format!("rtmp://{rtmp}/{stream}"),
    ]);
    Process::start(&mut ffmpeg)
}

/// One track as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Track {
    Video,
    Audio,
}

impl Track {
    pub(crate) const ALL: [Self; 2] = [Self::Video, Self::Audio];

    const fn specifier(self) -> &'static str {
        match self {
            Self::Video => "v:0",
            Self::Audio => "a:0",
        }
    }
}

/// The hash of a track's packets.
pub(crate) fn stream_hash(file: &Path, track: Track) -> String {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-i"]).arg(file);
    ffmpeg.args(["-map", &format!("0:{}", track.specifier()), "-c", "copy"]);
    if track == Track::Video {
        ffmpeg.args(["-bsf:v", "h264_mp4toannexb"]);
    }
    let text = output(ffmpeg.args(["-f", "streamhash", "-hash", "sha256", "-"]));
    let text = String::from_utf8(text).expect("text");
    let (_, hash) = text.trim().split_once("SHA256=").expect("one stream");
    assert_eq!(hash.len(), 64, "{text}");
    hash.to_owned()
}

/// The decoding time of every packet of a track, in seconds.
pub(crate) fn decoding_times(file: &Path, track: Track) -> Vec<f64> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", track.specifier()]);
    ffprobe.args(["-show_packets", "-show_entries", "packet=dts_time", "-of", "json"]);
    let json = output(ffprobe.arg(file));
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let packets = json["packets"].as_array().expect("packets");
    let time = |packet: &serde_json::Value| packet["dts_time"].as_str()?.parse().ok();
    packets.iter().map(|packet| time(packet).expect("a decoding time")).collect()
}

/// The codecs that ffprobe finds behind a URL, sorted.
pub(crate) fn codecs(url: &str) -> Vec<String> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "json"]);
    let json = output(ffprobe.arg(url));
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let streams = json["streams"].as_array().expect("streams").iter();
    let mut names: Vec<String> =
        streams.filter_map(|stream| Some(stream["codec_name"].as_str()?.to_owned())).collect();
    names.sort();
    names
}
