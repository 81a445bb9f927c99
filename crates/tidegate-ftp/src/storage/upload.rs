//! The file end of an upload: a sink that writes beside its target and takes the target's place when it is complete.
//!
//! Knows nothing of replies. An upload that is cut short never replaces anything: what came is thrown away, or kept under
//! a name of its own so that a later upload of the same name can go on from there.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};
use tidegate::AbortReason;
use tidegate_io::endpoint::file::Durability;
use tidegate_io::{Blame, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, LaneKind, Sink};
use tokio::task::JoinHandle;

use super::StorageError;
use crate::grammar::VirtualPath;
use crate::grammar::path::os_name;

/// The most that goes to the blocking pool in one piece.
const JOB_BYTES: usize = 1024 * 1024;
const MARK: &[u8] = b".tidegate-";
const PART: &[u8] = b"part";
/// What Linux and most others take for one name.
const NAME_BYTES_MAX: usize = 255;

/// Where an upload begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreAs {
    /// A new file, or a new content for one that is there.
    New,
    /// From this offset on: of what an upload that was cut short left, else of the file that is there.
    From(u64),
    /// Behind what an upload that was cut short left, else at the end of the file that is there.
    Append,
}

/// What becomes of an upload that was cut short.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Partial {
    /// Kept under a hidden name, for a later `REST` or `APPE`.
    #[default]
    Keep,
    /// Thrown away.
    Discard,
}

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    file: Arc<File>,
    offset: u64,
    place: Option<Place>,
    durability: Durability,
    job: Option<JoinHandle<Result<usize, StorageError>>>,
    ending: Option<JoinHandle<Result<(), StorageError>>>,
    /// Set by an abort, looked at before the rename.
    given_up: Arc<AtomicBool>,
    name: String,
}

/// What has to be done with the file at the end.
#[derive(Clone, Debug)]
enum Place {
    /// Beside the target, under a name nobody knows.
    Beside {
        dir: Arc<Dir>,
        temporary: OsString,
        target: OsString,
        partial_name: OsString,
        partial: Partial,
    },
    /// In the target itself, which was `size` bytes long.
    Within { size: u64 },
}

/// The name under which an upload of `name` that was cut short is kept.
pub fn partial_name(name: &[u8]) -> Vec<u8> {
    hidden_name(name, PART)
}

/// Whether a name is one that uploads use meanwhile.
pub(super) fn is_our_name(name: &[u8]) -> bool {
    name.first() == Some(&b'.') && name.windows(MARK.len()).skip(1).any(|window| window == MARK)
}

fn hidden_name(name: &[u8], suffix: &[u8]) -> Vec<u8> {
    let room = NAME_BYTES_MAX - MARK.len() - suffix.len() - 1;
    let mut end = name.len().min(room);
    while end > 0 && name.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    [b".", &name[..end], MARK, suffix].concat()
}

impl Upload {
    pub(super) fn open(
        root: &Dir,
        path: &VirtualPath,
        store_as: StoreAs,
        partial: Partial,
        durability: Durability,
    ) -> Result<Self, StorageError> {
        let name = path.name().ok_or(StorageError::IsADirectory)?;
        let dir = Arc::new(root.open_dir(path.parent().to_relative())?);
        let target = os_name(name);
        let standing = match dir.metadata(&target) {
            Ok(metadata) if metadata.is_dir() => return Err(StorageError::IsADirectory),
            Ok(metadata) if !metadata.is_file() => return Err(StorageError::NotAFile),
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let mut opening = Opening {
            dir,
            name: name.to_vec(),
            partial,
        };
        let standing_size = standing.as_ref().map(cap_std::fs::Metadata::len);
        let (file, offset, place) = match (store_as, standing_size) {
            (StoreAs::New | StoreAs::From(0), _) => opening.fresh()?,
            (StoreAs::From(offset), size) => opening.resume(offset, size)?,
            (StoreAs::Append, Some(size)) => opening.within(size)?,
            (StoreAs::Append, None) => opening.append_to_partial()?,
        };
        if let (Some(standing), Place::Beside { .. }) = (standing, &place) {
            // The new content keeps the old one's permissions; a file system without them is no reason to fail.
            let _ = file.set_permissions(standing.permissions().into_std(&file)?);
        }
        Ok(Self {
            file: Arc::new(file),
            offset,
            place: Some(place),
            durability,
            job: None,
            ending: None,
            given_up: Arc::default(),
            name: String::from_utf8_lossy(&path.to_bytes()).into_owned(),
        })
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, EndpointError>> {
        let Some(job) = &mut self.job else {
            return Poll::Ready(Ok(0));
        };
        let result = ready!(Pin::new(job).poll(cx));
        self.job = None;
        let result = result.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into()));
        Poll::Ready(match result {
            Ok(written) => {
                self.offset += written as u64;
                Ok(written)
            }
            Err(error) => {
                self.give_room_back(&error);
                Err(self.failed("cannot write", error))
            }
        })
    }

