//! Pages to and from a Twisted process, by the program as its users start it.

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{MIB, Place, Running, go, tidegate, twisted};

/// A Twisted process that reports line by line. Killed when dropped.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(python: &PathBuf, args: &[&str]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tidegate-pb/tests/twisted/peer.py");
        let mut command = Command::new(python);
        command.arg("-u").arg(script).args(args).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that begins with a word, without it.
    fn after(&mut self, word: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with(word));
        let line = line.unwrap_or_else(|| panic!("the peer never said {word:?}"));
        line[word.len()..].trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another program's word for what is in a file.
fn md5(python: &PathBuf, path: &str) -> String {
    let script = "import hashlib, sys; print(hashlib.md5(open(sys.argv[1], 'rb').read()).hexdigest())";
    let output = Command::new(python).args(["-c", script, path]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn twisted_gets_all_pages_from_the_program() {
    let Some(python) = twisted("twisted_gets_all_pages_from_the_program") else {
        return;
    };
    let place = Place::new(5 * MIB);
    let mut serving = Running::start(&mut tidegate([&place.text("big"), "pb-listen:127.0.0.1:0/iso"]));
    let port = serving.port().to_string();
    let mut peer = Peer::start(&python, &["fetch", &port, "iso"]);
    let expected = format!("iso {} {}", 5 * MIB, md5(&python, &place.text("big")));
    assert_eq!(peer.after("ended"), expected);
    serving.end().expect(0);
}

#[test]
fn the_program_gets_all_pages_from_twisted() {
    let Some(python) = twisted("the_program_gets_all_pages_from_twisted") else {
        return;
    };
    let place = Place::new(5 * MIB);
    let mut peer = Peer::start(&python, &["serve", &place.text("big")]);
    let address = format!("pb://127.0.0.1:{}/file", peer.after("port"));
    go([address, place.text("copy")]).expect(0);
    place.holds_all("copy");
}

/// Cut midway: the pages are not the whole, and no file says that they are.
#[test]
fn pages_that_twisted_cuts_off_leave_no_file() {
    let Some(python) = twisted("pages_that_twisted_cuts_off_leave_no_file") else {
        return;
    };
    let place = Place::new(10);
    let mut peer = Peer::start(&python, &["serve", &place.text("big")]);
    let address = format!("pb://127.0.0.1:{}/forever", peer.after("port"));
    let fetching = Running::start(&mut tidegate([address, place.text("copy")]));
    crate::support::until("pages come", || place.names().len() > 1);
    drop(peer);
    // What came is not the whole.
    fetching.end().expect(7);
    assert_eq!(place.names(), ["big"]);
}
