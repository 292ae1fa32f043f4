//! Scales and marks: numbers to places, places to SVG.
//!
//! In: values. Out: markup whose colours are classes of the page's style sheet, so that light and
//! dark are one drawing. Everything is drawn about 400 units wide: on a phone that is its real size,
//! on a screen several stand side by side. Invariant: text from records is escaped.

use std::fmt::Write as _;

/// Width of every drawing.
pub(super) const WIDTH: f64 = 400.0;

/// A range of values on a range of places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    pub(super) fn linear((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, is_log: false }
    }

    /// Both ends above 0.
    pub(super) fn log((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 10.0 };
        Self { low, high, from, to, is_log: true }
    }

    /// Where a value is; outside of the range at its end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let part = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part * (self.to - self.from)
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round values: about `count`, or with a logarithmic scale 1, 2 and 5 of each power of ten as
    /// far as there is room.
    pub(super) fn ticks(&self, count: usize) -> Vec<f64> {
        if !self.is_log {
            let step = round_step((self.high - self.low) / count as f64);
            let first = (self.low / step).ceil();
            let values = (0..64).map(|index| (first + f64::from(index)) * step);
            return values.take_while(|value| *value <= self.high + step * 1e-9).collect();
        }
        let decades = (self.high / self.low).log10();
        let mantissas: &[f64] = match decades {
            ..1.5 => &[1.0, 2.0, 5.0],
            ..3.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let power = |exponent: i32| 10_f64.powi(exponent);
        let values =
            (-9..12).flat_map(|e| mantissas.iter().map(move |mantissa| mantissa * power(e)));
        values.filter(|value| self.holds(*value)).collect()
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let found = [1.0, 2.0, 5.0].iter().map(|mantissa| mantissa * power).find(|step| *step >= least);
    found.unwrap_or(10.0 * power)
}

/// A drawing under construction.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
    height: f64,
    label: String,
}

/// Where text begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// `label` is what it shows, for those who cannot see it.
    pub(super) fn new(height: f64, label: &str) -> Self {
        Self { body: String::new(), height, label: escape(label) }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let width = width.max(0.0);
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2"/>"#
        ));
    }

    /// A dot that says its value when pointed at.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let title = escape(title);
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{title}</title></circle>"#
        ));
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)], title: &str) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{x:.1} {y:.1}");
        }
        let title = escape(title);
        self.add(format_args!(r#"<path class="{class}" d="{path}"><title>{title}</title></path>"#));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    pub(super) fn finish(self) -> String {
        let Self { body, height, label } = self;
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n"
        )
    }

    fn add(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{markup}");
    }
}

/// Text that is text in HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    grouped(&text)
}

/// Thousands apart, by a space that does not break.
fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    let digits = whole.chars().filter(char::is_ascii_digit).count();
    let mut left = digits;
    for c in whole.chars() {
        if c.is_ascii_digit() {
            if left != digits && left % 3 == 0 {
                grouped.push('\u{202f}');
            }
            left -= 1;
        }
        grouped.push(c);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::{Anchor, Scale, Svg, escape, number};

    #[test]
    fn scales() {
        let linear = Scale::linear((0.0, 10.0), (100.0, 200.0));
        assert!((linear.at(5.0) - 150.0).abs() < 1e-9);
        assert!((linear.at(99.0) - 200.0).abs() < 1e-9, "outside is at the end");
        assert_eq!(linear.ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let log = Scale::log((1.0, 100.0), (0.0, 200.0));
        assert!((log.at(10.0) - 100.0).abs() < 1e-9);
        assert_eq!(log.ticks(5), [1.0, 3.0, 10.0, 30.0, 100.0]);
        assert!(Scale::linear((3.0, 3.0), (0.0, 1.0)).at(3.0).is_finite());
        assert!(Scale::log((0.0, 0.0), (0.0, 1.0)).at(3.0).is_finite());
    }

    #[test]
    fn numbers_and_text() {
        assert_eq!(number(1_234_567.8), "1\u{202f}234\u{202f}568");
        assert_eq!(number(-1234.0), "-1\u{202f}234");
        assert_eq!(number(999.0), "999");
        assert_eq!(number(20.0), "20");
        assert_eq!(number(1.5), "1.50");
        assert_eq!(number(0.037_21), "0.0372");
        assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
        let mut svg = Svg::new(10.0, "x");
        svg.text("t", (0.0, 0.0), Anchor::Start, "<script>");
        assert!(!svg.finish().contains("<script>"));
    }
}
