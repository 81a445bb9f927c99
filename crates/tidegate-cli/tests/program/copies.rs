//! Copies between every kind of local end, and what they leave behind.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;

use crate::support::{MIB, Place, Running, clean, go, go_with, peer, run, tidegate};

#[test]
fn a_file_is_copied_and_the_last_line_tells_of_it() {
    let place = Place::new(5 * MIB);
    let run = go([place.text("big"), place.text("copy")]).expect(0);
    place.holds_all("copy");
    assert_eq!(place.names(), ["big", "copy"]);
    let last = run.last();
    for part in ["5.00 MiB in ", "lane ", "slow side: "] {
        assert!(last.contains(part), "{last}");
    }
}

#[test]
fn a_stream_of_nothing_makes_an_empty_file() {
    let place = Place::new(0);
    go([place.text("big"), place.text("copy")]).expect(0);
    go(["-", &place.text("from_stdin")]).expect(0);
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"");
    assert_eq!(std::fs::read(place.path("from_stdin")).unwrap(), b"");
}

#[test]
fn an_existing_file_is_only_overwritten_when_told() {
    let place = Place::new(1000);
    std::fs::write(place.path("old"), "precious").unwrap();
    let run = go([place.text("big"), place.text("old")]).expect(4);
    assert!(
        run.err.contains("sink") && run.err.contains("exists"),
        "{}",
        run.err
    );
    assert_eq!(std::fs::read(place.path("old")).unwrap(), b"precious");
    go(["--force", &place.text("big"), &place.text("old")]).expect(0);
    place.holds_all("old");
    assert_eq!(place.names(), ["big", "old"]);
}

#[test]
fn append_adds_to_the_end_and_an_abort_cuts_back() {
    let place = Place::new(1000);
    std::fs::write(place.path("log"), "start").unwrap();
    go(["--append", &place.text("big"), &place.text("log")]).expect(0);
    let mut whole = b"start".to_vec();
    whole.extend(&place.bytes);
    assert_eq!(std::fs::read(place.path("log")).unwrap(), whole);
    let wrong = "crc32=00000000";
    go([
        "--append",
        "--checksum",
        wrong,
        &place.text("big"),
        &place.text("log"),
    ])
    .expect(9);
    assert_eq!(std::fs::read(place.path("log")).unwrap(), whole);
}

#[test]
fn resume_goes_on_where_the_target_ends() {
    let place = Place::new(3 * MIB);
    std::fs::write(place.path("part"), &place.bytes[..MIB]).unwrap();
    let run = go(["--resume", &place.text("big"), &place.text("part")]).expect(0);
    assert!(run.last().contains("2.00 MiB in"), "{}", run.err);
    place.holds_all("part");
    go(["--resume", &place.text("big"), &place.text("fresh")]).expect(0);
    place.holds_all("fresh");
    go(["--resume", "-", &place.text("fresh")]).expect(2);
}

/// A synced copy is found under its name after a power cut, also where it was written in place.
#[test]
fn a_name_that_is_new_is_synced_like_the_bytes() {
    let Some(strace) = peer("strace", "a_name_that_is_new_is_synced_like_the_bytes") else {
        return;
    };
    for how in ["--force", "--append", "--resume"] {
        let place = Place::new(1000);
        let log = place.path("calls");
        let mut command = Command::new(&strace);
        clean(&mut command);
        command.args(["-f", "-y", "-e", "trace=fsync", "-o"]).arg(&log);
        command.args([env!("CARGO_BIN_EXE_tidegate"), "-q", how]);
        command.args([place.text("big"), place.text("copy")]);
        run(command).expect(0);
        place.holds_all("copy");
        let calls = std::fs::read_to_string(&log).unwrap();
        let folder = std::fs::canonicalize(place.path("")).unwrap();
        let synced = format!("<{}>)", folder.display());
        assert!(calls.contains(&synced), "{how}: no {synced} in {calls}");
    }
}

