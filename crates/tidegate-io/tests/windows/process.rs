//! Child processes: arguments, ends, exits, and that none survives. Cites CASES groups B and part 2.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::{Confirmation, Duplex, ErrorKind, Relay, Source};

use crate::support::{
    MemorySink, MemorySource, abort, finish, pattern, read_all, read_some, until, within, write_all,
};
use crate::{child, child_path};

/// A program that is not there.
pub(crate) const MISSING: &str = r"C:\nonexistent\program.exe";

/// Standard input to standard output.
pub(crate) fn copying() -> Process {
    child(&["copy"])
}

/// Writes so many bytes.
pub(crate) fn writing(bytes: usize) -> Process {
    child(&["write", &bytes.to_string()])
}

/// Reads so many bytes and exits in good order.
pub(crate) fn taking(bytes: usize) -> Process {
    child(&["take", &bytes.to_string()])
}

pub(crate) fn exiting(code: u8) -> Process {
    child(&["exit", &code.to_string()])
}

/// Whether somebody has that file open.
fn is_held(path: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt;

    path.exists() && OpenOptions::new().write(true).share_mode(0).open(path).is_err()
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given() {
    let odd = [
        "plain",
        "two words",
        "",
        " ",
        "\"",
        "a\"b",
        "\\",
        "ends in a backslash\\",
        "\\\\two\\\\",
        "quote after backslashes\\\\\"",
        "C:\\Program Files\\x",
        "tab\there",
        "%PATH%",
        "^caret & ampersand | pipe > file",
        "!bang!",
        "$HOME `x` 'single'",
        "größe 你好 🌊",
        "-x",
        "/c",
        "*.*",
        "line\nbreak",
    ];
    let expected: String = odd.iter().map(|arg| format!("{}:{arg}\n", arg.len())).collect();
    let words: Vec<&str> = std::iter::once("args").chain(odd).collect();
    let mut source = child(&words).into_source().unwrap();
    let said = String::from_utf8(read_all(&mut source).await.unwrap()).unwrap();
    assert_eq!(said, expected);
    assert!(
        read_some(&mut source).await.unwrap().is_none(),
        "the end is repeated"
    );
}

#[tokio::test]
async fn the_shell_is_given_its_line_as_it_is() {
    let program = child_path();
    let line = format!("\"{}\" args \"two words\" three && echo done", program.display());
    let mut source = Process::shell(line).into_source().unwrap();
    let said = String::from_utf8(read_all(&mut source).await.unwrap()).unwrap();
    assert_eq!(
        said.replace("\r\n", "\n").trim_end(),
        "9:two words\n5:three\ndone"
    );
}

#[tokio::test]
async fn a_bad_exit_is_told_with_its_code_and_last_line() {
    let mut source = child(&["exit", "7", "first", "the disk is full", ""])
        .stderr(Stderr::Keep)
        .into_source()
        .unwrap();
    let error = read_all(&mut source).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    let text = error.to_string();
    assert!(text.contains("exited with code 7: the disk is full"), "{text}");
}

#[tokio::test]
async fn finishing_closes_the_input_and_waits_for_the_exit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a copy");
    let mut sink = child(&["file", file.to_str().unwrap()]).into_sink().unwrap();
    write_all(&mut sink, pattern(200_000)).await.unwrap();
    assert_eq!(finish(&mut sink).await.unwrap(), Confirmation::Confirmed);
    assert!(std::fs::read(file).unwrap() == pattern(200_000));
}

/// Law 10: no end reaches a child whose input is cut short, and it is gone when the abort is done.
#[tokio::test]
async fn an_abort_never_looks_finished_to_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let mut sink = child(&["file", file.to_str().unwrap()]).into_sink().unwrap();
    let part = folder.path().join("copy.part");
    write_all(&mut sink, &b"half of it"[..]).await.unwrap();
    until("it runs", || part.exists()).await;
    abort(&mut sink).await;
    assert!(!file.exists(), "the child saw an end");
    // Nobody has it open any more.
    std::fs::remove_file(part).unwrap();
}

#[tokio::test]
async fn dropping_an_unfinished_sink_is_an_abort() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let mut sink = child(&["file", file.to_str().unwrap()]).into_sink().unwrap();
    let part = folder.path().join("copy.part");
    write_all(&mut sink, &b"half of it"[..]).await.unwrap();
    until("it runs", || is_held(&part)).await;
    drop(sink);
    until("it has gone", || !is_held(&part)).await;
    assert!(!file.exists(), "the child saw an end");
}

/// What is not asked in words is asked by closing its output; a child that does not notice is killed.
#[tokio::test]
async fn a_source_that_is_stopped_leaves_no_child() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("held");
    let mut source = child(&["hold", file.to_str().unwrap()]).into_source().unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"on\n");
    assert!(is_held(&file));
    let start = Instant::now();
    within(std::future::poll_fn(|cx| source.poll_stop(cx))).await;
    assert!(
        start.elapsed() >= Duration::from_millis(500),
        "it was given time to notice"
    );
    until("it has gone", || !is_held(&file)).await;
}

#[tokio::test]
async fn no_grandchild_survives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("held");
    let mut source = child(&["parent", file.to_str().unwrap()]).into_source().unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"on\n");
    assert!(is_held(&file), "the grandchild runs");
    drop(source);
    until("the grandchild has gone", || !is_held(&file)).await;
}

/// CASES 46, B22, D26: not reading the output leaves the input flowing, and the other way round.
#[tokio::test]
async fn a_paused_output_does_not_stop_the_input() {
    let Duplex { mut source, mut sink } = child(&["copy", "the end"]).into_duplex().unwrap();
    // What both pipes and the child hold between them goes in without one read.
    write_all(&mut *sink, pattern(60_000)).await.unwrap();
    write_all(&mut *sink, &b"tail"[..]).await.unwrap();
    let (finished, read) = tokio::join!(finish(&mut *sink), read_all(&mut *source));
    assert_eq!(finished.unwrap(), Confirmation::Confirmed);
    let mut expected = pattern(60_000);
    expected.extend_from_slice(b"tailthe end");
    assert!(read.unwrap() == expected);
}

#[tokio::test]
async fn in_a_relay_an_early_exit_in_success_is_an_end() {
    let (sink, seen) = MemorySink::new();
    let ours = Duplex {
        source: Box::new(MemorySource::new(pattern(4_000_000))),
        sink: Box::new(sink),
    };
    let writing = child(&["write", "100000"]).into_duplex().unwrap();
    let report = within(Relay::new(ours, writing).run()).await.unwrap();
    assert_eq!((seen.len(), seen.is_finished()), (100_000, true));
    assert!(report.a_to_b.bytes_sent < 4_000_000, "more than a pipe took");
}
