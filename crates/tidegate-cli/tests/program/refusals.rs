//! A kernel that refuses a lane's system call, from the first one on or in the middle of a stream: every byte still arrives, by the
//! copy lane, and the report says so. strace answers the calls in the kernel's place, as a seccomp filter would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::support::{MIB, Place, Running, clean, peer};

/// What a kernel may say: it was not built with the call, a filter forbids it, the ends are not to its liking.
const ANSWERS: [&str; 3] = ["ENOSYS", "EPERM", "EINVAL"];

/// A system call, and which call of each thread is the first to be refused in the middle of a stream.
struct Call {
    name: &'static str,
    midway: &'static [u32],
}

const SPLICE: Call = Call {
    name: "splice",
    // Into the pipe and out of it.
    midway: &[5, 6],
};
const SENDFILE: Call = Call {
    name: "sendfile",
    midway: &[4],
};
const COPY_FILE_RANGE: Call = Call {
    name: "copy_file_range",
    midway: &[2],
};

/// Runs `work` under each refusal. It is given the program under strace to add words to, and gives back its report.
fn refused(test: &str, call: &Call, bytes: usize, work: impl Fn(Command, &Place) -> Value) {
    let Some(strace) = peer("strace", test) else {
        return;
    };
    for answer in ANSWERS {
        for first in [1].iter().chain(call.midway) {
            let place = Place::new(bytes);
            let log = place.path("calls");
            let command = refusing(&strace, call.name, &format!("error={answer}:when={first}+"), &log);
            let report = work(command, &place);
            let why = format!("{answer} from call {first} on: {report}");
            assert_eq!(report["lane"], "copy", "{why}");
            assert_eq!(report["bytes_sent"], bytes, "{why}");
            let calls = std::fs::read_to_string(log).unwrap();
            let (refused, done): (Vec<&str>, Vec<&str>) = calls
                .lines()
                .filter(|line| line.contains(call.name) && line.contains(" = "))
                .partition(|line| line.contains("(INJECTED)"));
            assert!(!refused.is_empty(), "nothing was refused; {why}");
            let moved = done.iter().any(|line| !line.contains("= -1"));
            assert_eq!(moved, *first > 1, "{why}\n{calls}");
        }
    }
}

fn refusing(strace: &Path, call: &str, how: &str, log: &Path) -> Command {
    let mut command = Command::new(strace);
    clean(&mut command);
    command.args(["-f", "-qq", "-e", &format!("trace={call}")]);
    command
        .args(["-e", &format!("inject={call}:{how}"), "-o"])
        .arg(log);
    command.args([env!("CARGO_BIN_EXE_tidegate"), "--json", "--progress", "never"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Takes one connection and everything it sends.
fn taking() -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let taken = thread::spawn(move || {
        let mut all = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
        all
    });
    (address, taken)
}

fn report(running: Running) -> Value {
    serde_json::from_str(running.end().expect(0).last()).unwrap()
}

#[test]
fn splice_between_sockets_refused() {
    let test = "splice_between_sockets_refused";
    refused(test, &SPLICE, 8 * MIB, |mut command, place| {
        let (to, taken) = taking();
        command.args(["--lane", "splice", "tcp-listen://127.0.0.1:0", &to]);
        let mut running = Running::start(&mut command);
        let mut near = TcpStream::connect(("127.0.0.1", running.port())).unwrap();
        near.write_all(&place.bytes).unwrap();
        drop(near);
        let report = report(running);
        assert!(taken.join().unwrap() == place.bytes, "bytes were lost");
        report
    });
}

#[test]
fn splice_from_a_pipe_refused() {
    let test = "splice_from_a_pipe_refused";
    refused(test, &SPLICE, 8 * MIB, |mut command, place| {
        let (to, taken) = taking();
        let fifo = place.path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        command.args(["--lane", "splice", &place.text("fifo"), &to]);
        let running = Running::start(&mut command);
        // Opening it waits for the program to open it, too.
        std::fs::write(&fifo, &place.bytes).unwrap();
        let report = report(running);
        assert!(taken.join().unwrap() == place.bytes, "bytes were lost");
        report
    });
}

#[test]
fn sendfile_refused() {
    refused("sendfile_refused", &SENDFILE, 8 * MIB, |mut command, place| {
        let (to, taken) = taking();
        command.args(["--lane", "sendfile", &place.text("big"), &to]);
        let report = report(Running::start(&mut command));
        assert!(taken.join().unwrap() == place.bytes, "bytes were lost");
        report
    });
}

#[test]
fn copy_file_range_refused() {
    let test = "copy_file_range_refused";
    // Seven calls: strace counts by thread, and the first two or three may each be made by another one.
    refused(test, &COPY_FILE_RANGE, 100 * MIB, |mut command, place| {
        command.args(["--durability", "cached"]);
        command.args([place.text("big"), place.text("copy")]);
        let report = report(Running::start(&mut command));
        place.holds_all("copy");
        report
    });
}

/// Without a refusal each of these lanes is taken: the tests above would prove nothing else.
#[test]
fn unrefused_they_are_taken() {
    let Some(strace) = peer("strace", "unrefused_they_are_taken") else {
        return;
    };
    let place = Place::new(8 * MIB);
    let run = |lane: &str, words: &[&str]| {
        let mut command = refusing(&strace, "tee", "error=EPERM", Path::new("/dev/null"));
        command.args(["--lane", lane]).args(words);
        command
    };
    let big = place.text("big");
    let (to, taken) = taking();
    let sent = report(Running::start(&mut run("sendfile", &[&big, &to])));
    assert_eq!(sent["lane"], "sendfile");
    assert!(taken.join().unwrap() == place.bytes);
    let copied = report(Running::start(&mut run(
        "copy_file_range",
        &[&big, &place.text("copy")],
    )));
    assert_eq!(copied["lane"], "copy_file_range");
    let (to, taken) = taking();
    let mut running = Running::start(&mut run("splice", &["tcp-listen://127.0.0.1:0", &to]));
    let mut near = TcpStream::connect(("127.0.0.1", running.port())).unwrap();
    near.write_all(&place.bytes).unwrap();
    drop(near);
    assert_eq!(report(running)["lane"], "splice");
    assert!(taken.join().unwrap() == place.bytes);
}
