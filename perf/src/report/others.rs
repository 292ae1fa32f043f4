//! The pages about broadcasts, comparisons of two builds, instructions and idle connections.

use super::page::{Figure, Page};
use super::plots::{Bar, Curve, Strip, bars, curves, ordered_bars, strips};
use super::svg::number;
use crate::broadcast::Broadcast;
use crate::claims::{Claim, Verdict};
use crate::compare::Comparison;
use crate::connections::{Connections, Reading};
use crate::fan_out::FanOut;
use crate::fan_out::curve::{Cell, Coalescing};
use crate::idle::Idle;
use crate::instructions::{Function, Instructions};
use crate::measure::Costs;
use crate::pairs::{CPU, Pairs, Which};
use crate::process::Memory;
use crate::quiet::Quiet;

pub(super) fn broadcast(broadcast: &Broadcast) -> Page {
    let Broadcast { subscribers, payload, rate, .. } = broadcast;
    let pace = rate.map_or_else(
        || "each when all subscribers have the last".to_owned(),
        |rate| format!("{} a second", number(rate)),
    );
    let mut page = Page::new(
        &format!("Broadcast to {} subscribers", number(f64::from(*subscribers))),
        &format!(
            "Publications of {} B, {pace}. Costs are per delivery.",
            number(f64::from(*payload))
        ),
    );
    page.tiles(&tiles(&broadcast.claims));
    if let Some(pairs) = &broadcast.deflate {
        page.heading(
            "Compressed and uncompressed",
            "Server CPU per delivery, permessage-deflate divided by none, in pairs made one after the \
             other. A publication is compressed once for all subscribers: at most 1.15.",
        );
        let verdict = broadcast.claims.first().map(|claim| claim.verdict);
        page.figures(&pair_figures(pairs, ["compressed", "uncompressed"], verdict, &[1.15]));
    }
    if !broadcast.rounds.is_empty() {
        page.heading("Server CPU per delivery", "The bar is the median, dots are runs.");
        let rounds = || broadcast.rounds.iter().enumerate();
        let class = |index: usize| format!("p{}", if index == 0 { 0 } else { 2 + (index - 1) % 8 });
        let shown: Vec<Bar> = rounds()
            .map(|(index, series)| Bar {
                label: series.name.clone(),
                values: series.runs.iter().map(|costs| costs.server_cpu_ns).collect(),
                class: class(index),
            })
            .collect();
        let lines: Vec<Curve> = rounds()
            .filter_map(|(index, series)| {
                let points = series.runs.first()?.latency_us.curve.clone();
                Some(Curve { label: series.name.clone(), points, class: class(index) })
            })
            .collect();
        let legend = lines.iter().map(|line| (line.class.clone(), line.label.clone())).collect();
        page.figures(&[
            Figure::new("CPU", bars("CPU per delivery", "ns of CPU per delivery", &shown)),
            Figure {
                caption: "From publishing to delivery".into(),
                svg: curves("Latency of deliveries", &lines),
                legend,
            },
        ]);
    }
    if !broadcast.claims.is_empty() {
        page.heading("Promises", "");
        page.claims(&broadcast.claims);
    }
    let missing = broadcast.missing.iter().map(|peer| vec![peer.name.clone(), peer.why.clone()]);
    let missing: Vec<Vec<String>> = missing.collect();
    if !missing.is_empty() {
        page.table("Missing peers", &["peer", "why"], &missing);
    }
    page
}

pub(super) fn compare(comparison: &Comparison) -> Page {
    let Comparison { title, a, b, pairs, ratio, .. } = comparison;
    let mut page = Page::new(&format!("Two builds: {title}"), &format!("{a}; {b}"));
    if let Some(ratio) = ratio {
        let [low, high] = ratio.interval_95;
        page.tiles(&[
            (format!("{:.3}", ratio.median), "A / B, server CPU per message".into(), "own"),
            (format!("{low:.3} – {high:.3}"), "95 % interval of the median".into(), ""),
            (pairs.kept.len().to_string(), "pairs".into(), ""),
            (pairs.left_out.len().to_string(), "left out, the cores moved".into(), ""),
        ]);
    }
    page.heading("Pairs", "A dot is one pair of runs made one after the other.");
    page.figures(&pair_figures(pairs, ["A", "B"], None, &[]));
    page
}

