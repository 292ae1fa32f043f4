//! The one date format we send (RFC 9110 5.6.7, IMF-fixdate).
//!
//! In: seconds since 1970 in UTC, from the caller's clock. Out: 29 bytes. Years past 9999 do not
//! fit the format and stay at its last second.

/// The length of every date.
pub const DATE_BYTES: usize = 29;

/// Formats `unix_seconds` as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; DATE_BYTES] {
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    // Day 0 was a Thursday.
    text[..3].copy_from_slice(&name(b"ThuFriSatSunMonTueWed", days % 7));
    digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(&name(b"JanFebMarAprMayJunJulAugSepOctNovDec", month));
    digits(&mut text[12..16], year);
    digits(&mut text[17..19], time / 3600);
    digits(&mut text[20..22], time / 60 % 60);
    digits(&mut text[23..25], time % 60);
    text
}

/// Year, month from 0 and day of the month from 1 of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Begin with the 400-year cycle and the year that the mean length gives; both never overshoot
    // by more than one year, which the step back below repairs.
    let mut year = 1970 + days * 400 / 146_097;
    let first_day = |year: u64| {
        let before = year - 1;
        // 719,162 days lie between 0001-01-01 and 1970-01-01.
        before * 365 + before / 4 - before / 100 + before / 400 - 719_162
    };
    while first_day(year) > days {
        year -= 1;
    }
    while first_day(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - first_day(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

/// The `index`th of names of three letters; the first if there is no such name.
fn name(names: &[u8], index: u64) -> [u8; 3] {
    let (names, _) = names.as_chunks::<3>();
    let index = usize::try_from(index).unwrap_or_default();
    names.get(index).or_else(|| names.first()).copied().unwrap_or_default()
}

fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

/// 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_seconds: u64) -> String {
        String::from_utf8(imf_fixdate(unix_seconds).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            // The example of RFC 9110 5.6.7.
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (978_307_199, "Sun, 31 Dec 2000 23:59:59 GMT"),
            (978_307_200, "Mon, 01 Jan 2001 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (2_147_483_647, "Tue, 19 Jan 2038 03:14:07 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }

    /// Every day of 130 years follows the day before it.
    #[test]
    fn days_count_up() {
        let mut previous = civil(0);
        for days in 1..47_482 {
            let next = civil(days);
            let (year, month, day) = previous;
            let follows = next == (year, month, day + 1)
                || (day >= 28 && next == (year, month + 1, 1))
                || ((month, day) == (11, 31) && next == (year + 1, 0, 1));
            assert!(follows, "{previous:?} {next:?}");
            previous = next;
        }
        assert_eq!(previous, (2099, 11, 31));
    }
}
