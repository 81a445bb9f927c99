//! What is printed where: the last line, JSON and its schema, quiet runs, progress into a pipe.

use std::process::Command;

use serde_json::Value;

use crate::support::{MIB, Place, Running, go, run, tidegate};

fn objects(err: &str) -> Vec<Value> {
    err.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}")))
        .collect()
}

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report-schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// As much of JSON Schema as ours uses.
fn check(schema: &Value, value: &Value, at: &str) {
    for (word, wanted) in schema.as_object().unwrap() {
        match word.as_str() {
            "const" => assert_eq!(value, wanted, "{at}"),
            "enum" => assert!(
                wanted.as_array().unwrap().contains(value),
                "{at}: {value} is none of {wanted}"
            ),
            "minimum" => assert!(
                value
                    .as_f64()
                    .is_none_or(|value| value >= wanted.as_f64().unwrap()),
                "{at}"
            ),
            "type" => assert!(has_type(wanted, value), "{at}: {value} is no {wanted}"),
            "required" => {
                for name in wanted.as_array().unwrap().iter().filter(|_| value.is_object()) {
                    assert!(
                        value.get(name.as_str().unwrap()).is_some(),
                        "{at}: {name} is missing"
                    );
                }
            }
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let field_schema = wanted
                        .get(name)
                        .unwrap_or_else(|| panic!("{at}: {name} is not in the schema"));
                    check(field_schema, field, &format!("{at}.{name}"));
                }
            }
            "pattern" => {
                if let Some(text) = value.as_str() {
                    let (kind, hex) = text.split_once(':').unwrap();
                    assert!(["sha256", "blake3", "crc32"].contains(&kind), "{at}: {text}");
                    assert!(
                        hex.bytes()
                            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()),
                        "{at}: {text}"
                    );
                }
            }
            "$schema" | "title" | "additionalProperties" => {}
            other => panic!("this test does not know the word {other}"),
        }
    }
}

fn has_type(wanted: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    };
    match wanted {
        Value::String(name) => one(name),
        names => names
            .as_array()
            .unwrap()
            .iter()
            .any(|name| one(name.as_str().unwrap())),
    }
}

#[test]
fn json_is_all_there_is_on_stderr_and_obeys_the_schema() {
    let place = Place::new(3 * MIB);
    let schema = schema();
    let run = go([
        "--json",
        "--rate",
        "2MiB/s",
        "--checksum",
        "sha256",
        &place.text("big"),
        &place.text("copy"),
    ])
    .expect(0);
    let objects_seen = objects(&run.err);
    for object in &objects_seen {
        check(&schema, object, "object");
    }
    let last = objects_seen.last().unwrap();
    assert_eq!(last["event"], "report");
    assert_eq!(last["bytes"], 3 * MIB);
    assert_eq!(last["bytes_confirmed"], 3 * MIB);
    assert_eq!(last["exit_code"], 0);
    assert!(last["checksum"].as_str().unwrap().starts_with("sha256:"));
    assert!(last["paused_seconds"]["shaped"].as_f64().unwrap() > 0.5, "{last}");
    let snapshot = objects_seen
        .iter()
        .find(|object| object["event"] == "snapshot")
        .unwrap();
    assert_eq!(snapshot["size"], 3 * MIB);
    assert_eq!(
        snapshot.as_object().unwrap().keys().collect::<Vec<_>>(),
        last.as_object().unwrap().keys().collect::<Vec<_>>()
    );
}

#[test]
fn json_tells_failures_too() {
    let schema = schema();
    let place = Place::new(10);
    for (args, code, side) in [
        (vec!["--json", "/nonexistent/x", "-"], 3, "source"),
        (vec!["--json", "/dev/zero", "/dev/full"], 6, "sink"),
        (vec!["--json", "tcp://h", "-"], 2, "none"),
        (vec!["--json", "one"], 2, "none"),
        (vec!["--json", "--rate", "soon", "a", "b"], 2, "none"),
    ] {
        let run = go(args.clone()).expect(code);
        let last = objects(&run.err).pop().unwrap();
        check(&schema, &last, "report");
        assert_eq!(
            (&last["exit_code"], &last["error"]["side"]),
            (&Value::from(code), &Value::from(side)),
            "{args:?}"
        );
    }
    let mut receiving = Running::start(&mut tidegate([
        "--json",
        "tcp-listen://127.0.0.1:0",
        &place.text("copy"),
    ]));
    let port = receiving.port();
    go([place.text("big"), format!("tcp://127.0.0.1:{port}")]).expect(0);
    let all = objects(&receiving.end().expect(0).err);
    assert_eq!(all[0]["event"], "listening");
    all.iter().for_each(|object| check(&schema, object, "object"));
}

