//! Files that are open: their handle, their headers and, for small ones, their bytes, ready to be sent again.
//!
//! An entry is trusted only after `fstat` says that the open file is what it was (size, times, link count: a file that
//! was renamed over has one link less), and for at most a second before its name is looked up anew: by one who asks for it;
//! the others are served meanwhile, for at most another second. What `fstat` said is believed for 50 µs, unless a file was
//! put in place meanwhile. Bounded in entries and in bytes. Knows nothing of requests.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderValue};

use crate::file_parts::Stamp;
use crate::negotiate::Coding;
use crate::system::{Marks, OPEN_FILES_TELL, inode, read_at};
use crate::validators::Validators;

/// The largest file whose bytes are kept. 16 KiB: what is sent in one frame.
pub(crate) const SMALL_BYTES_MAX: u64 = 16 * 1024;

/// How long a name is trusted before it is looked up anew.
const NAME_TRUSTED: Duration = Duration::from_secs(1);

/// How long the answer of `fstat` is believed. 50 µs: under load few requests ask the system, which spares them 6 % of their
/// processor time, and it is less than the way from an answer over a write of the file to the next request.
const STAT_TRUSTED: Duration = Duration::from_micros(50);

/// Open files at most: each holds a descriptor.
const ENTRIES_MAX: usize = 512;

/// One open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) stamp: Stamp,
    pub(crate) size: u64,
    pub(crate) validators: Validators,
    /// Those that every answer about this file carries.
    pub(crate) headers: HeaderMap,
    /// The same with the length, for an answer that is the whole file.
    pub(crate) whole_headers: HeaderMap,
    pub(crate) small: Option<Bytes>,
    /// Precompressed siblings that were there when it was opened.
    pub(crate) siblings: Vec<Coding>,
    identity: Identity,
    opened: Instant,
    checked: Checked,
    used: AtomicBool,
    /// Somebody looks its name up anew.
    renewing: AtomicBool,
}

/// What an entry is worth.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Standing {
    True,
    /// The file is what it was; whether its name still leads to it, somebody should find out.
    Doubtful,
    Gone,
}

/// What somebody who asks for an entry would do if there is none.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Asker {
    /// Ask again, or go away.
    Glances,
    /// Look its name up and bring what it finds.
    LooksUp,
}

/// When `fstat` last said that an entry is true.
#[derive(Debug, Default)]
struct Checked {
    /// Microseconds after the entry was opened.
    at_us: AtomicU64,
    /// How many files had been put in place by then.
    puts: AtomicU64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Identity {
    size: u64,
    modified: Option<SystemTime>,
    marks: Marks,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            marks: Marks::of(metadata),
        }
    }

    fn validators(&self) -> Validators {
        Validators::of_file(self.size, self.modified, self.marks.inode)
    }
}

/// Those of a file that is not opened: the same as if it were.
pub(crate) fn validators(metadata: &cap_std::fs::Metadata) -> Validators {
    let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
    Validators::of_file(metadata.len(), modified, inode(metadata))
}

/// What an answer about a file says of it besides what the file itself tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dress<'n> {
    /// The name that decides the type; for a sibling that of the plain file.
    pub(crate) name: &'n Path,
    pub(crate) coding: Option<Coding>,
    pub(crate) siblings: &'n [Coding],
}

impl OpenFile {
    /// Reads what there is to know about an open file. Blocks on the disk.
    ///
    /// # Errors
    /// The system's; `IsADirectory` and `InvalidInput` for what is no regular file.
    pub(crate) fn new(file: File, dress: Dress<'_>) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let identity = Identity::of(&metadata);
        let validators = identity.validators();
        let small = if identity.size <= SMALL_BYTES_MAX {
            read_all(&file, identity)?
        } else {
            None
        };
        let headers = headers(&validators, dress);
        let mut whole_headers = headers.clone();
        whole_headers.insert(CONTENT_LENGTH, HeaderValue::from(identity.size));
        Ok(Self {
            stamp: Stamp::told_by(&metadata),
            size: identity.size,
            headers,
            whole_headers,
            validators,
            small,
            siblings: dress.siblings.to_vec(),
            identity,
            opened: Instant::now(),
            checked: Checked {
                at_us: AtomicU64::new(NEVER),
                puts: AtomicU64::new(0),
            },
            used: AtomicBool::new(true),
            renewing: AtomicBool::new(false),
            file: Arc::new(file),
        })
    }

