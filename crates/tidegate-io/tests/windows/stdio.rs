//! Standard input and output as a child sees them: pipes and files. Consoles cannot be had here.

use std::fs::File;
use std::process::{Command, Stdio};

use tidegate_io::Confirmation;

use crate::support::{finish, pattern, read_all, within, write_all};
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
    while std::io::Write::write_all(&mut stdin, &[7; 10_000]).is_ok() {}
    assert_eq!(running.wait().unwrap().code(), Some(3));
}
