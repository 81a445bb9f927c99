//! Children at fault beside a relay: killed, deaf to SIGTERM, or survived by somebody who holds their pipe. What a child
//! wrote before it died is delivered and never looks whole.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::faults::pid_in;
use crate::support::{Place, Running, go, go_with, noise, run, shell, tidegate, until};

fn kill(signal: &str, id: &str) {
    assert!(
        Command::new("kill")
            .args([signal, id])
            .status()
            .unwrap()
            .success()
    );
}

/// Whether a process is no more, or only waits to be reaped.
fn is_gone(id: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(id).join("stat"))
        .map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

fn relay_to(line: &str, place: &Place) -> (Running, u16) {
    let mut command = tidegate(["relay", "tcp-listen://127.0.0.1:0", line]);
    command.current_dir(place.path(""));
    let mut relay = Running::start(&mut command);
    let port = relay.port();
    (relay, port)
}

#[test]
fn a_killed_child_resets_its_client_and_the_relay_goes_on() {
    let place = Place::new(10);
    let (mut relay, port) = relay_to("sh:echo $$ >pid; exec cat", &place);
    let bytes = noise(300_000);
    for _ in 0..3 {
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        near.write_all(&bytes).unwrap();
        let mut got = vec![0; bytes.len()];
        near.read_exact(&mut got).unwrap();
        assert!(got == bytes);
        kill("-KILL", &pid_in(&place, "pid"));
        assert!(near.read(&mut [0]).is_err(), "a killed child looked finished");
        let line = relay.line("connection failed");
        let all = "bytes_back=300000";
        assert!(
            line.contains("was killed by signal 9") && line.contains(all),
            "{line}"
        );
        std::fs::remove_file(place.path("pid")).unwrap();
    }
    relay.signal("TERM");
    relay.end().expect(0);
}

#[test]
fn the_last_words_of_a_child_that_fails_are_delivered_whole() {
    const LENGTH: usize = 3_000_000;
    let place = Place::new(LENGTH);
    for (end, words) in [
        ("echo because >&2; exit 3", "exited with code 3: because"),
        ("kill -KILL $$", "was killed by signal 9"),
    ] {
        // To a file, which takes bytes later than a pipe does, and to a pipe. The exit code names the end at fault.
        for (ends, code) in [
            ("- 'sh:cat; END' <big >copy", 6),
            ("'sh:cat; END' - <big >copy", 5),
            ("- 'sh:cat; END' <big | cat >copy", 6),
        ] {
            let line = format!("$T relay {}", ends.replace("END", end));
            let run = run(shell(&line, &place)).expect(code);
            assert!(run.err.contains(words), "{}", run.err);
            place.holds_all("copy");
        }
        // To a client that takes its time.
        let (mut relay, port) = relay_to(&format!("sh:cat; {end}"), &place);
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut writing = near.try_clone().unwrap();
        let sent = place.bytes.clone();
        let writer = thread::spawn(move || {
            writing.write_all(&sent).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let (mut got, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
        let end = loop {
            match near.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(count) => got.extend_from_slice(&piece[..count]),
                Err(error) => break Err(error),
            }
            thread::sleep(Duration::from_millis(5));
        };
        writer.join().unwrap();
        assert!(got == place.bytes, "{} bytes of {LENGTH}", got.len());
        assert!(end.is_err(), "what was cut short looked whole");
        assert!(relay.line("connection failed").contains("sh:cat"));
    }
}

/// What a shell says of itself before it turns a deaf ear.
const DEAF: &str = "trap '' TERM; echo $$ >pid; echo here; while :; do sleep 1; done";

#[test]
fn a_child_that_ignores_sigterm_is_killed_when_a_copy_is_ended() {
    for (source, sink) in [("/dev/zero", "sh:DEAF"), ("sh:DEAF", "/dev/null")] {
        let place = Place::new(10);
        let mut command = tidegate(["-v", source, sink].map(|word| word.replace("DEAF", DEAF)));
        command.current_dir(place.path(""));
        let mut copying = Running::start(&mut command);
        // The child may be there before the other end is.
        copying.line("are open");
        let id = pid_in(&place, "pid");
        copying.signal("INT");
        copying.line("once more aborts at once");
        copying.signal("INT");
        copying.end().expect(130);
        assert!(is_gone(&id), "{source} to {sink}: process {id} survives");
    }
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_when_its_client_goes() {
    let place = Place::new(10);
    let (mut relay, port) = relay_to(&format!("sh:{DEAF}"), &place);
    for _ in 0..2 {
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        near.read_exact(&mut [0; 5]).unwrap();
        let id = pid_in(&place, "pid");
        socket2::SockRef::from(&near)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(near);
        relay.line("connection failed");
        until("the child is gone", || is_gone(&id));
        std::fs::remove_file(place.path("pid")).unwrap();
    }
    relay.signal("TERM");
    relay.end().expect(0);
}

#[test]
fn a_grandchild_that_holds_the_pipe_hangs_nobody_and_costs_no_byte() {
    let place = Place::new(300_000);
    let start = |args: &[&str]| {
        let mut command = tidegate(args);
        command
            .current_dir(place.path(""))
            .stdin(Stdio::from(std::fs::File::open(place.path("big")).unwrap()));
        Running::start(&mut command)
    };
    // All at once: each waits for five seconds of silence.
    let source = start(&["sh:cat big; sleep 600 &", "copy1"]);
    let relay = start(&["relay", "-", "sh:sleep 600 & cat"]);
    let (mut listening, port) = relay_to("sh:sleep 600 & cat", &place);
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    near.write_all(&place.bytes).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    assert!(near.read_to_end(&mut got).is_err(), "what was cut looked whole");
    assert!(got == place.bytes, "{} bytes", got.len());
    let held = "something it started holds it";
    assert!(listening.line("connection failed").contains(held));
    let run = source.end().expect(8);
    assert!(
        run.last().contains(held) && !place.path("copy1").exists(),
        "{}",
        run.err
    );
    let run = relay.end().expect(8);
    assert!(run.last().contains(held) && run.out == place.bytes, "{}", run.err);
    // Behind a sink that ended well it is nobody's affair.
    // Nor does it hold our own output.
    let line = "sh:sleep 600 >/dev/null 2>&1 & echo $! >pid; cat >copy2";
    let mut command = tidegate([&place.text("big"), line]);
    command.current_dir(place.path(""));
    Running::start(&mut command).end().expect(0);
    place.holds_all("copy2");
    let id = pid_in(&place, "pid");
    assert!(!is_gone(&id));
    kill("-KILL", &id);
}

#[test]
fn children_that_only_close_one_of_their_streams_are_heard_and_fed_on() {
    let place = Place::new(300_000);
    // No output, and everything is read.
    let run = go_with(
        &place.bytes,
        [
            "relay",
            "-",
            &format!("sh:exec >&-; cat >'{}'", place.text("copy")),
        ],
    )
    .expect(0);
    assert!(run.out.is_empty());
    place.holds_all("copy");
    // No input, and everything is written.
    let line = format!("sh:exec <&-; cat '{}'", place.text("big"));
    assert!(go_with(b"unwanted", ["relay", "-", &line]).expect(0).out == place.bytes);
    assert!(go(["relay", "-", &line]).expect(0).out == place.bytes);
}
