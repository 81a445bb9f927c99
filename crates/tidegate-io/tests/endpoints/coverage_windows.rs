//! Group C of the scenarios and the defects of Twisted's Windows transports: each is tested, impossible, or exempt and why.
//!
//! Reads what the tests for Windows are called and runs none of them, so it holds on every system.

use std::collections::BTreeSet;

use crate::coverage::cited;

/// Group C, and what part 2 adds to it.
const ALL: &str = "57 58 60 61 63 64 B16 B17 B19 B20 B22";

/// Not tested, and why.
const NOT_HERE: &[(&str, &str)] = &[("60", "text for bytes cannot be written in Rust")];

/// Of Twisted's IOCP handles, polled pipes, standard streams and processes.
const DEFECTS: std::ops::RangeInclusive<u16> = 16..=27;

const TESTS: [&str; 5] = [
    include_str!("../windows/group_c.rs"),
    include_str!("../windows/npipe.rs"),
    include_str!("../windows/process.rs"),
    include_str!("process_alike.rs"),
    include_str!("../windows/stdio.rs"),
];

const TABLE: &str = include_str!("../../../../docs/endpoints.md");

#[test]
fn every_scenario_of_group_c_is_a_test_or_exempt() {
    let tested: BTreeSet<&str> = TESTS.iter().flat_map(|source| cited(source)).collect();
    for number in ALL.split_whitespace() {
        let is_exempt = NOT_HERE.iter().any(|(exempt, _)| *exempt == number);
        assert_ne!(
            tested.contains(number),
            is_exempt,
            "{number}: neither tested nor exempt, or both"
        );
    }
}

/// `| D16 | what | proofs |` in the table of the documentation.
#[test]
fn every_windows_defect_is_in_the_table_and_its_proof_exists() {
    let mut known = BTreeSet::new();
    for row in TABLE.lines().filter_map(|line| line.strip_prefix("| D")) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [number, _, proofs] = cells[..] else {
            panic!("a row of three cells: {row}")
        };
        known.insert(number.parse::<u16>().unwrap());
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(
            !names.is_empty() || proofs.contains("type:"),
            "D{number} has no proof"
        );
        for name in names {
            let function = format!("fn {name}(");
            assert!(
                TESTS.iter().any(|source| source.contains(&function)),
                "D{number} names {name}, which does not exist"
            );
        }
    }
    assert_eq!(known, DEFECTS.collect());
}
