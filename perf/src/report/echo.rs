//! The page about an echo matrix.

use super::page::{Figure, Page};
use super::plots::{Bar, Curve, Strip, bars, curves, strips};
use super::svg::number;
use crate::claims::{Claim, Verdict};
use crate::echo::{Cell, Matrix, ServerInfo};
use crate::measure::Costs;
use crate::pairs::{CPU, Field, Series, Which};
use crate::statistics::Summary;

pub(super) fn page(matrix: &Matrix) -> Page {
    let mut page = Page::new(
        "Echo: what Headwater adds to the kernel",
        "Every message is answered with the same bytes. The limit is a bare io_uring loop without a \
         protocol that moves the same bytes; the other servers do the same work as Headwater.",
    );
    page.tiles(&tiles(matrix));
    page.heading(
        "Against the limit",
        "Server CPU per message, Headwater divided by the limit. A dot is one pair of runs made one \
         after the other, the thick line the 95 % interval of their median. Promised at 64 and 1,000 \
         connections with 20 and 512 B: a median up to 1.05, an interval up to 1.10.",
    );
    page.figures(&ratios(matrix));
    page.heading("Promises", "What is claimed of these numbers, and whether they bear it out.");
    page.claims(&matrix.claims);
    let mut payloads: Vec<u32> = matrix.cells.iter().map(|cell| cell.payload).collect();
    payloads.sort_unstable();
    payloads.dedup();
    for payload in payloads {
        let cells = || matrix.cells.iter().filter(move |cell| cell.payload == payload);
        page.heading(
            &format!("Messages of {} B", number(f64::from(payload))),
            "Server CPU per message in a closed loop, cheapest first: the bar is the median, dots are \
             runs. Below it, latency while all get the same number of messages a second, half of \
             what the slowest can do, counted from when each message was due.",
        );
        let cpu: Vec<_> = cells().map(|cell| cpu_figure(matrix, cell)).collect();
        page.figures(&cpu);
        let latency: Vec<_> = cells().map(|cell| latency_figure(matrix, cell)).collect();
        page.figures(&latency);
        for cell in cells() {
            page.table(&format!("{} in numbers (medians)", cell.name()), HEAD, &rows(cell));
        }
    }
    page.heading("Who took part", "");
    page.table("Versions", &["server", "what", "version", "how"], &servers(matrix));
    page
}

fn tiles(matrix: &Matrix) -> Vec<(String, String, &'static str)> {
    let count = |verdict| matrix.claims.iter().filter(|claim| claim.verdict == verdict).count();
    let (held, missed) = (count(Verdict::Held), count(Verdict::Missed));
    let mut tiles = vec![
        (format!("{held}"), "promises held".to_owned(), "held"),
        (format!("{missed}"), "promises missed".to_owned(), if missed > 0 { "missed" } else { "" }),
    ];
    let promised = matrix.cells.iter().filter(|cell| cell.connections == 64);
    for cell in promised.take(2) {
        if let Some(ratio) = &cell.ratio {
            let name = format!("times the CPU of the limit, {}", cell.name());
            tiles.push((format!("{:.3}", ratio.median), name, "own"));
        }
    }
    let best = matrix.cells.iter().filter_map(|cell| {
        let cpu = |name: &str| Some(summary(cell, name)?.median);
        let peers = cell.websockets.iter().filter_map(|name| Some((cpu(name)?, name)));
        let (cheapest, name) = peers.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((cheapest / cpu("headwater")?, name, cell.name()))
    });
    if let Some((factor, name, cell)) = best.min_by(|a, b| a.0.total_cmp(&b.0)) {
        // Of all peers and cells the one that comes closest, or is ahead.
        let class = if factor < 1.0 { "missed" } else { "" };
        let name = format!("of our CPU is what {name} takes, the closest peer; {cell}");
        tiles.push((format!("{factor:.2} ×"), name, class));
    }
    tiles
}

