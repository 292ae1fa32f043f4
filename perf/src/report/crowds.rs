//! The pages about handshakes and about what many connections do at one time.

use super::others::tiles;
use super::page::{Figure, Page};
use super::plots::{Bar, bars};
use super::svg::number;
use crate::handshake::Handshake;

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
