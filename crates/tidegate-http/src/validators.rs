//! Validators and preconditions: entity tags, dates, and what the `If-…` headers make of them.
//!
//! Knows nothing of files: a tag and a time come in, a verdict comes out. (RFC 9110, sections 8.8 and 13.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const SECOND: Duration = Duration::from_secs(1);

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

    /// Those that an answer of a server carries. The time of the last change only where it names one version: a second
    /// or more before the answer, so that no other change can have followed in the same second. (Section 8.8.2.2.)
    pub fn of_answer(headers: &HeaderMap) -> Self {
        let answered = date(headers, &DATE);
        let is_strong = |modified: &SystemTime| answered.is_some_and(|now| *modified + SECOND <= now);
        Self {
            etag: text(headers, &ETAG).map(str::to_owned),
            modified: date(headers, &LAST_MODIFIED).filter(is_strong),
        }
    }

    /// The value of `If-Range` that asks for this very version, if one can be asked for: a strong tag; the date only
    /// where there is no tag at all. (Section 13.1.5.)
    pub fn if_range(&self) -> Option<HeaderValue> {
        match &self.etag {
            Some(tag) => is_strong(tag).then(|| HeaderValue::from_str(tag).ok())?,
            None => HeaderValue::from_str(&httpdate::fmt_http_date(self.modified?)).ok(),
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
            && self.changed_after(since) == Some(true)
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

    /// `None`: there is no date to compare with, and a condition on one is to be passed over.
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

/// A condition on a date counts only if it is one date: a list of them is none. (Sections 13.1.3 and 13.1.4.)
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return None;
    }
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

    /// A table of requests: method, headers, what becomes of it, why. The file changed at `Same`.
    fn judge(mine: &Validators, table: &str) {
        for row in table.lines().filter(|row| !row.trim().is_empty()) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [method, lines, verdict, _why] = cells[..] else {
                panic!("four cells: {row}")
            };
            let mut headers = HeaderMap::new();
            for (name, value) in lines.split('&').filter_map(|line| line.trim().split_once(':')) {
                let value = match value.trim() {
                    "Before" => BEFORE,
                    "Same" => DAY,
                    "After" => NEXT,
                    other => other,
                };
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let verdict = match verdict {
                "go" => Verdict::Proceed(RangeUse::Honour),
                "whole" => Verdict::Proceed(RangeUse::Ignore),
                "304" => Verdict::NotModified,
                "412" => Verdict::Failed,
                other => panic!("no verdict: {other}"),
            };
            assert_eq!(mine.weigh(&method.parse().unwrap(), &headers), verdict, "{row}");
        }
    }

    /// RFC 9110, section 13.2.2: the steps in their order, and what wins over what.
    const STEPS: &str = r#"
        GET  |                                                    | go    | no condition
        PUT  | If-Match: "v,1"                                    | go    | 1: this version
        PUT  | If-Match: *                                        | go    | 1: there is some version
        PUT  | If-Match: "v"                                      | 412   | 1: another version
        GET  | If-Match: "v"                                      | 412   | 1: also for reading
        PUT  | If-Match: W/"v,1"                                  | 412   | 1: compared strongly
        PUT  | If-Match: "a", "v,1"                               | go    | 1: one of a list
        PUT  | If-Match: "v" & If-Match: "v,1"                    | go    | 1: one of two lines
        PUT  | If-Match:                                          | 412   | 1: an empty list names no version
        GET  | If-Match: "v,1" & If-Unmodified-Since: Before      | go    | 1 hides 2
        GET  | If-Match: "v" & If-Unmodified-Since: Same          | 412   | 1 hides 2
        GET  | If-Unmodified-Since: Same                          | go    | 2: not changed
        GET  | If-Unmodified-Since: Before                        | 412   | 2: changed
        PUT  | If-Unmodified-Since: Before                        | 412   | 2: changed
        PUT  | If-Unmodified-Since: rubbish                       | go    | 2: no date is passed over
        PUT  | If-Unmodified-Since: Before & If-Unmodified-Since: Same | go | 2: and so is a list
        GET  | If-None-Match: "v,1"                               | 304   | 3: the client has it
        HEAD | If-None-Match: *                                   | 304   | 3: it has some
        GET  | If-None-Match: "a", W/"v,1"                        | 304   | 3: compared weakly
        GET  | If-None-Match: "v"                                 | go    | 3: it has another
        PUT  | If-None-Match: *                                   | 412   | 3: only if there is none
        PUT  | If-None-Match: W/"v,1"                             | 412   | 3: compared weakly
        GET  | If-None-Match: "v" & If-Modified-Since: After      | go    | 3 hides 4
        GET  | If-None-Match: "v,1" & If-Modified-Since: Before   | 304   | 3 hides 4
        GET  | If-Match: "v" & If-None-Match: "v,1"               | 412   | 1 before 3
        GET  | If-Match: "v,1" & If-None-Match: "v,1"             | 304   | 3 after 1
        GET  | If-Unmodified-Since: Before & If-None-Match: "v,1" | 412   | 2 before 3
        GET  | If-Unmodified-Since: Same & If-None-Match: "v,1"   | 304   | 3 after 2
        GET  | If-Modified-Since: Same                            | 304   | 4: not changed
        HEAD | If-Modified-Since: After                           | 304   | 4: not changed
        GET  | If-Modified-Since: Before                          | go    | 4: changed
        PUT  | If-Modified-Since: Same                            | go    | 4: for reading alone
        GET  | If-Modified-Since: rubbish                         | go    | 4: no date is passed over
        GET  | If-Unmodified-Since: Same & If-Modified-Since: Same | 304  | 4 after 2
        GET  | If-Range: "v,1"                                    | go    | 5: this version
        GET  | If-Range: "v"                                      | whole | 5: another
        GET  | If-Range: W/"v,1"                                  | whole | 5: compared strongly
        GET  | If-Range: Same                                     | go    | 5: this very date
        GET  | If-Range: After                                    | whole | 5: a later one is not it
        GET  | If-Range: rubbish                                  | whole | 5: neither tag nor date
        GET  | If-None-Match: "v,1" & If-Range: "v,1"             | 304   | 3 before 5
        GET  | If-None-Match: "v" & If-Range: "v"                 | whole | 5 after 3
        GET  | If-Match: "v,1" & If-Range: "v"                    | whole | 5 after 1
    "#;

    #[test]
    fn conditions_are_weighed_in_their_order() {
        judge(&mine(), STEPS);
    }

    #[test]
    fn what_has_no_validator_or_a_weak_one() {
        let nothing = Validators {
            etag: None,
            modified: None,
        };
        judge(
            &nothing,
            r#"
            PUT | If-Match: *                 | 412   | 1: there is none
            PUT | If-Unmodified-Since: Before | go    | 2: nothing to compare with
            PUT | If-None-Match: *            | go    | 3: there is none
            GET | If-Modified-Since: After    | go    | 4: nothing to compare with
            GET | If-Range: Same              | whole | 5: nothing to compare with
            "#,
        );
        assert_eq!(nothing.if_range(), None);
        let weak = Validators {
            etag: Some("W/\"1\"".to_owned()),
            ..mine()
        };
        judge(
            &weak,
            r#"
            PUT | If-Match: W/"1"      | 412   | 1: never equal strongly
            GET | If-None-Match: "1"   | 304   | 3: equal weakly
            GET | If-Range: W/"1"      | whole | 5: a weak tag asks for no part
            GET | If-Range: "1"        | whole | 5: nor does its strong twin
            "#,
        );
        assert_eq!(weak.if_range(), None, "a date does not make up for a weak tag");
        assert_eq!(mine().if_range().unwrap(), "\"v,1\"");
    }

    #[test]
    fn a_date_names_a_version_only_once_its_second_is_over() {
        let asked = |lines: &[(HeaderName, &str)]| {
            let headers = lines
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()));
            Validators::of_answer(&headers.collect()).if_range()
        };
        assert_eq!(asked(&[(LAST_MODIFIED, DAY), (DATE, NEXT)]).unwrap(), DAY);
        assert_eq!(asked(&[(LAST_MODIFIED, DAY), (DATE, DAY)]), None);
        assert_eq!(asked(&[(LAST_MODIFIED, DAY)]), None);
        assert_eq!(
            asked(&[(LAST_MODIFIED, DAY), (DATE, NEXT), (ETAG, "W/\"1\"")]),
            None
        );
        assert_eq!(
            asked(&[(LAST_MODIFIED, DAY), (DATE, DAY), (ETAG, "\"1\"")]).unwrap(),
            "\"1\""
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