fn pair_figures(
    pairs: &Pairs,
    [a, b]: [&str; 2],
    verdict: Option<Verdict>,
    bounds: &[f64],
) -> Vec<Figure> {
    // Longer names have no room there; the caption has it.
    let strip = Strip { label: "ratio".into(), values: pairs.ratios(CPU), verdict };
    let sides = || [(Which::A, a, "p0"), (Which::B, b, "p2")].into_iter();
    let values = |runs: Vec<&Costs>| runs.iter().map(|costs| costs.server_cpu_ns).collect();
    let shown: Vec<Bar> = sides()
        .map(|(which, name, class)| Bar {
            label: name.into(),
            values: values(pairs.side(which)),
            class: class.into(),
        })
        .collect();
    let lines: Vec<Curve> = sides()
        .filter_map(|(which, name, class)| {
            let points = pairs.side(which).first()?.latency_us.curve.clone();
            Some(Curve { label: name.into(), points, class: class.into() })
        })
        .collect();
    let legend = lines.iter().map(|line| (line.class.clone(), line.label.clone())).collect();
    vec![
        Figure::new(format!("Server CPU, {a} / {b}"), strips("Ratio of CPU", &[strip], bounds)),
        Figure::new("Server CPU", bars("CPU", "ns of CPU per message", &shown)),
        Figure {
            caption: "Latency of the first pair".into(),
            svg: curves("Latency", &lines),
            legend,
        },
    ]
}

pub(super) fn instructions(instructions: &Instructions) -> Page {
    let mut page = Page::new(
        "Instructions of our own per echo",
        "User-space instructions counted by callgrind: what one more message costs, start-up and \
         connections cancelled. The kernel's are not counted.",
    );
    page.tiles(&tiles(&instructions.claims));
    page.claims(&instructions.claims);
    for size in &instructions.sizes {
        page.heading(&format!("Messages of {} B", number(f64::from(size.payload))), "");
        let all = std::iter::once(&size.headwater).chain(&size.raw);
        let shown: Vec<Bar> = all
            .map(|counted| Bar {
                label: counted.name.clone(),
                values: vec![counted.per_message],
                class: if counted.name == size.headwater.name { "p0" } else { "p1" }.into(),
            })
            .collect();
        let functions: Vec<Bar> = by_name(&size.headwater.functions)
            .into_iter()
            .take(14)
            .map(|(label, own)| Bar { label, values: vec![own], class: "p2".into() })
            .collect();
        page.figures(&[
            Figure::new("Per message", bars("Instructions", "instructions", &shown)),
            Figure::new(
                "Headwater's largest functions, with what is inlined",
                ordered_bars("Functions", "instructions per message", &functions),
            ),
        ]);
        let rows = size.headwater.functions.iter().take(100);
        let rows: Vec<Vec<String>> = rows
            .map(|Function { own, file, name }| {
                vec![name.clone(), format!("{own:.1}"), file.clone()]
            })
            .collect();
        page.table("By function and file", &["function", "instructions", "file"], &rows);
    }
    page
}

/// The last two parts of a path say most, and there is little room.
fn by_name(functions: &[Function]) -> Vec<(String, f64)> {
    let mut sums: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for function in functions {
        *sums.entry(&function.name).or_default() += function.own;
    }
    let mut sums: Vec<(String, f64)> =
        sums.into_iter().map(|(name, own)| (shortened(name), own)).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums
}

fn shortened(name: &str) -> String {
    // `<impl x::Shard<R>>::flush`: without what is in brackets, `Shard::flush` is left.
    let mut depth = 0_u32;
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty()).collect();
    parts[parts.len().saturating_sub(2)..].join("::")
}

