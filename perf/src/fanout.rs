//! Scenario `fanout`: what it costs to bring one publication to one more subscriber.
//!
//! In: counts. Out: server CPU, system calls and latency per delivery. One publisher, N subscribers
//! of one channel; the next publication follows when all have the last, so that nothing coalesces.

use anyhow::Result;
use serde::Serialize;

use crate::headwater::{self, Headwater};
use crate::load::{Expected, Load, Pattern, Plan, UNLIMITED};
use crate::measure::{self, Costs, Times};
use crate::process::Launch;
use crate::record::{self, Surroundings};
use crate::{frames, http};

/// One publisher, many subscribers, one publication at a time.
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    #[command(flatten)]
    times: Times,
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    subscribers: u32,
    /// Bytes of a publication.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    payload: u32,
    /// Shards of the server.
    #[arg(long, default_value_t = 1)]
    shards: u32,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    options: &'a Options,
    per_delivery: Costs,
    publications_per_second: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let surroundings = Surroundings::look();
    let places = &options.places;
    let cpu = (options.shards == 1).then(|| places.server_cpu()).flatten();
    let server = Headwater::start(&places.headwater, options.shards, &Launch::on(cpu))?;
    let publisher = headwater::publisher_path(CHANNEL);
    let mut sockets = http::open_websockets(server.address, &publisher, 0, 1)?;
    let channel = headwater::channel_path(CHANNEL);
    let subscribers = options.subscribers as usize;
    sockets.extend(http::open_websockets(server.address, &channel, 1, subscribers)?);

    let payload = frames::payload(options.payload as usize);
    let load = Load::start(Plan {
        sockets,
        pattern: Pattern::Fanout,
        request: frames::client_text(&payload),
        expected: Expected::Bytes(frames::server_text(&payload)),
        cpu: places.client_cpu(),
        allowed: UNLIMITED,
    });
    let costs = measure::costs(&server.child, || server.counters(), load, &options.times)?;
    server.stop()?;
    let publications_per_second = costs.messages_per_second / f64::from(options.subscribers);
    println!("{} subscribers, per delivery: {costs}", options.subscribers);
    println!("{publications_per_second:.1} publications/s, each awaited by all");
    let report = Report { options, per_delivery: costs, publications_per_second };
    let path = record::write(&places.results, "fanout", &surroundings, &report)?;
    println!("recorded in {}", path.display());
    Ok(())
}

const CHANNEL: &str = "fanout";
