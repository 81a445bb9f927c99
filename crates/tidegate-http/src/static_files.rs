//! Serves the files under one directory, and takes uploads into it where that is allowed.
//!
//! No path leaves the root: names are checked before, and every open goes through a directory handle that refuses to
//! be led out, also by links.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate::{Consumer as _, FinishableConsumer, Producer};
use tidegate_io::EndpointError;

use crate::body::Body;
use crate::exchange::{Answer, Handler, HeadView, Request, Responder, plain};
use crate::file_parts::{FileParts, Part};
use crate::listing::{self, Completeness};
use crate::negotiate::{self, Coding};
use crate::open_files::{Asker, Dress, OpenFile, OpenFiles};
use crate::path::{self, DecodedPath, Shape};
use crate::range::{self, ByteRange, Wanted};
use crate::upload::{self, Durability};
use crate::validators::{RangeUse, Verdict};

/// Whether clients may write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Uploads {
    /// PUT is refused with 405.
    #[default]
    Refused,
    /// PUT writes beside the target and renames.
    Taken(Durability),
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Symlinks {
    /// Followed as long as they stay under the root.
    #[default]
    WithinRoot,
    /// A path with a link in it is not found.
    Never,
}

/// What a directory without an index file shows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Listings {
    /// Its entries.
    #[default]
    Shown,
    /// 403.
    Hidden,
}

/// Whether `file.br`, `file.zst` and `file.gz` are sent for `file` to clients that like them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Precompressed {
    /// They are.
    #[default]
    Served,
    /// Each file stands for itself.
    Ignored,
}

/// How a directory is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StaticOptions {
    /// Refused by default.
    pub uploads: Uploads,
    /// Followed inside the root by default.
    pub symlinks: Symlinks,
    /// Shown by default.
    pub listings: Listings,
    /// Served by default.
    pub precompressed: Precompressed,
    /// The file that stands for its directory: `index.html`.
    pub index: String,
    /// Bytes of small files kept in memory. 4 MiB: the hot files of a site, little beside the page cache.
    pub kept_bytes_max: u64,
}