/// One strip plot per size.
fn ratios(matrix: &Matrix) -> Vec<Figure> {
    let mut payloads: Vec<u32> = matrix.cells.iter().map(|cell| cell.payload).collect();
    payloads.sort_unstable();
    payloads.dedup();
    payloads
        .into_iter()
        .map(|payload| {
            let cells = matrix.cells.iter().filter(|cell| cell.payload == payload);
            let strips_of: Vec<Strip> = cells.map(|cell| strip(matrix, cell)).collect();
            let caption = format!("{} B", number(f64::from(payload)));
            let svg = strips(&format!("Ratio to the limit, {caption}"), &strips_of, &[1.05, 1.10]);
            Figure::new(caption, svg)
        })
        .collect()
}

fn strip(matrix: &Matrix, cell: &Cell) -> Strip {
    let name = cell.name();
    let about_ratio = |claim: &&Claim| claim.cell == name && claim.what.starts_with(&cell.compared);
    Strip {
        label: format!("{} conn.", number(f64::from(cell.connections))),
        values: cell.pairs.ratios(CPU),
        verdict: matrix.claims.iter().find(about_ratio).map(|claim| claim.verdict),
    }
}

/// Who it is in the drawings.
fn class(servers: &[ServerInfo], cell: &Cell, name: &str) -> String {
    if name == "headwater" {
        return "p0".to_owned();
    }
    if name == cell.limit {
        return "p1".to_owned();
    }
    let mut others = servers.iter().skip(1).filter(|server| !server.limit);
    let index = others.position(|server| server.name == name).unwrap_or(0);
    format!("p{}", 2 + index % 8)
}

fn cpu_figure(matrix: &Matrix, cell: &Cell) -> Figure {
    let values = |runs: Vec<&Costs>| runs.iter().map(|costs| costs.server_cpu_ns).collect();
    let bar = |name: &str, values| Bar {
        label: name.to_owned(),
        values,
        class: class(&matrix.servers, cell, name),
    };
    let shown: Vec<Bar> = if cell.rounds.is_empty() {
        let sides = [(Which::A, &cell.compared), (Which::B, &cell.limit)];
        sides.into_iter().map(|(which, name)| bar(name, values(cell.pairs.side(which)))).collect()
    } else {
        let rounds = cell.rounds.iter();
        rounds.map(|series| bar(&series.name, values(series.runs.iter().collect()))).collect()
    };
    let connections = number(f64::from(cell.connections));
    let caption = format!("{connections} connections, limit: {}", cell.limit);
    let svg = bars(&format!("CPU per message, {}", cell.name()), "ns of CPU per message", &shown);
    Figure::new(caption, svg)
}

fn latency_figure(matrix: &Matrix, cell: &Cell) -> Figure {
    let connections = number(f64::from(cell.connections));
    let (caption, shown) = match &cell.open {
        Some(open) => {
            let rounds = open.rounds.iter();
            let curves = rounds.filter_map(|series| curve(matrix, cell, series)).collect();
            (format!("{connections} connections, {} messages/s", number(open.rate)), curves)
        }
        None => {
            let side = |which| cell.pairs.side(which).into_iter().cloned().collect();
            let sides = [(Which::A, &cell.compared), (Which::B, &cell.limit)];
            let series =
                sides.map(|(which, name)| Series { name: name.clone(), runs: side(which) });
            let curves: Vec<Curve> =
                series.iter().filter_map(|series| curve(matrix, cell, series)).collect();
            (format!("{connections} connections, closed loop"), curves)
        }
    };
    let legend = shown.iter().map(|curve| (curve.class.clone(), curve.label.clone())).collect();
    Figure { caption, svg: curves(&format!("Latency, {}", cell.name()), &shown), legend }
}

