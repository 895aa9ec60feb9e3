//! Time stamps of log entries.

/// Length of a stamp in bytes.
pub(crate) const LEN: usize = 30;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// `2006-01-02T15:04:05.000000000Z` (RFC 3339 with nine digits, UTC) for nanoseconds since the
/// epoch. Every `i64` has a year of four digits.
pub(crate) fn format(nanos: i64) -> [u8; LEN] {
    let seconds = nanos.div_euclid(SECOND);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let mut stamp = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut stamp[0..4], year);
    digits(&mut stamp[5..7], month);
    digits(&mut stamp[8..10], day);
    digits(&mut stamp[11..13], second / 3600);
    digits(&mut stamp[14..16], second / 60 % 60);
    digits(&mut stamp[17..19], second % 60);
    digits(&mut stamp[20..29], nanos.rem_euclid(SECOND));
    stamp
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Counts in years that begin in March, so that a leap day is the last day of its year, and in
/// eras of 400 years, which all have 146097 days.
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let from_march_0000 = day + 719_468;
    let era = from_march_0000.div_euclid(ERA);
    let of_era = from_march_0000.rem_euclid(ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: i64) -> String {
        String::from_utf8(format(nanos).to_vec()).unwrap()
    }

    #[test]
    fn known_instants() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800, 1, "2000-03-01T00:00:00.000000001Z"),
            (1_709_164_800, 120, "2024-02-29T00:00:00.000000120Z"),
            (1_740_787_199, 0, "2025-02-28T23:59:59.000000000Z"),
            (1_740_787_200, 0, "2025-03-01T00:00:00.000000000Z"),
            (1_798_761_599, 5_000, "2026-12-31T23:59:59.000005000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(at(seconds * SECOND + nanos), expected);
        }
        assert_eq!(at(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(at(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    /// Days of a month by the calendar's rule, to walk it the slow way.
    fn length(year: i64, month: i64) -> i64 {
        match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for count in 0..400 * 366 {
            assert_eq!(civil(count), (year, month, day));
            day += 1;
            if day > length(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    proptest! {
        #[test]
        fn later_sorts_later(a: i64, b: i64) {
            prop_assert_eq!(a.cmp(&b), format(a).cmp(&format(b)));
        }
    }
}
