//! The three kinds of drawings: strips of ratios, bars of costs, curves of latency.
//!
//! In: named values. Out: SVG. Every measured value is a mark; medians and intervals are drawn over
//! them, never instead of them.

use super::svg::{Anchor, Scale, Svg, WIDTH, number};
use crate::claims::Verdict;
use crate::statistics::Summary;

/// A row of a strip plot.
#[derive(Debug)]
pub(super) struct Strip {
    pub(super) label: String,
    pub(super) values: Vec<f64>,
    /// How it was judged, where it was.
    pub(super) verdict: Option<Verdict>,
}

/// Every ratio as a dot, their median and its interval over them, and the lines that bound them.
pub(super) fn strips(title: &str, rows: &[Strip], bounds: &[f64]) -> String {
    let (left, right) = (108.0, WIDTH - 52.0);
    let summaries: Vec<Option<Summary>> =
        rows.iter().map(|row| Summary::of(row.values.iter().copied())).collect();
    let (mut low, mut high) = (0.97_f64, 1.12_f64);
    for summary in summaries.iter().flatten() {
        // Whiskers of a box plot: what lies further out stands at the edge.
        let reach = 1.5 * (summary.quartile_3 - summary.quartile_1);
        low = low.min(summary.min.max(summary.quartile_1 - reach)).min(summary.interval_95[0]);
        high = high.max(summary.max.min(summary.quartile_3 + reach)).max(summary.interval_95[1]);
    }
    let margin = (high - low) * 0.04;
    let x = Scale::linear((low - margin, high + margin), (left, right));
    let bottom = 22.0 + ROW * rows.len() as f64;
    let mut svg = Svg::new(bottom + 24.0, title);
    let ticks = x.ticks(4);
    for tick in &ticks {
        svg.line("grid", (x.at(*tick), 16.0), (x.at(*tick), bottom));
        svg.text("axis", (x.at(*tick), bottom + 14.0), Anchor::Middle, &format!("{tick:.2}"));
    }
    svg.line("one", (x.at(1.0), 16.0), (x.at(1.0), bottom));
    // Where two bounds are close, their labels stand on either side.
    let is_close = bounds.windows(2).any(|two| x.at(two[1]) - x.at(two[0]) < 30.0);
    for (index, bound) in bounds.iter().enumerate() {
        let (anchor, aside) = match (is_close, index) {
            (false, _) => (Anchor::Middle, 0.0),
            (true, 0) => (Anchor::End, 3.0),
            (true, _) => (Anchor::Start, -3.0),
        };
        let class = if index == 0 { "bound" } else { "bound far" };
        svg.line(class, (x.at(*bound), 16.0), (x.at(*bound), bottom));
        svg.text("bound-label", (x.at(*bound) + aside, 11.0), anchor, &format!("{bound:.2}"));
    }
    for (index, (row, summary)) in rows.iter().zip(&summaries).enumerate() {
        let middle = 22.0 + ROW * (index as f64 + 0.5);
        svg.text("label", (left - 10.0, middle + 4.0), Anchor::End, &row.label);
        for (number, value) in row.values.iter().enumerate() {
            // Spread over the height of the row, in the order of measuring.
            let step = (number % 5) as f64 - 2.0;
            let class = if x.holds(*value) { "dot" } else { "dot outside" };
            let place = (x.at(*value), middle + step * 2.6);
            svg.dot(class, place, 2.4, &format!("pair {}: {value:.3}", number + 1));
        }
        let Some(summary) = summary else {
            svg.text("axis", (left + 8.0, middle + 4.0), Anchor::Start, "nothing was measured");
            continue;
        };
        let [from, to] = summary.interval_95.map(|end| x.at(end));
        let class = match row.verdict {
            Some(Verdict::Held) => "held",
            Some(Verdict::Missed) => "missed",
            _ => "neutral",
        };
        svg.line(&format!("interval {class}"), (from, middle), (to, middle));
        let median = x.at(summary.median);
        svg.line(&format!("median {class}"), (median, middle - 8.0), (median, middle + 8.0));
        let text = format!("{:.3}", summary.median);
        svg.text(&format!("value {class}"), (WIDTH - 2.0, middle + 4.0), Anchor::End, &text);
    }
    svg.finish()
}