impl Default for StaticOptions {
    fn default() -> Self {
        Self {
            uploads: Uploads::default(),
            symlinks: Symlinks::default(),
            listings: Listings::default(),
            precompressed: Precompressed::default(),
            index: "index.html".to_owned(),
            kept_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// A directory as a [`Handler`].
#[derive(Clone, Debug)]
pub struct StaticFiles {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: Dir,
    options: StaticOptions,
    open: OpenFiles,
}

/// What a path turned out to be.
enum Found {
    File(Arc<OpenFile>),
    Listing(Bytes),
    /// A directory asked for without its slash.
    NeedsSlash,
    Refused(StatusCode),
}

impl StaticFiles {
    /// Serves what is under `root`.
    ///
    /// # Errors
    /// `root` is no directory that can be opened.
    pub fn new(root: &Path, options: StaticOptions) -> Result<Self, EndpointError> {
        let dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| {
            EndpointError::open(format!("cannot open the directory {}", root.display()), error)
        })?;
        let open = OpenFiles::new(options.kept_bytes_max);
        Ok(Self {
            shared: Arc::new(Shared {
                root: dir,
                options,
                open,
            }),
        })
    }

    async fn get(&self, request: &Request) -> Answer {
        let found = self.find(request).await;
        match found {
            Ok(Found::File(file)) => send(
                &file,
                &request.head.method,
                &request.head.headers,
                Some(&request.responder),
            )
            .unwrap_or_else(|| plain(StatusCode::INTERNAL_SERVER_ERROR, "")),
            Ok(Found::Listing(page)) => html(page),
            Ok(Found::NeedsSlash) => slash(&request.head.uri),
            Ok(Found::Refused(status)) => plain(status, ""),
            Err(error) => failed(&error),
        }
    }

    async fn find(&self, request: &Request) -> io::Result<Found> {
        let key = request.head.uri.path();
        let Some(file) = self.shared.open.get(key, Asker::LooksUp) else {
            return self.look_up(key, &request.head.headers).await;
        };
        self.compressed(file, key, &request.head.headers)
            .await
            .map(Found::File)
    }

    /// Looks a name up on the blocking pool, and keeps what it finds.
    async fn look_up(&self, key: &str, headers: &HeaderMap) -> io::Result<Found> {
        let path = match path::decode(key) {
            Ok(path) => path,
            Err(path::BadPath::Reserved) => return Ok(Found::Refused(StatusCode::NOT_FOUND)),
            Err(_) => return Ok(Found::Refused(StatusCode::BAD_REQUEST)),
        };
        let shared = Arc::clone(&self.shared);
        let shown = shown_path(key);
        let found = blocking(move || shared.look_up(&path, &shown)).await;
        let file = match found {
            Ok(Found::File(file)) => file,
            other => {
                self.shared.open.remove(key);
                return other;
            }
        };
        self.shared.open.put(key, &file);
        self.compressed(file, key, headers).await.map(Found::File)
    }

    /// The sibling that the client likes best, else the file itself.
    async fn compressed(
        &self,
        file: Arc<OpenFile>,
        key: &str,
        headers: &HeaderMap,
    ) -> io::Result<Arc<OpenFile>> {
        if file.siblings.is_empty() || !headers.contains_key(ACCEPT_ENCODING) {
            return Ok(file);
        }
        let Some(coding) = negotiate::wanted(headers)
            .into_iter()
            .find(|coding| file.siblings.contains(coding))
        else {
            return Ok(file);
        };
        // A NUL cannot be part of a request target: this key collides with no file's own.
        let sibling_key = format!("{key}\0{}", coding.token());
        if let Some(sibling) = self.shared.open.get(&sibling_key, Asker::LooksUp) {
            return Ok(sibling);
        }
        let Ok(path) = path::decode(key) else {
            return Ok(file);
        };
        let shared = Arc::clone(&self.shared);
        let opened = blocking(move || shared.open_sibling(&path, coding)).await;
        match opened {
            Ok(sibling) => {
                self.shared.open.put(&sibling_key, &sibling);
                Ok(sibling)
            }
            // It was there when the plain file was opened. The plain file is still right.
            Err(_) => Ok(file),
        }
    }

    async fn put(&self, request: Request) -> Answer {
        let Uploads::Taken(durability) = self.shared.options.uploads else {
            return not_allowed(Uploads::Refused);
        };
        if request.head.headers.contains_key(CONTENT_RANGE) {
            return plain(StatusCode::BAD_REQUEST, "a part of a file cannot be put");
        }
        let path = match path::decode(request.head.uri.path()) {
            Ok(DecodedPath {
                relative,
                shape: Shape::Name,
            }) => relative,
            Ok(_) => return plain(StatusCode::CONFLICT, "a directory cannot be put"),
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let shared = Arc::clone(&self.shared);
        let (method, headers) = (request.head.method.clone(), request.head.headers.clone());
        let opened = blocking(move || shared.open_target(&path, &method, &headers)).await;
        match opened {
            Ok(Ok(target)) => {
                let answer = upload::receive(target, request.body, durability).await;
                self.shared.open.put_in_place();
                answer
            }
            Ok(Err(status)) => plain(status, ""),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                plain(StatusCode::CONFLICT, "there is no such directory")
            }
            Err(error) => failed(&error),
        }
    }
}

impl Handler for StaticFiles {
    fn at_once(&self, head: &HeadView<'_>) -> Option<Answer> {
        if *head.method != Method::GET && *head.method != Method::HEAD {
            return None;
        }
        let file = self.shared.open.get(head.uri.path(), Asker::Glances)?;
        if !file.siblings.is_empty() && head.headers.contains_key(ACCEPT_ENCODING) {
            return None;
        }
        send(&file, head.method, head.headers, None)
    }

    async fn answer(&self, request: Request) -> Answer {
        match request.head.method {
            Method::GET | Method::HEAD => self.get(&request).await,
            Method::PUT => self.put(request).await,
            _ => not_allowed(self.shared.options.uploads),
        }
    }
}

impl Shared {
    fn look_up(&self, path: &DecodedPath, shown: &str) -> io::Result<Found> {
        if !self.links_allowed(&path.relative)? {
            return Ok(Found::Refused(StatusCode::NOT_FOUND));
        }
        let here = if path.relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &path.relative
        };
        if self.root.metadata(here)?.is_dir() {
            return match path.shape {
                Shape::Name => Ok(Found::NeedsSlash),
                Shape::Directory => self.directory(here, shown),
            };
        }
        match path.shape {
            Shape::Name => self.open_file(here).map(Found::File),
            Shape::Directory => Ok(Found::Refused(StatusCode::NOT_FOUND)),
        }
    }

    fn directory(&self, here: &Path, shown: &str) -> io::Result<Found> {
        let index = here.join(&self.options.index);
        match self.open_file(&index) {
            Ok(file) => return Ok(Found::File(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.options.listings == Listings::Hidden {
            return Ok(Found::Refused(StatusCode::FORBIDDEN));
        }
        let mut entries = Vec::new();
        let mut completeness = Completeness::Whole;
        for entry in self.root.read_dir(here)? {
            let entry = entry?;
            let name = entry.file_name().into_encoded_bytes();
            if name.starts_with(path::PARTIAL_PREFIX.as_bytes()) {
                continue;
            }
            if entries.len() == listing::ENTRIES_MAX {
                completeness = Completeness::Cut;
                break;
            }
            // A link that leads out, or one to nothing, is not shown: it could not be opened.
            let Ok(metadata) = self.root.metadata(here.join(entry.file_name())) else {
                continue;
            };
            let size = (!metadata.is_dir()).then(|| metadata.len());
            entries.push(listing::Entry { name, size });
        }
        Ok(Found::Listing(listing::page(shown, entries, completeness).into()))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true);
        // A FIFO must not hold us up: it is refused once it is open.
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        }
        Ok(self.root.open_with(path, &options)?.into_std())
    }

    fn open_file(&self, path: &Path) -> io::Result<Arc<OpenFile>> {
        let file = self.open(path)?;
        let siblings: Vec<Coding> = match self.options.precompressed {
            Precompressed::Ignored => Vec::new(),
            Precompressed::Served => {
                let there = |coding: &Coding| {
                    self.root
                        .metadata(sibling(path, *coding))
                        .is_ok_and(|found| found.is_file())
                };
                Coding::ALL.into_iter().filter(there).collect()
            }
        };
        OpenFile::new(
            file,
            Dress {
                name: path,
                coding: None,
                siblings: &siblings,
            },
        )
        .map(Arc::new)
    }

    fn open_sibling(&self, path: &DecodedPath, coding: Coding) -> io::Result<Arc<OpenFile>> {
        let plain = match path.shape {
            Shape::Name => path.relative.clone(),
            Shape::Directory => path.relative.join(&self.options.index),
        };
        let path = sibling(&plain, coding);
        if !self.links_allowed(&path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.open(&path)?;
        OpenFile::new(
            file,
            Dress {
                name: &plain,
                coding: Some(coding),
                siblings: &[],
            },
        )
        .map(Arc::new)
    }

    /// Opens a temporary file beside the target, if the preconditions of the request allow it.
    fn open_target(
        &self,
        path: &Path,
        method: &Method,
        headers: &HeaderMap,
    ) -> io::Result<Result<upload::Target, StatusCode>> {
        if !self.links_allowed(path)? {
            return Ok(Err(StatusCode::FORBIDDEN));
        }
        let existing = match self.root.metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Err(StatusCode::CONFLICT)),
            Ok(_) => Some(self.open_file(path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let nothing = crate::validators::Validators {
            etag: None,
            modified: None,
        };
        let validators = existing.as_ref().map_or(&nothing, |file| &file.validators);
        if validators.weigh(method, headers) == Verdict::Failed {
            return Ok(Err(StatusCode::PRECONDITION_FAILED));
        }
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (self.root.try_clone()?, name),
            (Some(parent), Some(name)) => (self.root.open_dir(parent)?, name),
            _ => return Ok(Err(StatusCode::CONFLICT)),
        };
        upload::Target::create(parent, name.to_owned(), existing.as_deref()).map(Ok)
    }

    fn links_allowed(&self, path: &Path) -> io::Result<bool> {
        if self.options.symlinks == Symlinks::WithinRoot {
            return Ok(true);
        }
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            match self.root.symlink_metadata(&so_far) {
                Ok(metadata) if metadata.file_type().is_symlink() => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn sibling(path: &Path, coding: Coding) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(coding.suffix());
    name.into()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Answers with a file, or the parts of it that are asked for. `None`: it must be streamed and there is no responder.
fn send(
    file: &OpenFile,
    method: &Method,
    headers: &HeaderMap,
    responder: Option<&Responder>,
) -> Option<Answer> {
    let use_of_range = match file.validators.weigh(method, headers) {
        Verdict::Proceed(use_of_range) => use_of_range,
        Verdict::NotModified => return Some(bare(StatusCode::NOT_MODIFIED, file)),
        Verdict::Failed => return Some(plain(StatusCode::PRECONDITION_FAILED, "")),
    };
    let asked = headers
        .get(RANGE)
        .filter(|_| *method == Method::GET && use_of_range == RangeUse::Honour);
    let wanted = asked
        .and_then(|value| value.to_str().ok())
        .map_or(Wanted::Whole, |value| range::parse(value, file.size));
    if wanted == Wanted::Whole
        && let Some(small) = &file.small
    {
        return Some(whole(file, small, method));
    }
    let mut head = bare(StatusCode::OK, file);
    let parts = match wanted {
        Wanted::Whole if file.size == 0 => VecDeque::new(),
        Wanted::Whole => VecDeque::from([Part::File(ByteRange {
            start: 0,
            length: file.size,
        })]),
        Wanted::Single(range) => {
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            head.headers_mut()
                .insert(CONTENT_RANGE, ascii(&range.content_range(file.size)));
            VecDeque::from([Part::File(range)])
        }
        Wanted::Several(ranges) => {
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            several(&mut head, file, &ranges)
        }
        Wanted::Unsatisfiable => {
            let mut refusal = plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
            refusal
                .headers_mut()
                .insert(CONTENT_RANGE, ascii(&format!("bytes */{}", file.size)));
            return Some(refusal);
        }
    };
    let length = parts.iter().map(part_bytes).sum::<u64>();
    head.headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    if length == 0 || *method == Method::HEAD {
        return Some(head);
    }
    match &file.small {
        Some(small) => {
            *head.body_mut() = Body::whole(gather(small, &parts));
            Some(head)
        }
        None => Some(stream(file, head, parts, length, responder?)),
    }
}

/// A small file, all of it: what most answers are.
fn whole(file: &OpenFile, small: &Bytes, method: &Method) -> Answer {
    let mut answer = Response::new(if *method == Method::HEAD {
        Body::empty()
    } else {
        Body::whole(small.clone())
    });
    answer.headers_mut().clone_from(&file.whole_headers);
    answer
}

fn part_bytes(part: &Part) -> u64 {
    match part {
        Part::Text(text) => text.len() as u64,
        Part::File(range) => range.length,
    }
}

/// Parts of a file that is in memory.
fn gather(small: &Bytes, parts: &VecDeque<Part>) -> Bytes {
    let of = |range: &ByteRange| {
        // A small file's offsets fit.
        let start = usize::try_from(range.start)
            .unwrap_or(usize::MAX)
            .min(small.len());
        let end = usize::try_from(range.end())
            .unwrap_or(usize::MAX)
            .min(small.len());
        small.slice(start..end)
    };
    if let (1, Some(Part::File(range))) = (parts.len(), parts.front()) {
        return of(range);
    }
    let mut all = BytesMut::new();
    for part in parts {
        match part {
            Part::Text(text) => all.extend_from_slice(text),
            Part::File(range) => all.extend_from_slice(&of(range)),
        }
    }
    all.freeze()
}

/// Registers a pull producer over the file on the consumer of the answer. The body that hyper reads owns both.
fn stream(
    file: &OpenFile,
    head: Answer,
    parts: VecDeque<Part>,
    length: u64,
    responder: &Responder,
) -> Answer {
    let (head, _) = head.into_parts();
    let (consumer, answer) = responder.stream(Response::from_parts(head, ()), Some(length));
    let consumer = Arc::new(consumer);
    let to: std::sync::Weak<dyn FinishableConsumer> = Arc::<crate::OutgoingBody>::downgrade(&consumer);
    let producer = FileParts::new(Arc::clone(&file.file), file.stamp, parts, to);
    // Nobody else can have registered on a consumer this young.
    let _ = consumer.register_producer(Producer::pull(Arc::new(producer)));
    answer.map(|body| body.keeping(consumer))
}

/// The parts of a `multipart/byteranges` answer. (RFC 9110, section 14.6.)
fn several(head: &mut Answer, file: &OpenFile, ranges: &[ByteRange]) -> VecDeque<Part> {
    let boundary = boundary(file);
    let kind = file
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("application/octet-stream");
    let mut parts = VecDeque::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let range_line = range.content_range(file.size);
        let text = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range_line}\r\n\r\n");
        parts.push_back(Part::Text(text.into()));
        parts.push_back(Part::File(*range));
    }
    parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n").into()));
    head.headers_mut().insert(
        CONTENT_TYPE,
        ascii(&format!("multipart/byteranges; boundary={boundary}")),
    );
    parts
}

/// A boundary that the parts are unlikely to hold: nobody can choose it, since the hash is keyed anew in each process.
fn boundary(file: &OpenFile) -> String {
    use std::hash::{BuildHasher, RandomState};
    let one = RandomState::new().hash_one(file.size);
    let two = RandomState::new().hash_one(one);
    format!("tidegate{one:016x}{two:016x}")
}

fn bare(status: StatusCode, file: &OpenFile) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    *answer.headers_mut() = file.headers.clone();
    if status == StatusCode::NOT_MODIFIED {
        answer.headers_mut().remove(CONTENT_TYPE);
        answer.headers_mut().remove(CONTENT_ENCODING);
    }
    answer
}

fn html(page: Bytes) -> Answer {
    let mut answer = Response::new(Body::whole(page));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

/// The same address with a slash at its end. Never one that begins with two: that would name another host.
fn slash(uri: &http::Uri) -> Answer {
    let path = uri.path().trim_start_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = plain(StatusCode::MOVED_PERMANENTLY, "");
    answer
        .headers_mut()
        .insert(LOCATION, ascii(&format!("/{path}/{query}")));
    answer
}

/// The path for people, decoded as far as it can be.
fn shown_path(raw: &str) -> String {
    percent_encoding::percent_decode_str(raw)
        .decode_utf8_lossy()
        .into_owned()
}

fn not_allowed(uploads: Uploads) -> Answer {
    let allowed = match uploads {
        Uploads::Refused => "GET, HEAD",
        Uploads::Taken(_) => "GET, HEAD, PUT",
    };
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub(crate) fn failed(error: &io::Error) -> Answer {
    use io::ErrorKind as Kind;
    let status = match error.kind() {
        Kind::NotFound | Kind::NotADirectory | Kind::InvalidInput | Kind::InvalidFilename => {
            StatusCode::NOT_FOUND
        }
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::IsADirectory => StatusCode::CONFLICT,
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::warn!(%error, "cannot serve a file");
    }
    plain(status, "")
}