#[test]
fn quiet_leaves_only_errors() {
    let place = Place::new(10);
    assert_eq!(
        go(["-q", &place.text("big"), &place.text("copy")]).expect(0).err,
        ""
    );
    let run = go(["-q", &place.text("big"), &place.text("copy")]).expect(4);
    assert_eq!(run.err.lines().count(), 1);
}

#[test]
fn a_pipe_as_stderr_gets_whole_plain_lines_when_asked_and_none_by_itself() {
    let place = Place::new(3 * MIB);
    let quiet = go(["--rate", "2MiB/s", &place.text("big"), &place.text("one")]).expect(0);
    assert_eq!(quiet.err.lines().count(), 1, "{}", quiet.err);
    let run = go([
        "--progress",
        "always",
        "--rate",
        "2MiB/s",
        &place.text("big"),
        &place.text("two"),
    ])
    .expect(0);
    let lines: Vec<&str> = run.err.lines().collect();
    assert!((2..=4).contains(&lines.len()), "{}", run.err);
    for part in [
        " of 3.00 MiB ",
        "in ",
        "(avg ",
        "out ",
        "gate [",
        "shaped",
        "slow: ",
        "ETA ",
    ] {
        assert!(lines[0].contains(part), "{part:?} is missing in {:?}", lines[0]);
    }
    assert!(!run.err.contains(['\r', '\x1b']), "{:?}", run.err);
}

#[test]
fn a_slow_reader_makes_the_sink_the_slow_side_and_a_slow_source_the_source() {
    let place = Place::new(0);
    let run = go([
        "/dev/zero",
        "sh:for i in 1 2 3 4 5 6; do head -c 300000 >/dev/null; sleep 0.1; done",
    ]);
    assert!(
        run.code == 6 && run.err.contains("slow side: sink"),
        "{}",
        run.err
    );
    let run = go([
        "sh:for i in 1 2 3 4; do echo $i; sleep 0.1; done",
        &place.text("copy"),
    ])
    .expect(0);
    assert!(run.last().contains("slow side: source"), "{}", run.err);
}

#[test]
fn secrets_on_the_command_line_are_warned_of() {
    let port = crate::support::free_port();
    let run = go([&format!("ftp://me:secret@127.0.0.1:{port}/x"), "-"]).expect(3);
    assert!(
        run.err.contains("warning: a password on the command line"),
        "{}",
        run.err
    );
    let run = go(["--json", &format!("ftp://me:secret@127.0.0.1:{port}/x"), "-"]).expect(3);
    assert_eq!(objects(&run.err)[0]["event"], "log");
    let url = format!("http://127.0.0.1:{port}/x");
    let run = go(["--retries", "0", "-H", "Authorization: Bearer secret", &url, "-"]).expect(3);
    assert!(
        run.err.contains("warning: the value of Authorization"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("secret"), "{}", run.err);
    // In the environment or the configuration it is where it belongs.
    let mut command = tidegate(["--retries", "0", &url, "-"]);
    command.env("TIDEGATE_HEADER", "Authorization: Bearer secret");
    let told = crate::support::run(command).expect(3);
    assert!(!told.err.contains("warning"), "{}", told.err);
    let place = Place::new(0);
    let config = format!("[endpoints]\nx = 'ftp://me:secret@127.0.0.1:{port}/x'\n");
    std::fs::write(place.path("config"), config).unwrap();
    let told = go(["--config", &place.text("config"), "@x", "-"]).expect(3);
    assert!(!told.err.contains("warning"), "{}", told.err);
}

#[test]
fn explain_does_nothing_and_says_everything() {
    let place = Place::new(10);
    let run = go([
        "explain",
        "/nonexistent/in",
        &place.text("out"),
        "--rate",
        "1MiB/s",
        "--stall",
        "5s",
    ])
    .expect(0);
    let text = String::from_utf8(run.out).unwrap();
    for part in [
        "source ",
        "sink ",
        "lane ",
        "memory ",
        "limits ",
        "stall 5.00 s",
        "rate 1.00 MiB/s",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert_eq!(place.names(), ["big"]);
    // Without any I/O: no file is opened, no socket made after start-up.
    let Some(strace) = crate::support::peer("strace", "explain_does_nothing_and_says_everything") else {
        return;
    };
    let log = place.text("strace");
    let mut command = Command::new(strace);
    crate::support::clean(&mut command);
    command.args([
        "-f",
        "-e",
        "trace=network,openat,stat,newfstatat,statx",
        "-o",
        &log,
    ]);
    command.args([
        env!("CARGO_BIN_EXE_tidegate"),
        "explain",
        &place.text("big"),
        "tcp://127.0.0.1:1",
    ]);
    command
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    run_checked(command);
    let calls = std::fs::read_to_string(place.path("strace")).unwrap();
    assert!(!calls.contains("socket(") && !calls.contains("/big\""), "{calls}");
}

fn run_checked(command: Command) {
    run(command).expect(0);
}
