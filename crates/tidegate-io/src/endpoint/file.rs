//! Files as sources and sinks: reads that do not block the runtime, writes that only show when they are complete.
//!
//! Knows paths and the file system; of a stream's end only what finish and abort mean for a file.
//!
//! A sink writes beside its target and renames on finish. It appends in place, and writes in place to what is no
//! regular file. System calls that may wait for a disk run on the runtime's threads for blocking work; a read that the
//! page cache can serve does not need one (`preadv2` with `RWF_NOWAIT`), nor a prompt write whose caller asked to do it.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tempfile::TempPath;
use tidegate::AbortReason;
use tokio::task::{JoinHandle, spawn_blocking};

pub use super::prompt::WritesOn;
use super::write_back::WriteBack;
#[cfg(unix)]
use crate::LaneEnd;
use crate::{Blame, Buffer, Buffers, Confirmation, EndpointError, ErrorKind, Held, Sink, Source};

/// The most one hop to a thread writes.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
const SLICES_MAX: usize = 64;

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

fn flatten<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A file to be read.
///
/// A regular file that ends before the size it had when it was opened is truncated, not ended. One that grows is read
/// to its new end. Anything else (a device) is read from its own position by blocking reads, which cannot be
/// interrupted: FIFOs belong to the `pipe` endpoint.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<File>,
    name: Arc<str>,
    offset: u64,
    /// Where the stream ends: the end of a chosen range, else the size when opened. `None` for what is no regular file.
    end: Option<u64>,
    /// Stop at `end` even if the file goes on.
    ranged: bool,
    nowait: bool,
    reading: Option<JoinHandle<(Buffer, io::Result<usize>)>>,
}

impl FileSource {
    /// Opens the file at `path` for reading from its start.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        let name: Arc<str> = path.display().to_string().into();
        let opened = blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        let failed = |error| EndpointError::open(format!("cannot open {name}"), error);
        let (file, metadata) = opened.await.and_then(|result| result).map_err(failed)?;
        Self::from_parts(file, &metadata, Arc::clone(&name))
    }

    /// A file that is already open, read from its start if it is a regular one.
    ///
    /// # Errors
    /// `ErrorKind::Open` for a directory, or when the system does not tell what it is.
    pub fn from_file(file: File, name: &str) -> Result<Self, EndpointError> {
        let metadata = file
            .metadata()
            .map_err(|error| EndpointError::open(format!("cannot open {name}"), error))?;
        Self::from_parts(file, &metadata, name.into())
    }

    fn from_parts(file: File, metadata: &Metadata, name: Arc<str>) -> Result<Self, EndpointError> {
        if metadata.is_dir() {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(EndpointError::open(format!("cannot open {name}"), error));
        }
        #[cfg(target_os = "linux")]
        if metadata.is_file() {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        }
        Ok(Self {
            file: Arc::new(file),
            name,
            offset: 0,
            end: metadata.is_file().then_some(metadata.len()),
            ranged: false,
            nowait: cfg!(target_os = "linux") && metadata.is_file(),
            reading: None,
        })
    }

    /// The same source for `length` bytes from `offset` on. A file that ends before that is truncated.
    #[must_use]
    pub fn range(mut self, offset: u64, length: u64) -> Self {
        self.offset = offset;
        self.end = Some(offset.saturating_add(length));
        self.ranged = true;
        self
    }

    /// The same source from `offset` to the end of the file.
    #[must_use]
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    fn error(&self, error: io::Error) -> EndpointError {
        EndpointError::io(format!("cannot read {}", self.name), error)
    }

    fn took(
        &mut self,
        buffer: Buffer,
        result: io::Result<usize>,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        match result {
            Ok(0) => Poll::Ready(self.ended()),
            Ok(got) => {
                self.offset += got as u64;
                Poll::Ready(Ok(Some(buffer.freeze(got))))
            }
            Err(error) => Poll::Ready(Err(self.error(error))),
        }
    }

    fn ended(&self) -> Result<Option<Bytes>, EndpointError> {
        match self.end {
            Some(end) if self.offset < end => Err(EndpointError::new(
                ErrorKind::Truncated,
                Blame::System,
                format!("{} ended at {} of {end} bytes", self.name, self.offset),
            )),
            _ => Ok(None),
        }
    }

    /// A read that the page cache can serve, done at once. `None` when a thread must do it.
    #[cfg(target_os = "linux")]
    fn read_cached(&mut self, space: &mut [u8]) -> Option<io::Result<usize>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        if !self.nowait {
            return None;
        }
        let mut space = [io::IoSliceMut::new(space)];
        match preadv2(&*self.file, &mut space, self.offset, ReadWriteFlags::NOWAIT) {
            Ok(got) => Some(Ok(got)),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                self.nowait = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached(&mut self, _space: &mut [u8]) -> Option<io::Result<usize>> {
        debug_assert!(!self.nowait, "there is no such read here");
        None
    }

    /// How much to ask for: a file says how much it has.
    fn size_wanted(&self, max: usize) -> usize {
        let left = self.end.map_or(max as u64, |end| end.saturating_sub(self.offset));
        usize::try_from(left).unwrap_or(max).clamp(1, max)
    }
}

