//! Serves the files under one directory, and takes uploads into it where that is allowed.
//!
//! No path leaves the root: names are checked before, and every open goes through a directory handle that refuses to
//! be led out, also by links.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate_io::EndpointError;

use crate::body::Body;
use crate::exchange::{Answer, Handler, HeadView, Request, plain};
use crate::file_answer::{ascii, send};
use crate::negotiate;
use crate::open_files::{Asker, OpenFile, OpenFiles};
use crate::path::{self, DecodedPath, Shape};
use crate::site::{Found, Put, Replaced, Shared};
use crate::upload::{self, Durability};

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
                placing: Mutex::new(()),
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
        let put = Arc::new(Put {
            path,
            method: request.head.method.clone(),
            headers: request.head.headers.clone(),
            durability,
        });
        let target = {
            let (shared, put) = (Arc::clone(&self.shared), Arc::clone(&put));
            blocking(move || shared.open_target(&put)).await
        };
        let received = match target {
            Ok(Ok(target)) => upload::receive(target, request.body, durability).await,
            Ok(Err(status)) => return plain(status, ""),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return plain(StatusCode::CONFLICT, "there is no such directory");
            }
            Err(error) => return failed(&error),
        };
        let partial = match received {
            Ok(partial) => partial,
            Err(answer) => return answer,
        };
        let shared = Arc::clone(&self.shared);
        let placed = blocking(move || shared.place(partial, &put)).await;
        self.shared.open.put_in_place();
        match placed {
            Ok(Ok(Replaced::Nothing)) => empty(StatusCode::CREATED),
            Ok(Ok(Replaced::AFile)) => empty(StatusCode::OK),
            Ok(Err(status)) => plain(status, ""),
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
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
