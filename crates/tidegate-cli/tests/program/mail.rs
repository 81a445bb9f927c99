//! Mail as a sink: killed at random moments, killed in the midst, and on a full disk. What is in the mailbox counts.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{MIB, Place, Running, go, small_disk, tidegate, until};

const LINES: usize = 30_000;
const RUNS: usize = 200;

/// Every line of a message says which one it is.
fn message(number: usize) -> String {
    format!("{number:09}\n").repeat(LINES)
}

/// The messages in the mailbox, each of which must be whole.
fn found(mailbox: &Path) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(mailbox.join("new")).unwrap() {
        let content = fs::read_to_string(entry.unwrap().path()).unwrap();
        let number = content.get(..9).and_then(|digits| digits.parse().ok());
        let number = number.expect("a message without its first line");
        assert!(content == message(number), "message {number} is not whole");
        assert!(numbers.insert(number), "message {number} is there twice");
    }
    numbers
}

fn count(directory: impl AsRef<Path>) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_killed_delivery_is_whole_or_absent_and_every_acknowledged_one_is_there() {
    let place = Place::new(10);
    let mailbox = format!("maildir:{}", place.text("mail"));
    let start = |number: usize| {
        let path = place.path("message");
        fs::write(&path, message(number)).unwrap();
        let began = Instant::now();
        let run = Running::start(&mut tidegate(["-q", &path.display().to_string(), &mailbox]));
        (run, began)
    };
    // How long one takes that is left alone, on this machine and today.
    let mut longest = Duration::ZERO;
    for number in 0..5 {
        let (run, began) = start(number);
        run.end().expect(0);
        longest = longest.max(began.elapsed());
    }
    let mut acknowledged: BTreeSet<usize> = (0..5).collect();
    let mut dice = 0x9e37_79b9_u32;
    for number in 5..RUNS {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        let (mut run, _) = start(number);
        // The moment of the kill is what is random here; nothing is waited for.
        thread::sleep(longest.mul_f64(f64::from(dice % 1_200) / 1_000.0));
        run.child.kill().unwrap();
        match run.end().code {
            0 => drop(acknowledged.insert(number)),
            code => assert_eq!(code, -9, "it ended of itself, and not well"),
        }
    }
    let killed = RUNS - acknowledged.len();
    assert!(killed > 20, "only {killed} of {RUNS} were killed under way");
    let found = found(&place.path("mail"));
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
    println!("{killed} killed of {RUNS}, {} messages there", found.len());
}

#[test]
fn a_delivery_killed_in_the_midst_leaves_what_the_next_one_sweeps() {
    let place = Place::new(10);
    let mail = place.path("mail");
    let mailbox = format!("maildir:{}", place.text("mail"));
    let mut command = tidegate(["-q", "-", &mailbox]);
    let mut run = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = run.child.stdin.take().unwrap();
    stdin.write_all(message(1).as_bytes()).unwrap();
    let written = || {
        let entries = fs::read_dir(mail.join("tmp")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .any(|file| file.len() > 0)
    };
    until("something is in tmp", written);
    run.child.kill().unwrap();
    assert_eq!(run.end().code, -9);
    assert_eq!((count(mail.join("new")), count(mail.join("tmp"))), (0, 1));
    // Not old enough: somebody may be at it.
    go([place.text("big"), mailbox.clone()]).expect(0);
    assert_eq!((count(mail.join("new")), count(mail.join("tmp"))), (1, 1));
    for entry in fs::read_dir(mail.join("tmp")).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(37 * 60 * 60);
        file.set_modified(long_ago).unwrap();
    }
    go([place.text("big"), mailbox]).expect(0);
    assert_eq!((count(mail.join("new")), count(mail.join("tmp"))), (2, 0));
}

#[test]
fn a_message_for_a_full_disk_leaves_nothing() {
    let place = Place::new(4 * MIB);
    let Some(disk) = small_disk(&place.path("small"), "a_message_for_a_full_disk_leaves_nothing") else {
        return;
    };
    let mail = disk.path().join("mail");
    let mailbox = format!("maildir:{}", mail.display());
    let run = go([&place.text("big"), &mailbox]).expect(6);
    assert!(run.err.contains("No space left"), "{}", run.err);
    for part in ["tmp", "new", "cur"] {
        assert_eq!(count(mail.join(part)), 0, "{part}");
    }
    // A message that fits finds room again.
    fs::write(place.path("small message"), message(7)).unwrap();
    go([place.text("small message"), mailbox]).expect(0);
    assert_eq!(found(&mail), BTreeSet::from([7]));
}
