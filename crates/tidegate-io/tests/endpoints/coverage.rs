//! The scenarios and the defects that name a transport, a process, standard streams, TLS or a file sender: each is played
//! here, or is said to be no affair of a device and why. A number in no list fails, so that none is dropped silently.

use std::collections::BTreeSet;

use crate::cases::{TABLE, fits};
use crate::script::parse;

/// Groups A, B, D, E, F, H and I, the file sender, and what part 2 adds to them.
const ALL: &str = "
1 3 4 6 7 9 10 12 13 15 16 18 19 21 22 24 25 27 28 30 31 33 34 36 37 39 40 42 43 45 46 48 49 51 52 54 55
66 67 69 70 72 73 75 76 78 79 81 82 84 85 87 88 90 91 93 94 96 97 99 100 102 103
126 127 129 130 132 133 135 136 138 139 141 196 198 199 201 202
B1 B2 B4 B5 B7 B8 B10 B11 B13 B14 B16 B17 B19 B20 B22 B23 B25 B26 B28 B29 B31 B32 B46 B47 B49 B50 B52 B53 B59 B61 B62";

/// In the table as well, where a hold or a panic stands for the real thing: a named test must show that, too.
const REALLY: &str = "69 88 93 97 135 138 B4 B28 B29 B53";

/// Not played over descriptors, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("9", "text for bytes cannot be written in Rust"),
    ("43", "no byte stream of ours passes descriptors along"),
    (
        "66 67 81 82",
        "how a TLS layer registers with its lower transport: there is none, the gate in front stays (B28)",
    ),
    (
        "76",
        "a pull source is never made a push source by TLS; it meets the same gate (88)",
    ),
    (
        "100 102",
        "where a transport in memory cuts what it delivers; a device cuts where it likes (42, 99)",
    ),
    (
        "126 127 129 B49",
        "a bucket by itself: numbers and a time given, no bytes and no device (in front of one: 130, B46)",
    ),
];

/// Where named tests cite what they show.
const TESTS: [&str; 10] = [
    include_str!("above.rs"),
    include_str!("hangups.rs"),
    include_str!("pipes.rs"),
    include_str!("process.rs"),
    include_str!("process_alike.rs"),
    include_str!("producers.rs"),
    include_str!("tls.rs"),
    include_str!("tls_below.rs"),
    include_str!("transport.rs"),
    include_str!("twisted.rs"),
];

/// The study's numbers of defects in these areas: transports, processes, stdio, TLS, forwarding, the file sender.
const DEFECTS: &str = "1 2 3 4 5 7 8 9 10 11 12 13 14 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 83 84 106 107 108 109 110";

#[test]
fn every_scenario_of_a_transport_is_played_or_exempt() {
    let all: BTreeSet<&str> = ALL.split_whitespace().collect();
    let exempt: BTreeSet<&str> = NOT_HERE
        .iter()
        .flat_map(|(numbers, _)| numbers.split_whitespace())
        .collect();
    let table = parse(TABLE)
        .into_iter()
        .filter(fits)
        .flat_map(|case| case.numbers);
    let named: BTreeSet<String> = TESTS
        .iter()
        .flat_map(|source| cited(source))
        .map(str::to_owned)
        .collect();
    let not_really: Vec<_> = REALLY
        .split_whitespace()
        .filter(|number| !named.contains(*number))
        .collect();
    assert!(not_really.is_empty(), "in no named test: {not_really:?}");
    let played: BTreeSet<String> = table.chain(named).collect();
    let dropped: Vec<_> = all
        .iter()
        .filter(|number| !played.contains(**number) && !exempt.contains(*number))
        .collect();
    assert!(dropped.is_empty(), "neither played nor exempt: {dropped:?}");
    let both: Vec<_> = exempt.iter().filter(|number| played.contains(**number)).collect();
    assert!(both.is_empty(), "played and exempt: {both:?}");
    let unknown: Vec<_> = exempt.difference(&all).collect();
    assert!(unknown.is_empty(), "exempt, but in no group: {unknown:?}");
    assert!(
        NOT_HERE.iter().all(|(_, why)| why.len() > 20),
        "exempt without a word why"
    );
}

/// `/// CASES 46, B22, D26: …`
pub(crate) fn cited(source: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// CASES "));
    // What follows the first colon or full stop is about them.
    let heads = lines.filter_map(|line| line.split([':', '.']).next());
    heads.flat_map(|head| {
        head.split([' ', ',', '(', ')'])
            .filter(|word| word.trim_start_matches('B').parse::<u16>().is_ok())
    })
}

/// The table of defects in the crate's documentation names every one, and each proof it names is there.
#[test]
fn every_defect_is_in_the_table_and_its_proof_exists() {
    let mut known = BTreeSet::new();
    for (numbers, proofs) in rows() {
        known.extend(numbers.split(", ").map(|number| number.trim_start_matches('D')));
        let mut count = usize::from(proofs.contains("type"));
        for name in proofs.split('`').skip(1).step_by(2) {
            let is_there = TESTS.iter().any(|source| source.contains(&format!("fn {name}(")))
                || include_str!("scenarios.rs").contains(&format!(" {name}: over("));
            assert!(is_there, "{numbers} names {name}, which does not exist");
            count += 1;
        }
        assert!(count > 0, "{numbers} has no proof");
    }
    let all: BTreeSet<&str> = DEFECTS.split_whitespace().collect();
    assert_eq!(known, all);
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../src/lib.rs").lines();
    lines.filter_map(|line| {
        let (numbers, rest) = line
            .strip_prefix("//! | D")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        Some((numbers, rest.rsplit_once(" | ")?.1))
    })
}