#[test]
fn odd_names_are_literal_and_escapes_work_with_a_scheme() {
    let place = Place::new(10);
    for name in ["a,b=c", "a:b", "50%2C", "@x", "tcpx:1"] {
        go([place.text("big"), place.text(name)]).expect(0);
        place.holds_all(name);
    }
    go([place.text("big"), format!("file:{}%2Cy", place.text("x"))]).expect(0);
    place.holds_all("x,y");
    // Relative, with a colon: literal as well.
    let mut command = tidegate(["big", "rel:a,b"]);
    command.current_dir(place.path(""));
    run(command).expect(0);
    place.holds_all("rel:a,b");
}

#[test]
fn standard_streams_carry_bytes_through() {
    let place = Place::new(3 * MIB);
    let run = go_with(&place.bytes, ["-", "-"]).expect(0);
    assert!(run.out == place.bytes);
    let run = go([place.text("big"), "-".to_owned()]).expect(0);
    assert!(run.out == place.bytes);
    go_with(&place.bytes, ["-", &place.text("copy")]).expect(0);
    place.holds_all("copy");
}

#[test]
fn one_byte_chunks_and_tiny_marks_work() {
    let place = Place::new(5000);
    let run = go([
        "--chunk",
        "1",
        "--high",
        "1",
        "--low",
        "0",
        &place.text("big"),
        "-",
    ])
    .expect(0);
    assert!(run.out == place.bytes);
    let run = go_with(&place.bytes, ["-", "-", "--high=3", "--chunk=2"]).expect(0);
    assert!(run.out == place.bytes);
}