/// A row of a bar plot.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) values: Vec<f64>,
    /// Of the style sheet: who it is.
    pub(super) class: String,
}

/// Medians as bars, cheapest first.
pub(super) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let mut rows = summarised(bars);
    rows.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    draw_bars(title, unit, &rows)
}

/// The same in the order they are given.
pub(super) fn ordered_bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    draw_bars(title, unit, &summarised(bars))
}

fn summarised(bars: &[Bar]) -> Vec<(&Bar, Summary)> {
    let summary = |bar: &Bar| Summary::of(bar.values.iter().copied());
    bars.iter().filter_map(|bar| Some((bar, summary(bar)?))).collect()
}

/// Every run is a dot, their range a line over the bar of the median.
fn draw_bars(title: &str, unit: &str, rows: &[(&Bar, Summary)]) -> String {
    let longest = rows.iter().map(|(bar, _)| bar.label.chars().count()).max().unwrap_or(0);
    let letters =
        u32::try_from(longest).map_or(LABEL_LETTERS_MAX, |all| all.min(LABEL_LETTERS_MAX));
    let (left, right) = ((14.0 + 6.5 * f64::from(letters)).max(90.0), WIDTH - 56.0);
    let high = rows.iter().map(|(_, summary)| summary.max).fold(0.0, f64::max);
    let x = Scale::linear((0.0, high), (left, right));
    let bottom = 4.0 + BAR * rows.len() as f64;
    let mut svg = Svg::new(bottom + 30.0, title);
    for tick in x.ticks(3) {
        svg.line("grid", (x.at(tick), 2.0), (x.at(tick), bottom));
        svg.text("axis", (x.at(tick), bottom + 13.0), Anchor::Middle, &number(tick));
    }
    svg.text("axis", (right, bottom + 26.0), Anchor::End, unit);
    for (index, (bar, summary)) in rows.iter().enumerate() {
        let middle = 4.0 + BAR * (index as f64 + 0.5);
        svg.text(
            &format!("label {}", bar.class),
            (left - 8.0, middle + 4.0),
            Anchor::End,
            &shortened(&bar.label),
        );
        let median = x.at(summary.median);
        svg.rect(&format!("bar {}", bar.class), (left, middle - 7.0), (median - left, 14.0));
        svg.line("range", (x.at(summary.min), middle), (x.at(summary.max), middle));
        for value in &bar.values {
            svg.dot(
                "run",
                (x.at(*value), middle),
                1.8,
                &format!("{}: {}", bar.label, number(*value)),
            );
        }
        svg.text("value", (WIDTH - 2.0, middle + 4.0), Anchor::End, &number(summary.median));
    }
    svg.finish()
}

/// One line of a percentile plot.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) label: String,
    /// Share of messages, and the microseconds they took at most.
    pub(super) points: Vec<[f64; 2]>,
    pub(super) class: String,
}

/// Latency by percentile: each nine as wide as the one before, microseconds by powers of ten.
pub(super) fn curves(title: &str, curves: &[Curve]) -> String {
    let (left, right, top, bottom) = (46.0, WIDTH - 10.0, 8.0, 190.0);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    // 1 is where the last message is; on this axis that is infinitely far.
    let odds = |share: f64| 1.0 / (1.0 - share);
    let shares = points().map(|point| point[0]).filter(|share| *share < 1.0);
    let rarest = shares.map(odds).fold(100.0, f64::max).min(1e6);
    let times = || points().map(|point| point[1]).filter(|time| *time > 0.0);
    let (fast, slow) = (times().fold(f64::INFINITY, f64::min), times().fold(1.0, f64::max));
    let x = Scale::log((1.0, rarest), (left, right));
    let y = Scale::log((fast.min(slow) * 0.8, slow * 1.2), (bottom, top));
    let mut svg = Svg::new(bottom + 32.0, title);
    for tick in y.ticks(4) {
        svg.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        svg.text("axis", (left - 5.0, y.at(tick) + 4.0), Anchor::End, &duration(tick));
    }
    for (share, name) in [
        (0.0, "0"),
        (0.5, "50"),
        (0.9, "90"),
        (0.99, "99"),
        (0.999, "99.9"),
        (0.9999, "99.99"),
        (0.99999, "99.999"),
    ] {
        if odds(share) <= rarest {
            let at = x.at(odds(share));
            svg.line("grid", (at, top), (at, bottom));
            svg.text("axis", (at, bottom + 14.0), Anchor::Middle, name);
        }
    }
    svg.text("axis", (right, bottom + 28.0), Anchor::End, "% of messages took at most");
    // The first is the one in question: it lies on top.
    for curve in curves.iter().rev() {
        let line: Vec<(f64, f64)> = curve
            .points
            .iter()
            .filter(|[share, time]| *share < 1.0 && *time > 0.0)
            .map(|[share, time]| (x.at(odds(*share)), y.at(*time)))
            .collect();
        svg.path(&format!("curve {}", curve.class), &line, &curve.label);
    }
    svg.finish()
}

