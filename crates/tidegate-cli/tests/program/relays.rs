//! `tidegate relay`: many connections, each both ways, with policies, limits and an end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{MIB, Place, Running, go_with, noise, tidegate, until};

/// A relay to an origin of ours.
fn relay(options: &[&str]) -> (Running, u16, TcpListener) {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", origin.local_addr().unwrap());
    let args = [&["relay", "tcp-listen://127.0.0.1:0", &to], options].concat();
    let mut relay = Running::start(&mut tidegate(args));
    let port = relay.port();
    (relay, port, origin)
}

#[test]
fn both_directions_carry_bytes_and_half_close() {
    let (mut relay, port, origin) = relay(&[]);
    let bytes = noise(3 * MIB);
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut far = origin.accept().unwrap().0;
    let sent = bytes.clone();
    let mut writing = near.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writing.write_all(&sent).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    far.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == bytes);
    // Half-close is passed on; the other direction still works.
    far.write_all(b"answer").unwrap();
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    let line = relay.line("connection ended");
    assert!(
        line.contains(&format!("bytes_there={}", bytes.len())) && line.contains("bytes_back=6"),
        "{line}"
    );
    relay.signal("TERM");
    relay.end().expect(0);
}

#[test]
fn a_reset_reaches_the_other_side_as_a_reset() {
    let (mut relay, port, origin) = relay(&["--log-format", "json"]);
    let near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut far = origin.accept().unwrap().0;
    socket2::SockRef::from(&near)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(near);
    assert!(far.read(&mut [0]).is_err(), "a reset looked like an end");
    let line = relay.line("connection failed");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["fields"]["direction"], "there");
}

#[test]
fn the_far_side_is_dialled_before_any_byte_and_a_dead_one_refuses() {
    let (_relay, port, origin) = relay(&[]);
    let near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    origin.accept().unwrap();
    drop((near, origin));
    let mut again = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let end = again.read(&mut [0; 1]);
    assert!(matches!(end, Err(_) | Ok(0)));
}

#[test]
fn half_close_policies_abort_and_linger() {
    for (policy, least) in [("abort", 0), ("linger=300ms", 250)] {
        let (mut relay, port, origin) = relay(&["--half-close", policy]);
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut far = origin.accept().unwrap().0;
        near.write_all(b"last words").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut got = [0; 10];
        far.read_exact(&mut got).unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        let _ = near.read_to_end(&mut rest);
        let waited = began.elapsed().as_millis();
        assert!((least..5000).contains(&waited), "{policy}: {waited} ms");
        relay.line("connection ");
    }
}

#[test]
fn more_connections_than_allowed_are_refused_and_logged() {
    let (mut relay, port, origin) = relay(&["--max-connections", "1"]);
    let _first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _far = origin.accept().unwrap();
    let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
    relay.line("refused: too many connections");
    assert!(matches!(second.read(&mut [0]), Err(_) | Ok(0)));
}

#[test]
fn an_idle_connection_is_ended_only_when_asked() {
    let (mut relay, port, origin) = relay(&["--idle", "200ms"]);
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _far = origin.accept().unwrap();
    assert!(matches!(near.read(&mut [0]), Err(_) | Ok(0)));
    relay.line("connection failed");
}

#[test]
fn the_first_signal_waits_for_connections_and_the_second_does_not() {
    let (mut gentle, port, origin) = relay(&[]);
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut far = origin.accept().unwrap().0;
    near.write_all(b"x").unwrap();
    far.read_exact(&mut [0]).unwrap();
    gentle.signal("TERM");
    gentle.line("waiting for connections");
    until("it stops listening", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    near.write_all(b"still there").unwrap();
    far.read_exact(&mut [0; 11]).unwrap();
    drop((near, far));
    gentle.end().expect(0);

    let (mut hard, port, origin) = relay(&[]);
    let _near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _far = origin.accept().unwrap();
    hard.signal("INT");
    hard.line("waiting for connections");
    hard.signal("INT");
    hard.end().expect(130);

    // One that stands still is cut when the drain limit has passed; nothing was held, so nothing is lost.
    let (drained, port, origin) = relay(&["--drain", "300ms"]);
    let _near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _far = origin.accept().unwrap();
    drained.signal("TERM");
    drained.end().expect(0);
}

#[test]
fn sigusr1_lists_live_connections() {
    let (mut relay, port, origin) = relay(&[]);
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut far = origin.accept().unwrap().0;
    near.write_all(b"12345").unwrap();
    far.read_exact(&mut [0; 5]).unwrap();
    relay.signal("USR1");
    relay.line("1 connections");
    let line = relay.line("there ");
    assert!(line.contains("5 B sent") && line.contains("127.0.0.1:"), "{line}");
}

#[test]
fn rates_hold_for_each_connection_and_in_total() {
    for options in [["--rate", "1MiB/s"], ["--rate-total", "1MiB/s"]] {
        let (_relay, port, origin) = relay(&options);
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut far = origin.accept().unwrap().0;
        let began = Instant::now();
        let writer = thread::spawn(move || {
            near.write_all(&noise(MIB)).unwrap();
        });
        far.read_exact(&mut vec![0; MIB]).unwrap();
        writer.join().unwrap();
        let took = began.elapsed().as_secs_f64();
        assert!(took > 0.7, "{options:?}: {took} s");
    }
}

#[test]
fn two_ends_that_do_not_listen_are_joined_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", listener.local_addr().unwrap());
    let origin = thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        peer.write_all(got.to_uppercase().as_bytes()).unwrap();
    });
    let run = go_with(b"shout", ["relay", "-", &to]).expect(0);
    origin.join().unwrap();
    assert_eq!(run.out, b"SHOUT");
    assert!(run.last().contains("5 B there, 5 B back"), "{}", run.err);
    let run = go_with(b"through a child", ["relay", "-", "exec:cat"]).expect(0);
    assert_eq!(run.out, b"through a child");
}

