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
    /// The entity tag as it stands in the header, quotes included. Not always text: a tag may hold bytes beyond ASCII.
    pub etag: Option<HeaderValue>,
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
            etag: HeaderValue::from_str(&format!("\"{size:x}-{nanos:x}-{inode:x}\"")).ok(),
            modified,
        }
    }

    /// Those that an answer of a server carries. The time of the last change only where it names one version.
    pub fn of_answer(headers: &HeaderMap) -> Self {
        let answered = date(headers, &DATE);
        let is_one = |modified: &SystemTime| answered.is_some_and(|now| names_one_version(*modified, now));
        Self {
            etag: headers.get(ETAG).cloned(),
            modified: date(headers, &LAST_MODIFIED).filter(is_one),
        }
    }

    /// The value of `If-Range` that asks for this very version, if one can be asked for: a strong tag; the date only
    /// where there is no tag at all. (Section 13.1.5.)
    pub fn if_range(&self) -> Option<HeaderValue> {
        match &self.etag {
            Some(tag) => is_strong(tag.as_bytes()).then(|| tag.clone()),
            None => HeaderValue::from_str(&httpdate::fmt_http_date(self.modified?)).ok(),
        }
    }

    /// Weighs the preconditions of a request, in the order of RFC 9110, section 13.2.2.
    pub fn weigh(&self, method: &Method, headers: &HeaderMap) -> Verdict {
        if !headers.keys().any(|name| name.as_str().starts_with("if-")) {
            // Most requests: one look at each name costs less than looking five names up.
            return Verdict::Proceed(RangeUse::Honour);
        }
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
        let value = value.as_bytes().trim_ascii();
        let same = if value.starts_with(b"\"") || value.starts_with(b"W/") {
            self.tag() == Some(value) && is_strong(value)
        } else {
            str::from_utf8(value)
                .ok()
                .and_then(|value| httpdate::parse_http_date(value).ok())
                .is_some_and(|date| self.is_of(date, SystemTime::now()))
        };
        if same { RangeUse::Honour } else { RangeUse::Ignore }
    }

    /// Whether a date in `If-Range` names this version: an exact match, not "unchanged since", and of a second that is
    /// over. (Section 13.1.5.)
    fn is_of(&self, date: SystemTime, now: SystemTime) -> bool {
        self.modified
            .is_some_and(|modified| whole_seconds(modified) == whole_seconds(date))
            && names_one_version(date, now)
    }

    fn tag(&self) -> Option<&[u8]> {
        self.etag.as_ref().map(HeaderValue::as_bytes)
    }

    fn listed(&self, headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> bool {
        headers.get_all(name).iter().any(|value| {
            let value = value.as_bytes();
            if value.trim_ascii() == b"*" {
                return self.etag.is_some() || self.modified.is_some();
            }
            let Some(mine) = self.tag() else {
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
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| !b" \t,".contains(byte))?;
        rest = &rest[start..];
        let open = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(open) != Some(&b'"') {
            return None;
        }
        let inside = &rest[open + 1..];
        let close = open + 1 + inside.iter().position(|byte| *byte == b'"')?;
        let (tag, after) = rest.split_at(close + 1);
        rest = after;
        Some(tag)
    })
}

fn is_strong(tag: &[u8]) -> bool {
    tag.len() >= 2 && tag.starts_with(b"\"") && tag.ends_with(b"\"")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether the time of a last change names one version to somebody who is told at `now`: its second is over, so that no
/// other change can have followed in it. (Section 8.8.2.2.)
fn names_one_version(modified: SystemTime, now: SystemTime) -> bool {
    whole_seconds(modified) + SECOND <= whole_seconds(now)
}

/// A condition on a date counts only if it is one date: a list of them is none. (Sections 13.1.3 and 13.1.4.)
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return None;
    }
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
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
            etag: Some(HeaderValue::from_static("\"v,1\"")),
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
            etag: Some(HeaderValue::from_static("W/\"1\"")),
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
            assert_eq!(tags(list.as_bytes()).count(), 0, "{list}");
        }
        assert_eq!(
            tags(b"\"a\" , W/\"b,c\",\"\"").collect::<Vec<_>>(),
            [&b"\"a\""[..], b"W/\"b,c\"", b"\"\""]
        );
    }

    #[test]
    fn a_tag_may_hold_bytes_beyond_ascii() {
        for tag in [&b"\"\xe9\""[..], "\"é\"".as_bytes()] {
            let tag = HeaderValue::from_bytes(tag).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, tag.clone());
            headers.insert(LAST_MODIFIED, HeaderValue::from_static(DAY));
            headers.insert(DATE, HeaderValue::from_static(NEXT));
            let theirs = Validators::of_answer(&headers);
            assert_eq!(theirs.if_range(), Some(tag.clone()), "the tag, and not the date");
            let weigh = |name, value: &HeaderValue| {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                theirs.weigh(&Method::GET, &headers)
            };
            let go = Verdict::Proceed(RangeUse::Honour);
            assert_eq!(weigh(IF_RANGE, &tag), go);
            assert_eq!(weigh(IF_MATCH, &tag), go);
            let list = HeaderValue::from_bytes(&[b"\"a\", ", tag.as_bytes()].concat()).unwrap();
            assert_eq!(weigh(IF_NONE_MATCH, &list), Verdict::NotModified);
            assert_eq!(
                weigh(IF_MATCH, &HeaderValue::from_static("\"e\"")),
                Verdict::Failed
            );
        }
    }

    #[test]
    fn a_date_asks_for_a_part_only_once_its_second_is_over() {
        let dated = httpdate::parse_http_date(DAY).unwrap();
        let at = |ms| mine().is_of(dated, dated + Duration::from_millis(ms));
        assert!(!at(700) && !at(999), "it may change again in this second");
        assert!(at(1000));
        let now = SystemTime::now() + SECOND; // the clock may tick while we look
        let young = Validators {
            etag: None,
            modified: Some(now),
        };
        let asked = httpdate::fmt_http_date(now);
        let headers = HeaderMap::from_iter([(IF_RANGE, asked.parse().unwrap())]);
        assert_eq!(
            young.weigh(&Method::GET, &headers),
            Verdict::Proceed(RangeUse::Ignore)
        );
    }
}
