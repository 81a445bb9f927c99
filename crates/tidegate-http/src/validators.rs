//! Validators and preconditions: entity tags, dates, and what the `If-…` headers make of them.
//!
//! Knows nothing of files: a tag and a time come in, a verdict comes out. (RFC 9110, sections 8.8 and 13.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// What identifies one version of a representation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validators {
    /// The entity tag as it stands in the header, quotes included.
    pub etag: Option<String>,
    /// The time of the last change.
    pub modified: Option<SystemTime>,
}

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Answer the request; whether a `Range` header counts is said.
    Proceed(RangeUse),
    /// 304: the client has this version.
    NotModified,
    /// 412.
    Failed,
}

/// Whether a `Range` header counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RangeUse {
    /// Honour it.
    Honour,
    /// `If-Range` names another version: send the whole.
    Ignore,
}

impl Validators {
    /// Those of a file, read off its metadata. The tag is strong: size, time in nanoseconds and inode name one content,
    /// as far as the file system keeps time finely enough.
    pub fn of_file(size: u64, modified: Option<SystemTime>, inode: u64) -> Self {
        let nanos = modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_nanos());
        Self {
            etag: Some(format!("\"{size:x}-{nanos:x}-{inode:x}\"")),
            modified,
        }
    }

    /// Those that an answer of a server carries.
    pub fn of_answer(headers: &HeaderMap) -> Self {
        Self {
            etag: text(headers, &ETAG).map(str::to_owned),
            modified: date(headers, &LAST_MODIFIED),
        }
    }

    /// The value of `If-Range` that asks for this very version, if one can be asked for: a strong tag, else the date.
    pub fn if_range(&self) -> Option<HeaderValue> {
        match &self.etag {
            Some(tag) if is_strong(tag) => HeaderValue::from_str(tag).ok(),
            _ => HeaderValue::from_str(&httpdate::fmt_http_date(self.modified?)).ok(),
        }
    }

    /// Weighs the preconditions of a request, in the order of RFC 9110, section 13.2.2.
    pub fn weigh(&self, method: &Method, headers: &HeaderMap) -> Verdict {
        let reading = *method == Method::GET || *method == Method::HEAD;
        if headers.contains_key(IF_MATCH) {
            if !self.listed(headers, &IF_MATCH, Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if let Some(since) = date(headers, &IF_UNMODIFIED_SINCE)
            && self.changed_after(since) != Some(false)
        {
            return Verdict::Failed;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            if self.listed(headers, &IF_NONE_MATCH, Comparison::Weak) {
                return if reading {
                    Verdict::NotModified
                } else {
                    Verdict::Failed
                };
            }
        } else if reading
            && let Some(since) = date(headers, &IF_MODIFIED_SINCE)
            && self.changed_after(since) == Some(false)
        {
            return Verdict::NotModified;
        }
        Verdict::Proceed(self.range_use(headers))
    }

    fn range_use(&self, headers: &HeaderMap) -> RangeUse {
        let Some(value) = headers.get(IF_RANGE) else {
            return RangeUse::Honour;
        };
        let Ok(value) = value.to_str() else {
            return RangeUse::Ignore;
        };
        let value = value.trim();
        let same = if value.starts_with('"') || value.starts_with("W/") {
            self.etag.as_deref() == Some(value) && is_strong(value)
        } else {
            // An exact match, not "unchanged since": section 13.1.5.
            match (httpdate::parse_http_date(value), self.modified) {
                (Ok(date), Some(modified)) => whole_seconds(modified) == whole_seconds(date),
                _ => false,
            }
        };
        if same { RangeUse::Honour } else { RangeUse::Ignore }
    }

    fn listed(&self, headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> bool {
        headers.get_all(name).iter().any(|value| {
            let Ok(value) = value.to_str() else { return false };
            if value.trim() == "*" {
                return self.etag.is_some() || self.modified.is_some();
            }
            let Some(mine) = self.etag.as_deref() else {
                return false;
            };
            tags(value).any(|theirs| match comparison {
                Comparison::Strong => theirs == mine && is_strong(mine),
                Comparison::Weak => opaque(theirs) == opaque(mine),
            })
        })
    }

    fn changed_after(&self, since: SystemTime) -> Option<bool> {
        self.modified
            .map(|modified| whole_seconds(modified) > whole_seconds(since))
    }
}

#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// The tags in a list. A comma may stand inside the quotes, so splitting at commas would be wrong.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let open = if rest.starts_with("W/\"") { 2 } else { 0 };
        if !rest[open.min(rest.len())..].starts_with('"') {
            return None;
        }
        let close = rest[open + 1..].find('"')? + open + 1;
        let (tag, after) = rest.split_at(close + 1);
        rest = after;
        Some(tag)
    })
}