impl Source for FileSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.reading.is_none() {
            if self.ranged && self.end.is_some_and(|end| self.offset >= end) {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = Buffers::take_exact(self.size_wanted(max));
            if let Some(result) = self.read_cached(buffer.space()) {
                return self.took(buffer, result);
            }
            let file = Arc::clone(&self.file);
            let offset = self.end.is_some().then_some(self.offset);
            self.reading = Some(spawn_blocking(move || {
                let result = read_blocking(&file, buffer.space(), offset);
                (buffer, result)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Pending;
        };
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        match done {
            Ok((buffer, result)) => self.took(buffer, result),
            Err(error) => Poll::Ready(Err(self.error(io::Error::other(error)))),
        }
    }

    fn size_hint(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.offset))
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        use std::os::fd::AsFd;
        let whole_file = self.end.is_some() && !self.ranged && self.reading.is_none();
        whole_file.then(|| LaneEnd {
            kind: crate::LaneKind::File,
            fd: self.file.as_fd(),
            offset: self.offset,
            after_abort: crate::AfterAbort::Stays,
        })
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

fn read_blocking(file: &File, space: &mut [u8], offset: Option<u64>) -> io::Result<usize> {
    loop {
        let result = match offset {
            Some(offset) => read_at(file, space, offset),
            None => io::Read::read(&mut &*file, space),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, space, offset)
}

#[cfg(windows)]
fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, space, offset)
}

/// What to do with a target that exists already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overwrite {
    /// Leave it alone: `ErrorKind::Exists`, also when it appears while the stream runs.
    #[default]
    Refuse,
    /// Replace it when the stream is complete, keeping its permissions.
    Allow,
}

/// Whether a finish waits until the disk has the bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// Bytes and name survive a power cut once the finish is confirmed.
    #[default]
    Synced,
    /// Left to the system's own pace.
    Cached,
}

/// A file to be written.
#[derive(Debug)]
pub struct FileSink {
    /// `None` once finished or aborted.
    output: Option<Arc<Output>>,
    name: Arc<str>,
    durability: Durability,
    writes_on: WritesOn,
    /// Only for a regular file whose finish waits for the disk.
    write_back: Option<WriteBack>,
    work: Option<Work>,
}

#[derive(Debug)]
enum Work {
    Write(JoinHandle<io::Result<usize>>),
    Finish(JoinHandle<Result<Confirmation, EndpointError>>),
    Undo(JoinHandle<()>),
}

/// An open file, and how to make it look as if nothing had been written. The last owner undoes: a write that is still
/// under way on a thread cannot come after.
#[derive(Debug)]
struct Output {
    file: Arc<File>,
    regular: bool,
    /// A write cannot wait for anything: it needs no thread that may.
    never_waits: bool,
    undo: Mutex<Undo>,
}

#[derive(Debug)]
enum Undo {
    /// Written in place: nothing can be taken back.
    Nothing,
    /// The same in a file of this name, which may be as new as its content.
    Stays(PathBuf),
    /// Appended to: cut back to the old length.
    CutTo(u64),
    /// Not there before: dropping the path removes the file.
    Remove(TempPath),
    /// As `Remove`, and a finish renames it.
    Beside {
        temp: TempPath,
        target: PathBuf,
        overwrite: Overwrite,
    },
}

impl Output {
    fn new(file: File, regular: bool, undo: Undo) -> Self {
        Self {
            never_waits: !regular && is_null(&file),
            file: Arc::new(file),
            regular,
            undo: Mutex::new(undo),
        }
    }

