//! Nobody's descriptor is left non-blocking: a parent looks at the description it shares with a child of ours, while the
//! child moves bytes through it and after it has ended. For each kind of description, as standard input, as standard
//! output and by number.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};

/// The example that plays the child.
fn child_path() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap();
    let child = built.join("examples").join("child");
    assert!(
        child.is_file(),
        "build the example `child` too: cargo test --example child"
    );
    child
}

/// A description that the child inherits, and the end of it that is ours.
struct Shared {
    name: &'static str,
    theirs: OwnedFd,
    ours: File,
    /// What tells the reader of this kind that there is no more; `None` when that is our closing it.
    end: Option<&'static [u8]>,
}

impl Shared {
    fn new(name: &'static str, theirs: impl Into<OwnedFd>, ours: impl Into<OwnedFd>) -> Self {
        Self {
            name,
            theirs: theirs.into(),
            ours: File::from(ours.into()),
            end: None,
        }
    }

    /// The very description, for the child.
    fn lend(&self) -> Stdio {
        self.theirs.try_clone().unwrap().into()
    }

    fn assert_blocking(&self, when: &str) {
        assert!(
            !is_non_blocking(&self.theirs),
            "{}: non-blocking {when}",
            self.name
        );
    }
}

fn is_non_blocking(fd: &impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

fn tty(name: &'static str) -> Shared {
    use rustix::pty::OpenptFlags;

    // What a child must not have by accident: it would keep the other end open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let path = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let slave = rustix::fs::open(
        &*path,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    Shared {
        end: Some(b"\x04"),
        ..Shared::new(name, slave, master)
    }
}

/// Both ends of a FIFO, blocking.
fn fifo(folder: &tempfile::TempDir) -> (OwnedFd, OwnedFd) {
    let path = folder.path().join("fifo");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let read = rustix::fs::open(
        &path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let write = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    rustix::fs::fcntl_setfl(&read, OFlags::empty()).unwrap();
    (read, write)
}

fn tcp() -> (OwnedFd, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near.into(), listener.accept().unwrap().0.into())
}

/// The file whose first line waits to be read: the rest is written to it meanwhile.
fn file() -> (OwnedFd, OwnedFd) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let other = file.reopen().unwrap();
    (file.into_file().into(), other.into())
}

/// What can be read from, each with its writing end.
fn readable(folder: &tempfile::TempDir) -> Vec<Shared> {
    let (pipe_read, pipe_write) = std::io::pipe().unwrap();
    let (fifo_read, fifo_write) = fifo(folder);
    let (unix, unix_far) = UnixStream::pair().unwrap();
    let (tcp, tcp_far) = tcp();
    vec![
        Shared::new("pipe", pipe_read, pipe_write),
        Shared::new("FIFO", fifo_read, fifo_write),
        Shared::new("Unix socket", unix, unix_far),
        Shared::new("TCP socket", tcp, tcp_far),
        tty("terminal"),
    ]
}

/// What can be written to, each with its reading end.
fn writable(folder: &tempfile::TempDir) -> Vec<Shared> {
    let (pipe_read, pipe_write) = std::io::pipe().unwrap();
    let (fifo_read, fifo_write) = fifo(folder);
    let (unix, unix_far) = UnixStream::pair().unwrap();
    let (tcp, tcp_far) = tcp();
    let (file, file_far) = file();
    vec![
        Shared::new("pipe", pipe_write, pipe_read),
        Shared::new("FIFO", fifo_write, fifo_read),
        Shared::new("Unix socket", unix, unix_far),
        Shared::new("TCP socket", tcp, tcp_far),
        Shared::new("file", file, file_far),
        tty("terminal"),
    ]
}

/// As which descriptors the child has its two ends.
#[derive(Clone, Copy)]
enum As {
    Standard,
    Number,
}