fn duration(microseconds: f64) -> String {
    match microseconds {
        1e6.. => format!("{} s", microseconds / 1e6),
        1e3.. => format!("{} ms", microseconds / 1e3),
        _ => format!("{microseconds:.0} µs"),
    }
}

/// What fits in front of a bar.
fn shortened(label: &str) -> String {
    let letters = LABEL_LETTERS_MAX as usize;
    match label.char_indices().nth(letters) {
        Some(_) => label.chars().take(letters - 1).chain(['…']).collect(),
        None => label.to_owned(),
    }
}

const LABEL_LETTERS_MAX: u32 = 22;
const ROW: f64 = 30.0;
const BAR: f64 = 23.0;

#[cfg(test)]
mod tests {
    use super::{Bar, Curve, Strip, bars, curves, ordered_bars, strips};
    use crate::claims::Verdict;

    #[test]
    fn a_strip_has_a_dot_for_every_pair_and_the_bounds() {
        let row = Strip {
            label: "64 x 20 B".into(),
            values: [[1.0, 1.01, 1.02, 1.03].repeat(5), vec![9.0]].concat(),
            verdict: Some(Verdict::Held),
        };
        let none = Strip { label: "none".into(), values: vec![], verdict: None };
        let svg = strips("ratios", &[row, none], &[1.05, 1.10]);
        assert_eq!(svg.matches("<circle").count(), 21);
        assert_eq!(svg.matches("outside").count(), 1, "9.0 is far off the others");
        assert_eq!(svg.matches("class=\"median held\"").count(), 1);
        for text in [">64 x 20 B<", ">1.05<", ">1.10<", ">1.020<", "nothing was measured"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
    }

    #[test]
    fn bars_are_sorted_and_show_every_run() {
        let bar = |label: &str, values: &[f64]| Bar {
            label: label.into(),
            values: values.to_vec(),
            class: "p1".into(),
        };
        let svg = bars("CPU", "ns", &[bar("slow", &[30.0, 32.5]), bar("fast", &[10.0])]);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.find(">fast<").unwrap() < svg.find(">slow<").unwrap());
        assert!(svg.contains(">31.2<"), "the median of slow");
        let svg = ordered_bars("CPU", "ns", &[bar("slow", &[30.0]), bar("fast", &[10.0])]);
        assert!(svg.find(">slow<").unwrap() < svg.find(">fast<").unwrap());
        let svg = bars("CPU", "ns", &[bar("a_name_that_does_not_fit_in_front", &[1.0])]);
        assert!(svg.contains(">a_name_that_does_not_…<"), "{svg}");
        assert!(bars("CPU", "ns", &[]).contains("<svg"));
    }

    #[test]
    fn curves_end_before_the_last_message() {
        let curve = Curve {
            label: "x".into(),
            points: vec![[0.0, 10.0], [0.5, 20.0], [0.99, 900.0], [1.0, 5000.0]],
            class: "p1".into(),
        };
        let svg = curves("latency", &[curve]);
        let path = svg.split("<path").nth(1).unwrap();
        let path = path.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches(['M', 'L']).count(), 3);
        assert!(svg.contains(">99<") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(curves("empty", &[]).contains("<svg"));
    }
}
