//! The moving picture of the demo: a sun over waves, the product's name, a clock and a counter.
//!
//! In: a size, a picture's number and the wall clock. Out: 4:2:0 planes (BT.709, limited range),
//! the same for the same input. What moves, moves by the clock, so that a dropped picture is a
//! jump and the burnt-in time read off a screen minus the time now is the latency; the counter
//! beside it shows which picture was dropped.
//!
//! Invariants: every write is clipped to the planes, so any size that [`Planes`] allows works; the
//! cost is a few operations per sample, small beside any encoder's.
//!
//! Deliberately absent: anti-aliasing, more of a font than the letters needed.

use super::Planes;
use crate::time::Wall;

/// Draws the picture with this number at this time.
pub fn draw(planes: &mut Planes, number: u64, wall: Wall) {
    let mut canvas = Canvas::new(planes);
    let milliseconds = wall.unix_millis().rem_euclid(MILLISECONDS_PER_DAY).unsigned_abs();
    draw_sky(&mut canvas);
    draw_sun(&mut canvas, milliseconds);
    draw_waves(&mut canvas, milliseconds);
    draw_second(&mut canvas, milliseconds);
    draw_texts(&mut canvas, number, milliseconds);
}

/// A colour in Y, Cb, Cr.
type Colour = [u8; 3];

const MILLISECONDS_PER_DAY: i64 = 86_400_000;
const SKY_TOP: [usize; 3] = [38, 142, 122];
const SKY_BOTTOM: [usize; 3] = [112, 150, 112];
const SUN: Colour = [205, 88, 156];
const WAVES: [Wave; 3] = [
    Wave { colour: [96, 150, 100], level: 60, swell: 22, length: 3, period_ms: 5_000 },
    Wave { colour: [74, 152, 100], level: 71, swell: 28, length: 2, period_ms: 7_500 },
    Wave { colour: [52, 150, 108], level: 83, swell: 20, length: 4, period_ms: 3_600 },
];
const PANEL: Colour = [28, 134, 124];
const WHITE: Colour = [235, 128, 128];
const ACCENT: Colour = [180, 110, 110];

struct Wave {
    colour: Colour,
    /// The mean height, in hundredths of the picture from the top.
    level: usize,
    /// The picture's height over the amplitude.
    swell: usize,
    /// Wave lengths across the picture.
    length: u64,
    /// One wave length passes in this time.
    period_ms: u64,
}

/// The planes with clipping.
struct Canvas<'a> {
    width: usize,
    height: usize,
    planes: [&'a mut [u8]; 3],
}

impl<'a> Canvas<'a> {
    fn new(planes: &'a mut Planes) -> Self {
        let (width, height) = (planes.width() as usize, planes.height() as usize);
        Self { width, height, planes: planes.planes_mut() }
    }

    /// Fills the rectangle; chroma follows where it starts and ends on even samples, rounded down.
    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        for (plane, (samples, value)) in self.planes.iter_mut().zip(colour).enumerate() {
            let shift = usize::from(plane > 0);
            let stride = self.width >> shift;
            let left = x.min(self.width) >> shift;
            let right = x.saturating_add(width).min(self.width) >> shift;
            let top = y.min(self.height) >> shift;
            let bottom = y.saturating_add(height).min(self.height) >> shift;
            for row in samples.chunks_exact_mut(stride).take(bottom).skip(top) {
                row[left..right].fill(value);
            }
        }
    }
}

fn draw_sky(canvas: &mut Canvas<'_>) {
    for (plane, samples) in canvas.planes.iter_mut().enumerate() {
        let shift = usize::from(plane > 0);
        let (stride, rows) = (canvas.width >> shift, canvas.height >> shift);
        for (y, row) in samples.chunks_exact_mut(stride).enumerate() {
            let mixed = SKY_TOP[plane] * (rows - y) + SKY_BOTTOM[plane] * y;
            row.fill(u8::try_from(mixed / rows).unwrap_or(u8::MAX));
        }
    }
}

/// A disc that swings across the sky in eleven seconds and bobs in four.
fn draw_sun(canvas: &mut Canvas<'_>, milliseconds: u64) {
    let radius = canvas.height / 9;
    let swing = sine(milliseconds * TURN / 11_000);
    let bob = sine(milliseconds * TURN / 4_000);
    let x = offset(canvas.width / 2, canvas.width * 2 / 5, swing);
    let y = offset(canvas.height * 2 / 5, canvas.height / 16, bob);
    // Two rows at a time and even edges, so that luma and chroma of the disc agree.
    for row in (y.saturating_sub(radius) & !1..y + radius).step_by(2) {
        let distance = row.abs_diff(y).min(radius);
        let half = (radius * radius - distance * distance).isqrt() & !1;
        let left = x.saturating_sub(half) & !1;
        canvas.fill(left, row, half * 2, 2, SUN);
    }
}