fn is_strong(tag: &str) -> bool {
    tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// HTTP dates have whole seconds; a file's time has more.
fn whole_seconds(time: SystemTime) -> Duration {
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(age.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEXT: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn mine() -> Validators {
        Validators {
            etag: Some("\"v,1\"".to_owned()),
            modified: Some(httpdate::parse_http_date(DAY).unwrap() + Duration::from_millis(700)),
        }
    }

    fn weigh(method: Method, lines: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().unwrap());
        }
        mine().weigh(&method, &headers)
    }

    const GO: Verdict = Verdict::Proceed(RangeUse::Honour);
    const WHOLE: Verdict = Verdict::Proceed(RangeUse::Ignore);

    #[test]
    fn none_match_and_modified_since() {
        assert_eq!(weigh(Method::GET, &[]), GO);
        assert_eq!(
            weigh(Method::GET, &[(IF_NONE_MATCH, "\"a\", W/\"v,1\"")]),
            Verdict::NotModified
        );
        assert_eq!(weigh(Method::HEAD, &[(IF_NONE_MATCH, "*")]), Verdict::NotModified);
        assert_eq!(weigh(Method::PUT, &[(IF_NONE_MATCH, "*")]), Verdict::Failed);
        assert_eq!(weigh(Method::GET, &[(IF_NONE_MATCH, "\"a\"")]), GO);
        assert_eq!(
            weigh(Method::GET, &[(IF_MODIFIED_SINCE, DAY)]),
            Verdict::NotModified
        );
        assert_eq!(weigh(Method::GET, &[(IF_MODIFIED_SINCE, BEFORE)]), GO);
        assert_eq!(weigh(Method::GET, &[(IF_MODIFIED_SINCE, "rubbish")]), GO);
        // If-None-Match wins over If-Modified-Since.
        assert_eq!(
            weigh(
                Method::GET,
                &[(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, NEXT)]
            ),
            GO
        );
    }

    #[test]
    fn match_and_unmodified_since() {
        assert_eq!(weigh(Method::PUT, &[(IF_MATCH, "\"v,1\"")]), GO);
        assert_eq!(weigh(Method::PUT, &[(IF_MATCH, "W/\"v,1\"")]), Verdict::Failed);
        assert_eq!(weigh(Method::PUT, &[(IF_MATCH, "\"v\"")]), Verdict::Failed);
        assert_eq!(weigh(Method::PUT, &[(IF_MATCH, "*")]), GO);
        assert_eq!(
            weigh(Method::GET, &[(IF_UNMODIFIED_SINCE, BEFORE)]),
            Verdict::Failed
        );
        assert_eq!(weigh(Method::GET, &[(IF_UNMODIFIED_SINCE, DAY)]), GO);
    }

    #[test]
    fn if_range_asks_for_the_very_version() {
        assert_eq!(weigh(Method::GET, &[(IF_RANGE, "\"v,1\"")]), GO);
        assert_eq!(weigh(Method::GET, &[(IF_RANGE, "W/\"v,1\"")]), WHOLE);
        assert_eq!(weigh(Method::GET, &[(IF_RANGE, DAY)]), GO);
        assert_eq!(weigh(Method::GET, &[(IF_RANGE, NEXT)]), WHOLE);
        assert_eq!(weigh(Method::GET, &[(IF_RANGE, "rubbish")]), WHOLE);
        assert_eq!(mine().if_range().unwrap(), "\"v,1\"");
        let weak = Validators {
            etag: Some("W/\"1\"".to_owned()),
            ..mine()
        };
        assert_eq!(weak.if_range().unwrap(), DAY);
        assert_eq!(
            Validators {
                etag: None,
                modified: None
            }
            .if_range(),
            None
        );
    }

    #[test]
    fn broken_lists_end_quietly() {
        for list in ["", "W/", "W", "\"", "W/\"", "\"a", ",,,", "x", "é"] {
            assert_eq!(tags(list).count(), 0, "{list}");
        }
        assert_eq!(
            tags("\"a\" , W/\"b,c\",\"\"").collect::<Vec<_>>(),
            ["\"a\"", "W/\"b,c\"", "\"\""]
        );
    }
}
