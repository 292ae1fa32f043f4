//! Scenario `coalescing`: what a delivery costs when several leave in one send.
//!
//! In: publication rates and batching windows. Out: for each pair of them, server CPU per delivery against
//! a raw ring's send of one. Publications of one channel come at a rate, whether or not the ones before
//! have arrived; those that come within a window, or while the server is behind, reach a subscriber
//! together. Raw sends are measured beside each cell.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Limit;
use super::audience::{Audience, FIRST, OTHER, Place, Size};
use crate::frames;
use crate::headwater::{Headwater, Setup};
use crate::peers::Role;
use crate::process::{self, Family, Launch};
use crate::record::{self, Surroundings};
use crate::servers::Message;

/// The cost of a delivery by publication rate and batching window
#[derive(Debug, Clone, Serialize, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: crate::Places,
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 5_000)]
    subscribers: u32,
    /// Publications per second, with commas between them.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 30, 100, 300], value_parser = clap::value_parser!(u32).range(1..))]
    rates: Vec<u32>,
    /// Batching windows in milliseconds, with commas between them.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 20, 100, 500])]
    windows: Vec<u32>,
    /// Bytes of a publication, JSON.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=1_400))]
    payload: u32,
    /// How long each cell is measured.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    #[command(flatten)]
    limit: Limit,
}

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Coalescing {
    options: serde_json::Value,
    pub(crate) subscribers: u32,
    pub(crate) cells: Vec<Cell>,
}

/// One rate in one window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) window_ms: u32,
    pub(crate) rate: u32,
    /// Server CPU of a delivery.
    pub(crate) delivery_ns: f64,
    /// That of a raw send of one, at the same rate at most.
    pub(crate) raw_ns: f64,
}

/// There is no gate.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let surroundings = Surroundings::look();
    let mut result = Coalescing {
        options: serde_json::to_value(options)?,
        subscribers: options.subscribers,
        cells: Vec::new(),
    };
    println!(
        "{} subscribers; ns of server CPU per delivery (of that of a raw send)",
        options.subscribers
    );
    for &window_ms in &options.windows {
        measure(options, window_ms, &mut result.cells)?;
    }
    record::finish(&options.places.results, "coalescing", &surroundings, &result)?;
    Ok(true)
}

fn measure(options: &Options, window_ms: u32, cells: &mut Vec<Cell>) -> Result<()> {
    let places = &options.places;
    let launch = Launch::on(places.server_cpu());
    let message = Message::new(frames::json(options.payload as usize));
    let size = Size { subscribers: options.subscribers, channels: 1 };
    let setup = Setup { batch_window_ms: window_ms, ..Setup::without_pings(1) };
    let headwater = Headwater::start_as(&places.headwater, setup, &launch)?;
    let raw = options.limit.start(&message.job(Role::FanOut, size.subscribers), &launch)?;
    process::pin(places.client_cpu())?;
    let servers = [Place::Headwater(headwater.address), Place::Raw(raw.address)];
    let mut audience = Audience::open(servers, size, &message.payload, &message.reply)?;
    let families = [headwater.child.family()?, raw.child.family()?];
    print!("  window {window_ms:>4} ms:");
    for &rate in &options.rates {
        // As many as fit the time, two at least; of raw sends as many as a core has time for.
        let interval = Duration::from_secs(1) / rate;
        let raw_interval = interval.max(RAW_SEND_TIME_MAX * size.subscribers);
        let fitting = |interval: Duration| -> u32 {
            let time = Duration::from_secs(options.seconds.into());
            let count = time.as_nanos() / interval.as_nanos().max(1);
            u32::try_from(count).unwrap_or(u32::MAX).max(2)
        };
        let (count, raw_count) = (fitting(interval), fitting(raw_interval));
        let mut cost = |server: usize, count: u32, interval: Duration| -> Result<f64> {
            let family: &Family = &families[server];
            let before = family.cpu_time()?;
            let deliveries = audience.publish_at(server, count, interval)?;
            let used = family.cpu_time()?.saturating_sub(before);
            Ok(used.as_nanos() as f64 / deliveries as f64)
        };
        let delivery_ns = cost(FIRST, count, interval)?;
        let raw_ns = cost(OTHER, raw_count, raw_interval)?;
        print!("  {rate}/s {delivery_ns:.0} ({:.2})", delivery_ns / raw_ns);
        cells.push(Cell { window_ms, rate, delivery_ns, raw_ns });
    }
    println!();
    drop((headwater, raw));
    Ok(())
}

/// Raw sends that come faster would not end before the next.
const RAW_SEND_TIME_MAX: Duration = Duration::from_micros(8);
