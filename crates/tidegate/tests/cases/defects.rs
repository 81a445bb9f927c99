//! The table of defects in the crate's docs: every number is in it or belongs to another crate, and what a row names as
//! its proof exists.

use std::collections::BTreeSet;
use std::path::Path;

/// The study's numbers; two of them were never given.
const LAST: u32 = 114;
const NEVER_GIVEN: [u32; 2] = [59, 113];

/// Defects of things this crate does not have.
const ELSEWHERE: [(&str, &str); 6] = [
    ("25 26 27 28 29 30", "tidegate-io: processes and standard streams"),
    ("35 36 107 109", "tidegate-io: TLS, the file sender"),
    (
        "54 55 56 58 102 104 105 111 112",
        "tidegate-http: streams, bodies, ranges",
    ),
    (
        "87 88 89 90 91",
        "tidegate-ftp: the data connection and the file consumer",
    ),
    ("92 93 94 95", "tidegate-maildir"),
    ("96 97 98 99", "tidegate-pb"),
];

#[test]
fn every_defect_is_in_the_table_or_belongs_elsewhere() {
    let table: BTreeSet<u32> = rows().flat_map(|(numbers, _)| numbers).collect();
    let elsewhere: BTreeSet<u32> = ELSEWHERE.iter().flat_map(|(list, _)| numbers(list)).collect();
    let twice: Vec<_> = table.intersection(&elsewhere).collect();
    assert!(twice.is_empty(), "in the table and elsewhere: {twice:?}");
    let all: BTreeSet<u32> = (1..=LAST)
        .filter(|number| !NEVER_GIVEN.contains(number))
        .collect();
    let known: BTreeSet<u32> = table.union(&elsewhere).copied().collect();
    assert_eq!(known, all);
}

#[test]
fn what_the_table_names_as_proof_exists() {
    let played = crate::coverage::played();
    for (defects, why) in rows() {
        let mut proofs = usize::from(why.contains("type"));
        if why.contains("walk") {
            assert!(Path::new("tests/gate_walk.rs").exists());
            proofs += 1;
        }
        for file in why.split('`').filter(|word| word.starts_with("tests/")) {
            assert!(Path::new(file).exists(), "D{defects:?} names {file}");
            proofs += 1;
        }
        for law in after(why, "law").into_iter().flat_map(numbers) {
            assert!((1..=16).contains(&law), "D{defects:?} names law {law}");
            proofs += 1;
        }
        for case in after(why, "CASES").into_iter().flat_map(words) {
            assert!(played.contains(case), "D{defects:?} names case {case}");
            proofs += 1;
        }
        assert!(proofs > 0, "D{defects:?} has no proof: {why}");
    }
}

/// The numbers and the last cell of each row.
fn rows() -> impl Iterator<Item = (Vec<u32>, &'static str)> {
    let lines = include_str!("../../src/lib.rs").lines();
    lines.filter_map(|line| {
        let row = line.strip_prefix("//! | D")?.strip_suffix(" |")?;
        let (numbers_cell, rest) = row.split_once(" | ")?;
        let (_, why) = rest.rsplit_once(" | ")?;
        Some((numbers(&numbers_cell.replace('D', "")), why))
    })
}

/// What stands behind a word, up to the next word that is no number.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(word)?;
    Some(behind.trim_start_matches('s').trim_start())
}

fn words(text: &str) -> Vec<&str> {
    let words = text
        .split([' ', ',', ';', ':'])
        .filter(|word| !word.is_empty() && *word != "and");
    let is_number = |word: &&str| {
        word.trim_start_matches('B')
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    };
    words.take_while(is_number).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    words(text)
        .into_iter()
        .filter_map(|word| word.parse().ok())
        .collect()
}