    /// Whether it is still the file of its name, `puts` files having been put in place by now.
    fn standing(&self, puts: u64) -> Standing {
        let age = self.opened.elapsed();
        if age >= NAME_TRUSTED * 2 || !self.is_same(age, puts) {
            Standing::Gone
        } else if age >= NAME_TRUSTED {
            Standing::Doubtful
        } else {
            Standing::True
        }
    }

    /// Whether the open file is what it was.
    fn is_same(&self, age: Duration, puts: u64) -> bool {
        let age_us = u64::try_from(age.as_micros()).unwrap_or(NEVER);
        let since_us = age_us.checked_sub(self.checked.at_us.load(Ordering::Acquire));
        if since_us.is_some_and(|since| Duration::from_micros(since) < STAT_TRUSTED)
            && self.checked.puts.load(Ordering::Relaxed) == puts
        {
            return true;
        }
        let same = self
            .file
            .metadata()
            .is_ok_and(|metadata| Identity::of(&metadata) == self.identity);
        if same {
            self.checked.puts.store(puts, Ordering::Relaxed);
            self.checked.at_us.store(age_us, Ordering::Release);
        }
        same
    }

    /// Whether `asker` is served with it though its name is in doubt. One of those who look names up is not.
    fn is_renewed_by_another(&self, asker: Asker) -> bool {
        match asker {
            Asker::Glances => self.renewing.load(Ordering::Relaxed),
            Asker::LooksUp => self.renewing.swap(true, Ordering::Relaxed),
        }
    }
}

/// No moment: later than any.
const NEVER: u64 = u64::MAX;

/// All of a small file, or nothing if it changed meanwhile: then it is streamed, with the checks of streaming.
fn read_all(file: &File, identity: Identity) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; usize::try_from(identity.size).unwrap_or(0)];
    let mut at = 0;
    while at < bytes.len() {
        match read_at(file, &mut bytes[at..], at as u64) {
            Ok(0) => return Ok(None),
            Ok(got) => at += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Identity::of(&file.metadata()?) == identity).then(|| bytes.into()))
}

fn headers(validators: &Validators, dress: Dress<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, content_type(dress.name));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(etag) = &validators.etag {
        headers.insert(ETAG, etag.clone());
    }
    let date = validators.modified.map(httpdate::fmt_http_date);
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert(LAST_MODIFIED, date);
    }
    if let Some(coding) = dress.coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    }
    if dress.coding.is_some() || !dress.siblings.is_empty() {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    headers
}

fn content_type(name: &Path) -> HeaderValue {
    let guess = mime_guess::from_path(name)
        .first_raw()
        .unwrap_or("application/octet-stream");
    HeaderValue::from_static(guess)
}

/// The open files of one server, by the path they were asked for.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    entries: RwLock<HashMap<Box<str>, Arc<OpenFile>>>,
    /// Of small files, in bytes.
    kept: AtomicU64,
    /// Files that the server itself has put in place.
    puts: AtomicU64,
    pub(crate) kept_max: u64,
}

impl OpenFiles {
    pub(crate) fn new(kept_max: u64) -> Self {
        Self {
            kept_max,
            ..Self::default()
        }
    }

