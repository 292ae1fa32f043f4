//! The echo's results as text.

use super::{Cell, Matrix, ServerInfo};
use crate::measure::{Costs, Known};
use crate::pairs::{Field, Which};
use crate::statistics::Summary;

/// One table of a cell: everybody's medians.
pub(super) fn print(servers: &[ServerInfo], cell: &Cell) {
    let Cell { connections, payload, request_bytes, reply_bytes, pairs, .. } = cell;
    println!(
        "{connections} connections, {payload} B ({request_bytes} B in, {reply_bytes} B out on the \
         wire), limit {}",
        cell.limit
    );
    println!(
        "  {:24} {:>8} {:>17} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8}",
        "server",
        "CPU ns",
        "quartiles",
        "msg/s",
        "enters",
        "calls",
        "allocs",
        "p50 us",
        "p99 us",
        "p99 open",
        "cores",
        "others",
        "distance"
    );
    let open = |name: &str| -> Option<f64> {
        let series = cell.open.as_ref()?.rounds.iter().find(|series| series.name == name)?;
        median(&series.runs.iter().collect::<Vec<_>>(), |costs| Some(costs.latency_us.p99))
    };
    for (which, name) in [(Which::A, &cell.compared), (Which::B, &cell.limit)] {
        row(&format!("{name}, pairs"), &pairs.side(which), None);
    }
    for series in &cell.rounds {
        row(&series.name, &series.runs.iter().collect::<Vec<_>>(), open(&series.name));
    }
    for series in cell.qualifying.iter().filter(|series| series.name != cell.limit) {
        row(&format!("{}, qualifying", series.name), &series.runs.iter().collect::<Vec<_>>(), None);
    }
    let ratio = cell.ratio.as_ref().map_or_else(|| "nothing".into(), Summary::to_string);
    println!("  ratio of CPU {} / {}: {ratio}", cell.compared, cell.limit);
    for (name, field) in [("enters", ENTERS), ("calls judged", JUDGED)] {
        if let Some(ratio) = pairs.ratio(field) {
            println!("  ratio of {name}: {}", ratio.short());
        }
    }
    println!("  {} pairs, {} left out: their cores moved", pairs.kept.len(), pairs.left_out.len());
    for failed in &cell.failed {
        println!("  {} failed: {}", failed.name, failed.why);
    }
    let absent = servers.iter().filter(|server| {
        let here = |name: &String| *name == server.name;
        let rounds = cell.rounds.iter().chain(&cell.qualifying).map(|series| &series.name);
        let failed = cell.failed.iter().map(|failed| &failed.name);
        !rounds.chain(failed).any(here) && !here(&cell.limit) && !here(&cell.compared)
    });
    for server in absent {
        println!("  {} did not run", server.name);
    }
}

fn row(name: &str, runs: &[&Costs], open: Option<f64>) {
    let Some(cpu) = Summary::of(runs.iter().map(|costs| costs.server_cpu_ns)) else { return };
    let value = |field: Field| median(runs, field);
    let whole =
        |value: Option<f64>| value.map_or_else(|| "n/a".into(), |value| format!("{value:.0}"));
    let distances: Vec<f64> =
        runs.iter().filter_map(|costs| costs.core_distance_ns).flatten().collect();
    let near = distances.iter().filter(|distance| **distance < NEAR_NS).count();
    let distance = match (near, distances.len()) {
        (_, 0) => "unknown".to_owned(),
        (near, all) if near == all => "near".to_owned(),
        (0, _) => "far".to_owned(),
        (near, all) => format!("{}% near", 100 * near / all),
    };
    println!(
        "  {name:24} {:8.0} {:>17} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:6.2} {:6.2} {distance:>8}",
        cpu.median,
        format!("{:.0} to {:.0}", cpu.quartile_1, cpu.quartile_3),
        whole(value(|costs| Some(costs.messages_per_second))),
        Known(value(ENTERS)).to_string(),
        Known(value(JUDGED)).to_string(),
        Known(value(|costs| costs.allocations)).to_string(),
        whole(value(|costs| Some(costs.latency_us.p50))),
        whole(value(|costs| Some(costs.latency_us.p99))),
        whole(open),
        value(|costs| Some(costs.server_cores)).unwrap_or_default(),
        value(|costs| Some(costs.foreign_cores)).unwrap_or_default(),
    );
}

/// The ratios of all cells beside each other.
pub(super) fn print_ratios(matrix: &Matrix) {
    println!("ratio of CPU per message to the limit, median (95 %)");
    for cell in &matrix.cells {
        let ratio = cell.ratio.as_ref().map_or_else(|| "nothing".into(), Summary::short);
        println!("  {:>16}  {ratio}  against {}", cell.name(), cell.limit);
    }
}

fn median(runs: &[&Costs], field: Field) -> Option<f64> {
    Some(Summary::of(runs.iter().filter_map(|costs| field(costs)))?.median)
}

const ENTERS: Field = |costs| costs.enters;
const JUDGED: Field = |costs| costs.judged_system_calls;
/// Between the round trips of near cores (about 40 ns) and far ones (about 350 ns).
const NEAR_NS: f64 = 120.0;
