//! Standard input and output as a child sees them: pipes and files. Consoles cannot be had here.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tidegate::{AbortReason, ConsumerProtocol, FinishableConsumer, Marks};
use tidegate_io::endpoint::stdio;
use tidegate_io::transport::{Settings, open};
use tidegate_io::{Confirmation, Duplex, SinkConsumer};

use crate::support::{MemorySink, finish, pattern, read_all, until, within, write_all};
use crate::{child, child_path};

/// CASES 52 and 54 in our terms: what goes in through one pipe comes out through the other, whole, with a clean exit.
#[tokio::test]
async fn standard_streams_that_are_pipes_carry_a_flow() {
    let mut both = child(&["flow"]).into_duplex().unwrap();
    let bytes = pattern(2_000_000);
    let writing = async {
        write_all(&mut *both.sink, bytes.clone()).await.unwrap();
        finish(&mut *both.sink).await.unwrap()
    };
    let (confirmation, read) = within(async { tokio::join!(writing, read_all(&mut *both.source)) }).await;
    assert_eq!(confirmation, Confirmation::Confirmed);
    assert!(read.unwrap() == bytes);
}

#[test]
fn standard_streams_that_are_files_carry_a_flow() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, pattern(700_000)).unwrap();
    let status = Command::new(child_path())
        .arg("flow")
        .stdin(File::open(&from).unwrap())
        .stdout(File::create(&to).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(std::fs::read(&to).unwrap() == pattern(700_000));
}

#[test]
fn a_reader_of_standard_output_that_has_gone_is_an_error() {
    let mut running = Command::new(child_path())
        .arg("flow")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    let mut stdin = running.stdin.take().unwrap();
    while stdin.write_all(&[7; 10_000]).is_ok() {}
    assert_eq!(running.wait().unwrap().code(), Some(3));
}

/// D27: a transport over standard streams that is cut lets go of both, also of an input that it waits for.
#[tokio::test]
async fn a_cut_lets_go_of_both_standard_streams() {
    let (input, mut feed) = std::io::pipe().unwrap();
    let (mut drain, output) = std::io::pipe().unwrap();
    let both = Duplex {
        source: Box::new(stdio::source_of(input.into(), "stdin")),
        sink: Box::new(stdio::sink_of(output.into(), "stdout")),
    };
    let (sink, seen) = MemorySink::new();
    let received = Arc::new(SinkConsumer::spawn(sink, Marks::default()));
    let (connection, opened) = open(both, Settings::default());
    let running = tokio::spawn(opened.run(Arc::new(ConsumerProtocol::new(received))));
    feed.write_all(b"first").unwrap();
    until("it has read", || seen.bytes() == b"first").await;
    connection.abort(AbortReason::Requested);
    within(running).await.unwrap();
    let gone = tokio::task::spawn_blocking(move || {
        // A read that waits takes what comes next, and is the last.
        while feed.write_all(b"more").is_ok() {}
        let mut rest = Vec::new();
        drain.read_to_end(&mut rest).map(|_| rest)
    });
    assert!(within(gone).await.unwrap().unwrap().is_empty());
    assert_eq!(seen.bytes(), b"first", "read on after the cut");
}