    /// What follows the writes, where a sync at the end is worth preparing for.
    fn write_back(&self) -> Option<WriteBack> {
        let length = self.file.metadata().ok().filter(|_| self.regular)?.len();
        Some(WriteBack::new(Arc::clone(&self.file), length))
    }

    #[cfg(unix)]
    fn after_abort(&self) -> crate::AfterAbort {
        let undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        match *undo {
            Undo::Nothing | Undo::Stays(_) => crate::AfterAbort::Stays,
            Undo::CutTo(_) | Undo::Remove(_) | Undo::Beside { .. } => crate::AfterAbort::TakenBack,
        }
    }

    fn keep(&self) -> Undo {
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut undo, Undo::Nothing)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        match self.keep() {
            Undo::CutTo(length) => {
                let _ = self.file.set_len(length);
            }
            Undo::Nothing | Undo::Stays(_) => {}
            Undo::Remove(temp) | Undo::Beside { temp, .. } => drop(temp),
        }
    }
}

impl FileSink {
    /// A stream that becomes the file at `path` once it is complete. What exists and is no regular file (a device) is
    /// written in place.
    ///
    /// # Errors
    /// `ErrorKind::Exists`, or `Open`, also for a directory.
    pub async fn create(path: impl Into<PathBuf>, overwrite: Overwrite) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || create(&path, overwrite)).await
    }

    /// A stream added to the end of the file at `path`, in place. An abort cuts the file back to its old length.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn append(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || append(&path, CutShort::TakenBack)).await
    }

    /// A stream added to the end of the file at `path`, in place, or its beginning where there is no file. What has come stays
    /// when the stream is cut short, for a later one to go on from.
    ///
    /// # Errors
    /// `ErrorKind::Open`, also for a directory.
    pub async fn go_on(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        Self::opened(path.clone(), move || append(&path, CutShort::Stays)).await
    }

    async fn opened(
        path: PathBuf,
        open: impl FnOnce() -> io::Result<Output> + Send + 'static,
    ) -> Result<Self, EndpointError> {
        let name: Arc<str> = path.display().to_string().into();
        match blocking(open).await.and_then(|result| result) {
            Ok(output) => Ok(Self {
                write_back: output.write_back(),
                output: Some(Arc::new(output)),
                name,
                durability: Durability::Synced,
                writes_on: WritesOn::Threads,
                work: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = format!("{name} exists and is not to be overwritten");
                Err(EndpointError::new(ErrorKind::Exists, Blame::Caller, what))
            }
            Err(error) => Err(EndpointError::open(
                format!("cannot open {name} for writing"),
                error,
            )),
        }
    }

    /// Chooses whether a finish waits for the disk.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self.write_back = match (durability, &self.output) {
            (Durability::Synced, Some(output)) => output.write_back(),
            _ => None,
        };
        self
    }

    /// Chooses who does the writes.
    #[must_use]
    pub fn writes_on(mut self, wanted: WritesOn) -> Self {
        if let Some(output) = self.output.as_ref().filter(|output| output.regular) {
            self.writes_on = wanted.allowed_by(&output.file);
        }
        self
    }

    fn wrote(&mut self, bytes: u64) {
        if let Some(write_back) = &mut self.write_back {
            write_back.wrote(bytes);
        }
    }

    fn error(&self, error: io::Error) -> EndpointError {
        EndpointError::io(format!("cannot write {}", self.name), error)
    }

    fn written(&mut self, result: io::Result<usize>) -> Result<usize, EndpointError> {
        let written = result.map_err(|error| self.error(error))?;
        self.wrote(written as u64);
        Ok(written)
    }

    fn start_write(&mut self, held: &Held) -> Result<(), EndpointError> {
        let Some(output) = &self.output else {
            return Err(self.error(io::Error::other("already closed")));
        };
        let output = Arc::clone(output);
        let pieces = batch(held);
        self.work = Some(Work::Write(spawn_blocking(move || {
            let result = write_pieces(&output.file, pieces);
            drop(output);
            result
        })));
        Ok(())
    }

    /// The write that a thread does.
    fn poll_under_way(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(Work::Write(write)) = &mut self.work else {
            return Poll::Ready(Err(io::Error::other("already finishing")));
        };
        let result = flatten(ready!(Pin::new(write).poll(cx)));
        self.work = None;
        Poll::Ready(result)
    }
}