/// Of the run whose p99 is in the middle.
fn curve(matrix: &Matrix, cell: &Cell, series: &Series) -> Option<Curve> {
    let mut runs: Vec<&Costs> = series.runs.iter().collect();
    runs.sort_by(|a, b| a.latency_us.p99.total_cmp(&b.latency_us.p99));
    let middle = runs.get(runs.len().saturating_sub(1) / 2)?;
    Some(Curve {
        label: series.name.clone(),
        points: middle.latency_us.curve.clone(),
        class: class(&matrix.servers, cell, &series.name),
    })
}

const HEAD: &[&str] = &[
    "server",
    "CPU ns",
    "quartiles",
    "messages/s",
    "enters",
    "calls judged",
    "allocations",
    "p50 µs",
    "p99 µs",
    "p99 µs at the rate",
    "others",
];

fn rows(cell: &Cell) -> Vec<Vec<String>> {
    let pairs = [(Which::A, &cell.compared), (Which::B, &cell.limit)];
    let mut rows: Vec<Vec<String>> = pairs
        .into_iter()
        .filter_map(|(which, name)| row(cell, &format!("{name}, pairs"), &cell.pairs.side(which)))
        .collect();
    for series in cell.rounds.iter() {
        rows.extend(row(cell, &series.name, &series.runs.iter().collect::<Vec<_>>()));
    }
    for series in &cell.qualifying {
        let name = format!("{}, qualifying", series.name);
        rows.extend(row(cell, &name, &series.runs.iter().collect::<Vec<_>>()));
    }
    rows
}

fn row(cell: &Cell, name: &str, runs: &[&Costs]) -> Option<Vec<String>> {
    let of = |field: Field| Summary::of(runs.iter().filter_map(|costs| field(costs)));
    let text = |field: Field| of(field).map_or_else(|| "–".to_owned(), |all| number(all.median));
    let cpu = of(CPU)?;
    let open = cell.open.iter().flat_map(|open| &open.rounds).find(|series| series.name == name);
    let open = open
        .and_then(|series| Summary::of(series.runs.iter().map(|costs| costs.latency_us.p99)))
        .map_or_else(|| "–".to_owned(), |p99| number(p99.median));
    Some(vec![
        name.to_owned(),
        number(cpu.median),
        format!("{} – {}", number(cpu.quartile_1), number(cpu.quartile_3)),
        text(|costs| Some(costs.messages_per_second)),
        text(|costs| costs.enters),
        text(|costs| costs.judged_system_calls),
        text(|costs| costs.allocations),
        text(|costs| Some(costs.latency_us.p50)),
        text(|costs| Some(costs.latency_us.p99)),
        open,
        text(|costs| Some(costs.foreign_cores)),
    ])
}

fn summary(cell: &Cell, name: &str) -> Option<Summary> {
    let series = cell.rounds.iter().find(|series| series.name == name)?;
    Summary::of(series.runs.iter().map(|costs| costs.server_cpu_ns))
}

fn servers(matrix: &Matrix) -> Vec<Vec<String>> {
    let kind = |server: &ServerInfo| match (server.limit, server.kind) {
        (true, _) => "variant of the limit",
        (_, crate::peers::Kind::Raw) => "no protocol",
        (_, crate::peers::Kind::Websocket) => "WebSocket",
    };
    let present = matrix.servers.iter().map(|server| {
        vec![server.name.clone(), kind(server).into(), server.version.clone(), server.note.clone()]
    });
    let missing = matrix.missing.iter().map(|missing| {
        vec![missing.name.clone(), "missing".into(), String::new(), missing.why.clone()]
    });
    let failed = matrix.failed.iter().map(|failed| {
        vec![failed.name.clone(), "not measured".into(), String::new(), failed.why.clone()]
    });
    let in_cells = matrix.cells.iter().flat_map(|cell| {
        let row = |failed: &crate::peers::Missing| {
            vec![failed.name.clone(), "failed".into(), cell.name(), failed.why.clone()]
        };
        cell.failed.iter().map(row).collect::<Vec<_>>()
    });
    present.chain(missing).chain(failed).chain(in_cells).collect()
}
