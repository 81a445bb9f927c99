//! A directory as a source of bytes: `LIST`, `NLST` and `MLSD`, a batch at a time.
//!
//! Holds one batch and never the whole directory. Entries come in the order of the system. Refuses to know where the
//! bytes go.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use cap_std::fs::{Dir, DirEntry, Metadata, ReadDir};
use tidegate_io::{Blame, Buffers, EndpointError, ErrorKind, Source};
use tokio::task::JoinHandle;

use super::upload::is_our_name;
use super::{Access, StorageError, facts_of, unix_seconds};
use crate::grammar::path::wire_name;
use crate::grammar::time::format_list_date;
use crate::grammar::{FactSet, Facts, Kind, VirtualPath};
use crate::system::links;

const BATCH_BYTES: usize = 32 * 1024;

/// How entries are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListingStyle {
    /// As `ls -l` has it.
    Long,
    /// Names only.
    Names,
    /// Facts (RFC 3659 §7).
    Facts(FactSet),
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    state: State,
    ready: Bytes,
}

#[derive(Debug)]
enum State {
    Idle(Box<Walk>),
    Busy(JoinHandle<Result<(Box<Walk>, Bytes), StorageError>>),
    Ended,
}

#[derive(Debug)]
struct Walk {
    entries: Option<ReadDir>,
    /// The directory that is listed, to follow its links.
    dir: Option<Dir>,
    first: Vec<u8>,
    style: ListingStyle,
    access: Access,
    now_unix_seconds: i64,
}

impl Listing {
    pub(super) fn open(
        dir: &Dir,
        path: &VirtualPath,
        style: ListingStyle,
        access: Access,
    ) -> Result<Self, StorageError> {
        let relative = path.to_relative();
        let metadata = dir.metadata(&relative)?;
        let mut walk = Walk {
            entries: None,
            dir: None,
            first: Vec::new(),
            style,
            access,
            now_unix_seconds: unix_seconds(SystemTime::now()).unwrap_or(0),
        };
        if metadata.is_dir() {
            let listed = dir.open_dir(&relative)?;
            walk.entries = Some(listed.entries()?);
            walk.dir = Some(listed);
            if matches!(style, ListingStyle::Facts(_)) {
                let mut facts = facts_of(&metadata, access);
                facts.kind = Kind::Current;
                walk.first = walk.line(&facts, None, b".");
            }
        } else if matches!(style, ListingStyle::Facts(_)) {
            return Err(StorageError::NotADirectory);
        } else {
            let facts = facts_of(&metadata, access);
            walk.first = walk.line(&facts, Some(&metadata), path.name().unwrap_or(b"."));
        }
        Ok(Self {
            state: State::Idle(Box::new(walk)),
            ready: Bytes::new(),
        })
    }

    /// The next batch, whole lines; `None` at the end.
    async fn next_batch(&mut self) -> Result<Option<Bytes>, StorageError> {
        std::future::poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// Up to `bytes_max` bytes of whole lines, for a reply on the control connection; says whether that is all.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn head(mut self, bytes_max: usize) -> Result<(Vec<u8>, HeadEnd), StorageError> {
        let mut out = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            if out.len() + batch.len() > bytes_max {
                let room = &batch[..bytes_max - out.len()];
                let whole = room
                    .iter()
                    .rposition(|&byte| byte == b'\n')
                    .map_or(0, |end| end + 1);
                out.extend_from_slice(&room[..whole]);
                return Ok((out, HeadEnd::More));
            }
            out.extend_from_slice(&batch);
        }
        Ok((out, HeadEnd::All))
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StorageError>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(Ok(None)),
                State::Idle(mut walk) => {
                    self.state = State::Busy(tokio::task::spawn_blocking(move || {
                        let batch = walk.batch()?;
                        Ok((walk, batch))
                    }));
                }
                State::Busy(mut job) => match Pin::new(&mut job).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Busy(job);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok((_, batch)))) if batch.is_empty() => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(Ok((walk, batch)))) => {
                        self.state = State::Idle(walk);
                        return Poll::Ready(Ok(Some(batch)));
                    }
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(panicked)) => {
                        return Poll::Ready(Err(std::io::Error::other(panicked).into()));
                    }
                },
            }
        }
    }
}

