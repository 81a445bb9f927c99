//! Times as FTP writes them: `YYYYMMDDHHMMSS` in UTC, and the dates of `LIST`.
//!
//! Refuses to know what time it is: every function is given its seconds. RFC 3659 §2.3.

const DAY_SECONDS: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// `20261123235959`, from seconds since 1970. Years outside 0 to 9999 are clamped.
pub fn format_timestamp(unix_seconds: i64) -> String {
    let at = civil(unix_seconds);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}

/// Seconds since 1970 from `YYYYMMDDHHMMSS`, with an optional fraction that is dropped. A second of 60 is taken for 59.
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let (digits, fraction) = text.split_at_checked(14)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    match fraction {
        [] => {}
        [b'.', rest @ ..] if !rest.is_empty() && rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    let number = |range: std::ops::Range<usize>| {
        digits[range]
            .iter()
            .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let (hour, minute, second) = (number(8..10), number(10..12), number(12..14).min(59));
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    let seconds = days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    let real = civil(seconds);
    // Rolls over for a day its month does not have.
    (in_range && number(12..14) <= 60 && real.day == day && real.month == month).then_some(seconds)
}

/// The date column of `LIST`: with the time for the last half year, with the year otherwise, as `ls -l` does.
pub fn format_list_date(unix_seconds: i64, now_unix_seconds: i64) -> String {
    let at = civil(unix_seconds);
    let month = MONTHS[usize::try_from(at.month - 1).unwrap_or(0).min(11)];
    let age = now_unix_seconds - unix_seconds;
    if (0..=182 * DAY_SECONDS).contains(&age) {
        format!("{month} {:2} {:02}:{:02}", at.day, at.hour, at.minute)
    } else {
        format!("{month} {:2}  {:04}", at.day, at.year)
    }
}

fn civil(unix_seconds: i64) -> Civil {
    let (first, last) = (days_from_civil(0, 1, 1), days_from_civil(9999, 12, 31));
    let clamped = unix_seconds.clamp(first * DAY_SECONDS, (last + 1) * DAY_SECONDS - 1);
    let second_of_day = clamped.rem_euclid(DAY_SECONDS);
    // Days counted from 1 March of year 0, in eras of 400 years (Hinnant, "chrono-compatible low-level date algorithms").
    let days = clamped.div_euclid(DAY_SECONDS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted + 2) / 5 + 1,
        hour: second_of_day / 3600,
        minute: second_of_day / 60 % 60,
        second: second_of_day % 60,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(format_timestamp(0), "19700101000000");
        assert_eq!(format_timestamp(1_709_210_096), "20240229123456");
        assert_eq!(format_timestamp(-1), "19691231235959");
        assert_eq!(parse_timestamp(b"20240229123456.789"), Some(1_709_210_096));
        assert_eq!(format_timestamp(i64::MAX).len(), 14);
        assert_eq!(format_timestamp(i64::MIN).len(), 14);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for wrong in [
            "",
            "2024",
            "20240230000000",
            "20241301000000",
            "20240101240000",
            "20240101000000x",
            "20240101000000.",
            "2024010100000a",
        ] {
            assert_eq!(parse_timestamp(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn list_dates_show_the_time_only_for_the_last_half_year() {
        assert_eq!(format_list_date(1_709_210_096, 1_709_210_097), "Feb 29 12:34");
        assert_eq!(format_list_date(1_709_210_096, 1_809_210_097), "Feb 29  2024");
        assert_eq!(format_list_date(1_709_210_096, 0), "Feb 29  2024");
    }

    proptest! {
        #[test]
        fn the_round_trip_keeps_the_second(seconds in -60_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(parse_timestamp(format_timestamp(seconds).as_bytes()), Some(seconds));
        }
    }
}
