//! Every exit code, reached the way users reach it, and one clear line with each.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{MIB, Place, Running, go, run, tidegate};

/// One line, that names the side and the address.
#[track_caller]
pub(crate) fn one_line(err: &str, side: &str, address: &str) {
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with(&format!("tidegate: {side} {address}: ")), "{err}");
}

#[test]
fn exit_2_for_wrong_use_before_anything_is_opened() {
    let place = Place::new(10);
    let copy = place.text("copy");
    for (args, part) in [
        (vec![], "Usage"),
        (vec!["one"], "DST"),
        (vec!["a", "b", "c"], "unexpected"),
        (vec!["--nonsense", "a", "b"], "--nonsense"),
        (vec!["--rate", "soon", "a", "b"], "10MiB/s"),
        (vec!["--checksum", "md5", "a", "b"], "sha256"),
        (vec!["--low", "2M", "--high", "1M", "a", "b"], "low mark"),
        (vec!["--lane", "hyper", "a", "b"], "copy_file_range"),
        (vec!["tpc://h:1", "b"], "try tcp://h:1"),
        (vec!["maildir:x", "b"], "cannot be a source"),
        (vec!["@nobody", "b"], "@nobody"),
        (vec!["relay", "file:x", "tcp://h:1"], "cannot be a relay end"),
        (vec!["--header", "nonsense", "a", "b"], "Name: value"),
    ] {
        let run = go(args.clone()).expect(2);
        assert!(run.err.contains(part), "{args:?}: {}", run.err);
    }
    let run = go(["tcp://127.0.0.1", &copy]).expect(2);
    assert!(
        run.err.contains(
            "the port is missing\n  tcp://127.0.0.1\n                 ^\n  try tcp://127.0.0.1:9000"
        ),
        "{}",
        run.err
    );
    let run = go([&place.text("big"), "tcp://127.0.0.1:x"]).expect(2);
    assert!(run.err.contains("bad sink address"), "{}", run.err);
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn exit_3_when_the_source_cannot_be_opened() {
    let place = Place::new(10);
    let port = crate::support::free_port();
    for source in [
        place.text("missing"),
        place.text(""),
        format!("tcp://127.0.0.1:{port}"),
        format!("unix:{}", place.text("missing")),
        "exec:/nonexistent/program".to_owned(),
        "fd:77".to_owned(),
        "tcp://no-such-host.invalid:1".to_owned(),
        place.text("big/in_a_file"),
        format!("http://127.0.0.1:{port}/x"),
        format!("ftp://127.0.0.1:{port}/x"),
        format!("pb://127.0.0.1:{port}/x"),
        format!("tls://127.0.0.1:{port}"),
    ] {
        let run = go(["--retries", "0", &source, &place.text("copy")]).expect(3);
        one_line(&run.err, "source", &source);
    }
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn exit_4_when_the_sink_cannot_be_opened() {
    let place = Place::new(10);
    let port = crate::support::free_port();
    for sink in [
        place.text(""),
        place.text("big"),
        place.text("no/such/dir/file"),
        "tcp://no-such-host.invalid:1".to_owned(),
        "/proc/new".to_owned(),
        format!("tcp://127.0.0.1:{port}"),
        format!("unix:{}", place.text("missing")),
        "exec:/nonexistent/program".to_owned(),
        "tcp-listen://192.0.2.1:9".to_owned(),
        format!("http://127.0.0.1:{port}/x"),
        format!("ftp://127.0.0.1:{port}/x"),
        format!("tls://127.0.0.1:{port}"),
        "maildir:/proc/nothing".to_owned(),
    ] {
        let run = go(["/dev/zero", &sink]).expect(4);
        one_line(&run.err, "sink", &sink);
    }
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn exit_3_or_4_without_permission() {
    if !is_bound_by_permissions() {
        // Root may everything; the test then runs as somebody else.
        return as_nobody();
    }
    let place = Place::new(10);
    denied(&place);
}

fn denied(place: &Place) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place.path("big"), PermissionsExt::from_mode(0o000)).unwrap();
    go([place.text("big"), place.text("copy")]).expect(3);
}

fn is_bound_by_permissions() -> bool {
    !rustix::process::geteuid().is_root()
}

fn as_nobody() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::new(10);
    // The program and the directory must be within reach of that other user.
    let program = place.path("program");
    // By a program of its own: a descriptor of ours that is open for writing could reach a child of another test.
    let copied = std::process::Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.path("big"), PermissionsExt::from_mode(0o600)).unwrap();
    for (args, code) in [(["big", "-"], 3), (["/dev/null", "copy"], 4)] {
        let mut command = std::process::Command::new(&program);
        crate::support::clean(&mut command);
        command
            .args(args)
            .current_dir(place.path(""))
            .uid(65_534)
            .gid(65_534);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let run = run(command).expect(code);
        assert!(run.err.contains("ermission"), "{}", run.err);
    }
}

