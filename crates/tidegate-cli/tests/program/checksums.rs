//! Checksums computed on the way: each kind, against other people's arithmetic, with every kind of endpoint.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{MIB, Place, Run, Running, go, go_with, peer, run, tidegate};

/// What `kind` makes of the bytes, by a program of others.
fn expected(kind: &str, place: &Place) -> Option<String> {
    let (program, args) = match kind {
        "sha256" => ("sha256sum", vec!["big"]),
        "crc32" => (
            "python3",
            vec![
                "-c",
                "import zlib; print('%08x' % zlib.crc32(open('big', 'rb').read()))",
            ],
        ),
        _ => return None,
    };
    let mut command = Command::new(peer(program, "checksums")?);
    command
        .args(args)
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let out = String::from_utf8(run(command).expect(0).out).unwrap();
    Some(out.split_whitespace().next().unwrap().to_owned())
}

/// Copies under a checksum and gives its report.
fn report(place: &Place, lane: &str, checksum: &str) -> Value {
    let (big, copy) = (place.text("big"), place.text("copy"));
    let done = go([
        "--json",
        "--force",
        "--lane",
        lane,
        "--checksum",
        checksum,
        &big,
        &copy,
    ])
    .expect(0);
    place.holds_all("copy");
    serde_json::from_str(done.last()).unwrap()
}

#[test]
fn each_kind_is_what_others_compute_and_needs_the_copy_lane() {
    let place = Place::new(3 * MIB + 17);
    for kind in ["sha256", "blake3", "crc32"] {
        // Also a lane that was asked for gives way.
        for lane in ["auto", "copy_file_range"] {
            let report = report(&place, lane, kind);
            assert_eq!(report["lane"], "copy", "{report}");
            let found = report["checksum"]
                .as_str()
                .unwrap()
                .strip_prefix(&format!("{kind}:"))
                .unwrap();
            if let Some(expected) = expected(kind, &place) {
                assert_eq!(found, expected, "{kind}");
            }
            is_compared(&place, kind, found);
        }
    }
}

/// In the last line, and compared on request, in upper case too.
fn is_compared(place: &Place, kind: &str, found: &str) {
    let (big, copy) = (place.text("big"), place.text("copy"));
    let wanted = format!("{kind}={}", found.to_uppercase());
    let done = go(["--force", "--checksum", &wanted, &big, &copy]).expect(0);
    assert!(
        done.last().ends_with(&format!(", {kind} {found}")),
        "{}",
        done.err
    );
    let wrong = format!("{kind}={}", "0".repeat(found.len()));
    let run = go(["--checksum", &wrong, &big, &place.text("never")]).expect(9);
    assert!(
        run.err.contains(&format!("the {kind} is {found}, not 0")),
        "{}",
        run.err
    );
    assert!(!place.path("never").exists());
}

#[test]
fn blake3_agrees_with_its_own_test_vectors() {
    let place = Place::new(0);
    // BLAKE3 of nothing and of "abc", from its own test vectors.
    for (bytes, sum) in [
        (
            "",
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ),
        (
            "abc",
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        ),
    ] {
        std::fs::write(place.path("small"), bytes).unwrap();
        go([
            "--checksum",
            &format!("blake3={sum}"),
            &place.text("small"),
            "/dev/null",
        ])
        .expect(0);
    }
}

/// Copies that must come to the sum of the file `big`.
struct Checked {
    place: Place,
    wanted: String,
}

impl Checked {
    fn new() -> Self {
        let place = Place::new(MIB + 5);
        let sum = expected("sha256", &place).unwrap();
        let wanted = format!("sha256={sum}");
        Self { place, wanted }
    }

    fn text(&self, name: &str) -> String {
        self.place.text(name)
    }

    fn words<'a>(&'a self, from: &'a str, to: &'a str) -> [&'a str; 5] {
        ["--force", "--checksum", &self.wanted, from, to]
    }

    fn start(&self, from: &str, to: &str) -> Running {
        Running::start(&mut tidegate(self.words(from, to)))
    }

    fn copy(&self, from: &str, to: &str) -> Run {
        go(self.words(from, to)).expect(0)
    }

    /// `to` is the address of whoever was started to receive into the file `name`.
    fn send(&self, to: &str, receiving: Running, name: &str) {
        self.copy(&self.text("big"), to);
        receiving.end().expect(0);
        self.place.holds_all(name);
    }
}

#[test]
fn every_kind_of_source_can_be_checked() {
    let checked = Checked::new();
    let (big, copy) = (checked.text("big"), checked.text("copy"));
    for source in [&format!("exec:cat {big}"), &format!("sh:cat {big}"), &big] {
        checked.copy(source, &copy);
        checked.place.holds_all("copy");
        std::fs::remove_file(&copy).unwrap();
    }
    go_with(&checked.place.bytes, checked.words("-", &copy)).expect(0);
    checked.place.holds_all("copy");
}

#[test]
fn every_kind_of_sink_can_be_checked() {
    let checked = Checked::new();
    let big = checked.text("big");
    assert!(checked.copy(&big, "-").out == checked.place.bytes);
    checked.copy(&big, &format!("sh:cat > '{}'", checked.text("copy")));
    checked.place.holds_all("copy");
}

#[test]
fn both_ends_of_a_connection_can_be_checked() {
    let checked = Checked::new();
    let fifo = checked.text("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let receiving = checked.start(&fifo, &checked.text("a"));
    checked.send(&format!("pipe:{fifo}"), receiving, "a");
    for (scheme, name) in [("tcp", "b"), ("http", "c")] {
        let listen = format!("{scheme}-listen://127.0.0.1:0");
        let mut receiving = checked.start(&listen, &checked.text(name));
        let to = format!("{scheme}://127.0.0.1:{}", receiving.port());
        checked.send(&to, receiving, name);
    }
    let socket = checked.text("socket");
    let mut receiving = checked.start(&format!("unix-listen:{socket}"), &checked.text("d"));
    receiving.line("listening on");
    checked.send(&format!("unix:{socket}"), receiving, "d");
}

#[test]
fn a_sparse_file_of_10_gib_arrives_to_the_last_byte() {
    let place = Place::new(0);
    let file = std::fs::File::create(place.path("sparse")).unwrap();
    file.set_len(10 << 30).unwrap();
    drop(file);
    // The CRC-32 of ten times 2^30 zeros.
    let run = go(["--checksum", "crc32=f41d912f", &place.text("sparse"), "/dev/null"]).expect(0);
    assert!(run.last().contains("10.0 GiB in"), "{}", run.err);
}

#[test]
fn a_failed_comparison_never_looks_whole_to_the_other_side() {
    let place = Place::new(1000);
    let mut receiving = Running::start(&mut tidegate(["tcp-listen://127.0.0.1:0", &place.text("copy")]));
    let port = receiving.port();
    go([
        "--checksum",
        "crc32=00000000",
        &place.text("big"),
        &format!("tcp://127.0.0.1:{port}"),
    ])
    .expect(9);
    receiving.end().expect(5);
    assert_eq!(place.names(), ["big"]);
    // Standard output cannot be taken back, but the exit code tells.
    let mut command = tidegate(["--checksum", "crc32=00000000", "-", "-"]);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    Running::start_with(child).end().expect(9);
}