/// Whether a head was the whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadEnd {
    /// It was.
    All,
    /// More would follow.
    More,
}

impl Source for Listing {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.ready.is_empty() {
            match ready!(self.poll_batch(cx)) {
                Ok(Some(batch)) => self.ready = batch,
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(error) => {
                    let failed =
                        EndpointError::new(ErrorKind::Failed, Blame::System, "cannot list the directory");
                    return Poll::Ready(Err(failed.caused_by(error)));
                }
            }
        }
        let take = self.ready.len().min(max);
        Poll::Ready(Ok(Some(self.ready.split_to(take))))
    }

    fn name(&self) -> String {
        "listing".to_owned()
    }
}

impl Walk {
    fn batch(&mut self) -> Result<Bytes, StorageError> {
        let mut out = std::mem::take(&mut self.first);
        while out.len() < BATCH_BYTES {
            let Some(entry) = self.entries.as_mut().and_then(Iterator::next) else {
                break;
            };
            out.extend_from_slice(&self.entry(&entry?));
        }
        Ok(out.into())
    }

    fn entry(&self, entry: &DirEntry) -> Vec<u8> {
        let name = wire_name(&entry.file_name());
        // A name with a line end in it would forge an entry.
        if is_our_name(&name) || name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Vec::new();
        }
        if self.style == ListingStyle::Names {
            return self.line(&Facts::of(Kind::Other), None, &name);
        }
        // Gone since it was read: no entry.
        let Some(metadata) = self.look(entry) else {
            return Vec::new();
        };
        self.line(&facts_of(&metadata, self.access), Some(&metadata), &name)
    }

    /// Links are shown as what they point to, unless that is gone or lies outside.
    fn look(&self, entry: &DirEntry) -> Option<Metadata> {
        let metadata = entry.metadata().ok()?;
        if !metadata.is_symlink() {
            return Some(metadata);
        }
        let followed = self.dir.as_ref()?.metadata(entry.file_name());
        Some(followed.unwrap_or(metadata))
    }

    fn line(&self, facts: &Facts, metadata: Option<&Metadata>, name: &[u8]) -> Vec<u8> {
        let mut line = match self.style {
            ListingStyle::Names => name.to_vec(),
            ListingStyle::Facts(set) => facts.encode(&set, name),
            ListingStyle::Long => {
                let mut line = self.long(facts, metadata).into_bytes();
                line.extend_from_slice(name);
                line
            }
        };
        line.extend_from_slice(b"\r\n");
        line
    }

    fn long(&self, facts: &Facts, metadata: Option<&Metadata>) -> String {
        let links = metadata.map_or(1, links);
        let size = metadata.map_or(0, Metadata::len);
        let letter = match facts.kind {
            Kind::File => '-',
            Kind::Directory | Kind::Current | Kind::Parent => 'd',
            Kind::Other if metadata.is_some_and(Metadata::is_symlink) => 'l',
            Kind::Other => '?',
        };
        let date = format_list_date(facts.modify.unwrap_or(0), self.now_unix_seconds);
        let mode = mode_letters(facts.unix_mode.unwrap_or(0o644));
        format!("{letter}{mode} {links:3} ftp      ftp      {size:12} {date} ")
    }
}

fn mode_letters(mode: u32) -> String {
    let letters = "rwxrwxrwx".chars().enumerate();
    letters
        .map(|(index, letter)| if mode & (0o400 >> index) != 0 { letter } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        assert_eq!(mode_letters(0o754), "rwxr-xr--");
        assert_eq!(mode_letters(0), "---------");
    }
}