impl Sink for FileSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.work.is_none() {
            let at_once = |output: &&Arc<Output>| output.never_waits || self.writes_on == WritesOn::Caller;
            if let Some(output) = self.output.as_ref().filter(at_once) {
                let began = Instant::now();
                let result = write_pieces(&output.file, batch(held));
                self.writes_on = self.writes_on.after(began.elapsed());
                return Poll::Ready(self.written(result));
            }
            self.start_write(held)?;
        }
        let result = ready!(self.poll_under_way(cx));
        Poll::Ready(self.written(result))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if self.work.is_none() {
            let Some(output) = self.output.take() else {
                return Poll::Ready(Err(self.error(io::Error::other("already closed"))));
            };
            let (name, durability) = (Arc::clone(&self.name), self.durability);
            self.work = Some(Work::Finish(spawn_blocking(move || {
                finish(&output, &name, durability)
            })));
        }
        match &mut self.work {
            Some(Work::Finish(finish)) => {
                let result = ready!(Pin::new(finish).poll(cx));
                self.work = None;
                Poll::Ready(result.unwrap_or_else(|error| Err(self.error(io::Error::other(error)))))
            }
            _ => Poll::Ready(Err(self.error(io::Error::other("finished while writing")))),
        }
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let Some(output) = self.output.take() else { return };
        if self.work.is_none() && tokio::runtime::Handle::try_current().is_ok() {
            self.work = Some(Work::Undo(spawn_blocking(move || drop(output))));
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.work {
            Some(Work::Write(write)) => ready!(Pin::new(write).poll(cx)).map_or((), drop),
            Some(Work::Finish(finish)) => ready!(Pin::new(finish).poll(cx)).map_or((), drop),
            Some(Work::Undo(undo)) => ready!(Pin::new(undo).poll(cx)).unwrap_or(()),
            None => {}
        }
        self.work = None;
        Poll::Ready(())
    }

    fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        use std::os::fd::AsFd;
        let output = self
            .output
            .as_ref()
            .filter(|output| output.regular && self.work.is_none())?;
        Some(LaneEnd {
            kind: crate::LaneKind::File,
            fd: output.file.as_fd(),
            offset: rustix::fs::tell(&output.file).ok()?,
            after_abort: output.after_abort(),
        })
    }

    #[cfg(unix)]
    fn poll_lane_job(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut dyn FnMut() -> crate::LaneJob,
    ) -> Poll<io::Result<usize>> {
        if self.work.is_none() {
            let Some(output) = self.output.as_ref().map(Arc::clone) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let offset = rustix::fs::tell(&output.file)?;
            let job = job();
            self.work = Some(Work::Write(spawn_blocking(move || {
                use std::os::fd::AsFd;
                job(output.file.as_fd(), offset)
            })));
        }
        self.poll_under_way(cx)
    }

    #[cfg(unix)]
    fn lane_moved(&mut self, bytes: u64) {
        // Lanes say where they write; whoever writes next goes on behind that.
        if let (Some(output), Ok(ahead)) = (&self.output, i64::try_from(bytes)) {
            let _ = rustix::fs::seek(&output.file, rustix::fs::SeekFrom::Current(ahead));
        }
        self.wrote(bytes);
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// What one write takes of what waits.
fn batch(held: &Held) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    for piece in held.pieces() {
        let most = WRITE_BYTES_MAX - bytes;
        pieces.push(piece.slice(..piece.len().min(most)));
        bytes += piece.len().min(most);
        if bytes == WRITE_BYTES_MAX {
            break;
        }
    }
    pieces
}

/// The null device throws away what it is given, at once. (`null(4)`: character device 1, 3.)
#[cfg(target_os = "linux")]
fn is_null(file: &File) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    file.metadata().is_ok_and(|found| {
        found.file_type().is_char_device()
            && (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())) == (1, 3)
    })
}

/// Elsewhere it is a device like others.
#[cfg(not(target_os = "linux"))]
fn is_null(_file: &File) -> bool {
    false
}

fn write_pieces(mut file: &File, mut pieces: Vec<Bytes>) -> io::Result<usize> {
    let mut written = 0;
    let mut first = 0;
    while first < pieces.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&pieces[first..]) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        let mut count = match file.write_vectored(&slices[..filled]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        written += count;
        while first < pieces.len() && count >= pieces[first].len() {
            count -= pieces[first].len();
            first += 1;
        }
        if count > 0 {
            pieces[first].advance(count);
        }
    }
    Ok(written)
}

