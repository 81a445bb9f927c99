//! Which scenario of the groups M to Q, and which defect, is covered where, or exempt and why.
//!
//! The list is checked: a test that is named here must be there.

/// Where a number is looked after.
enum At {
    /// Tests of this crate, by name.
    Test(&'static [&'static str]),
    /// It cannot be written, or it is somebody else's.
    Exempt(&'static str),
}
use At::{Exempt, Test};

const CASES: &[(&str, At)] = &[
    (
        "165 166 172 B59 D100",
        Test(&[
            "chunks_are_framed_and_the_last_one_comes_at_finish",
            "empty_writes_do_not_end_a_body_and_trailers_arrive",
        ]),
    ),
    (
        "168 175",
        Test(&[
            "an_exact_length_lets_just_that_through",
            "uploads_of_known_and_unknown_length",
        ]),
    ),
    (
        "169 171",
        Test(&[
            "too_few_bytes_fail_the_body",
            "a_body_of_the_wrong_length_never_arrives_as_whole",
        ]),
    ),
    (
        "174 B34 B35 B37 D46 D47 D51 D58",
        Test(&["a_body_that_goes_away_stops_the_producer_once"]),
    ),
    (
        "177 178 180 D101",
        Test(&["too_many_bytes_fail_the_body_and_stop_the_producer"]),
    ),
    (
        "181 183",
        Exempt("the proxy between a response and its transport is hyper's; ours is the core's proxy"),
    ),
    (
        "184",
        Test(&["a_stalled_stream_is_reset_and_its_neighbours_live"]),
    ),
    (
        "186",
        Test(&["bodiless_answers_stop_their_producer_and_keep_the_connection"]),
    ),
    (
        "187",
        Exempt("a file's length is known or it is none: no half-seekable objects in Rust"),
    ),
    (
        "189 190",
        Test(&[
            "parts_come_in_chunks",
            "twisted_uploads_to_us_with_a_file_body_producer",
        ]),
    ),
    (
        "192 193 204 D104 D110",
        Test(&["a_stop_lets_go_of_the_file_and_a_late_resume_does_nothing"]),
    ),
    (
        "195 B61 D103",
        Exempt("a pull producer cannot be paused, by type; push producers are the driver crate's"),
    ),
    (
        "196 198 199 201 202 B62 D106 D107 D108 D109",
        Exempt("the file sender lives in the driver crate"),
    ),
    ("205 207 208 210 211", Test(&["parts_come_in_chunks"])),
    (
        "213 214 217 238 B14 D48 D49",
        Test(&["registration_is_the_same_everywhere"]),
    ),
    (
        "216",
        Test(&["finish_waits_for_the_producer_that_is_still_there"]),
    ),
    (
        "219 220 225",
        Exempt("hyper's own reading; registration as in 213"),
    ),
    (
        "222 223 228 229 240 D56",
        Test(&[
            "an_unread_body_holds_the_client_back",
            "continue_is_sent_only_when_somebody_wants_the_body",
        ]),
    ),
    ("226", Test(&["small_pieces_travel_together_and_in_order"])),
    (
        "231 232 234 235 237 243 246 247 B40 D53 D54",
        Exempt("h2's windows and frames; what a producer sees is in the laws over HTTP/2"),
    ),
    ("241 244", Test(&["an_abort_reaches_a_client_that_takes_nothing"])),
    (
        "B32 D44 D45 D57",
        Test(&["a_newcomer_at_a_full_body_is_paused_at_once"]),
    ),
    (
        "B38 D52",
        Test(&[
            "a_stalled_stream_is_reset_and_its_neighbours_live",
            "a_client_that_resets_its_stream_stops_the_producer_of_that_stream_alone",
        ]),
    ),
    (
        "B41 D55",
        Test(&["a_client_that_stops_reading_pauses_and_then_loses_its_connection"]),
    ),
    (
        "B64 D111 D112",
        Test(&[
            "a_truncated_file_ends_as_an_abort",
            "a_file_that_changes_while_it_is_served_is_visibly_incomplete",
        ]),
    ),
    (
        "D50",
        Exempt("a handler that panics ends its stream: law 14, over both protocols"),
    ),
    (
        "D102",
        Exempt("a producer exists before it is registered, by type"),
    ),
    ("D105", Exempt("a file closes with its last owner")),
];

const SOURCES: &[&str] = &[
    include_str!("body_consumer.rs"),
    include_str!("client.rs"),
    include_str!("faults.rs"),
    include_str!("gone.rs"),
    include_str!("hostile.rs"),
    include_str!("laws.rs"),
    include_str!("peers.rs"),
    include_str!("static_files.rs"),
    include_str!("../../src/file_parts.rs"),
];

#[test]
fn every_scenario_is_covered_or_exempt() {
    let numbers: Vec<&str> = CASES.iter().flat_map(|(numbers, _)| numbers.split(' ')).collect();
    for number in (44..=58).chain(100..=112) {
        assert!(
            numbers.contains(&format!("D{number}").as_str()),
            "D{number} is not looked after"
        );
    }
    {
        let known = numbers.iter().filter(|number| number.parse::<u32>().is_ok());
        assert_eq!(known.count(), 56, "the groups M to Q have 56 numbers");
    }
    for (numbers, at) in CASES {
        match at {
            Exempt(why) => assert!(!why.is_empty(), "{numbers}"),
            Test(names) => {
                for name in *names {
                    let line = format!("fn {name}()");
                    assert!(
                        SOURCES.iter().any(|source| source.contains(&line)),
                        "{numbers}: no test {name}"
                    );
                }
            }
        }
    }
}
