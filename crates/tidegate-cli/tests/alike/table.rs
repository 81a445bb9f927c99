//! One table of what the program says and with which code it ends, for every system. Where a line ends in the system's own
//! words, `{os}` stands for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use super::{expect, noise, tidegate};

/// Words, exit code, and the line of standard error that counts: the first.
const TABLE: &[(&[&str], i32, &str)] = &[
    (
        &["--nonsense", "big", "copy"],
        2,
        "error: unexpected argument '--nonsense' found",
    ),
    (
        &["big", "nosuch://x"],
        2,
        "tidegate: bad sink address: `nosuch` is no scheme known here",
    ),
    (
        &["big", "tcp://127.0.0.1"],
        2,
        "tidegate: bad sink address: the port is missing",
    ),
    (
        &["--checksum", "sha256:00", "big", "copy"],
        2,
        "error: invalid value 'sha256:00' for '--checksum <KIND[=HEX]>': a sha256 has 64 hexadecimal digits",
    ),
    (
        &["missing", "copy"],
        3,
        "tidegate: source missing: cannot open missing: {os}",
    ),
    (
        &["exec:nonexistent-program", "copy"],
        3,
        "tidegate: source exec:nonexistent-program: cannot start exec:nonexistent-program: {os}",
    ),
    (
        &["tcp://127.0.0.1:1", "copy"],
        3,
        "tidegate: source tcp://127.0.0.1:1: cannot connect to 127.0.0.1:1: {os}",
    ),
    (
        &["big", "tcp://127.0.0.1:1"],
        4,
        "tidegate: sink tcp://127.0.0.1:1: cannot connect to 127.0.0.1:1: {os}",
    ),
    (
        &["big", "no/such"],
        4,
        "tidegate: sink no/such: cannot open no/such for writing: {os} (there is no directory no)",
    ),
    (
        &["big", "big"],
        4,
        "tidegate: sink big: source and sink are the same file",
    ),
    (
        &["big", "there"],
        4,
        "tidegate: sink there: there exists and is not to be overwritten (--force replaces it, --append adds to it)",
    ),
    (
        &["sh:exit 7", "copy"],
        5,
        "tidegate: source sh:exit 7: sh:exit 7 exited with code 7 (0 B read, 0 B sent, nothing confirmed; {os}",
    ),
    (
        &["--checksum", "crc32=00000000", "big", "copy"],
        9,
        "tidegate: source big: the crc32 is b8bdfa48, not 00000000 (0.98 KiB read, 0.98 KiB sent, nothing confirmed; {os}",
    ),
    (&["-q", "big", "copy"], 0, ""),
];

/// What a report has, as `docs/report-schema.md` promises.
const FIELDS: &str = "address bytes bytes_confirmed bytes_read bytes_sent checksum confirmation error eta_seconds event \
    exit_code held high lane paused_seconds rate_average rate_in rate_out reading_seconds seconds sink size slow_side \
    source state version writing_seconds";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("big"), noise(1000)).unwrap();
    std::fs::write(folder.path().join("there"), b"old").unwrap();
    folder
}

fn go(folder: &Path, args: &[&str]) -> Output {
    tidegate(args).current_dir(folder).output().unwrap()
}

fn is_said(line: &str, expected: &str) -> bool {
    match expected.split_once("{os}") {
        Some((before, after)) => {
            line.len() > before.len() + after.len() && line.starts_with(before) && line.ends_with(after)
        }
        None => line == expected,
    }
}

#[test]
fn messages_and_exit_codes_are_the_same_on_every_system() {
    let mut wrong = Vec::new();
    for (args, code, expected) in TABLE {
        let folder = folder();
        let output = go(folder.path(), args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = err.lines().next().unwrap_or("");
        if output.status.code() != Some(*code) || !is_said(first, expected) {
            wrong.push(format!("{args:?}: {}: {err}", output.status));
        }
        let left: BTreeSet<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = match code {
            0 => &["big", "copy", "there"][..],
            _ => &["big", "there"],
        };
        if !left.iter().eq(expected) {
            wrong.push(format!("{args:?}: leaves {left:?}"));
        }
        if std::fs::read(folder.path().join("there")).unwrap() != b"old" {
            wrong.push(format!("{args:?}: changes what was there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_report_in_json_is_the_same_on_every_system() {
    for (args, code) in [
        (&["--json", "--checksum", "sha256", "big", "copy"][..], 0),
        (&["--json", "missing", "copy"], 3),
    ] {
        let folder = folder();
        let err = expect(&go(folder.path(), args), code);
        let report: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        let fields: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS.split_whitespace().collect());
        assert_eq!(report["exit_code"], code);
        assert_eq!(
            (&report["event"], &report["state"]),
            (&"report".into(), &"done".into())
        );
        match code {
            0 => {
                assert_eq!(
                    (&report["bytes_sent"], &report["size"]),
                    (&1000.into(), &1000.into())
                );
                assert_eq!(report["confirmation"], "confirmed");
                let sum = report["checksum"].as_str().unwrap();
                assert!(sum.starts_with("sha256:") && sum.len() == 7 + 64, "{sum}");
            }
            _ => {
                assert_eq!(
                    (&report["error"]["side"], &report["source"]),
                    (&"source".into(), &"missing".into())
                );
                assert_eq!(
                    (&report["lane"], &report["checksum"]),
                    (&"copy".into(), &serde_json::Value::Null)
                );
            }
        }
    }
}