fn create(path: &Path, overwrite: Overwrite) -> io::Result<Output> {
    let found = match std::fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match &found {
        Some(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Some(found) if !found.is_file() => {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Output::new(file, false, Undo::Nothing));
        }
        Some(_) if overwrite == Overwrite::Refuse => return Err(io::ErrorKind::AlreadyExists.into()),
        _ => {}
    }
    // A link to a file keeps pointing at it: what it points at is replaced.
    let target = match &found {
        Some(_) => std::fs::canonicalize(path)?,
        None => through_links(path)?,
    };
    if target.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (file, temp) = beside(&target)?.into_parts();
    if let Some(found) = &found {
        keep_owner(&file, found);
        file.set_permissions(found.permissions())?;
    }
    let undo = Undo::Beside {
        temp,
        target,
        overwrite,
    };
    Ok(Output::new(file, true, undo))
}

/// Where a link that leads to nothing points: there the file appears, as with a shell's `>`.
fn through_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many links"))
}

/// A new file in the target's folder, so that a rename stays inside one file system.
fn beside(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(OsStr::new(".tidegate-"))
        .suffix(OsStr::new(".part"));
    create_in(&builder, folder_of(target))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Opened by us, so that an error does not name a file nobody asked for.
#[cfg(unix)]
fn create_in(builder: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    // The mode is what any new file gets: the umask takes away from it.
    options.read(true).write(true).create_new(true).mode(0o666);
    builder.make_in(folder, |path| options.open(path))
}

#[cfg(not(unix))]
fn create_in(builder: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    builder.tempfile_in(folder)
}

#[cfg(unix)]
fn keep_owner(file: &File, found: &Metadata) {
    use std::os::unix::fs::MetadataExt;
    // Only a privileged user can, and nobody else needs it.
    let _ = std::os::unix::fs::fchown(file, Some(found.uid()), Some(found.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_file: &File, _found: &Metadata) {}

/// What becomes of what was appended when the stream is cut short.
#[derive(Clone, Copy, Debug)]
enum CutShort {
    TakenBack,
    Stays,
}

fn append(path: &Path, cut_short: CutShort) -> io::Result<Output> {
    let existed = path.exists();
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Ok(Output::new(file, false, Undo::Nothing));
    }
    let undo = match cut_short {
        // Where a link leads to, as its folder is the one that holds the name.
        CutShort::Stays => Undo::Stays(std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())),
        CutShort::TakenBack if existed => Undo::CutTo(metadata.len()),
        CutShort::TakenBack => Undo::Remove(TempPath::try_from_path(std::path::absolute(path)?)?),
    };
    Ok(Output::new(file, true, undo))
}

fn finish(output: &Output, name: &str, durability: Durability) -> Result<Confirmation, EndpointError> {
    let failed = |error| EndpointError::io(format!("cannot complete {name}"), error);
    if !output.regular {
        return Ok(Confirmation::Sent);
    }
    if durability == Durability::Synced {
        output.file.sync_all().map_err(failed)?;
    }
    let named = match output.keep() {
        Undo::Beside {
            temp,
            target,
            overwrite,
        } => {
            match overwrite {
                Overwrite::Allow => temp.persist(&target),
                Overwrite::Refuse => temp.persist_noclobber(&target),
            }
            .map_err(|error| not_in_place(name, error.error))?;
            Some(target)
        }
        // The file is complete: the guard that would remove it is taken off.
        Undo::Remove(temp) => Some(temp.keep().map_err(|error| failed(error.error))?),
        Undo::Stays(path) => Some(path),
        Undo::CutTo(_) | Undo::Nothing => None,
    };
    if let Some(path) = named
        && durability == Durability::Synced
    {
        sync_folder(&path).map_err(failed)?;
    }
    Ok(Confirmation::Confirmed)
}

fn not_in_place(name: &str, error: io::Error) -> EndpointError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let what = format!("{name} appeared meanwhile and is not to be overwritten");
        return EndpointError::new(ErrorKind::Exists, Blame::Caller, what);
    }
    EndpointError::io(format!("cannot complete {name}"), error)
}

#[cfg(unix)]
fn sync_folder(target: &Path) -> io::Result<()> {
    crate::as_far_as_folders_sync(File::open(folder_of(target)).and_then(|folder| folder.sync_all()))
}

#[cfg(not(unix))]
fn sync_folder(_target: &Path) -> io::Result<()> {
    Ok(())
}
