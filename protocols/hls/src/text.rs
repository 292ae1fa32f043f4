//! The values of attribute lists and tags (4.2): numbers with decimals, quoted strings, dates.
//!
//! In: numbers and text. Out: characters appended to a playlist. Nothing here depends on a locale
//! or on the formatting of floating-point numbers: decimals come from integers.

use std::fmt::{self, Write as _};

/// A date on the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime {
    /// Milliseconds since the Unix epoch; before it, negative.
    pub unix_millis: i64,
}

impl fmt::Display for DateTime {
    /// The date in the form of ISO 8601 with milliseconds, in UTC (4.4.4.6).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.unix_millis.div_euclid(MILLIS_PER_DAY));
        let millis = self.unix_millis.rem_euclid(MILLIS_PER_DAY);
        let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
        let (seconds, fraction) = (millis / 1000 % 60, millis % 1000);
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z"
        )
    }
}

/// Appends formatted text.
pub(crate) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

/// Appends `ticks / timescale` as a decimal-floating-point with six decimals, rounded (4.2).
pub(crate) fn push_seconds(out: &mut String, ticks: u64, timescale: u32) {
    let timescale = u128::from(timescale.max(1));
    let micros = (u128::from(ticks) * 1_000_000 + timescale / 2) / timescale;
    push(out, format_args!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
}

/// Appends thousandths as a decimal-floating-point with three decimals.
pub(crate) fn push_thousandths(out: &mut String, thousandths: u32) {
    push(out, format_args!("{}.{:03}", thousandths / 1000, thousandths % 1000));
}

/// Appends a quoted-string. Line breaks and double quotes cannot be said in one (4.2) and are left
/// out.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    out.extend(text.chars().filter(|character| !matches!(character, '"' | '\r' | '\n')));
    out.push('"');
}

/// Appends a URI on a line of its own, without what would end the line.
pub(crate) fn push_uri_line(out: &mut String, uri: &str) {
    out.extend(uri.chars().filter(|character| !matches!(character, '\r' | '\n')));
    out.push('\n');
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Years are counted from
/// March, so that the leap day is the last day of one.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(DAYS_TO_1970);
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

const MILLIS_PER_DAY: i64 = 86_400_000;
/// Days of the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
