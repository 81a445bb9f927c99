//! Every scenario of the house, by number: played here, or elsewhere, or not at all with a word why. A number that is
//! in no list fails, so that none is dropped silently.

use std::collections::BTreeSet;

/// Every number there is; they are names and have gaps.
const ALL: &str = "
1 3 4 6 7 9 10 12 13 15 16 18 19 21 22 24 25 27 28 30 31 33 34 36 37 39 40 42 43 45 46 48 49 51 52 54 55 57 58 60 61 63
64 66 67 69 70 72 73 75 76 78 79 81 82 84 85 87 88 90 91 93 94 96 97 99 100 102 103 105 106 108 109 111 112 114 115 117
118 120 121 123 124 126 127 129 130 132 133 135 136 138 139 141 142 144 145 147 148 150 151 153 154 156 157 159 160 162
163 165 166 168 169 171 172 174 175 177 178 180 181 183 184 186 187 189 190 192 193 195 196 198 199 201 202 204 205 207
208 210 211 213 214 216 217 219 220 222 223 225 226 228 229 231 232 234 235 237 238 240 241 243 244 246 247 249 250
B1 B2 B4 B5 B7 B8 B10 B11 B13 B14 B16 B17 B19 B20 B22 B23 B25 B26 B28 B29 B31 B32 B34 B35 B37 B38 B40 B41 B43 B44 B46
B47 B49 B50 B52 B53 B55 B56 B58 B59 B61 B62 B64 B65";

/// Numbers that are not played in this crate, and where they belong or why they are no scenario of ours.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "9 60 187",
        "text for bytes cannot be written in Rust, nor a file that only seeks or only tells",
    ),
    (
        "43",
        "passing descriptors along is internal to Twisted's sockets; no byte stream of ours does it",
    ),
    (
        "58",
        "one write in flight on a completion port is the runtime's own business",
    ),
    (
        "66 67 81 82",
        "how a TLS layer registers with its lower transport; here a hold on the gate (69, 79, B26)",
    ),
    ("21", "a socket's paused reading side: tidegate-io"),
    ("46 51 54 55 B22", "processes and standard streams: tidegate-io"),
    ("B28 B29", "TLS over a live transport: tidegate-io"),
    (
        "189 190 192 193 195",
        "a file's body sent step by step, where files are: tidegate-io, tidegate-http",
    ),
    ("196 198 199 201 202 B62", "the file sender: tidegate-io"),
    (
        "142 144 145 147 148 150 151",
        "the data connection and file consumer: tidegate-ftp",
    ),
    ("153 154 156 157 B55", "append a message: tidegate-maildir"),
    ("159 160 162 163 B56 B58", "pagers and the broker: tidegate-pb"),
    ("165 166 172 174", "bodies of client requests: tidegate-http"),
    ("181 183 184 186", "the response side of a client: tidegate-http"),
    ("204 205 207 208 210 211 B64", "static files: tidegate-http"),
    ("214 216", "a server's request as consumer: tidegate-http"),
    (
        "219 222 223 225 228 229",
        "hyper's own reading; what a producer sees: tidegate-http",
    ),
    (
        "231 232 234 235 237 240 241 243 244 246 247 B40 B41",
        "windows of HTTP/2 streams: tidegate-http",
    ),
    (
        "B34 B35 B37 B38",
        "requests and streams that are lost: tidegate-http",
    ),
];

/// Where named tests cite their cases.
const TESTS: [&str; 6] = [
    include_str!("lengths.rs"),
    include_str!("protocols.rs"),
    include_str!("proxies.rs"),
    include_str!("pulls.rs"),
    include_str!("shaping.rs"),
    include_str!("../../src/bucket.rs"),
];

#[test]
fn every_scenario_is_played_or_exempt_with_a_word_why() {
    let played = played();
    let all: BTreeSet<&str> = ALL.split_whitespace().collect();
    let not_here: BTreeSet<&str> = NOT_HERE
        .iter()
        .flat_map(|(numbers, _)| numbers.split_whitespace())
        .collect();
    let known: BTreeSet<&str> = played.union(&not_here).copied().collect();
    let dropped: Vec<_> = all.difference(&known).collect();
    assert!(dropped.is_empty(), "neither played nor exempt: {dropped:?}");
    let unknown: Vec<_> = not_here.difference(&all).collect();
    assert!(
        unknown.is_empty(),
        "exempt, but there is no such scenario: {unknown:?}"
    );
    let both: Vec<_> = played.intersection(&not_here).collect();
    assert!(both.is_empty(), "played and exempt: {both:?}");
    assert!(NOT_HERE.iter().all(|(_, why)| !why.is_empty()));
    println!(
        "{} of {} scenarios are played here",
        played.intersection(&all).count(),
        all.len()
    );
}

/// Numbers in the table, and in the docs of named tests (`/// CASES 1, B2 (D3): ...`).
pub(crate) fn played() -> BTreeSet<&'static str> {
    let heads = crate::TABLE.lines().filter_map(|line| line.strip_prefix("case "));
    let table = heads
        .filter_map(|head| head.split_once(" on "))
        .flat_map(|(numbers, _)| numbers.split_whitespace());
    let docs = TESTS.iter().flat_map(|source| source.lines());
    let cited = docs
        .filter_map(|line| line.trim().strip_prefix("/// CASES "))
        .flat_map(cited);
    table.chain(cited).filter(|number| is_number(number)).collect()
}

fn cited(line: &'static str) -> impl Iterator<Item = &'static str> {
    let words = line
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', ':', '.']));
    words.take_while(|word| is_number(word))
}

/// A scenario's name; the table has others of its own, for laws and defects.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('B').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
