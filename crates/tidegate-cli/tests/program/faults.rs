//! Bad input and faults: each with its exit code, a line that names the side, and nothing under the target's name.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{MIB, Place, Running, go, run, small_disk, tidegate, until};

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let place = Place::new(8 * MIB);
    let Some(disk) = small_disk(&place.path("small"), "a_full_disk_leaves_nothing_behind") else {
        return;
    };
    let mount = disk.path();
    let target = mount.join("copy").display().to_string();
    let run = go([&place.text("big"), &target]).expect(6);
    assert!(
        run.err.contains("sink") && run.err.contains("No space left"),
        "{}",
        run.err
    );
    assert_eq!(
        std::fs::read_dir(mount).unwrap().count(),
        0,
        "something stayed on the full disk"
    );
    // Over an old file: the old one stays.
    std::fs::write(mount.join("copy"), "old").unwrap();
    go(["--force", &place.text("big"), &target]).expect(6);
    assert_eq!(std::fs::read(mount.join("copy")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(mount).unwrap().count(), 1);
}

#[test]
fn a_killed_program_as_source_is_a_failure() {
    let place = Place::new(10);
    let pid = place.text("pid");
    let line = format!("sh:echo $$ > '{pid}'; while :; do echo more; sleep 0.01; done");
    let copying = Running::start(&mut tidegate([&line, &place.text("copy")]));
    let id = pid_in(&place, "pid");
    assert!(
        Command::new("kill")
            .args(["-KILL", &id])
            .status()
            .unwrap()
            .success()
    );
    let run = copying.end().expect(5);
    assert!(run.err.contains("source sh:"), "{}", run.err);
    assert!(!place.path("copy").exists());
}

#[test]
fn a_killed_program_as_sink_is_a_failure() {
    let place = Place::new(10);
    let pid = place.text("pid");
    let line = format!("sh:echo $$ > '{pid}'; exec cat >/dev/null");
    let copying = Running::start(&mut tidegate(["--rate", "1MiB/s", "/dev/zero", &line]));
    let id = pid_in(&place, "pid");
    assert!(
        Command::new("kill")
            .args(["-KILL", &id])
            .status()
            .unwrap()
            .success()
    );
    let run = copying.end().expect(6);
    assert!(run.err.contains("sink sh:"), "{}", run.err);
}

/// The process number a program wrote down.
fn pid_in(place: &Place, name: &str) -> String {
    let mut text = String::new();
    until("the program starts", || {
        text = std::fs::read_to_string(place.path(name))
            .unwrap_or_default()
            .trim()
            .to_owned();
        !text.is_empty()
    });
    text
}

#[test]
fn we_ourselves_killed_leave_the_target_as_it_was() {
    let place = Place::new(10);
    std::fs::write(place.path("copy"), "old").unwrap();
    let copying = Running::start(&mut tidegate([
        "--force",
        "--rate",
        "1MiB/s",
        "/dev/zero",
        &place.text("copy"),
    ]));
    until("it writes", || place.names().len() == 3);
    copying.signal("KILL");
    assert_eq!(copying.end().code, -9);
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"old");
}

#[test]
fn stdin_that_is_a_directory_or_closed_is_no_stream() {
    let place = Place::new(10);
    let mut command = tidegate(["-", &place.text("copy")]);
    command.stdin(std::fs::File::open(place.path("")).unwrap());
    run(command).expect(3);
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn a_closed_stdin_or_stdout_is_told_and_not_taken_for_an_end() {
    let place = Place::new(10);
    let program = env!("CARGO_BIN_EXE_tidegate");
    for (line, code, side) in [
        (format!("exec {program} - copy <&-"), 3, "source stdin"),
        (format!("exec {program} big - >&-"), 4, "sink stdout"),
        (
            format!("exec {program} relay - sh:cat <&-"),
            3,
            "stdin and stdout",
        ),
    ] {
        let mut command = Command::new("sh");
        crate::support::clean(&mut command);
        command.args(["-c", &line]).current_dir(place.path(""));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let run = run(command).expect(code);
        assert!(
            run.err.contains(side) && run.err.contains("not open for"),
            "{}",
            run.err
        );
    }
    assert_eq!(place.names(), ["big"]);
    // `/dev/null` is no closed stream.
    let mut command = tidegate([&place.text("big"), "-"]);
    command.stdout(Stdio::null());
    run(command).expect(0);
}

#[test]
fn a_peer_that_only_closes_its_own_side_early_is_no_fault() {
    let place = Place::new(2 * MIB);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate([&place.text("big"), &format!("tcp://{at}")]));
    let mut peer = listener.accept().unwrap().0;
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut peer, &mut got).unwrap();
    drop(peer);
    sending.end().expect(0);
    assert!(got == place.bytes);
}

#[test]
fn a_peer_that_never_closes_is_sent_not_confirmed() {
    let place = Place::new(1000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate([
        "--drain",
        "200ms",
        &place.text("big"),
        &format!("tcp://{at}"),
    ]));
    let mut peer = listener.accept().unwrap().0;
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut peer, &mut got).unwrap();
    let run = sending.end().expect(0);
    drop(peer);
    assert!(run.last().contains("sent"), "{}", run.err);
    assert!(got == place.bytes);
}

#[test]
fn a_clock_that_jumps_moves_neither_limits_nor_rates() {
    // Wall-clock time is not asked: with a faketime that jumps by hours the same copy would do the same. Here the
    // promise is checked where it is made: no source file of the program asks for wall-clock time.
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut dirs = vec![std::path::PathBuf::from(sources)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let asks = text.contains("SystemTime::now") || text.contains("UNIX_EPOCH");
            assert!(!asks, "{} asks for wall-clock time", path.display());
        }
    }
    // And limits do hold while time passes.
    let place = Place::new(10);
    let began = std::time::Instant::now();
    go(["--stall", "200ms", "sh:sleep 60", &place.text("copy")]).expect(8);
    assert!(began.elapsed() >= Duration::from_millis(200));
}