pub(super) fn quiet(quiet: &Quiet) -> Page {
    let Quiet { subscribers, rate, turn_budget_us, .. } = quiet;
    let mut page = Page::new(
        "A quiet channel beside attackers",
        &format!(
            "{} publications a second to {} subscribers; latency from when a publication was due. Under an attack, p99.9 \
             may be three times what it is alone, or ten turns of {} us.",
            number(*rate),
            number(f64::from(*subscribers)),
            number(*turn_budget_us)
        ),
    );
    page.claims(&quiet.claims);
    let bar = |label: String, values, class: &str| Bar { label, values, class: class.into() };
    let shown: Vec<Bar> = quiet
        .attacks
        .iter()
        .flat_map(|attacked| {
            let name = attacked.attack.name();
            [
                bar(name.to_owned(), attacked.p999(Which::A), "p0"),
                bar("alone".to_owned(), attacked.p999(Which::B), "p2"),
            ]
        })
        .collect();
    page.figures(&[Figure::new("p99.9", bars("p99.9", "microseconds", &shown))]);
    page
}

pub(super) fn idle(idle: &Idle) -> Page {
    let mut page = Page::new(
        "Idle, subscribed WebSockets",
        "Growth of the server's resident user memory, per connection added; what is paid once is not \
         divided among them.",
    );
    let verdict = match idle.gate {
        Some(gate) if idle.bytes_per_connection <= gate => "held",
        Some(_) => "missed",
        None => "own",
    };
    page.tiles(&[
        (number(idle.bytes_per_connection), "bytes of user memory each".into(), verdict),
        (number(f64::from(idle.connections)), "connections".into(), ""),
    ]);
    let base = format!("{} connections", number(f64::from(idle.base)));
    let full = format!("{} connections", number(f64::from(idle.connections)));
    let bar = |label: &str, memory: Memory| Bar {
        label: label.into(),
        values: vec![memory.total() as f64 / f64::from(1 << 20)],
        class: "p0".into(),
    };
    let shown = [
        bar("empty", idle.memory_empty),
        bar(&base, idle.memory_base),
        bar(&full, idle.memory_full),
    ];
    page.figures(&[Figure::new("Resident", bars("Resident memory", "MiB", &shown))]);
    if !idle.peers.is_empty() {
        let own = [("headwater".to_owned(), idle.bytes_per_connection)];
        let all: Vec<Bar> = own
            .iter()
            .chain(&idle.peers)
            .enumerate()
            .map(|(index, (name, bytes))| Bar {
                label: name.clone(),
                values: vec![*bytes],
                class: format!("p{}", if index == 0 { 0 } else { 1 + index }),
            })
            .collect();
        let figure = bars("User memory of a connection", "bytes", &all);
        page.figures(&[Figure::new("Peers", figure)]);
    }
    let missing = idle.missing.iter().map(|peer| vec![peer.name.clone(), peer.why.clone()]);
    let missing: Vec<Vec<String>> = missing.collect();
    if !missing.is_empty() {
        page.table("Missing peers", &["peer", "why"], &missing);
    }
    page
}

pub(super) fn fan_out(result: &FanOut) -> Page {
    let mut page = Page::new(
        "Deliveries against raw sends",
        "Server CPU of a publication's delivery to one more subscriber, and of a raw ring's send of the same \
         bytes to the same number of sockets, in pairs a moment apart.",
    );
    page.tiles(&tiles(&result.claims));
    page.heading("Server CPU per delivery", "The bar is the median, dots are halves of pairs.");
    let shown: Vec<Bar> = result
        .sizes
        .iter()
        .chain(&result.beside)
        .flat_map(|sized| {
            let bar = |server: usize, name: &str, class: &str| Bar {
                label: format!("{name}, {}", number(f64::from(sized.subscribers))),
                values: sized.pairs.iter().map(|pair| pair[server]).collect(),
                class: class.into(),
            };
            [bar(0, "headwater", "p0"), bar(1, &sized.other, "p2")]
        })
        .collect();
    let figure = ordered_bars("CPU per delivery", "ns of CPU per delivery", &shown);
    page.figures(&[Figure::new("CPU", figure)]);
    page.heading("Promises", "");
    page.claims(&result.claims);
    page
}

