//! Sizes, rates and durations as people write them, both ways.
//!
//! Knows nothing of options or addresses.

use std::time::Duration;

const UNITS: [(&str, u64); 16] = [
    ("B", 1),
    ("K", 1 << 10),
    ("KIB", 1 << 10),
    ("M", 1 << 20),
    ("MIB", 1 << 20),
    ("G", 1 << 30),
    ("GIB", 1 << 30),
    ("T", 1 << 40),
    ("TIB", 1 << 40),
    ("P", 1 << 50),
    ("PIB", 1 << 50),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
];

/// Reads `64KiB`, `1.5G`, `1000`: K, M, G, T, P and their `iB` forms count in 1024, `KB` and the like in 1000.
///
/// # Errors
/// A sentence saying what would be right.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let wrong = || format!("`{text}` is no size; write bytes or a suffix, as in 65536, 64KiB, 1.5MiB, 2G");
    let factor = match unit.to_ascii_uppercase().as_str() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    scale(number, factor).ok_or_else(wrong)
}

/// Reads a size that must be held in memory.
///
/// # Errors
/// As [`parse_size`], and for what no address space holds.
pub(crate) fn parse_memory(text: &str) -> Result<usize, String> {
    usize::try_from(parse_size(text)?).map_err(|_| format!("`{text}` is more than memory can hold"))
}

/// Reads `10MiB/s`; the `/s` may be left out. Never zero.
///
/// # Errors
/// A sentence saying what would be right.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no rate; write bytes a second, as in 500KiB/s, 10MiB/s");
    match parse_size(text.strip_suffix("/s").unwrap_or(text)).map_err(|_| wrong())? {
        0 => Err("a rate of 0 would never end; leave the option out for no limit".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads `30s`, `500ms`, `5m`, `1h`, `1.5`; a bare number counts seconds.
///
/// # Errors
/// A sentence saying what would be right.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let wrong = || format!("`{text}` is no time; write a number and a unit, as in 500ms, 30s, 5m, 1h");
    let nanos = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(wrong()),
    };
    scale(number, nanos).map(Duration::from_nanos).ok_or_else(wrong)
}

/// `1.24 GiB`, at most three figures and a unit.
pub(crate) fn show_size(bytes: u64) -> String {
    const NAMES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut step = 0;
    while value >= 999.5 && step + 1 < NAMES.len() {
        value /= 1024.0;
        step += 1;
    }
    let name = NAMES[step];
    if step == 0 {
        format!("{bytes} B")
    } else if value < 9.995 {
        format!("{value:.2} {name}")
    } else if value < 99.95 {
        format!("{value:.1} {name}")
    } else {
        format!("{value:.0} {name}")
    }
}

/// `12.0 MiB/s`.
pub(crate) fn show_rate(bytes_per_second: f64) -> String {
    if bytes_per_second.is_finite() {
        format!("{}/s", show_size(bytes_per_second.max(0.0).round() as u64))
    } else {
        "?/s".to_owned()
    }
}

/// `0.84 s`, `42.1 s`, `3 min 07 s`, `2 h 05 min`.
pub(crate) fn show_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = time.as_secs();
    if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A clock for what is left: `0:42`, `12:07`, `3:05:09`, `2d 03h`.
pub(crate) fn show_clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 86_400 {
        format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600)
    } else if seconds >= 3600 {
        format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds % 3600 / 60,
            seconds % 60
        )
    } else {
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number * factor` without a detour over floats for whole numbers.
fn scale(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64 KiB", 65_536),
            ("1.5MiB", 1_572_864),
            ("2G", 2 << 30),
            ("1MB", 1_000_000),
            ("512B", 512),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1.2.3", "-1", "5 bananas", "999999999999P", "KiB", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_times_are_read_and_zero_rates_refused() {
        assert_eq!(parse_rate("10MiB/s"), Ok(10 << 20));
        assert_eq!(parse_rate("10MiB"), Ok(10 << 20));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("fast").unwrap_err().contains("10MiB/s"));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn figures_are_short_and_never_round_into_a_thousand() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(999), "999 B");
        assert_eq!(show_size(1000), "0.98 KiB");
        assert_eq!(show_size(65_536), "64.0 KiB");
        assert_eq!(show_size(1_300_000_000), "1.21 GiB");
        assert_eq!(show_rate(10.0 * 1024.0 * 1024.0), "10.0 MiB/s");
        assert_eq!(show_time(Duration::from_millis(840)), "0.84 s");
        assert_eq!(show_time(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(show_clock(Duration::from_secs(42)), "0:42");
        assert_eq!(show_clock(Duration::from_secs(11_109)), "3:05:09");
    }
}