    /// What does not fit is of no use to a later attempt: a full disk gets its room back.
    fn give_room_back(&mut self, error: &StorageError) {
        if let (Some(Place::Beside { partial, .. }), StorageError::NoSpace | StorageError::Quota) =
            (&mut self.place, error)
        {
            *partial = Partial::Discard;
        }
    }

    fn failed(&self, what: &str, error: StorageError) -> EndpointError {
        let blame = match error {
            StorageError::Io(_) | StorageError::NoSpace => Blame::System,
            _ => Blame::Caller,
        };
        EndpointError::new(ErrorKind::Failed, blame, format!("{what} {}", self.name)).caused_by(error)
    }

    fn start_commit(&mut self) {
        let (file, place, durability) = (Arc::clone(&self.file), self.place.clone(), self.durability);
        let given_up = Arc::clone(&self.given_up);
        self.ending = Some(tokio::task::spawn_blocking(move || {
            commit(&file, place, durability, &given_up)
        }));
    }

    /// Gives up the place, so that it is dealt with once.
    fn start_undo(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        self.given_up.store(true, Ordering::SeqCst);
        let (file, job, commit) = (Arc::clone(&self.file), self.job.take(), self.ending.take());
        let undo = move || {
            place.undo(&file);
            Ok(())
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.ending = Some(runtime.spawn(async move {
                // What is still being written must be down before it is kept or removed.
                if let Some(job) = job {
                    let _ = job.await;
                }
                if let Some(commit) = commit {
                    let _ = commit.await;
                }
                tokio::task::spawn_blocking(undo).await.unwrap_or(Ok(()))
            }));
        } else {
            let _ = undo();
        }
    }
}

impl Sink for Upload {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.job.is_none() {
            let mut pieces: Vec<Bytes> = Vec::new();
            let mut bytes = 0;
            for piece in held.pieces() {
                if bytes > 0 && bytes + piece.len() > JOB_BYTES {
                    break;
                }
                bytes += piece.len();
                pieces.push(piece.clone());
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.job = Some(tokio::task::spawn_blocking(move || {
                write_all_at(&file, &pieces, offset)
            }));
        }
        self.poll_job(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        ready!(self.poll_job(cx))?;
        if self.ending.is_none() {
            self.start_commit();
        }
        let Some(ending) = &mut self.ending else {
            return Poll::Pending;
        };
        let result = ready!(Pin::new(ending).poll(cx));
        self.ending = None;
        match result.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into())) {
            Ok(()) => {
                self.place = None;
                Poll::Ready(Ok(Confirmation::Confirmed))
            }
            Err(error) => {
                self.give_room_back(&error);
                Poll::Ready(Err(self.failed("cannot complete", error)))
            }
        }
    }

    fn abort(&mut self, reason: &AbortReason) {
        tracing::debug!(name = %self.name, %reason, "upload cut short");
        self.start_undo();
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ending) = &mut self.ending {
            let _ = ready!(Pin::new(ending).poll(cx));
            self.ending = None;
        }
        Poll::Ready(())
    }

    fn is_busy(&self) -> bool {
        self.job.is_some() || self.ending.is_some()
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            self.job.is_none().then(|| LaneEnd {
                kind: LaneKind::File,
                fd: self.file.as_fd(),
                offset: self.offset,
            })
        }
        #[cfg(not(unix))]
        {
            let _ = LaneKind::File;
            None
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.start_undo();
    }
}

struct Opening {
    dir: Arc<Dir>,
    name: Vec<u8>,
    partial: Partial,
}

type Opened = (File, u64, Place);

impl Opening {
    fn fresh(&mut self) -> Result<Opened, StorageError> {
        let (file, place) = self.beside()?;
        Ok((file, 0, place))
    }

