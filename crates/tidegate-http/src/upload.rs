//! Takes an upload: written beside its target, renamed over it when it is whole, removed when it is not.
//!
//! Knows nothing of paths: a directory handle and a name come in.

use std::ffi::OsString;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cap_std::fs::{Dir, File, OpenOptions, Permissions};
use http::StatusCode;
use tidegate_io::{EndpointError, ErrorKind, Held, as_far_as_folders_sync};
use tokio::task::JoinHandle;

use crate::exchange::{Answer, plain};
use crate::incoming::IncomingBody;
use crate::path::PARTIAL_PREFIX;
use crate::static_files::failed;
use crate::system::sync_folder;

/// The most bytes gathered for one write. 512 KiB: with what is being written meanwhile, the default `chunk` of the marks.
const BATCH_BYTES: usize = 512 * 1024;

/// How much may be written before the disk is asked to begin with it. 32 MiB: what is left for the end takes a fraction
/// of a second, and a small upload syncs once.
const SYNC_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// When an upload counts as stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// After the disk has it: `fsync` before the rename.
    #[default]
    Synced,
    /// After the rename. A crash of the machine may lose it, though not the file it replaced by halves.
    Renamed,
}

/// A temporary file beside the file it is to become. Dropping it removes it, on a runtime without making that wait.
pub(crate) struct Target {
    partial: Option<Partial>,
}

/// What is removed when it is dropped, unless it was renamed. Whoever drops it waits for the disk.
pub(crate) struct Partial {
    parent: Dir,
    /// Until it is renamed.
    name: Option<String>,
    target: OsString,
    permissions: Option<Permissions>,
    file: Option<Arc<File>>,
}

impl Target {
    /// `replaced`: the permissions of the file that is to be replaced.
    pub(crate) fn create(parent: Dir, target: OsString, replaced: Option<Permissions>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let name = format!("{PARTIAL_PREFIX}{:016x}", RandomState::new().hash_one(&target));
        let file = Arc::new(parent.open_with(Path::new(&name), &options)?);
        let mut partial = Partial {
            parent,
            name: Some(name),
            target,
            permissions: None,
            file: Some(file),
        };
        partial.be_as_private(replaced)?;
        Ok(Self {
            partial: Some(partial),
        })
    }

    fn file(&self) -> Option<&Arc<File>> {
        self.partial.as_ref()?.file.as_ref()
    }

    fn write(&mut self, batch: Held) -> io::Result<()> {
        match self.file() {
            Some(file) => write_all(file, batch),
            None => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // A runtime that ends drops this without running it: the file is removed all the same.
            drop(runtime.spawn_blocking(move || drop(partial)));
        }
    }
}

impl Partial {
    /// Has the disk take what was written, where that is asked for.
    pub(crate) fn sync(&self, durability: Durability) -> io::Result<()> {
        match (&self.file, durability) {
            (Some(file), Durability::Synced) => file.sync_all(),
            _ => Ok(()),
        }
    }

    /// Puts it in its place. `replaced`: the permissions of the file that is there.
    pub(crate) fn rename(&mut self, replaced: Option<Permissions>) -> io::Result<()> {
        self.be_as_private(replaced)?;
        self.file = None;
        if let Some(name) = &self.name {
            self.parent.rename(name, &self.parent, &self.target)?;
            self.name = None;
        }
        Ok(())
    }

    /// Has the disk take the new name, where that is asked for.
    pub(crate) fn sync_name(&self, durability: Durability) -> io::Result<()> {
        match durability {
            Durability::Synced => as_far_as_folders_sync(sync_folder(&self.parent)),
            Durability::Renamed => Ok(()),
        }
    }

