//! The page about publications that go from shard to shard.

use super::page::{Figure, Page};
use super::plots::{Bar, bars};
use super::svg::number;
use crate::cross_shard::{CrossShard, Way};

pub(super) fn page(result: &CrossShard) -> Page {
    let mut page = Page::new(
        "Publishing across two shards",
        "Latency of a delivery by how often the publication goes from shard to shard. Both shards have a core, and the \
         client takes what it needs of both: at a load it is part of the latency.",
    );
    for pace in &result.paces {
        let label = &pace.label;
        let bar = |index: usize, way: Way, of: fn(&[f64; 3]) -> f64| Bar {
            label: way.name().into(),
            values: pace.runs_of(way).map(|run| of(&run.figures())).collect(),
            class: format!("p{}", 2 * index),
        };
        let shown = |of: fn(&[f64; 3]) -> f64| -> Vec<Bar> {
            Way::ALL.into_iter().enumerate().map(|(index, way)| bar(index, way, of)).collect()
        };
        page.heading(label, "The bar is the median, dots are runs.");
        page.figures(&[
            Figure::new("p50", bars("Median latency", "us", &shown(|figures| figures[0]))),
            Figure::new("p99", bars("99 % took at most", "us", &shown(|figures| figures[1]))),
            Figure::new("CPU", bars("Server CPU per delivery", "ns", &shown(|figures| figures[2]))),
        ]);
        let rows: Vec<Vec<String>> = Way::ALL
            .into_iter()
            .filter_map(|way| {
                let middle = pace.summary(way)?;
                Some(vec![
                    way.name().into(),
                    number(middle.p50_us),
                    number(middle.p99_us),
                    number(middle.cpu_ns),
                    format!("{:.3}", middle.mail),
                    format!("{:.3}", middle.doorbells),
                ])
            })
            .collect();
        let head = ["way", "p50 us", "p99 us", "CPU ns", "mail each", "doorbells each"];
        page.table("Medians", &head, &rows);
    }
    page
}
