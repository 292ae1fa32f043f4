//! The pages about handshakes and about what many connections do at one time.

use super::others::tiles;
use super::page::{Figure, Page};
use super::plots::{Bar, bars};
use super::plots::{Curve, curves};
use super::svg::number;
use crate::beside::{Beside, HEAD};
use crate::handshake::Handshake;
use crate::idle_pings::IdlePings;
use crate::storm::Storm;
use crate::together::Together;

pub(super) fn handshake(result: &Handshake) -> Page {
    let mut page = Page::new(
        "WebSocket handshakes beside accept and one send",
        &format!(
            "{} connections, {} of them on their way at one time; from connect until the client has the \
             whole answer. Raw rings answer whoever connects with as many bytes and read nothing.",
            number(f64::from(result.count)),
            result.in_flight
        ),
    );
    page.tiles(&tiles(&result.claims));
    let shown: Vec<Bar> = result
        .rounds
        .iter()
        .enumerate()
        .map(|(index, series)| Bar {
            label: series.name.clone(),
            values: series.runs.iter().map(|costs| costs.server_cpu_ns).collect(),
            class: format!("p{}", if index < 2 { 0 } else { index }),
        })
        .collect();
    page.figures(&[Figure::new("CPU", bars("CPU per connection", "ns of CPU", &shown))]);
    page.claims(&result.claims);
    page
}

pub(super) fn storm(result: &Storm) -> Page {
    let mut page = Page::new(
        "A reconnect storm",
        "Everybody is cut off at once and comes back at once, to where he was; a quiet channel beside it.",
    );
    page.tiles(&tiles(&result.claims));
    let curve = |label: &str, latency: &crate::measure::Latency, class: &str| Curve {
        label: label.into(),
        points: latency.curve.clone(),
        class: class.into(),
    };
    let lines =
        [curve("before", &result.before_us, "p2"), curve("during", &result.during_us, "p0")];
    let legend = lines.iter().map(|line| (line.class.clone(), line.label.clone())).collect();
    page.figures(&[Figure {
        caption: "The quiet channel".into(),
        svg: curves("Latency of deliveries", &lines),
        legend,
    }]);
    page.table("The storm", &["what", "value"], &result.rows());
    beside(&mut page, "Of each connection that came back", result.beside.as_ref());
    page.claims(&result.claims);
    page
}

/// Other servers with the same crowd.
fn beside(page: &mut Page, what: &str, beside: Option<&Beside>) {
    let Some(beside) = beside else { return };
    page.heading("Beside others", what);
    page.table("Every server", &HEAD, &beside.rows());
    let missing = beside.missing.iter().map(|peer| vec![peer.name.clone(), peer.why.clone()]);
    let missing: Vec<Vec<String>> = missing.collect();
    if !missing.is_empty() {
        page.table("Missing peers", &["peer", "why"], &missing);
    }
}

pub(super) fn idle_pings(result: &IdlePings) -> Page {
    let mut page = Page::new(
        "Pings of a silent crowd",
        "Clients answer every ping; some speak by themselves and are not to be pinged.",
    );
    page.tiles(&tiles(&result.claims));
    page.table("What was seen", &["what", "value"], &result.rows());
    beside(&mut page, "Of each ping and its answer; nobody speaks", result.beside.as_ref());
    page.claims(&result.claims);
    page
}

pub(super) fn together(result: &Together) -> Page {
    let mut page = Page::new(
        "Storms together",
        "A broadcast as fast as its readers take it, a tenth of whom stall, and clients that reconnect all \
         the time; a quiet channel beside them.",
    );
    page.tiles(&tiles(&result.claims));
    let head = ["publications", "deliveries", "reconnects", "refused", "failed", "lost"];
    page.table("What the storms did, by run", &head, &result.rows());
    page.claims(&result.claims);
    page
}
