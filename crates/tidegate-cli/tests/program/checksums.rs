//! Checksums computed on the way: each kind, against other people's arithmetic, with every kind of endpoint.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{MIB, Place, Running, go, go_with, peer, run, tidegate};

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

#[test]
fn every_kind_of_source_and_sink_can_be_checked() {
    let place = Place::new(MIB + 5);
    let sum = expected("sha256", &place).unwrap();
    let wanted = format!("sha256={sum}");
    let check = ["--force", "--checksum", &wanted];
    let text = |name: &str| place.text(name);
    let fifo = text("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Sources.
    go(check
        .iter()
        .copied()
        .chain([&*format!("exec:cat {}", text("big")), &*text("a")]))
    .expect(0);
    go(check
        .iter()
        .copied()
        .chain([&*format!("sh:cat {}", text("big")), &*text("b")]))
    .expect(0);
    go_with(&place.bytes, check.iter().copied().chain(["-", &*text("c")])).expect(0);
    let reading = Running::start(&mut tidegate(check.iter().copied().chain([&*fifo, &*text("d")])));
    go(check
        .iter()
        .copied()
        .chain([&*text("big"), &*format!("pipe:{fifo}")]))
    .expect(0);
    reading.end().expect(0);
    // Sinks.
    assert!(
        go(check.iter().copied().chain([&*text("big"), "-"]))
            .expect(0)
            .out
            == place.bytes
    );
    go(check
        .iter()
        .copied()
        .chain([&*text("big"), &*format!("sh:cat > '{}'", text("e"))]))
    .expect(0);
    // Connections, both ends.
    for (listen, name) in [
        ("tcp-listen://127.0.0.1:0", "f"),
        ("http-listen://127.0.0.1:0", "g"),
    ] {
        let mut receiving =
            Running::start(&mut tidegate(check.iter().copied().chain([listen, &*text(name)])));
        let port = receiving.port();
        let to = match name {
            "f" => format!("tcp://127.0.0.1:{port}"),
            _ => format!("http://127.0.0.1:{port}/"),
        };
        go(check.iter().copied().chain([&*text("big"), &*to])).expect(0);
        receiving.end().expect(0);
    }
    let socket = text("socket");
    let mut receiving = Running::start(&mut tidegate(
        check
            .iter()
            .copied()
            .chain([&*format!("unix-listen:{socket}"), &*text("h")]),
    ));
    receiving.line("listening on");
    go(check
        .iter()
        .copied()
        .chain([&*text("big"), &*format!("unix:{socket}")]))
    .expect(0);
    receiving.end().expect(0);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        place.holds_all(name);
    }
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