pub(super) fn coalescing(result: &Coalescing) -> Page {
    let mut page = Page::new(
        "Several deliveries in one send",
        &format!(
            "Server CPU per delivery to {} subscribers of one channel, by batching window and publication \
             rate, and of a raw ring's send of one publication measured beside it.",
            number(f64::from(result.subscribers))
        ),
    );
    let bar = |cell: &Cell| Bar {
        label: format!("{} ms, {}/s", cell.window_ms, cell.rate),
        values: vec![cell.delivery_ns / cell.raw_ns],
        class: "p0".into(),
    };
    let shown: Vec<Bar> = result.cells.iter().map(bar).collect();
    let figure = ordered_bars("CPU per delivery", "of that of a raw send", &shown);
    page.figures(&[Figure::new("CPU", figure)]);
    let rows: Vec<Vec<String>> = result
        .cells
        .iter()
        .map(|cell| {
            let Cell { window_ms, rate, delivery_ns, raw_ns } = cell;
            [f64::from(*window_ms), f64::from(*rate), *delivery_ns, *raw_ns].map(number).to_vec()
        })
        .collect();
    let head = ["window, ms", "publications a second", "ns a delivery", "ns a raw send"];
    page.table("Every cell", &head, &rows);
    page
}

pub(super) fn connections(result: &Connections) -> Page {
    let mut page = Page::new(
        "Subscribed WebSockets, held",
        "Both ends are on one machine: memory of the kernel is that of both. User memory is the server's.",
    );
    let kept = if result.ended_by.is_none() && result.lost == 0 { "held" } else { "missed" };
    let all = if result.delivered == result.crowd { "held" } else { "missed" };
    let bytes = match result.gate {
        Some(gate) if result.user_bytes_each <= gate => "held",
        Some(_) => "missed",
        None => "own",
    };
    page.tiles(&[
        (number(f64::from(result.held)), format!("connections, of {}", result.asked), kept),
        (number(result.user_bytes_each), "bytes of user memory each".into(), bytes),
        (number(result.kernel_bytes_each), "bytes of the kernel each, both ends".into(), ""),
        (format!("{:.3}", result.idle_server_cores), "cores of the server, idle".into(), ""),
        (
            number(f64::from(result.delivered)),
            format!("had the publication, of {}", result.crowd),
            all,
        ),
    ]);
    let bar = |reading: &Reading| Bar {
        label: format!("{} connections", number(f64::from(reading.connections))),
        values: vec![reading.server.total() as f64 / f64::from(1 << 20)],
        class: "p0".into(),
    };
    let shown = [bar(&result.base), bar(&result.full)];
    page.figures(&[Figure::new("Resident", bars("Resident memory", "MiB", &shown))]);
    page
}

pub(super) fn tiles(claims: &[Claim]) -> Vec<(String, String, &'static str)> {
    let class = |verdict| match verdict {
        Verdict::Held => "held",
        Verdict::Missed => "missed",
        Verdict::NotAsked => "",
    };
    let tile = |claim: &Claim| {
        let value = claim.measured.split(' ').next().unwrap_or_default().to_owned();
        (value, format!("{}, {}", claim.what, claim.cell), class(claim.verdict))
    };
    claims.iter().map(tile).collect()
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn names_of_functions() {
        assert_eq!(shortened("headwater::shard::Shard<R>::turn"), "Shard::turn");
        let within = "headwater::shard::sending::<impl headwater::shard::Shard<R>>::flush";
        assert_eq!(shortened(within), "sending::flush");
        assert_eq!(shortened("memcpy"), "memcpy");
    }
}
