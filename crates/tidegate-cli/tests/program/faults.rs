//! Bad input and faults: each with its exit code, a line that names the side, and nothing under the target's name.

use std::net::TcpListener;
use std::process::{Command, Stdio};

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
pub(crate) fn pid_in(place: &Place, name: &str) -> String {
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

/// Runs a shell line in a network of its own, with loopback up; `None` without the right to make one.
fn in_a_network_of_its_own(test: &str, place: &Place, line: &str) -> Option<crate::support::Run> {
    let may = Command::new("unshare")
        .args(["-rn", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may {
        eprintln!("SKIPPED: {test}: no right to make a network namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    crate::support::clean(&mut command);
    command
        .args(["-rn", "sh", "-c", line])
        .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
        .current_dir(place.path(""));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(run(command))
}

#[test]
fn an_unreachable_host_or_network_is_told_at_once() {
    let place = Place::new(10);
    let test = "an_unreachable_host_or_network_is_told_at_once";
    for (prepare, words) in [
        ("true", "unreachable"),
        // The kernel's answer for a host behind a route that says so.
        (
            "ip link set lo up && ip route add unreachable 192.0.2.0/24",
            "No route to host",
        ),
    ] {
        for (line, code, side) in [
            ("tcp://192.0.2.1:9 copy", 3, "source"),
            ("big tcp://192.0.2.1:9", 4, "sink"),
        ] {
            let line = format!("{prepare} && exec \"$TIDEGATE\" {line}");
            let Some(run) = in_a_network_of_its_own(test, &place, &line) else {
                return;
            };
            let run = run.expect(code);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
            let start = format!("tidegate: {side} tcp://192.0.2.1:9: ");
            assert!(
                run.err.starts_with(&start) && run.err.contains(words),
                "{}",
                run.err
            );
        }
    }
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn the_demo_needs_no_network_no_terminal_and_no_standard_streams() {
    let place = Place::new(0);
    let test = "the_demo_needs_no_network_no_terminal_and_no_standard_streams";
    let loopback = "ip link set lo up && exec \"$TIDEGATE\" demo --time 1s";
    for (line, by) in [
        ("exec \"$TIDEGATE\" demo --time 1s", "a pair of Unix sockets"),
        (loopback, "TCP on 127.0.0.1"),
        ("exec \"$TIDEGATE\" demo --time 1s <&- >&-", "every byte arrived"),
    ] {
        let Some(run) = in_a_network_of_its_own(test, &place, line) else {
            return;
        };
        let run = run.expect(0);
        // Which side was slow depends on what else the machine has to do.
        for part in [by, "every byte arrived", "peak memory", "slow side: "] {
            assert!(run.err.contains(part), "{part} is missing in {}", run.err);
        }
    }
    // With nobody to tell, the exit code is all there is.
    if let Some(run) = in_a_network_of_its_own(test, &place, "exec \"$TIDEGATE\" demo --time 1s <&- >&- 2>&-")
    {
        run.expect(0);
    }
}

#[test]
fn a_file_system_that_may_only_be_read_is_told() {
    let place = Place::new(10);
    let test = "a_file_system_that_may_only_be_read_is_told";
    let Some(disk) = small_disk(&place.path("mount"), test) else {
        return;
    };
    let mount = disk.path();
    let sealed = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(mount)
        .status();
    assert!(sealed.unwrap().success());
    for option in ["--force", "--append"] {
        let run = go([
            option,
            &place.text("big"),
            &mount.join("copy").display().to_string(),
        ])
        .expect(4);
        assert!(run.err.contains("Read-only file system"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
}

#[test]
fn a_stream_of_nothing_ends_well_everywhere() {
    let place = Place::new(0);
    for sink in ["-", "/dev/null", "sh:cat", "exec:cat"] {
        assert_eq!(go([&place.text("big"), sink]).expect(0).out, b"", "{sink}");
    }
    assert_eq!(go(["sh:true", "-"]).expect(0).out, b"");
    let mut receiving = Running::start(&mut tidegate(["tcp-listen://127.0.0.1:0", &place.text("copy")]));
    let port = receiving.port();
    go([&place.text("big"), &format!("tcp://127.0.0.1:{port}")]).expect(0);
    receiving.end().expect(0);
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"");
    // Neither a limit nor a checksum trips over it.
    go([
        "--rate",
        "1",
        "--stall",
        "1s",
        "--checksum",
        "crc32=00000000",
        &place.text("big"),
        "-",
    ])
    .expect(0);
}

#[test]
fn a_stall_is_found_on_either_side_of_every_kind() {
    let place = Place::new(10);
    let fifo = place.text("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Somebody who opened the FIFO and says nothing, or reads nothing.
    let holder = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.path("fifo"))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("tcp://{}", listener.local_addr().unwrap());
    let fifo_address = format!("pipe:{fifo}");
    for (source, sink, side) in [
        (at.as_str(), "/dev/null", "source"),
        ("/dev/zero", at.as_str(), "sink"),
        (fifo_address.as_str(), "/dev/null", "source"),
        ("/dev/zero", fifo_address.as_str(), "sink"),
        ("sh:exec sleep 60", "/dev/null", "source"),
        ("/dev/zero", "sh:exec sleep 60", "sink"),
    ] {
        let run = go(["--stall", "300ms", source, sink]).expect(8);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(run.err.starts_with(&format!("tidegate: {side} ")), "{}", run.err);
    }
    drop((holder, listener));
}