    fn resume(&mut self, offset: u64, standing_size: Option<u64>) -> Result<Opened, StorageError> {
        if let Some((file, size, place)) = self.claim_partial()? {
            if offset <= size {
                file.set_len(offset)?;
                return Ok((file, offset, place));
            }
            // Not ours to shorten: it goes back under its name.
            place.undo(&file);
            return Err(StorageError::PastEnd { size });
        }
        let size = standing_size.ok_or(StorageError::NotFound)?;
        if offset > size {
            return Err(StorageError::PastEnd { size });
        }
        let standing = self.dir.open(os_name(&self.name))?.into_std();
        let (mut file, place) = self.beside()?;
        match io::copy(&mut standing.take(offset), &mut file) {
            Ok(copied) if copied == offset => Ok((file, offset, place)),
            Ok(copied) => {
                place.discard();
                Err(StorageError::PastEnd { size: copied })
            }
            Err(error) => {
                place.discard();
                Err(error.into())
            }
        }
    }

    fn append_to_partial(&mut self) -> Result<Opened, StorageError> {
        match self.claim_partial()? {
            Some(claimed) => Ok(claimed),
            None => self.fresh(),
        }
    }

    fn within(&mut self, size: u64) -> Result<Opened, StorageError> {
        let file = self
            .dir
            .open_with(os_name(&self.name), OpenOptions::new().write(true))?;
        Ok((file.into_std(), size, Place::Within { size }))
    }

    /// A rename takes what was left for ourselves: two clients that resume at once do not write into one file.
    fn claim_partial(&mut self) -> Result<Option<Opened>, StorageError> {
        let partial = os_name(&partial_name(&self.name));
        let temporary = os_name(&hidden_name(&self.name, &random_suffix()));
        match self.dir.rename(&partial, &self.dir, &temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let file = self
            .dir
            .open_with(&temporary, OpenOptions::new().write(true))?
            .into_std();
        let size = file.metadata()?.len();
        // Whoever resumes wants to be able to resume again.
        let place = self.place(temporary, Partial::Keep);
        Ok(Some((file, size, place)))
    }

    fn beside(&mut self) -> Result<(File, Place), StorageError> {
        loop {
            let temporary = os_name(&hidden_name(&self.name, &random_suffix()));
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match self.dir.open_with(&temporary, &options) {
                Ok(file) => return Ok((file.into_std(), self.place(temporary, self.partial))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn place(&self, temporary: OsString, partial: Partial) -> Place {
        Place::Beside {
            dir: Arc::clone(&self.dir),
            temporary,
            target: os_name(&self.name),
            partial_name: os_name(&partial_name(&self.name)),
            partial,
        }
    }
}

impl Place {
    /// The stream was cut short.
    fn undo(&self, file: &File) {
        match self {
            Self::Within { size } => drop(file.set_len(*size)),
            Self::Beside {
                dir,
                temporary,
                partial_name,
                partial: Partial::Keep,
                ..
            } if file.metadata().is_ok_and(|metadata| metadata.len() > 0) => {
                if dir.rename(temporary, dir, partial_name).is_err() {
                    self.discard();
                }
            }
            Self::Beside { .. } => self.discard(),
        }
    }

    fn discard(&self) {
        if let Self::Beside { dir, temporary, .. } = self {
            let _ = dir.remove_file(temporary);
        }
    }
}

fn commit(
    file: &File,
    place: Option<Place>,
    durability: Durability,
    given_up: &AtomicBool,
) -> Result<(), StorageError> {
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    if given_up.load(Ordering::SeqCst) {
        return Err(io::Error::from(io::ErrorKind::Interrupted).into());
    }
    if let Some(Place::Beside {
        dir,
        temporary,
        target,
        partial_name,
        ..
    }) = place
    {
        dir.rename(&temporary, &dir, &target)?;
        // What an earlier attempt left is of no use to anybody now.
        let _ = dir.remove_file(partial_name);
        if durability == Durability::Synced {
            sync_directory(&dir);
        }
    }
    Ok(())
}

/// Not every file system can sync a directory; the content is safe by then.
fn sync_directory(dir: &Dir) {
    #[cfg(unix)]
    if let Ok(dir) = dir.try_clone() {
        let _ = dir.into_std_file().sync_all();
    }
    #[cfg(not(unix))]
    let _ = dir;
}

fn random_suffix() -> Vec<u8> {
    let random = RandomState::new().build_hasher().finish();
    format!("{random:016x}").into_bytes()
}

fn write_all_at(file: &File, pieces: &[Bytes], offset: u64) -> Result<usize, StorageError> {
    let mut written = 0;
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match write_at(file, rest, offset + written as u64) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => {
                    written += count;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(written)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}
