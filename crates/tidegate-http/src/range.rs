//! The `Range` header: which bytes of a representation a client asks for.
//!
//! Knows nothing of files: a size comes in, byte ranges come out. (RFC 9110, section 14.)

use std::fmt;

/// The most ranges honoured in one request: a client that wants more gets the whole file, which costs less than the
/// parts would. (RFC 9110, section 14.2 allows to ignore such requests; nginx and Apache have limits of the same kind.)
pub const RANGES_MAX: usize = 16;

/// A run of bytes: `start` to `start + length`. Never empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Bytes, at least one.
    pub length: u64,
}

impl ByteRange {
    /// Offset of the last byte.
    pub const fn last(&self) -> u64 {
        self.start + self.length - 1
    }

    /// One past the last byte.
    pub const fn end(&self) -> u64 {
        self.start + self.length
    }

    /// The value of `Content-Range` for this part of `size` bytes.
    pub fn content_range(&self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.last())
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.last())
    }
}

/// What a `Range` header comes to for a representation of a known size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// No header, one that is not understood, or one that asks for too much at once: all of it.
    Whole,
    /// One part.
    Single(ByteRange),
    /// Several parts, in the order asked for.
    Several(Vec<ByteRange>),
    /// Understood, but no byte of it exists: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` header against a representation of `size` bytes.
///
/// ```
/// use tidegate_http::range::{parse, ByteRange, Wanted};
/// assert_eq!(parse("bytes=-3", 10), Wanted::Single(ByteRange { start: 7, length: 3 }));
/// assert_eq!(parse("bytes=10-", 10), Wanted::Unsatisfiable);
/// assert_eq!(parse("lines=1-2", 10), Wanted::Whole);
/// ```
pub fn parse(value: &str, size: u64) -> Wanted {
    let Some((unit, set)) = value.split_once('=') else {
        return Wanted::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut ranges = Vec::new();
    let mut seen = 0;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        seen += 1;
        if seen > RANGES_MAX {
            return Wanted::Whole;
        }
        match parse_one(spec, size) {
            Spec::Invalid => return Wanted::Whole,
            Spec::Beyond => {}
            Spec::Bytes(range) => ranges.push(range),
        }
    }
    if seen == 0 {
        return Wanted::Whole;
    }
    // Overlapping parts that add up to more than the file are an attack or a mistake; the file itself is less.
    if ranges.len() > 1 && ranges.iter().map(|range| range.length).sum::<u64>() > size {
        return Wanted::Whole;
    }
    match ranges.len() {
        0 => Wanted::Unsatisfiable,
        1 => Wanted::Single(ranges[0]),
        _ => Wanted::Several(ranges),
    }
}

enum Spec {
    Invalid,
    Beyond,
    Bytes(ByteRange),
}

fn parse_one(spec: &str, size: u64) -> Spec {
    let Some((first, last)) = spec.split_once('-') else {
        return Spec::Invalid;
    };
    match (first.trim(), last.trim()) {
        ("", "") => Spec::Invalid,
        ("", suffix) => match number(suffix) {
            None => Spec::Invalid,
            Some(0) => Spec::Beyond,
            Some(_) if size == 0 => Spec::Beyond,
            Some(count) => {
                let length = count.min(size);
                Spec::Bytes(ByteRange {
                    start: size - length,
                    length,
                })
            }
        },
        (first, last) => {
            let last = if last.is_empty() {
                Some(u64::MAX)
            } else {
                number(last)
            };
            match (number(first), last) {
                (Some(first), Some(last)) if first > last => Spec::Invalid,
                (Some(first), Some(_)) if first >= size => Spec::Beyond,
                (Some(first), Some(last)) => Spec::Bytes(ByteRange {
                    start: first,
                    length: last.min(size - 1) - first + 1,
                }),
                _ => Spec::Invalid,
            }
        }
    }
}

/// Digits only: `u64::from_str` would take a sign. A number too large to hold is as good as the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// What a `Content-Range` header of a partial answer says: the part, and the whole size where it is told.
/// (RFC 9110, section 14.4.)
pub fn parse_content_range(value: &str) -> Option<(ByteRange, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (part, size) = rest.trim().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let size = match size.trim() {
        "*" => None,
        digits => Some(number(digits)?),
    };
    if first > last || last == u64::MAX || size.is_some_and(|size| last >= size) {
        return None;
    }
    Some((
        ByteRange {
            start: first,
            length: last - first + 1,
        },
        size,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn single(start: u64, length: u64) -> Wanted {
        Wanted::Single(ByteRange { start, length })
    }

    #[test]
    fn single_ranges() {
        for (value, wanted) in [
            ("bytes=0-0", single(0, 1)),
            ("bytes=2-4", single(2, 3)),
            ("bytes=2-", single(2, 8)),
            ("bytes=-1", single(9, 1)),
            ("bytes=-99", single(0, 10)),
            ("bytes=5-99999999999999999999999", single(5, 5)),
            ("BYTES = 1-2", single(1, 2)),
            ("bytes=,, 1-2 ,", single(1, 2)),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=10-,20-30", Wanted::Unsatisfiable),
            ("bytes=1-2,10-", single(1, 2)),
        ] {
            assert_eq!(parse(value, 10), wanted, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn several_ranges_keep_their_order_and_have_a_limit() {
        let wanted = parse("bytes=5-6,0-1", 10);
        let expected = vec![
            ByteRange { start: 5, length: 2 },
            ByteRange { start: 0, length: 2 },
        ];
        assert_eq!(wanted, Wanted::Several(expected));
        assert_eq!(parse("bytes=0-,0-,0-", 10), Wanted::Whole, "more than the file");
        let many = format!("bytes={}", ["0-0"; RANGES_MAX + 1].join(","));
        assert_eq!(parse(&many, 1000), Wanted::Whole);
    }

    #[test]
    fn content_range_is_read_strictly() {
        let part = ByteRange { start: 2, length: 3 };
        assert_eq!(parse_content_range("bytes 2-4/10"), Some((part, Some(10))));
        assert_eq!(parse_content_range("bytes 2-4/*"), Some((part, None)));
        for bad in [
            "bytes */10",
            "bytes 4-2/10",
            "bytes 2-10/10",
            "lines 2-4/10",
            "bytes 2-4",
            "bytes=2-4/10",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_stays_inside(value in "(bytes=)?[0-9, -]{0,40}", size in 0_u64..200) {
            let ranges = match parse(&value, size) {
                Wanted::Single(range) => vec![range],
                Wanted::Several(ranges) => ranges,
                Wanted::Whole | Wanted::Unsatisfiable => vec![],
            };
            for range in ranges {
                prop_assert!(range.length > 0 && range.end() <= size);
            }
        }
    }
}