    /// An entry that is still true, or that another is about to renew.
    pub(crate) fn get(&self, key: &str, asker: Asker) -> Option<Arc<OpenFile>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = Arc::clone(entries.get(key)?);
        drop(entries);
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        let serves = match entry.standing(self.puts.load(Ordering::Acquire)) {
            Standing::True => true,
            Standing::Doubtful => entry.is_renewed_by_another(asker),
            Standing::Gone => false,
        };
        serves.then_some(entry)
    }

    /// The name leads to no file any more: whoever asks from now on looks for himself.
    pub(crate) fn remove(&self, key: &str) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(key) {
            return;
        }
        drop(entries);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let gone = entries.remove_entry(key);
        self.forget(gone.as_slice());
        drop(entries);
    }

    /// A file was put in place: whoever asks from now on gets it.
    pub(crate) fn put_in_place(&self) {
        self.puts.fetch_add(1, Ordering::AcqRel);
        if !OPEN_FILES_TELL {
            // Here an open file does not tell that another was renamed over it.
            self.clear();
        }
    }

    fn clear(&self) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        self.kept.store(0, Ordering::Relaxed);
        let gone = std::mem::take(&mut *entries);
        drop(entries);
        drop(gone); // files are closed beside the lock
    }

    /// Keeps an entry, and lets go of those not used since the last time it was full.
    pub(crate) fn put(&self, key: &str, entry: &Arc<OpenFile>) {
        let bytes = small_bytes(entry);
        if bytes > self.kept_max {
            return;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        let full = |kept: u64, count: usize| kept + bytes > self.kept_max || count >= ENTRIES_MAX;
        if full(self.kept.load(Ordering::Relaxed), entries.len()) {
            gone.extend(entries.extract_if(|_, entry| !entry.used.swap(false, Ordering::Relaxed)));
            self.forget(&gone);
        }
        if full(self.kept.load(Ordering::Relaxed), entries.len()) {
            gone.extend(entries.drain());
            self.kept.store(0, Ordering::Relaxed);
        }
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        if let Some(old) = entries.insert(key.into(), Arc::clone(entry)) {
            self.kept.fetch_sub(small_bytes(&old), Ordering::Relaxed);
        }
    }

    fn forget(&self, gone: &[(Box<str>, Arc<OpenFile>)]) {
        let bytes = gone.iter().map(|(_, entry)| small_bytes(entry)).sum();
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn small_bytes(entry: &OpenFile) -> u64 {
    entry.small.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A kept file that was opened so long ago.
    fn opened(path: &Path, ago: Duration) -> Arc<OpenFile> {
        let dress = Dress {
            name: path,
            coding: None,
            siblings: &[],
        };
        let mut file = OpenFile::new(File::open(path).unwrap(), dress).unwrap();
        file.opened -= ago;
        Arc::new(file)
    }

    #[test]
    fn one_looks_a_name_up_anew_and_the_others_are_served_meanwhile() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = OpenFiles::new(1 << 20);
        let serves = |asker| files.get("/x", asker).is_some();
        files.put("/x", &opened(file.path(), NAME_TRUSTED));
        assert!(!serves(Asker::Glances), "nobody has looked yet");
        assert!(!serves(Asker::LooksUp), "the first one looks");
        assert!(serves(Asker::LooksUp) && serves(Asker::Glances));
        files.put("/x", &opened(file.path(), Duration::ZERO));
        assert!(serves(Asker::Glances), "it has been found");
        files.put("/x", &opened(file.path(), NAME_TRUSTED * 2));
        assert!(
            !serves(Asker::LooksUp) && !serves(Asker::LooksUp),
            "nobody waits for ever"
        );
        files.put("/x", &opened(file.path(), NAME_TRUSTED));
        assert!(!serves(Asker::LooksUp));
        files.remove("/x");
        assert!(
            !serves(Asker::LooksUp) && !serves(Asker::Glances),
            "it is not there any more"
        );
        assert_eq!(files.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_kept_once_all_is_cleared() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"some").unwrap();
        let files = OpenFiles::new(1 << 20);
        files.put("/x", &opened(file.path(), Duration::ZERO));
        assert_eq!(files.kept.load(Ordering::Relaxed), 4);
        files.clear();
        assert!(files.get("/x", Asker::Glances).is_none());
        assert_eq!(files.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_that_changed_is_not_served_while_its_name_is_looked_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = OpenFiles::new(1 << 20);
        let entry = opened(file.path(), NAME_TRUSTED);
        files.put("/x", &entry);
        assert!(files.get("/x", Asker::LooksUp).is_none());
        assert!(files.get("/x", Asker::LooksUp).is_some());
        std::io::Write::write_all(&mut file.as_file(), b"more").unwrap();
        entry.checked.at_us.store(NEVER, Ordering::Release); // what fstat said is believed no more
        assert!(files.get("/x", Asker::LooksUp).is_none());
    }
}
