//! The disk steps of a delivery, with a disk that gives short writes and fails at every step.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::{Create, Flags, Folder, LineEnds};

fn begin(
    path: &Path,
    options: &Options,
    wrap: impl Fn(File) -> Box<dyn MessageFile> + Send + Sync + 'static,
) -> Result<Delivery, MaildirError> {
    let wrap: Wrap = Arc::new(wrap);
    Delivery::begin(path, options, &wrap, Arc::default())
}

fn plain(file: File) -> Box<dyn MessageFile> {
    Box::new(file)
}

fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Takes one byte a write, and fails when asked.
struct Stingy {
    file: File,
    left: usize,
    sync_fails: SyncFails,
}

#[derive(Clone, Copy, PartialEq)]
enum SyncFails {
    Yes,
    No,
}

impl Write for Stingy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left -= 1;
        self.file.write(&bytes[..bytes.len().min(1)])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MessageFile for Stingy {
    fn sync(&mut self) -> io::Result<()> {
        if self.sync_fails == SyncFails::Yes {
            Err(io::Error::other("broken device"))
        } else {
            Ok(())
        }
    }
}

/// D92: Twisted ignores how much the system took and reports a truncated mail as delivered.
#[test]
fn d92_short_writes_are_carried_on() {
    let dir = tempfile::tempdir().unwrap();
    let wrap = |file| -> Box<dyn MessageFile> {
        Box::new(Stingy {
            file,
            left: usize::MAX,
            sync_fails: SyncFails::No,
        })
    };
    let mut delivery = begin(dir.path(), &Options::default(), wrap).unwrap();
    delivery
        .write([Bytes::from_static(b"hello, "), Bytes::from_static(b"world")])
        .unwrap();
    let path = delivery.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello, world");
    assert!(path.file_name().unwrap().to_str().unwrap().ends_with(",S=12"));
    assert!(names(dir.path().join("tmp")).is_empty());
}

/// D93, D94: a full disk, then a failing sync: one error, nothing left, and the next delivery works.
#[test]
fn d93_d94_a_failing_disk_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = |file| -> Box<dyn MessageFile> {
        Box::new(Stingy {
            file,
            left: 5,
            sync_fails: SyncFails::No,
        })
    };
    let mut delivery = begin(dir.path(), &Options::default(), full).unwrap();
    let error = delivery.write([Bytes::from_static(b"hello, world")]).unwrap_err();
    assert!(matches!(error, MaildirError::Store { .. }), "{error:?}");
    drop(delivery);
    let unsynced = |file| -> Box<dyn MessageFile> {
        Box::new(Stingy {
            file,
            left: 99,
            sync_fails: SyncFails::Yes,
        })
    };
    let mut delivery = begin(dir.path(), &Options::default(), unsynced).unwrap();
    delivery.write([Bytes::from_static(b"x")]).unwrap();
    assert!(matches!(
        delivery.commit().unwrap_err(),
        MaildirError::Store { .. }
    ));
    for part in ["tmp", "new", "cur"] {
        assert!(names(dir.path().join(part)).is_empty(), "{part}");
    }
    begin(dir.path(), &Options::default(), plain)
        .unwrap()
        .commit()
        .unwrap();
    assert_eq!(names(dir.path().join("new")).len(), 1);
}

/// D95: Twisted relies on rename failing, which POSIX's does not.
#[test]
fn d95_a_message_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, "second").unwrap();
    fs::write(&to, "first").unwrap();
    assert_eq!(
        move_without_replacing(&from, &to).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    #[cfg(target_os = "linux")]
    assert_eq!(
        rename_without_replacing(&from, &to).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(fs::read(&to).unwrap(), b"first");
}

#[test]
fn a_missing_mailbox_is_created_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some/mail");
    let never = Options {
        create: Create::Never,
        ..Options::default()
    };
    assert!(matches!(
        begin(&path, &never, plain),
        Err(MaildirError::Missing(_))
    ));
    assert!(!path.exists());
    drop(begin(&path, &Options::default(), plain).unwrap());
    assert_eq!(names(&path), ["cur", "new", "tmp"]);
    drop(begin(&path, &never, plain).unwrap());
    let folder = Options {
        folder: Some(Folder::parse("Lists/Rust").unwrap()),
        ..never
    };
    assert!(matches!(
        begin(&path, &folder, plain),
        Err(MaildirError::Missing(_))
    ));
}

#[test]
fn a_subfolder_and_flags() {
    let dir = tempfile::tempdir().unwrap();
    let flags: Flags = "SF".parse().unwrap();
    let folder = Some(Folder::parse("Lists/Rust").unwrap());
    let options = Options {
        target: Target::Cur(flags),
        folder,
        ..Options::default()
    };
    let path = begin(dir.path(), &options, plain).unwrap().commit().unwrap();
    assert_eq!(path.parent().unwrap(), dir.path().join(".Lists.Rust/cur"));
    assert!(
        path.to_str()
            .unwrap()
            .ends_with(&format!("S=0{}", flags.suffix())),
        "{path:?}"
    );
    assert_eq!(
        names(dir.path().join(".Lists.Rust")),
        ["cur", "maildirfolder", "new", "tmp"]
    );
}

#[test]
fn a_message_over_the_limit_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        size_bytes_max: Some(4),
        line_ends: LineEnds::Crlf,
        ..Options::default()
    };
    // Four bytes as stored: three as given.
    let mut delivery = begin(dir.path(), &options, plain).unwrap();
    delivery.write([Bytes::from_static(b"ab\n")]).unwrap();
    let error = delivery.write([Bytes::from_static(b"c")]).unwrap_err();
    assert!(matches!(error, MaildirError::TooLarge { bytes_max: 4 }));
    drop(delivery);
    assert!(names(dir.path().join("tmp")).is_empty() && names(dir.path().join("new")).is_empty());
}

#[test]
fn stale_files_are_swept_and_fresh_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let live = begin(dir.path(), &Options::default(), plain).unwrap();
    let stale = dir.path().join("tmp/crashed");
    // Not kept open: Windows keeps the name of a removed file for as long as somebody has it.
    File::create(&stale)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(37 * 3600))
        .unwrap();
    let keep = Options {
        sweep_age: None,
        ..Options::default()
    };
    drop(begin(dir.path(), &keep, plain).unwrap());
    assert!(stale.exists());
    drop(begin(dir.path(), &Options::default(), plain).unwrap());
    assert!(!stale.exists() && live.tmp_path.exists());
}

/// An abort that comes while the commit runs on its thread still wins until the link.
#[test]
fn an_abort_before_the_link_wins() {
    let dir = tempfile::tempdir().unwrap();
    let aborted = Arc::new(AtomicBool::new(false));
    let delivery = {
        let wrap: Wrap = Arc::new(plain);
        Delivery::begin(dir.path(), &Options::default(), &wrap, Arc::clone(&aborted)).unwrap()
    };
    aborted.store(true, Ordering::Release);
    assert!(matches!(delivery.commit(), Err(MaildirError::Aborted)));
    assert!(names(dir.path().join("tmp")).is_empty() && names(dir.path().join("new")).is_empty());
}
