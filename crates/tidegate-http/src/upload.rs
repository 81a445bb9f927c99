//! Takes an upload: written beside its target, renamed over it when it is whole, removed when it is not.
//!
//! Knows nothing of paths: a directory handle and a name come in.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::task::Poll;

use cap_std::fs::{Dir, OpenOptions};
use http::{Response, StatusCode};
use tidegate_io::{EndpointError, ErrorKind, Held};

use crate::body::Body;
use crate::exchange::{Answer, plain};
use crate::incoming::IncomingBody;
use crate::open_files::OpenFile;
use crate::path::PARTIAL_PREFIX;
use crate::static_files::failed;

/// The most bytes gathered for one write. 1 MiB: the default `chunk` of the marks.
const BATCH_BYTES: usize = 1024 * 1024;

/// When an upload counts as stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// After the disk has it: `fsync` before the rename.
    #[default]
    Synced,
    /// After the rename. A crash of the machine may lose it, though not the file it replaced by halves.
    Renamed,
}

/// A temporary file beside the file it is to become. Dropping it removes it.
pub(crate) struct Target {
    parent: Dir,
    name: OsString,
    partial: Option<String>,
    file: Option<std::fs::File>,
    replaces: Replaces,
}

/// Whether there was a file before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Replaces {
    Nothing,
    AFile,
}

impl Target {
    pub(crate) fn create(parent: Dir, name: OsString, existing: Option<&OpenFile>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let partial = format!("{PARTIAL_PREFIX}{:016x}", RandomState::new().hash_one(&name));
        let file = parent.open_with(Path::new(&partial), &options)?.into_std();
        let target = Self {
            parent,
            name,
            partial: Some(partial),
            file: Some(file),
            replaces: if existing.is_some() {
                Replaces::AFile
            } else {
                Replaces::Nothing
            },
        };
        if let (Some(existing), Some(file)) = (existing, &target.file) {
            // The replacing file is as private as the one it replaces.
            file.set_permissions(existing.file.metadata()?.permissions())?;
        }
        Ok(target)
    }

    /// Writes a batch on the blocking pool; the target comes back with the result, also a failed one.
    async fn write(self, batch: Held) -> (io::Result<()>, Option<Self>) {
        let work = move || {
            let mut this = self;
            let result = match &mut this.file {
                Some(file) => write_all(file, batch),
                None => Ok(()),
            };
            (result, Some(this))
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| (Err(io::Error::other(error)), None))
    }

    fn commit(mut self, durability: Durability) -> io::Result<Replaces> {
        if let Some(file) = self.file.take()
            && durability == Durability::Synced
        {
            file.sync_all()?;
        }
        let Some(partial) = &self.partial else {
            return Ok(self.replaces);
        };
        self.parent
            .rename(partial, &self.parent, OsStr::new(&self.name))?;
        self.partial = None;
        Ok(self.replaces)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take()
            && let Err(error) = self.parent.remove_file(&partial)
        {
            tracing::warn!(%error, partial, "cannot remove an upload that was cut short");
        }
    }
}

fn write_all(file: &mut std::fs::File, mut batch: Held) -> io::Result<()> {
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

/// Receives the body of a PUT into its target and answers: 201 for a new file, 200 for a replaced one.
pub(crate) async fn receive(mut target: Target, mut body: IncomingBody, durability: Durability) -> Answer {
    loop {
        let batch = match next_batch(&mut body).await {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => batch,
            Err(error) => return cut_short(&error),
        };
        match target.write(batch).await {
            (Ok(()), Some(back)) => target = back,
            (Err(error), _) => return failed(&error),
            (Ok(()), None) => return plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
        }
    }
    let committed = tokio::task::spawn_blocking(move || target.commit(durability)).await;
    match committed
        .map_err(io::Error::other)
        .and_then(|committed| committed)
    {
        Ok(Replaces::Nothing) => empty(StatusCode::CREATED),
        Ok(Replaces::AFile) => empty(StatusCode::OK),
        Err(error) => failed(&error),
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

fn cut_short(error: &EndpointError) -> Answer {
    tracing::debug!(%error, "an upload was cut short");
    match error.kind {
        ErrorKind::TimedOut => plain(StatusCode::REQUEST_TIMEOUT, ""),
        ErrorKind::Failed => plain(StatusCode::PAYLOAD_TOO_LARGE, ""),
        _ => plain(StatusCode::BAD_REQUEST, "the body was cut short"),
    }
}

/// Waits for bytes and takes what has come by then, up to a batch. Empty at the end.
async fn next_batch(body: &mut IncomingBody) -> Result<Held, EndpointError> {
    let mut batch = Held::default();
    poll_fn(|cx| {
        while batch.len() < BATCH_BYTES {
            match body.poll_piece(cx) {
                Poll::Ready(Ok(Some(piece))) => batch.push(piece),
                Poll::Ready(Ok(None)) => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    Ok(batch)
}