#[test]
fn exit_5_when_the_source_fails_midway() {
    let place = Place::new(10);
    let run = go(["sh:echo some; echo because >&2; exit 7", &place.text("copy")]).expect(5);
    assert!(run.err.contains("source sh:echo"), "{}", run.err);
    assert!(
        run.err.contains('7') && run.err.contains("because"),
        "{}",
        run.err
    );
    // A reset connection is no end.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let copying = Running::start(&mut tidegate([&format!("tcp://{at}"), &place.text("copy")]));
    let mut peer = listener.accept().unwrap().0;
    peer.write_all(b"half").unwrap();
    crate::support::until("it writes", || place.names().len() == 2);
    reset(peer);
    let run = copying.end().expect(5);
    one_line(&run.err, "source", &format!("tcp://{at}"));
    assert_eq!(place.names(), ["big"]);
}

fn reset(peer: std::net::TcpStream) {
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

#[test]
fn exit_6_when_the_sink_fails_midway() {
    let place = Place::new(8 * MIB);
    let run = go([&place.text("big"), "/dev/full"]).expect(6);
    one_line(&run.err, "sink", "/dev/full");
    assert!(run.err.contains("nothing confirmed"), "{}", run.err);
    let run = go([&place.text("big"), "sh:head -c 1000 >/dev/null; exit 3"]).expect(6);
    assert!(run.err.contains("sink sh:head"), "{}", run.err);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate(["/dev/zero", &format!("tcp://{at}")]));
    let mut peer = listener.accept().unwrap().0;
    peer.read_exact(&mut [0; 1000]).unwrap();
    reset(peer);
    let run = sending.end().expect(6);
    one_line(&run.err, "sink", &format!("tcp://{at}"));
}

#[test]
fn exit_7_when_the_source_ends_before_its_announced_end() {
    let place = Place::new(4 * MIB);
    let source = place.text("big");
    // A file that shrinks while it is read.
    let copying = Running::start(&mut tidegate(["--rate", "1MiB/s", &source, &place.text("copy")]));
    thread::sleep(Duration::from_millis(300));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(place.path("big"))
        .unwrap();
    file.set_len(MIB as u64 / 2).unwrap();
    let run = copying.end().expect(7);
    one_line(&run.err, "source", &source);
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn exit_8_when_nothing_moves_for_the_stall_limit() {
    let place = Place::new(10);
    let began = Instant::now();
    // A source that sends nothing.
    let run = go(["--stall", "300ms", "sh:sleep 60", &place.text("copy")]).expect(8);
    assert!(run.err.contains("source"), "{}", run.err);
    // A consumer that reads nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate([
        "--stall",
        "300ms",
        "/dev/zero",
        &format!("tcp://{at}"),
    ]));
    let peer = listener.accept().unwrap().0;
    let run = sending.end().expect(8);
    drop(peer);
    assert!(run.err.contains("sink"), "{}", run.err);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn exit_8_for_a_connection_that_does_not_come_about_in_time() {
    let deaf = Deaf::new();
    let to = format!("tcp://{}", deaf.at);
    let run = go(["--connect-timeout", "300ms", "/dev/null", &to]).expect(8);
    one_line(&run.err, "sink", &to);
}

/// A listener whose backlog is full answers nothing: the kernel drops what comes.
pub(crate) struct Deaf {
    pub(crate) at: std::net::SocketAddr,
    _sockets: Vec<socket2::Socket>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into())
            .unwrap();
        socket.listen(0).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = vec![socket];
        for _ in 0..4 {
            let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&at.into());
            waiting.push(filler);
        }
        Self {
            at,
            _sockets: waiting,
        }
    }
}

#[test]
fn a_shaped_flow_is_not_stalled() {
    let place = Place::new(100);
    // 100 bytes at 40 a second: helpings come further apart than the limit, and that is the shaper's doing.
    go([
        "--rate",
        "40",
        "--stall",
        "100ms",
        &place.text("big"),
        &place.text("copy"),
    ])
    .expect(0);
}

#[test]
fn exit_141_without_noise_for_a_broken_stdout_pipe() {
    for options in [vec![], vec!["--json"], vec!["-v"]] {
        let mut command = tidegate(options.iter().chain(&["/dev/zero", "-"]));
        let mut child = command.spawn().unwrap();
        let mut some = [0; 100];
        child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        drop(child.stdout.take());
        let run = Running::start_with(child).end().expect(141);
        let noise: Vec<&str> = run
            .err
            .lines()
            .filter(|line| !line.contains("\"snapshot\"") && !line.contains(" are open; "))
            .collect();
        assert!(noise.is_empty(), "{options:?}: {noise:?}");
    }
    // Help into a reader that left is silent too.
    let mut child = tidegate(["man"]).spawn().unwrap();
    drop(child.stdout.take());
    let run = Running::start_with(child).end();
    assert!(run.code == 141 && run.err.is_empty(), "{run:?}");
}