    /// The replacing file is as private as the one it replaces.
    fn be_as_private(&mut self, replaced: Option<Permissions>) -> io::Result<()> {
        if let (Some(permissions), Some(file)) = (&replaced, &self.file)
            && replaced != self.permissions
        {
            file.set_permissions(permissions.clone())?;
            self.permissions = replaced;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(name) = self.name.take()
            && let Err(error) = self.parent.remove_file(&name)
        {
            tracing::warn!(%error, partial = name, "cannot remove an upload that was cut short");
        }
    }
}

fn write_all(mut file: &File, mut batch: Held) -> io::Result<()> {
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = batch.slices(&mut slices);
        match file.write_vectored(&slices[..filled]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => batch.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives the body of a PUT into its target, which is then whole and still beside its place, or answers why not.
pub(crate) async fn receive(
    target: Target,
    mut body: IncomingBody,
    durability: Durability,
) -> Result<Partial, Answer> {
    let mut writer = Writer::new(target, durability);
    if let Err(answer) = poll_fn(|cx| writer.poll(cx, &mut body)).await {
        writer.give_up().await;
        return Err(answer);
    }
    if let Some(syncing) = writer.syncing.take()
        && let Err(error) = syncing.await.map_err(io::Error::other).flatten()
    {
        return Err(failed(&error));
    }
    match writer.place {
        Place::Here(mut target) => target.partial.take(),
        Place::Away(_) | Place::Lost => None,
    }
    .ok_or_else(|| plain(StatusCode::INTERNAL_SERVER_ERROR, ""))
}

/// Writes one batch on the blocking pool while the next one is gathered, and has the disk begin early.
struct Writer {
    place: Place,
    gathered: Held,
    rest: Rest,
    durability: Durability,
    unsynced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

/// Where the target is.
enum Place {
    Here(Target),
    /// With a write on the blocking pool, which removes it when nobody waits any more.
    Away(JoinHandle<(io::Result<()>, Target)>),
    Lost,
}

/// Whether more of the body is to come.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Rest {
    Expected,
    None,
}

impl Writer {
    fn new(target: Target, durability: Durability) -> Self {
        Self {
            place: Place::Here(target),
            gathered: Held::default(),
            rest: Rest::Expected,
            durability,
            unsynced: 0,
            syncing: None,
        }
    }

    /// Ready when the whole body is written, or with the answer that says why not.
    fn poll(&mut self, cx: &mut Context<'_>, body: &mut IncomingBody) -> Poll<Result<(), Answer>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_place(cx) {
                return Poll::Ready(Err(failed(&error)));
            }
            let gathered = self.poll_gather(cx, body);
            if let Poll::Ready(Err(error)) = gathered {
                return Poll::Ready(Err(cut_short(&error)));
            }
            if matches!(self.place, Place::Away(_)) {
                return Poll::Pending;
            }
            match (self.gathered.is_empty(), self.rest) {
                (false, _) => self.start_write(),
                (true, Rest::None) => return Poll::Ready(Ok(())),
                (true, Rest::Expected) => return Poll::Pending,
            }
        }
    }

    /// Removes what was written: whoever is told that an upload was refused finds nothing of it.
    async fn give_up(self) {
        let target = match self.place {
            Place::Here(target) => Some(target),
            Place::Away(writing) => writing.await.ok().map(|(_, target)| target),
            Place::Lost => None,
        };
        let partial = target.and_then(|mut target| target.partial.take());
        // Fails only on a runtime that ends, which drops it too.
        let _ = tokio::task::spawn_blocking(move || drop(partial)).await;
    }

    /// Takes the target back from a write that has ended.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Place::Away(writing) = &mut self.place else {
            return Poll::Ready(Ok(()));
        };
        let ended = ready!(Pin::new(writing).poll(cx));
        self.place = Place::Lost;
        let (written, target) = ended.map_err(io::Error::other)?;
        self.start_sync(cx, &target)?;
        self.place = Place::Here(target);
        Poll::Ready(written)
    }

    /// Takes what has come, up to a batch. Pending: nothing more for now.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut IncomingBody,
    ) -> Poll<Result<(), EndpointError>> {
        while self.rest == Rest::Expected && self.gathered.len() < BATCH_BYTES {
            match ready!(body.poll_piece(cx))? {
                Some(piece) => self.gathered.push(piece),
                None => self.rest = Rest::None,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn start_write(&mut self) {
        self.place = match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Here(mut target) => {
                let batch = std::mem::take(&mut self.gathered);
                self.unsynced += batch.len() as u64;
                Place::Away(tokio::task::spawn_blocking(move || (target.write(batch), target)))
            }
            elsewhere => elsewhere,
        };
    }

    /// Has the disk begin, so that the sync at the end finds little left.
    ///
    /// # Errors
    /// The last early sync failed. The system tells that once: the sync at the end would know nothing of it.
    fn start_sync(&mut self, cx: &mut Context<'_>, target: &Target) -> io::Result<()> {
        if let Some(syncing) = &mut self.syncing {
            let Poll::Ready(synced) = Pin::new(syncing).poll(cx) else {
                return Ok(());
            };
            self.syncing = None;
            synced.map_err(io::Error::other).flatten()?;
        }
        if self.durability == Durability::Synced
            && self.unsynced >= SYNC_EVERY_BYTES
            && let Some(file) = target.file().cloned()
        {
            self.unsynced = 0;
            self.syncing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        }
        Ok(())
    }
}

fn cut_short(error: &EndpointError) -> Answer {
    tracing::debug!(%error, "an upload was cut short");
    match error.kind {
        ErrorKind::TimedOut => plain(StatusCode::REQUEST_TIMEOUT, ""),
        ErrorKind::Failed => plain(StatusCode::PAYLOAD_TOO_LARGE, ""),
        _ => plain(StatusCode::BAD_REQUEST, "the body was cut short"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::sync::mpsc;

    use cap_std::ambient_authority;

    use super::*;

    fn target(folder: &Path) -> Target {
        let parent = Dir::open_ambient_dir(folder, ambient_authority()).unwrap();
        Target::create(parent, "name".into(), None).unwrap()
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    /// The superuser may read every folder: as one, this shows less than as anybody else.
    #[cfg(unix)]
    #[test]
    fn a_synced_upload_into_a_folder_that_cannot_be_read_is_stored() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut partial = target(folder.path()).partial.take().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o300)).unwrap();
        let mut commit = || {
            partial.sync(Durability::Synced)?;
            partial.rename(None)?;
            partial.sync_name(Durability::Synced)
        };
        let committed = commit();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        committed.unwrap();
        assert!(folder.path().join("name").exists());
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn a_cut_upload_is_removed_off_the_loop_and_without_one_at_once() {
        let folder = tempfile::tempdir().unwrap();
        drop(target(folder.path()));
        assert_eq!(names(folder.path()), 0, "no runtime");

        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).build().unwrap();
        let (go, busy) = mpsc::channel::<()>();
        runtime.block_on(async {
            let busy = tokio::task::spawn_blocking(move || busy.recv().unwrap());
            drop(target(folder.path()));
            assert_eq!(
                names(folder.path()),
                1,
                "the pool is busy, and the loop does not wait"
            );
            go.send(()).unwrap();
            busy.await.unwrap();
            tokio::task::spawn_blocking(|| ()).await.unwrap(); // behind it on the only thread
        });
        assert_eq!(names(folder.path()), 0);
    }

    #[test]
    fn a_runtime_that_ends_leaves_no_cut_upload() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).build().unwrap();
        let (go, busy) = mpsc::channel::<()>();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || busy.recv());
            drop(target(folder.path()));
        });
        runtime.shutdown_background();
        drop(go); // the thread goes on to what is queued, which is no longer to run
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while names(folder.path()) > 0 {
            assert!(std::time::Instant::now() < deadline, "it is still there");
            std::thread::yield_now();
        }
    }
}
