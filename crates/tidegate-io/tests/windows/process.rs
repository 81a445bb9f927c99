//! Child processes: arguments, ends, exits, and that none survives. Cites CASES groups B and part 2.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::{Confirmation, Duplex, ErrorKind, Flow, Relay, Sink, Source};

use crate::support::{
    MemorySink, MemorySource, abort, finish, pattern, read_all, read_some, until, within, write_all,
};
use crate::{child, child_path};

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
async fn a_program_that_does_not_exist_cannot_be_opened() {
    let Err(error) = Process::exec(r"C:\nonexistent\program.exe", ["x"]).into_source() else {
        panic!("started what does not exist");
    };
    assert_eq!(error.kind, ErrorKind::Open);
    assert!(error.to_string().contains("exec:C:\\nonexistent"), "{error}");
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
async fn a_child_that_exits_early_loses_no_output() {
    let mut source = child(&["write", "60000"]).into_source().unwrap();
    until("the child has gone", || source.id().is_none()).await;
    assert_eq!(read_all(&mut source).await.unwrap().len(), 60_000);
}

#[tokio::test]
async fn more_than_a_pipe_holds_comes_through_whole() {
    let bytes = pattern(3_000_000);
    let (sink, seen) = MemorySink::new();
    let both = child(&["copy"]).into_duplex().unwrap();
    let there = Flow::new(MemorySource::new(bytes.clone()), both.sink).run();
    let back = Flow::new(both.source, sink).run();
    let (there, back) = within(async { tokio::join!(there, back) }).await;
    assert_eq!(there.unwrap().confirmation, Some(Confirmation::Confirmed));
    back.unwrap();
    assert!(seen.bytes() == bytes && seen.is_finished());
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

/// CASES 48 in our terms: a reader that has gone is a broken pipe, and says how it went.
#[tokio::test]
async fn a_child_that_stops_reading_is_a_broken_pipe() {
    let source = MemorySource::new(pattern(1_000_000));
    let sink = child(&["take", "10"]).into_sink().unwrap();
    let error = within(Flow::new(source, sink).run()).await.unwrap_err();
    assert_eq!(error.cause.kind, ErrorKind::BrokenPipe, "{error}");
    assert!(
        error.cause.to_string().contains("exited with code 0 before"),
        "{error}"
    );
}

#[tokio::test]
async fn a_dead_child_is_noticed_with_nothing_to_write() {
    let mut sink = child(&["exit", "4"]).into_sink().unwrap();
    let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
    assert_eq!(error.kind, ErrorKind::BrokenPipe);
    assert!(error.to_string().contains("code 4"), "{error}");
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

/// CASES 55: a child that echoes, read with pauses.
#[tokio::test]
async fn an_echo_read_with_pauses_is_complete() {
    let Duplex { mut source, mut sink } = child(&["copy"]).into_duplex().unwrap();
    let lines: Vec<String> = (0..100).map(|number| format!("line {number}\n")).collect();
    let writing = async {
        for line in lines.clone() {
            write_all(&mut *sink, line).await.unwrap();
        }
        finish(&mut *sink).await.unwrap()
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(bytes) = read_some(&mut *source).await.unwrap() {
            all.extend_from_slice(&bytes);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        all
    };
    let (confirmation, echo) = tokio::join!(writing, reading);
    assert_eq!(confirmation, Confirmation::Confirmed);
    assert_eq!(echo, lines.concat().into_bytes());
}