fn draw_waves(canvas: &mut Canvas<'_>, milliseconds: u64) {
    let (width, height) = (canvas.width, canvas.height);
    let mut tops = vec![0_usize; width];
    for wave in &WAVES {
        let passed = milliseconds % wave.period_ms * TURN / wave.period_ms;
        for (x, top) in tops.iter_mut().enumerate() {
            let phase = x as u64 * TURN * wave.length / width as u64 + passed;
            *top = offset(height * wave.level / 100, height / wave.swell, sine(phase));
        }
        let highest = tops.iter().min().copied().unwrap_or(0);
        for (plane, (samples, value)) in canvas.planes.iter_mut().zip(wave.colour).enumerate() {
            let shift = usize::from(plane > 0);
            let rows = samples.chunks_exact_mut(width >> shift).enumerate();
            for (y, row) in rows.skip(highest >> shift) {
                let heights = tops.iter().step_by(1 << shift);
                for (sample, top) in row.iter_mut().zip(heights) {
                    *sample = if y << shift >= *top { value } else { *sample };
                }
            }
        }
    }
}

/// A bar along the lower edge that fills once a second.
fn draw_second(canvas: &mut Canvas<'_>, milliseconds: u64) {
    let filled = canvas.width * usize::try_from(milliseconds % 1000).unwrap_or(0) / 1000;
    let thickness = (canvas.height / 45).max(2) & !1;
    let y = (canvas.height - thickness) & !1;
    canvas.fill(0, y, canvas.width, thickness, PANEL);
    canvas.fill(0, y, filled & !1, thickness, ACCENT);
}

fn draw_texts(canvas: &mut Canvas<'_>, number: u64, milliseconds: u64) {
    let seconds = milliseconds / 1000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let (seconds, milliseconds) = (seconds % 60, milliseconds % 1000);
    let clock = format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}");
    let counter = format!("UTC  #{:06}", number % 1_000_000);
    let large = (canvas.height / 90).max(1);
    let small = (canvas.height / 150).max(1);
    let margin = (canvas.height / 20) & !1;
    draw_text(canvas, margin, margin, small, "HEADWATER", WHITE);

    let panel_width = (text_width(&clock, large) + 6 * large) & !1;
    let line = GLYPH_ROWS * large;
    let panel_height = (line + GLYPH_ROWS * small + 9 * large) & !1;
    let left = (canvas.width.saturating_sub(panel_width) / 2) & !1;
    let top = (canvas.height.saturating_sub(panel_height) / 2) & !1;
    canvas.fill(left, top, panel_width, panel_height, PANEL);
    draw_text(canvas, left + 3 * large, top + 3 * large, large, &clock, WHITE);
    let centred = panel_width.saturating_sub(text_width(&counter, small)) / 2;
    draw_text(canvas, left + centred, top + line + 6 * large, small, &counter, ACCENT);
}

/// Draws luma only, except that the colour's chroma is what lies under the text: thin strokes in
/// half-resolution chroma would only smear.
fn draw_text(canvas: &mut Canvas<'_>, x: usize, y: usize, scale: usize, text: &str, ink: Colour) {
    let [luma, ..] = &mut canvas.planes;
    for (index, glyph) in text.chars().map(glyph).enumerate() {
        let left = x + index * GLYPH_ADVANCE * scale;
        for (row, bits) in glyph.into_iter().enumerate() {
            for column in (0..GLYPH_COLUMNS).filter(|column| bits >> (4 - column) & 1 == 1) {
                let start = (left + column * scale).min(canvas.width);
                let end = (left + (column + 1) * scale).min(canvas.width);
                let top = (y + row * scale).min(canvas.height);
                let rows = luma.chunks_exact_mut(canvas.width).skip(top).take(scale);
                rows.for_each(|samples| samples[start..end].fill(ink[0]));
            }
        }
    }
}

fn text_width(text: &str, scale: usize) -> usize {
    (text.chars().count() * GLYPH_ADVANCE).saturating_sub(1) * scale
}

/// `centre` moved by `amplitude` times a [`sine`]; not below zero.
fn offset(centre: usize, amplitude: usize, sine: i64) -> usize {
    let moved = centre as i64 + amplitude as i64 * sine / SINE_ONE;
    usize::try_from(moved).unwrap_or(0)
}

/// A full turn of [`sine`]'s argument.
const TURN: u64 = 1024;
const SINE_ONE: i64 = 1024;

/// A sine of parabolas: within 6 % of the real one, which nobody sees in a wave.
fn sine(phase: u64) -> i64 {
    let half = TURN as i64 / 2;
    let phase = (phase % TURN) as i64;
    let within = phase % half;
    let height = within * (half - within) / 64;
    if phase < half { height } else { -height }
}