#[test]
fn a_listener_takes_one_connection_and_stops_listening() {
    let place = Place::new(2 * MIB);
    let mut receiving = Running::start(&mut tidegate(["tcp-listen://127.0.0.1:0", &place.text("copy")]));
    let port = receiving.port();
    let mut peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.write_all(&place.bytes[..MIB]).unwrap();
    crate::support::until("the listener closes", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    peer.write_all(&place.bytes[MIB..]).unwrap();
    drop(peer);
    receiving.end().expect(0);
    place.holds_all("copy");
}

#[test]
fn tcp_goes_both_ways_between_two_of_us() {
    let place = Place::new(8 * MIB);
    for form in [
        "tcp-listen://127.0.0.1:0",
        "tcp-listen:127.0.0.1:0",
        "tcp-listen::0",
        "tcp-listen://[::1]:0",
    ] {
        let host = if form.contains("::1]") {
            "[::1]"
        } else {
            "127.0.0.1"
        };
        let mut receiving = Running::start(&mut tidegate(["--force", form, &place.text("copy")]));
        let port = receiving.port();
        go([place.text("big"), format!("tcp://{host}:{port}")]).expect(0);
        receiving.end().expect(0);
        place.holds_all("copy");
    }
    let mut sending = Running::start(&mut tidegate([&place.text("big"), "tcp-listen:127.0.0.1:0"]));
    let port = sending.port();
    go([
        "--force".to_owned(),
        format!("tcp:127.0.0.1:{port}"),
        place.text("copy"),
    ])
    .expect(0);
    sending.end().expect(0);
    place.holds_all("copy");
}

#[test]
fn unix_sockets_both_ways() {
    let place = Place::new(2 * MIB);
    let path = place.text("socket");
    let mut receiving = Running::start(&mut tidegate([
        &format!("unix-listen:{path}"),
        &place.text("copy"),
    ]));
    receiving.line("listening on");
    go([place.text("big"), format!("unix:{path}")]).expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");
    assert_eq!(place.names(), ["big", "copy"], "the socket file stayed");

    let listener = UnixListener::bind(&path).unwrap();
    let sending = Running::start(&mut tidegate([&place.text("big"), &format!("unix:{path}")]));
    let mut peer: UnixStream = listener.accept().unwrap().0;
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    drop(peer);
    sending.end().expect(0);
    assert!(got == place.bytes);
}

#[test]
fn fifos_wait_for_their_other_end() {
    let place = Place::new(MIB);
    let fifo = place.text("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for scheme in ["pipe:", ""] {
        let reading = Running::start(&mut tidegate([
            "--force",
            &format!("{scheme}{fifo}"),
            &place.text("copy"),
        ]));
        go([place.text("big"), format!("{scheme}{fifo}")]).expect(0);
        reading.end().expect(0);
        place.holds_all("copy");
    }
}

#[test]
fn descriptors_that_were_inherited_are_ends() {
    let place = Place::new(MIB);
    let mut command = Command::new("sh");
    crate::support::clean(&mut command);
    let program = env!("CARGO_BIN_EXE_tidegate");
    command
        .args(["-c", &format!("exec {program} fd:3 fd:4 3<big 4>copy")])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run(command).expect(0);
    place.holds_all("copy");
}

#[test]
fn programs_are_sources_and_sinks() {
    let place = Place::new(MIB);
    go([format!("exec:cat '{}'", place.text("big")), place.text("copy")]).expect(0);
    place.holds_all("copy");
    go([
        place.text("big"),
        format!("sh:cat > '{}'; exit 0", place.text("by_sh")),
    ])
    .expect(0);
    place.holds_all("by_sh");
    let run = go(["exec:printf %s 'two words'", "-"]).expect(0);
    assert_eq!(run.out, b"two words");
    let run = go(["sh:echo $((40 + 2)),x", "-"]).expect(0);
    assert_eq!(run.out, b"42,x\n");
}

#[test]
fn devices_are_written_in_place() {
    let place = Place::new(MIB);
    go([&place.text("big"), "/dev/null"]).expect(0);
    assert!(
        std::fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device_like()
    );
    assert_eq!(place.names(), ["big"]);
}

trait CharDevice {
    fn is_char_device_like(&self) -> bool;
}

impl CharDevice for std::fs::FileType {
    fn is_char_device_like(&self) -> bool {
        std::os::unix::fs::FileTypeExt::is_char_device(self)
    }
}

#[test]
fn the_rate_limit_holds_and_counts_no_idle_credit() {
    let place = Place::new(2 * MIB);
    let began = std::time::Instant::now();
    go(["--rate", "2MiB/s", &place.text("big"), &place.text("copy")]).expect(0);
    let took = began.elapsed().as_secs_f64();
    assert!((0.8..6.0).contains(&took), "2 MiB at 2 MiB/s took {took} s");
    // pv#32: a second of silence earns nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let copying = Running::start(&mut tidegate([
        "--rate",
        "2MiB/s",
        &format!("tcp://{at}"),
        "/dev/null",
    ]));
    let mut peer = listener.accept().unwrap().0;
    thread::sleep(std::time::Duration::from_secs(1));
    let began = std::time::Instant::now();
    peer.write_all(&place.bytes).unwrap();
    drop(peer);
    copying.end().expect(0);
    assert!(
        began.elapsed().as_secs_f64() > 0.7,
        "credit was hoarded: {:?}",
        began.elapsed()
    );
}

#[test]
fn source_and_sink_that_are_the_same_file_are_refused() {
    let place = Place::new(1000);
    std::fs::hard_link(place.path("big"), place.path("link")).unwrap();
    for sink in ["big", "link"] {
        for option in ["--force", "--append"] {
            let run = go([option, &place.text("big"), &place.text(sink)]).expect(4);
            assert!(run.err.contains("same file"), "{}", run.err);
        }
    }
    place.holds_all("big");
}

#[test]
fn a_thousand_runs_leave_no_temporary_file() {
    let place = Place::new(100);
    // Half end well, half do not: a wrong checksum is found when all bytes are down.
    for round in 0..1000 {
        let checksum = if round % 2 == 0 { "crc32" } else { "crc32=00000000" };
        let run = go([
            "-q",
            "--force",
            "--checksum",
            checksum,
            &place.text("big"),
            &place.text("copy"),
        ]);
        assert_eq!(run.code, if round % 2 == 0 { 0 } else { 9 }, "{}", run.err);
    }
    assert_eq!(place.names(), ["big", "copy"]);
}