/// A child that copies from the one to the other.
fn copying(place: As, from: Stdio, to: Stdio) -> Child {
    let mut command = match place {
        As::Standard => {
            let mut command = Command::new(child_path());
            command.arg("flow");
            command
        }
        // A shell gives them numbers of their own, and takes the standard ones away.
        As::Number => {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", "exec \"$0\" between 7 8 7<&0 8>&1 </dev/null >/dev/null"])
                .arg(child_path());
            command
        }
    };
    command.stdin(from).stdout(to).spawn().unwrap()
}

/// One line from the reading end. A file is looked at until it has it.
fn read_line(from: &mut File) -> String {
    let mut line = Vec::new();
    let start = std::time::Instant::now();
    while !line.ends_with(b"\n") {
        assert!(start.elapsed() < crate::support::LONG, "never came: {line:?}");
        let mut byte = [0];
        match from.read(&mut byte).unwrap() {
            0 => std::thread::sleep(std::time::Duration::from_millis(5)),
            _ => line.push(byte[0]),
        }
    }
    // A terminal ends its lines with two characters.
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

#[test]
fn what_is_read_from_stays_blocking() {
    for place in [As::Standard, As::Number] {
        let folder = tempfile::tempdir().unwrap();
        for mut shared in readable(&folder) {
            let (read, write) = std::io::pipe().unwrap();
            let mut child = copying(place, shared.lend(), write.into());
            let mut out = File::from(OwnedFd::from(read));
            shared.ours.write_all(b"one\n").unwrap();
            assert_eq!(read_line(&mut out), "one", "{}", shared.name);
            shared.assert_blocking("while the child reads");
            shared.ours.write_all(b"two\n").unwrap();
            assert_eq!(read_line(&mut out), "two", "{}", shared.name);
            match shared.end {
                Some(end) => shared.ours.write_all(end).unwrap(),
                None => shared.ours = File::open("/dev/null").unwrap(),
            }
            assert!(child.wait().unwrap().success(), "{}", shared.name);
            shared.assert_blocking("after the child");
        }
    }
}

/// A file ends where it ends: the child is held while it writes, with its output full.
#[test]
fn a_file_that_is_read_from_stays_blocking() {
    for place in [As::Standard, As::Number] {
        let (theirs, ours) = file();
        File::from(ours).write_all(&b"x".repeat(3 << 20)).unwrap();
        let shared = Shared::new("file", theirs, File::open("/dev/null").unwrap());
        let (read, write) = std::io::pipe().unwrap();
        let mut child = copying(place, shared.lend(), write.into());
        let mut out = File::from(OwnedFd::from(read));
        out.read_exact(&mut [0; 100_000]).unwrap();
        shared.assert_blocking("while the child reads");
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), (3 << 20) - 100_000);
        assert!(child.wait().unwrap().success());
        shared.assert_blocking("after the child");
    }
}

#[test]
fn what_is_written_to_stays_blocking() {
    for place in [As::Standard, As::Number] {
        let folder = tempfile::tempdir().unwrap();
        for mut shared in writable(&folder) {
            let (read, mut write) = std::io::pipe().unwrap();
            let mut child = copying(place, read.into(), shared.lend());
            for line in ["one", "two"] {
                writeln!(write, "{line}").unwrap();
                assert_eq!(read_line(&mut shared.ours), line, "{}", shared.name);
                shared.assert_blocking("while the child writes");
            }
            drop(write);
            assert!(child.wait().unwrap().success(), "{}", shared.name);
            shared.assert_blocking("after the child");
        }
    }
}

/// The look itself: a child that leaves its standard input non-blocking is seen to, whatever that is.
#[test]
fn a_child_that_spoils_what_it_shares_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = readable(&folder);
    let (theirs, ours) = file();
    all.push(Shared::new("file", theirs, ours));
    for shared in all {
        let spoiled = Command::new(child_path())
            .arg("spoil")
            .stdin(shared.lend())
            .status();
        assert!(spoiled.unwrap().success());
        assert!(is_non_blocking(&shared.theirs), "{}", shared.name);
    }
}
