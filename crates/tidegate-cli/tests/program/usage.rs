//! What newcomers type who know socat, pv, curl and rclone: what is wrong is answered with what would be right, and
//! what is right is not mistaken for something else.

use crate::support::{Place, Run, run, tidegate};

fn in_place(place: &Place, args: &[&str]) -> Run {
    let mut command = tidegate(args);
    command.current_dir(place.path(""));
    run(command)
}

type Row<'a> = (Vec<&'a str>, i32, &'a str);

/// Each line ends with its code and says what would be right; nothing comes into being.
fn answers(rows: &[Row<'_>]) {
    let place = Place::new(1000);
    std::fs::create_dir(place.path("dir")).unwrap();
    std::fs::write(place.path("old"), "old").unwrap();
    for (args, code, part) in rows {
        let run = in_place(&place, args);
        assert!(
            run.code == *code && run.err.contains(part),
            "{args:?}: {} {}",
            run.code,
            run.err
        );
        assert!(
            !run.err.contains(".tidegate-"),
            "{args:?} shows a file nobody asked for: {}",
            run.err
        );
        if *code != 2 {
            assert_eq!(run.err.lines().count(), 1, "{args:?}: {}", run.err);
        }
    }
    assert_eq!(place.names(), ["big", "dir", "old"]);
    assert_eq!(std::fs::read(place.path("old")).unwrap(), b"old");
}

#[test]
fn a_wrong_number_of_addresses_is_answered_with_the_right_one() {
    answers(&[
        (
            vec!["tcp:localhost:1"],
            2,
            "try tidegate tcp:localhost:1 - for standard output",
        ),
        (
            vec!["http://127.0.0.1:1/a/big.iso"],
            2,
            "try tidegate http://127.0.0.1:1/a/big.iso big.iso",
        ),
        (vec!["big"], 2, "DST is missing"),
        (vec!["dmeo"], 2, "try tidegate demo"),
        (vec!["version"], 2, "try tidegate --version"),
        (vec!["-q"], 2, "SRC and DST are missing"),
        (vec!["big", "old", "tcp:localhost:1"], 2, "'exec:tar c big old'"),
        (vec!["cp", "big", "new"], 2, "try tidegate big new"),
        (
            vec!["tcp:a:1", "tcp:b:2", "tcp:c:3"],
            2,
            "one source and one sink",
        ),
    ]);
}

#[test]
fn the_options_of_other_programs_are_known() {
    answers(&[
        (vec!["-L", "10m", "big", "new"], 2, "try --rate"),
        (vec!["--limit-rate", "10m", "big", "new"], 2, "try --rate"),
        (vec!["--bwlimit", "10M", "big", "new"], 2, "try --rate"),
        (vec!["-o", "new", "http://127.0.0.1:1/"], 2, "tidegate URL FILE"),
        (vec!["-f", "big", "old"], 2, "--force"),
        (vec!["-p", "big", "new"], 2, "--progress always"),
        (vec!["-s", "3M", "big", "new"], 2, "--size"),
        (vec!["--dry-run", "big", "new"], 2, "tidegate explain"),
        (vec!["-T", "5", "big", "new"], 2, "--stall"),
        (vec!["--chekcsum", "sha256", "big", "new"], 2, "--checksum"),
    ]);
}

#[test]
fn the_addresses_of_other_programs_are_known() {
    answers(&[
        (vec!["big", "tcp:localhost"], 2, "the port is missing"),
        (vec!["big", "TCP-LISTEN:9000,fork"], 2, "tidegate relay"),
        (vec!["big", "tcp-listen:9000"], 2, "tcp-listen://:9000"),
        (vec!["big", "tcp://::1:9"], 2, "brackets"),
        (
            vec!["localhost:9", "new"],
            3,
            "for a connection: tcp://localhost:9",
        ),
        (
            vec!["TCP4:localhost:9", "new"],
            3,
            "for a connection: tcp://localhost:9",
        ),
        (
            vec!["tpc:localhost:9", "new"],
            3,
            "for a connection: tcp://localhost:9",
        ),
        (vec!["https//localhost/x", "new"], 3, "https://localhost/x"),
        (vec!["STDIN", "new"], 3, "did you mean -?"),
        (vec!["big", "file://new"], 2, "file:new or file:///new"),
        (vec!["scp://host/x", "new"], 2, "no scheme known here"),
        (vec!["", "new"], 2, "the address is empty"),
        (vec!["relay", "big", "tcp:localhost:1"], 2, "tcp://HOST:PORT"),
        (vec!["serve", "."], 2, "try tidegate serve http ."),
    ]);
}

#[test]
fn files_that_cannot_be_are_told() {
    answers(&[
        (vec!["dir", "new"], 3, "exec:tar c dir"),
        (vec!["big", "dir"], 4, "name the file in it: dir/NAME"),
        (vec!["big", "dir/"], 4, "is a directory"),
        (vec!["big", "no/such/new"], 4, "there is no directory no/such"),
        (vec!["big", "old"], 4, "--force replaces it, --append adds to it"),
        (vec!["big", "big"], 4, "same file"),
        (vec!["--rate", "10mbit", "big", "new"], 2, "10MiB/s"),
        (vec!["--checksum", "md5", "big", "new"], 2, "blake3"),
        (vec!["--progress", "big", "new"], 2, "auto"),
        (
            vec!["--force", "--append", "big", "old"],
            2,
            "cannot be used with",
        ),
    ]);
}

#[test]
fn a_file_whose_name_looks_like_a_connection_is_written_and_said() {
    let place = Place::new(1000);
    for name in ["localhost:9000", "TCP4:host:1", "STDOUT"] {
        let run = in_place(&place, &["big", name]).expect(0);
        place.holds_all(name);
        assert!(
            run.err.contains(&format!("warning: {name} is written as a file")),
            "{}",
            run.err
        );
        let quiet = in_place(&place, &["-q", "--force", "big", name]).expect(0);
        assert_eq!(quiet.err, "");
    }
    // With the scheme, or from a directory, nothing is doubtful.
    for name in ["file:localhost:9001", "./localhost:9002", "a:b", "12:30"] {
        let run = in_place(&place, &["big", name]).expect(0);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
}

#[test]
fn links_are_followed_and_stay() {
    let place = Place::new(1000);
    let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, place.path(name)).unwrap();
    link("to_big", "big");
    link("to_new", "new");
    link("to_old", "old");
    link("round", "round");
    std::fs::write(place.path("old"), "old").unwrap();
    in_place(&place, &["to_big", "copy"]).expect(0);
    place.holds_all("copy");
    // A link that leads to nothing: the file appears where it points.
    in_place(&place, &["big", "to_new"]).expect(0);
    place.holds_all("new");
    in_place(&place, &["big", "to_old"]).expect(4);
    in_place(&place, &["--force", "big", "to_old"]).expect(0);
    place.holds_all("old");
    in_place(&place, &["--force", "big", "to_big"]).expect(4);
    in_place(&place, &["big", "round"]).expect(4);
    for name in ["to_big", "to_new", "to_old", "round"] {
        assert!(place.path(name).is_symlink(), "{name}");
    }
    assert_eq!(
        place.names(),
        ["big", "copy", "new", "old", "round", "to_big", "to_new", "to_old"]
    );
}

#[test]
fn standard_streams_have_other_names_too() {
    let place = Place::new(1000);
    let mut command = tidegate(["/dev/stdin", "/dev/stdout"]);
    command.stdin(std::fs::File::open(place.path("big")).unwrap());
    assert!(run(command).expect(0).out == place.bytes);
    let mut command = tidegate(["-", "-"]);
    command.stdin(std::fs::File::open(place.path("big")).unwrap());
    assert!(run(command).expect(0).out == place.bytes);
}

#[test]
fn more_is_told_on_request() {
    let place = Place::new(1000);
    let run = in_place(&place, &["-v", "big", "copy"]).expect(0);
    assert!(
        run.err.contains("big and copy are open; at most 1.06 MiB held"),
        "{}",
        run.err
    );
    let run = in_place(&place, &["-vv", "--json", "big", "other"]).expect(0);
    for line in run.err.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(run.err.lines().count() >= 2, "{}", run.err);
}
