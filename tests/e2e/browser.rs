//! What a person sees: `headwater demo` in headless Chromium, the console and the examples, on a phone and a desktop.
//!
//! In: the demo as it is started by the README's first command, and a stream that ffmpeg publishes into it. Out: what
//! the page's player counted over ten seconds, and pictures of every page in `e2e-screens` below Cargo's target
//! directory for a person to look at.

use crate::media::{LONG, file, publish};
use crate::process::Process;
use crate::server::Server;
use crate::tools::{exclusive, find, have, node_folder, target};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

#[test]
fn demo_and_console_in_chromium() {
    let test = "demo_and_console_in_chromium";
    if !have(test, &["chromium", "ffmpeg"]) {
        return;
    }
    let Some(folder) = node_folder(test) else { return };
    let _alone = exclusive();
    let mut server = Server::demo();
    let rate = printed_rate(&server.log("picture   "));
    let source = file(LONG);
    let arguments = serde_json::json!({
        "chromium": find("chromium").expect("looked for above"),
        "base": format!("http://{}", server.http),
        "screens": target("e2e-screens"),
    });
    let mut command = Command::new("node");
    command.arg(folder.join("console.mjs")).arg(arguments.to_string());
    let mut node = Process::start(&mut command);
    // The console plays what is there first, so the second stream comes when the first was watched.
    node.wait_for_line("WATCHED", Duration::from_secs(60));
    let publisher = publish(&source, server.rtmp, "live/cam", &["-stream_loop", "-1"]);
    let said = node.succeed(Duration::from_secs(150));
    let result = said.lines().find_map(|line| line.strip_prefix("RESULT ")).expect("a result");
    let result: Value = serde_json::from_str(result).expect("JSON");
    eprintln!("{result:#}");

    demo_plays(&result["demo"], rate);
    published_stream_plays(&result["published"]);
    assert_eq!(result["errors"], serde_json::json!([]), "what the pages complained about");
    assert_eq!(result["overflows"], serde_json::json!([]), "what is wider than the screen");
    drop(publisher);
    server.stop();
}

/// The pictures per second that the demo says it makes: `picture   640x360 at 20 pictures/s: ...`.
fn printed_rate(line: &str) -> f64 {
    let rate = line.split(" at ").nth(1).and_then(|rest| rest.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("no rate in {line:?}"))
}

fn grown(watched: &Value, field: &str) -> f64 {
    let number = |when: &str| watched[when][field].as_f64().expect("a number");
    number("after") - number("before")
}

fn demo_plays(watched: &Value, rate: f64) {
    let advanced = grown(watched, "currentTime");
    assert!(advanced > 8.0, "in ten seconds, the player advanced by {advanced} s");
    // Counted against the player's own time, so that a busy machine makes no difference.
    let frames = grown(watched, "totalVideoFrames") / (advanced * rate);
    assert!((0.8..1.2).contains(&frames), "{frames} of the pictures at {rate}/s");
    for when in ["before", "after"] {
        let wrong = watched[when]["wrongSquares"].as_u64().expect("a number");
        assert!(wrong <= 9, "the clock cannot be read: {wrong} squares of 315 are wrong {when}");
    }
    let day = 86_400_000.0;
    let clock = (grown(watched, "clockMs") + day) % day / 1000.0;
    assert!((clock - advanced).abs() < 1.0, "the clock moved by {clock} s in {advanced} s");
    let after = |field: &str| watched["after"][field].as_f64().expect("a number");
    let behind = (after("now") - after("clockMs")).rem_euclid(day) / 1000.0;
    assert!(behind < 15.0, "the picture is {behind} s old");
    eprintln!("the demo is {behind:.1} s behind and shows {frames:.2} of its pictures");
    assert_eq!(watched["pictureMoved"], true);
    for rows in ["messages", "events"] {
        let came = grown(watched, rows);
        assert!((7.0..=13.0).contains(&came), "one a second, but {came} {rows} in ten seconds");
    }
}

fn published_stream_plays(watched: &Value) {
    let advanced = grown(watched, "currentTime");
    assert!(advanced > 8.0, "in ten seconds, the player advanced by {advanced} s");
    let frames = grown(watched, "totalVideoFrames") / (advanced * 30_000.0 / 1001.0);
    assert!((0.8..1.2).contains(&frames), "{frames} of the pictures");
    assert!(grown(watched, "audioBytes") > 10_000.0, "sound was decoded");
    let size = (watched["after"]["width"].as_u64(), watched["after"]["height"].as_u64());
    assert_eq!(size, (Some(640), Some(360)));
    assert_eq!(watched["pictureMoved"], true);
}
