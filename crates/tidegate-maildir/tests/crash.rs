//! What a crash leaves: the delivering process is killed at random moments, many times, and then we count. And four of
//! them at once, of which nothing may be lost.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::{Consumer as _, FinishableConsumer as _, Marks};
use tidegate_maildir::{Options, append};

const MESSAGES: usize = 12;
const MESSAGE_BYTES: usize = 300_000;

/// The example beside this test's binary.
fn deliver_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/deliver");
    assert!(
        program.exists(),
        "cargo test builds {}; so does cargo build --examples",
        program.display()
    );
    program
}

fn write_messages(directory: &Path) -> Vec<PathBuf> {
    (0..MESSAGES)
        .map(|number| {
            let path = directory.join(format!("message{number}"));
            let line = format!("{number:09}\n");
            fs::write(&path, line.repeat(MESSAGE_BYTES / line.len())).unwrap();
            path
        })
        .collect()
}

/// Delivers until it is killed; gives which messages were acknowledged.
fn deliver_and_kill(mailbox: &Path, messages: &[PathBuf], after: Duration) -> Vec<usize> {
    let mut child = Command::new(deliver_program())
        .arg(mailbox)
        .args(messages)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    // The moment of the kill is what is random here, nothing is waited for.
    std::thread::sleep(after);
    child.kill().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text.lines()
        .filter(|line| line.ends_with(&MESSAGE_BYTES.to_string()))
        .map(|line| {
            messages
                .iter()
                .position(|path| line.starts_with(&format!("{} ", path.display())))
                .unwrap()
        })
        .collect()
}

#[test]
fn a_killed_delivery_is_whole_or_absent_and_the_acknowledged_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let messages = write_messages(directory.path());
    let mailbox = directory.path().join("mail");
    let mut acknowledged: HashMap<usize, usize> = HashMap::new();
    let mut moment = 0x9e37_79b9u32;
    let (mut cut, began) = (0, Instant::now());
    for _ in 0..150 {
        moment ^= moment << 13;
        moment ^= moment >> 17;
        moment ^= moment << 5;
        let acks = deliver_and_kill(
            &mailbox,
            &messages,
            Duration::from_micros(u64::from(moment % 60_000)),
        );
        cut += usize::from(!acks.is_empty() && acks.len() < MESSAGES);
        for number in acks {
            *acknowledged.entry(number).or_default() += 1;
        }
        if began.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    assert!(cut > 5, "only {cut} runs were killed between two messages");

    let mut found: HashMap<usize, usize> = HashMap::new();
    for entry in fs::read_dir(mailbox.join("new")).unwrap() {
        let content = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(content.len(), MESSAGE_BYTES, "a truncated message");
        let number: usize = content[..9].parse().unwrap();
        let line = &content[..10];
        assert!(
            content
                .as_bytes()
                .chunks(10)
                .all(|chunk| chunk == line.as_bytes()),
            "a damaged message"
        );
        *found.entry(number).or_default() += 1;
    }
    for (number, count) in &acknowledged {
        assert!(
            found.get(number) >= Some(count),
            "{number}: {count} acknowledged, {found:?} found"
        );
    }

    // The leftovers in tmp are swept by the next delivery, once they are old enough.
    let options = Options {
        sweep_age: Some(Duration::ZERO),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (message, delivery) = append(mailbox.clone(), options, Marks::default());
        message.finish();
        delivery.await.unwrap();
    });
    assert_eq!(fs::read_dir(mailbox.join("tmp")).unwrap().count(), 0);
}

/// Four threads share one process id, which is harder on the names than four processes.
#[test]
fn four_writers_lose_nothing() {
    const EACH: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mailbox = directory.path().to_owned();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for number in 0..EACH {
                        let (message, delivery) =
                            append(mailbox.clone(), Options::default(), Marks::default());
                        let _ = message.write(Bytes::from(format!("{writer} {number}"))).unwrap();
                        message.finish();
                        delivery.await.unwrap();
                    }
                });
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_different(directory.path(), 4 * EACH);
}

#[test]
fn four_processes_lose_nothing() {
    const EACH: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let mailbox = directory.path().join("mail");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let messages = (0..EACH).map(|number| {
                let path = directory.path().join(format!("{writer} {number}"));
                fs::write(&path, format!("{writer} {number}")).unwrap();
                path
            });
            let mut command = Command::new(deliver_program());
            command.arg(&mailbox).args(messages).stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    assert_different(&mailbox, 4 * EACH);
}

fn assert_different(mailbox: &Path, count: usize) {
    let mut found: Vec<String> = fs::read_dir(mailbox.join("new"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count);
    assert_eq!(fs::read_dir(mailbox.join("tmp")).unwrap().count(), 0);
}

/// The system refuses to store more: the delivery fails, and leaves nothing. The limit on the size of files stands for a
/// disk that is full, which takes privileges to make.
#[test]
fn a_disk_that_is_full_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let message = &write_messages(directory.path())[0];
    let mailbox = directory.path().join("mail");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"])
        .arg(deliver_program())
        .arg(&mailbox)
        .arg(message)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("cannot store the message"),
        "{errors}"
    );
    assert!(output.stdout.is_empty());
    for part in ["tmp", "new", "cur"] {
        assert_eq!(fs::read_dir(mailbox.join(part)).unwrap().count(), 0, "{part}");
    }
}