const GLYPH_COLUMNS: usize = 5;
const GLYPH_ROWS: usize = 7;
const GLYPH_ADVANCE: usize = 6;

/// Rows from the top, the leftmost column in bit 4. What is not in the font is blank.
fn glyph(character: char) -> [u8; GLYPH_ROWS] {
    match character {
        '0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        '1' => [0b00100, 0b01100, 0b10100, 0b00100, 0b00100, 0b00100, 0b11111],
        '2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        '3' => [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110],
        '4' => [0b00011, 0b00101, 0b01001, 0b10001, 0b11111, 0b00001, 0b00001],
        '5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        '6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        '7' => [0b11111, 0b00001, 0b00010, 0b00010, 0b00100, 0b00100, 0b00100],
        '8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        '9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        ':' => [0b00000, 0b01100, 0b01100, 0b00000, 0b01100, 0b01100, 0b00000],
        '.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
        '#' => [0b01010, 0b01010, 0b11111, 0b01010, 0b11111, 0b01010, 0b01010],
        'A' => [0b00100, 0b01010, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001],
        'C' => [0b01111, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b01111],
        'D' => [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110],
        'E' => [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111],
        'H' => [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        'R' => [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001],
        'T' => [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100],
        'U' => [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        'W' => [0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b11011, 0b10001],
        _ => [0; GLYPH_ROWS],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: u32, height: u32, number: u64, milliseconds: i64) -> Planes {
        let mut planes = Planes::black(width, height).expect("an even size");
        draw(&mut planes, number, Wall::from_unix_millis(milliseconds));
        planes
    }

    /// Reads the clock back out of the luma plane at the place and scale it was drawn.
    fn read_clock(planes: &Planes) -> String {
        let (width, height) = (planes.width() as usize, planes.height() as usize);
        let (large, small) = ((height / 90).max(1), (height / 150).max(1));
        let text_width = (12 * GLYPH_ADVANCE - 1) * large;
        let left = ((width - ((text_width + 6 * large) & !1)) / 2) & !1;
        let panel = (GLYPH_ROWS * (large + small) + 9 * large) & !1;
        let top = ((height - panel) / 2) & !1;
        let [luma, ..] = planes.planes();
        let lit = |x: usize, y: usize| luma[y * width + x] == WHITE[0];
        let read = |index: usize| {
            let x = left + 3 * large + index * GLYPH_ADVANCE * large;
            let mut bits = [0_u8; GLYPH_ROWS];
            for (row, bits) in bits.iter_mut().enumerate() {
                let y = top + 3 * large + row * large;
                *bits = (0..GLYPH_COLUMNS)
                    .fold(0, |bits, column| bits << 1 | u8::from(lit(x + column * large, y)));
            }
            "0123456789:.".chars().find(|character| glyph(*character) == bits).unwrap_or('?')
        };
        (0..12).map(read).collect()
    }

    #[test]
    fn the_clock_can_be_read_back() {
        let noon = 43_200_000 + 34 * 60_000 + 56_789;
        for (width, height) in [(320, 180), (640, 360), (1280, 720), (426, 240)] {
            assert_eq!(read_clock(&drawn(width, height, 7, noon)), "12:34:56.789");
        }
        assert_eq!(read_clock(&drawn(320, 180, 0, -1)), "23:59:59.999", "before the epoch");
    }

    #[test]
    fn the_same_input_gives_the_same_picture_and_another_moves_it() {
        let picture = drawn(320, 180, 100, 1_000_000);
        assert!(picture == drawn(320, 180, 100, 1_000_000));
        assert!(picture != drawn(320, 180, 101, 1_000_000), "the counter");
        let later = drawn(320, 180, 100, 1_000_050);
        let [before, ..] = picture.planes();
        let [after, ..] = later.planes();
        let changed = before.iter().zip(after).filter(|(before, after)| before != after).count();
        assert!(changed > 200, "{changed} samples changed in 50 ms");
    }

    #[test]
    fn any_even_size_works() {
        let sizes = [(16, 16), (18, 16), (16, 200), (4096, 18), (64, 64), (1922, 1082)];
        for (width, height) in sizes {
            for milliseconds in [0, 999, 5_500, 86_399_999] {
                drawn(width, height, u64::MAX, milliseconds);
            }
        }
    }

    #[test]
    fn samples_stay_in_limited_range() {
        let picture = drawn(320, 180, 5, 12_345);
        let [luma, cb, cr] = picture.planes();
        assert!(luma.iter().all(|sample| (16..=235).contains(sample)));
        assert!(cb.iter().chain(cr).all(|sample| (16..=240).contains(sample)));
    }
}
