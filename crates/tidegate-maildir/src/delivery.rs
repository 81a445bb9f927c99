//! One delivery on the disk: exclusive create in `tmp/`, every byte written, sync, link, unlink, directory sync.
//!
//! Blocking, and only ever called from the blocking pool. Knows nothing of producers, tasks or wakers. Whatever way a
//! delivery ends, dropping it removes its file in `tmp/`.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

use crate::mailbox::Mailbox;
use crate::renaming::rename_without_replacing;
use crate::system::{keep_file_private, sync_directory};
use crate::{MaildirError, Normaliser, Options, Target, UniqueName};

/// How often another unique name is tried before giving up.
const NAME_TRIES: u32 = 500;

/// The open file of a message. A trait so that tests can make the disk fail.
pub(crate) trait MessageFile: Write + Send {
    fn sync(&mut self) -> io::Result<()>;
}

impl MessageFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Wraps the freshly created file; tests put a failing one in its place.
pub(crate) type Wrap = Arc<dyn Fn(File) -> Box<dyn MessageFile> + Send + Sync>;

/// A message under way in `tmp/`.
pub(crate) struct Delivery {
    mailbox: Mailbox,
    target: Target,
    tmp_path: PathBuf,
    file: Option<Box<dyn MessageFile>>,
    lines: Normaliser,
    size_bytes: u64,
    size_bytes_max: Option<u64>,
    aborted: Arc<AtomicBool>,
}

impl Delivery {
    /// Opens the mailbox, sweeps it, and creates the file in `tmp/`.
    pub(crate) fn begin(
        path: &Path,
        options: &Options,
        wrap: &Wrap,
        aborted: Arc<AtomicBool>,
    ) -> Result<Self, MaildirError> {
        let mailbox = Mailbox::open(path, options.folder.as_ref(), options.create)?;
        if let Some(age) = options.sweep_age {
            mailbox.sweep(age);
        }
        let (tmp_path, file) = create_in_tmp(&mailbox.tmp())?;
        Ok(Self {
            mailbox,
            target: options.target,
            tmp_path,
            file: Some(wrap(file)),
            lines: Normaliser::new(options.line_ends),
            size_bytes: 0,
            size_bytes_max: options.size_bytes_max,
            aborted,
        })
    }

    /// Writes all of `pieces`; a short write is carried on until nothing is left.
    pub(crate) fn write(&mut self, pieces: impl IntoIterator<Item = Bytes>) -> Result<(), MaildirError> {
        for piece in pieces {
            let piece = self.lines.push(piece);
            self.store(&piece)?;
        }
        Ok(())
    }

    /// Makes the message appear, durably, under a name nobody else has, and says which.
    pub(crate) fn commit(mut self) -> Result<PathBuf, MaildirError> {
        let held_back = self.lines.end();
        self.store(&held_back)?;
        let Some(mut file) = self.file.take() else {
            return Err(MaildirError::Interrupted);
        };
        file.sync().map_err(|error| self.store_error(error))?;
        drop(file);
        if self.aborted.load(Ordering::Acquire) {
            return Err(MaildirError::Aborted);
        }
        let (directory, suffix) = match self.target {
            Target::New => (self.mailbox.new_mail(), String::new()),
            Target::Cur(flags) => (self.mailbox.cur(), flags.suffix()),
        };
        let path = self.publish(&directory, &suffix)?;
        if let Err(error) = sync_directory(&directory) {
            // An error promises that nothing is there.
            let _ = fs::remove_file(&path);
            return Err(MaildirError::Store {
                path: directory,
                error,
            });
        }
        Ok(path)
    }

    fn publish(&self, directory: &Path, suffix: &str) -> Result<PathBuf, MaildirError> {
        for _ in 0..NAME_TRIES {
            let name = fresh_name().with_size(self.size_bytes);
            let path = directory.join(format!("{name}{suffix}"));
            match move_without_replacing(&self.tmp_path, &path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(MaildirError::Store { path, error }),
            }
        }
        Err(self.store_error(io::ErrorKind::AlreadyExists.into()))
    }

    fn store(&mut self, piece: &[u8]) -> Result<(), MaildirError> {
        let size_bytes = self.size_bytes + piece.len() as u64;
        if let Some(bytes_max) = self.size_bytes_max.filter(|max| size_bytes > *max) {
            return Err(MaildirError::TooLarge { bytes_max });
        }
        let Some(file) = &mut self.file else {
            return Err(MaildirError::Interrupted);
        };
        match file.write_all(piece) {
            Ok(()) => {
                self.size_bytes = size_bytes;
                Ok(())
            }
            Err(error) => Err(self.store_error(error)),
        }
    }

    fn store_error(&self, error: io::Error) -> MaildirError {
        MaildirError::Store {
            path: self.tmp_path.clone(),
            error,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.file = None;
        match fs::remove_file(&self.tmp_path) {
            Ok(()) => {}
            // A rename (where there are no hard links) has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %self.tmp_path.display(), "a file stays in tmp"),
        }
    }
}

fn create_in_tmp(tmp: &Path) -> Result<(PathBuf, File), MaildirError> {
    let mut last = (tmp.to_owned(), io::Error::from(io::ErrorKind::AlreadyExists));
    for _ in 0..NAME_TRIES {
        let path = tmp.join(fresh_name().to_string());
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        keep_file_private(&mut options);
        match options.open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = (path, error),
            Err(error) => return Err(MaildirError::Open { path, error }),
        }
    }
    let (path, error) = last;
    Err(MaildirError::Open { path, error })
}

/// A hard link refuses to replace, which a rename does not. Where there are no hard links, a rename that refuses.
fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(error) => rename_without_replacing(from, to).map_err(|second| match second.kind() {
            io::ErrorKind::Unsupported => error,
            _ => second,
        }),
    }
}

/// A name no other delivery of this process, this host or an earlier life of this process id has.
fn fresh_name() -> UniqueName {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    static RANDOM: OnceLock<RandomState> = OnceLock::new();
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let random = RANDOM.get_or_init(RandomState::new).hash_one(counter);
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UniqueName::new(since_epoch, std::process::id(), counter, random, host())
}

fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let from_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = from_kernel()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .or_else(|| std::env::var("COMPUTERNAME").ok());
        name.unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
