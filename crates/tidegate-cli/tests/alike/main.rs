//! The program as its users meet it on every system: the same exit codes, messages, reports, and names that appear when all
//! is there. What needs a shell's tools, signals or `/proc` is tried in `program/`, on Linux.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod table;
#[cfg(windows)]
mod windows;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    // What a user has set for himself is no affair of a test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command
}

fn go(args: &[&str]) -> Output {
    tidegate(args).output().unwrap()
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{err}");
    err
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// A folder with a space in its name, and a file of noise in it.
fn place(count: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("a place ").tempdir().unwrap();
    let big = folder.path().join("big file");
    std::fs::write(&big, noise(count)).unwrap();
    (folder, big)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running program whose lines are read until one holds `word`.
fn started(args: &[&str], word: &str) -> (Child, String) {
    let mut child = tidegate(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = loop {
        let line = lines.next().expect("the program ended early").unwrap();
        if line.contains(word) {
            break line;
        }
    };
    // Somebody must go on reading, or the program stands still.
    thread::spawn(move || lines.for_each(drop));
    (child, line)
}

fn port_of(line: &str) -> u16 {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    let after = line.split("127.0.0.1:").nth(1).unwrap();
    digits(after).parse().unwrap()
}

#[test]
fn a_file_is_copied_and_shows_only_when_complete() {
    let (folder, big) = place(3_000_000);
    let copy = folder.path().join("a copy");
    expect(&go(&[text(&big), text(&copy)]), 0);
    assert!(std::fs::read(&copy).unwrap() == noise(3_000_000));
    // There already: refused, and replaced when that is asked for.
    let err = expect(&go(&[text(&big), text(&copy)]), 4);
    assert!(err.starts_with("tidegate: sink "), "{err}");
    std::fs::write(&big, b"new").unwrap();
    expect(&go(&["--force", text(&big), text(&copy)]), 0);
    assert_eq!(std::fs::read(&copy).unwrap(), b"new");
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "no partial file is left");
}

/// While a stream is under way its bytes are beside the target; when it is cut they are gone.
#[test]
fn a_name_appears_with_the_last_byte() {
    for ends_well in [true, false] {
        let (folder, _) = place(0);
        let copy = folder.path().join("copy");
        let mut child = tidegate(&["-", text(&copy)])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&noise(300_000)).unwrap();
        let start = Instant::now();
        while !partial(folder.path())
            .is_some_and(|path| std::fs::read(path).is_ok_and(|all| all.len() == 300_000))
        {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "nothing is written beside it"
            );
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!copy.exists(), "it shows before it is complete");
        match ends_well {
            true => drop(stdin),
            false => child.kill().unwrap(),
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.success(), copy.exists()), (ends_well, ends_well));
        assert!(
            !ends_well || partial(folder.path()).is_none(),
            "a partial file is left"
        );
    }
}

/// What is written beside a target.
fn partial(folder: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.find_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .ends_with(".part")
            .then(|| entry.path())
    })
}

#[test]
fn standard_streams_carry_bytes() {
    let mut child = tidegate(&["-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&noise(2_000_000)).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    expect(&output, 0);
    assert!(output.stdout == noise(2_000_000));
}

#[test]
fn exit_141_when_nobody_reads_standard_output() {
    let (_folder, big) = place(3_000_000);
    let mut child = tidegate(&[text(&big), "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    expect(&output, 141);
}

#[test]
fn a_childs_output_and_its_exit_code_count() {
    let (folder, big) = place(100_000);
    let copy = folder.path().join("copy");
    // The program itself is a child that is always there.
    let exec = format!("exec:\"{PROGRAM}\" \"{}\" -", text(&big));
    expect(&go(&[&exec, text(&copy)]), 0);
    assert!(std::fs::read(&copy).unwrap() == noise(100_000));
    let missing = format!(
        "exec:\"{PROGRAM}\" \"{}\" -",
        text(&folder.path().join("missing"))
    );
    let never = folder.path().join("never");
    let err = expect(&go(&[&missing, text(&never)]), 5);
    assert!(err.contains("exited with code 3"), "{err}");
    assert!(!never.exists(), "a stream cut short never looks finished");
    let shell = folder.path().join("shell");
    expect(&go(&["sh:echo hello", text(&shell)]), 0);
    assert_eq!(std::fs::read(shell).unwrap().trim_ascii(), b"hello");
}

#[test]
fn a_child_takes_its_input_to_the_end() {
    let (folder, big) = place(500_000);
    let copy = folder.path().join("copy");
    let exec = format!("exec:\"{PROGRAM}\" - \"{}\"", text(&copy));
    expect(&go(&[text(&big), &exec]), 0);
    assert!(std::fs::read(copy).unwrap() == noise(500_000));
}

#[test]
fn tcp_carries_a_file_to_a_listener() {
    let (folder, big) = place(2_000_000);
    let copy = folder.path().join("copy");
    let (mut listening, line) = started(&["tcp-listen://127.0.0.1:0", text(&copy)], "127.0.0.1:");
    let to = format!("tcp://127.0.0.1:{}", port_of(&line));
    expect(&go(&[text(&big), &to]), 0);
    assert_eq!(listening.wait().unwrap().code(), Some(0));
    assert!(std::fs::read(copy).unwrap() == noise(2_000_000));
}

#[test]
fn a_relay_carries_both_ways_and_passes_a_half_close_on() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", origin.local_addr().unwrap());
    let (mut relay, line) = started(&["relay", "tcp-listen://127.0.0.1:0", &to], "127.0.0.1:");
    let mut near = TcpStream::connect(("127.0.0.1", port_of(&line))).unwrap();
    let mut far = origin.accept().unwrap().0;
    near.write_all(b"question").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    far.read_to_string(&mut question).unwrap();
    far.write_all(b"answer").unwrap();
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    relay.kill().unwrap();
    relay.wait().unwrap();
}