/// A child that ends well without reading everything, as behind a pipe or over ssh: what it wrote is delivered, and the
/// exit code is its own.
#[test]
fn a_child_decides_how_much_it_reads() {
    let input = noise(2 * MIB);
    let run = go_with(&input, ["relay", "-", "sh:head -c 1000"]).expect(0);
    assert!(run.out == input[..1000], "{} bytes", run.out.len());
    let run = go_with(&input, ["relay", "-", "sh:exec 0<&-; echo late"]).expect(0);
    assert_eq!(run.out, b"late\n");
    let run = go_with(&input, ["relay", "-", "sh:head -c 1000; exit 3"]).expect(6);
    assert!(
        run.out == input[..1000] && run.last().contains("exited with code 3"),
        "{}",
        run.err
    );

    // Behind a listener: a client that has sent more gets everything, and no reset.
    let mut relay = Running::start(&mut tidegate([
        "relay",
        "tcp-listen://127.0.0.1:0",
        "sh:head -c 10; head -c 300000 /dev/zero",
    ]));
    let mut near = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
    near.write_all(&input[..100_000]).unwrap();
    let mut got = Vec::new();
    near.read_to_end(&mut got).expect("the client saw a reset");
    assert_eq!(got.len(), 300_010);
    drop(near);
    relay.line("connection ended");
}

#[test]
fn listeners_on_both_sides_are_paired() {
    let place = Place::new(10);
    let socket = place.text("socket");
    let mut relay = Running::start(&mut tidegate([
        "relay",
        "tcp-listen://127.0.0.1:0",
        &format!("unix-listen:{socket}"),
    ]));
    let port = relay.port();
    relay.line("listening on unix-listen");
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut far = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    near.write_all(b"hello").unwrap();
    let mut got = [0; 5];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

#[test]
fn out_of_descriptors_the_relay_goes_on() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", origin.local_addr().unwrap());
    // A limit with room for a handful of connections, and a higher number of them allowed. Each worker has a few
    // descriptors of its own.
    let line = format!(
        "ulimit -Sn 40; ulimit -Hn 40; exec {} relay --max-connections 1000 tcp-listen://127.0.0.1:0 {to}",
        env!("CARGO_BIN_EXE_tidegate")
    );
    let mut command = std::process::Command::new("bash");
    crate::support::clean(&mut command);
    command.args(["-c", &line]).stdin(std::process::Stdio::null());
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut relay = Running::start(&mut command);
    let port = relay.port();
    let accepting = thread::spawn(move || {
        let mut held = Vec::new();
        for stream in origin.incoming().take(200) {
            held.push(stream.unwrap());
        }
    });
    let crowd: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    relay.line("Too many open files");
    drop(crowd);
    // It has recovered when a connection goes through from end to end again: the origin ends those it drops.
    until("the relay recovers", || {
        let Ok(mut near) = TcpStream::connect(("127.0.0.1", port)) else {
            return false;
        };
        near.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // Neither ended nor reset within the time: it was joined to the origin, which says nothing.
        matches!(near.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    relay.signal("KILL");
    drop(relay);
    drop(accepting);
}

/// Pipes among the descriptors of a process.
#[cfg(target_os = "linux")]
fn pipes(id: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count()
}

#[cfg(target_os = "linux")]
fn resident_bytes(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().split(' ').next().unwrap().parse::<usize>().unwrap() * 1024
}

/// Two spare pipes may stay, each with two ends.
#[cfg(target_os = "linux")]
const SPARE_PIPE_ENDS: usize = 4;

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_rests_after_bulk_holds_no_buffer_and_no_pipe() {
    const CONNECTIONS: usize = 150;
    for lane in ["splice", "copy"] {
        let (relay, port, origin) = relay(&["--lane", lane]);
        let id = relay.child.id();
        let connect = || {
            let near = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut far = origin.accept().unwrap().0;
            let mut writing = near.try_clone().unwrap();
            let writer = thread::spawn(move || writing.write_all(&vec![7; MIB]).unwrap());
            far.read_exact(&mut vec![0; MIB]).unwrap();
            writer.join().unwrap();
            (near, far)
        };
        let pipes_before = pipes(id);
        // The first one pays for what is there once: code, arenas, spare buffers.
        let first = connect();
        let resident_before = resident_bytes(id);
        let resting: Vec<_> = (1..CONNECTIONS).map(|_| connect()).collect();
        until("pipes are given back", || {
            pipes(id) <= pipes_before + SPARE_PIPE_ENDS
        });
        // A buffer earned by bulk has 64 KiB and more, the smallest one 8 KiB: a connection that kept one would show.
        until("buffers are given back", || {
            resident_bytes(id).saturating_sub(resident_before) < CONNECTIONS * 8 * 1024
        });
        drop((first, resting));
    }
}
