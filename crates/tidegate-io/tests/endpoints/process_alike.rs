//! What a child process is like on every system. Cites CASES group B.
//!
//! Knows no system: what to start for a child that copies, writes, takes or exits, `crate::process` says.

use std::time::Duration;

use tidegate_io::endpoint::process::Process;
use tidegate_io::{Confirmation, Duplex, ErrorKind, Flow, Sink};

use crate::process::{MISSING, copying, exiting, taking, writing};
use crate::support::{
    MemorySink, MemorySource, finish, pattern, read_all, read_some, until, within, write_all,
};

#[tokio::test]
async fn a_program_that_does_not_exist_cannot_be_opened() {
    let Err(error) = Process::exec(MISSING, ["x"]).into_source() else {
        panic!("started what does not exist");
    };
    assert_eq!(error.kind, ErrorKind::Open);
    assert!(error.to_string().contains(&format!("exec:{MISSING}")), "{error}");
}

#[tokio::test]
async fn a_child_that_exits_early_loses_no_output() {
    // The pipe holds what the child wrote long after it has gone.
    let mut source = writing(60_000).into_source().unwrap();
    until("the child has gone", || source.id().is_none()).await;
    assert_eq!(read_all(&mut source).await.unwrap().len(), 60_000);
}

#[tokio::test]
async fn more_than_a_pipe_holds_comes_through_whole() {
    let bytes = pattern(3_000_000);
    let (sink, seen) = MemorySink::new();
    let both = copying().into_duplex().unwrap();
    let there = Flow::new(MemorySource::new(bytes.clone()), both.sink).run();
    let back = Flow::new(both.source, sink).run();
    let (there, back) = within(async { tokio::join!(there, back) }).await;
    assert_eq!(there.unwrap().confirmation, Some(Confirmation::Confirmed));
    back.unwrap();
    assert!(seen.bytes() == bytes && seen.is_finished());
}

/// CASES 48 in our terms: a reader that has gone is a broken pipe, and says how it went.
#[tokio::test]
async fn a_child_that_stops_reading_is_a_broken_pipe() {
    let source = MemorySource::new(pattern(1_000_000));
    let sink = taking(10).into_sink().unwrap();
    let error = within(Flow::new(source, sink).run()).await.unwrap_err();
    assert_eq!(error.cause.kind, ErrorKind::BrokenPipe, "{error}");
    assert!(
        error.cause.to_string().contains("exited with code 0 before"),
        "{error}"
    );
}

#[tokio::test]
async fn a_dead_child_is_noticed_with_nothing_to_write() {
    let mut sink = exiting(4).into_sink().unwrap();
    let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
    assert_eq!(error.kind, ErrorKind::BrokenPipe);
    assert!(error.to_string().contains("code 4"), "{error}");
}

/// CASES 55: a child that echoes, read with pauses.
#[tokio::test]
async fn an_echo_read_with_pauses_is_complete() {
    let Duplex { mut source, mut sink } = copying().into_duplex().unwrap();
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
