//! The client: a remote file as a source and as a sink.
//!
//! Commands and replies are suppaftp's, which hands its data stream out; how bytes move is ours. Refuses to know command
//! lines and password files.

mod error;
mod sink;
mod source;
mod url;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use suppaftp::tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream};
use suppaftp::types::{FileType, Mode};
use tidegate_io::endpoint::tcp;
use tidegate_io::{Blame, EndpointError, ErrorKind};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use sink::FtpSink;
pub use source::FtpSource;
pub use url::{FtpUrl, Security, UrlError};

use crate::storage::partial_name;
use error::{ftp_error, in_time};

/// How the data connection is opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DataMode {
    /// We go to the server: `EPSV`, or `PASV` where the server does not know that. The address in a reply to `PASV` is
    /// not believed: data goes to the server we talk to.
    #[default]
    Passive,
    /// The server comes to us, and nobody else may.
    Active,
}

/// How sure we are that what came is what is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verify {
    /// The reply, and the size where the server tells it.
    #[default]
    Size,
    /// Also the SHA-256 of the whole, where the server offers `HASH`; the transfer must begin at the start of the file.
    Hash,
}

/// What a client is told.
#[derive(Clone)]
pub struct ClientOptions {
    /// The password. Goes before one in the URL; anonymous needs none.
    pub password: Option<String>,
    /// For `ftps://`: whom to trust. Sessions are resumed for data connections, as many servers demand.
    pub tls: Option<Arc<ClientConfig>>,
    /// How data connections are opened.
    pub mode: DataMode,
    /// How sure to be.
    pub verify: Verify,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a reply may take.
    pub reply_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            password: None,
            tls: None,
            mode: DataMode::default(),
            verify: Verify::default(),
            connect_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(60),
        }
    }
}

/// A download that goes on where another stopped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resume {
    /// Bytes that are there already.
    pub offset: u64,
    /// What the size was; another one now is an error.
    pub size: Option<u64>,
    /// When the file was last changed, in seconds since 1970; another time now is an error.
    pub modify_unix_seconds: Option<i64>,
}

/// How an upload is placed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Put {
    /// Under its own name. What a server shows when it is cut short is the server's business.
    #[default]
    Direct,
    /// Under `name.part`, and renamed when it is complete: an upload that was cut short never shows, on any server.
    Beside,
    /// At the end of what is there.
    Append,
    /// From this offset on (`REST`, `STOR`).
    From(u64),
}

/// A remote file as a source.
///
/// # Errors
/// `ErrorKind::Open` when it cannot be reached, `Mismatch` when it is not what `resume` expects.
pub async fn get(url: &FtpUrl, options: &ClientOptions, resume: Resume) -> Result<FtpSource, EndpointError> {
    let mut client = connect(url, options).await?;
    let size = client.size(&url.path).await?;
    let modify = client.modify(&url.path).await?;
    let changed =
        |then: Option<u64>, now: Option<u64>| matches!((then, now), (Some(then), Some(now)) if then != now);
    let then = resume.modify_unix_seconds.map(i64::cast_unsigned);
    if changed(resume.size, size) || changed(then, modify.map(i64::cast_unsigned)) {
        let what = format!("{url} has changed since it was read first");
        return Err(EndpointError::new(ErrorKind::Mismatch, Blame::Peer, what));
    }
    if size.is_some_and(|size| resume.offset > size) {
        let what = format!("{url} is shorter than what was read of it");
        return Err(EndpointError::new(ErrorKind::Mismatch, Blame::Peer, what));
    }
    let expected_hash = match options.verify {
        Verify::Hash if resume.offset == 0 => client.hash(&url.path).await?,
        _ => None,
    };
    let transfer = client.open(&url.path, wire::Verb::Retr, resume.offset).await?;
    Ok(FtpSource::new(
        client,
        transfer,
        url.to_string(),
        source::Expected {
            offset: resume.offset,
            size,
            modify_unix_seconds: modify,
            hash: expected_hash,
        },
    ))
}

/// A remote file as a sink.
///
/// # Errors
/// `ErrorKind::Open` when it cannot be reached or written.
pub async fn put(url: &FtpUrl, options: &ClientOptions, put: Put) -> Result<FtpSink, EndpointError> {
    let mut client = connect(url, options).await?;
    let beside = format!("{}.part", url.path);
    let (path, verb, offset) = match put {
        Put::Direct => (&url.path, wire::Verb::Stor, 0),
        Put::Beside => (&beside, wire::Verb::Stor, 0),
        Put::Append => (&url.path, wire::Verb::Appe, 0),
        Put::From(offset) => (&url.path, wire::Verb::Stor, offset),
    };
    let standing = match put {
        Put::Append => client.size(path).await?,
        _ => Some(offset),
    };
    let transfer = client.open(path, verb, offset).await?;
    let place = sink::Place {
        written_to: path.clone(),
        rename_to: matches!(put, Put::Beside).then(|| url.path.clone()),
        standing,
    };
    Ok(FtpSink::new(client, transfer, url.to_string(), place))
}

/// The size of a remote file, where the server tells it: what is there already before an upload goes on.
///
/// # Errors
/// `ErrorKind::Open` when the server cannot be reached.
pub async fn size(url: &FtpUrl, options: &ClientOptions) -> Result<Option<u64>, EndpointError> {
    let mut client = connect(url, options).await?;
    let size = client.size(&url.path).await?;
    client.quit().await;
    Ok(size)
}

/// What there is of a remote file, as far as the server tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The size of it.
    pub bytes: u64,
    /// When it was last changed, in seconds since 1970.
    pub modify_unix_seconds: Option<i64>,
    /// The SHA-256 of it, or of the part of it that was asked about, in lower-case hex.
    pub sha256: Option<String>,
}

/// What a server is asked about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// How large it is.
    Size,
    /// When it was changed and what its hash is, too. It may have to read all of the file for that.
    Content,
}

/// Where an upload of `url` may go on: behind what an earlier one left, else behind the file itself. `None` where there is
/// neither, or the server does not tell. What is left is looked for where Tidegate's own server keeps it: beside the file
/// ([`partial_name`]), so that the target stays whole meanwhile.
///
/// # Errors
/// As [`size`].
pub async fn kept(
    url: &FtpUrl,
    options: &ClientOptions,
    ask: Ask,
) -> Result<Option<Standing>, EndpointError> {
    let mut client = connect(url, options).await?;
    let (folder, name) = url
        .path
        .rsplit_once('/')
        .map_or(("", url.path.as_str()), |(folder, name)| {
            (&url.path[..=folder.len()], name)
        });
    let part = partial_name(name.as_bytes());
    let part = format!("{folder}{}", String::from_utf8_lossy(&part));
    let (path, bytes) = match client.size(&part).await? {
        Some(bytes) => (part, Some(bytes)),
        None => (url.path.clone(), client.size(&url.path).await?),
    };
    let mut standing = bytes.map(|bytes| Standing {
        bytes,
        ..Standing::default()
    });
    if let (Some(standing), Ask::Content) = (&mut standing, ask) {
        client.be_patient(standing.bytes);
        standing.modify_unix_seconds = client.modify(&path).await?;
        standing.sha256 = client.hash(&path).await?;
    }
    client.quit().await;
    Ok(standing)
}

/// What a download of `url` goes on with behind its first `bytes`, which are hashed where the server offers `RANG`. `None` where
/// the server does not tell the size.
///
/// # Errors
/// As [`size`].
pub async fn first(
    url: &FtpUrl,
    options: &ClientOptions,
    bytes: u64,
) -> Result<Option<Standing>, EndpointError> {
    let mut client = connect(url, options).await?;
    client.be_patient(bytes);
    let standing = match client.size(&url.path).await? {
        Some(size) => Some(Standing {
            bytes: size,
            modify_unix_seconds: client.modify(&url.path).await?,
            sha256: match bytes {
                bytes if bytes <= size => client.hash_of_first(&url.path, bytes).await?,
                _ => None,
            },
        }),
        None => None,
    };
    client.quit().await;
    Ok(standing)
}

async fn connect(url: &FtpUrl, options: &ClientOptions) -> Result<wire::Client, EndpointError> {
    let address = url.address();
    let stream = tcp::connect(&address, options.connect_timeout).await?;
    let what = format!("cannot open {url}");
    let opened = in_time(options.reply_timeout, &what, open(stream, url, options)).await?;
    Ok(wire::Client::new(opened, options, url.to_string()))
}

async fn open(
    stream: TcpStream,
    url: &FtpUrl,
    options: &ClientOptions,
) -> Result<AsyncRustlsFtpStream, EndpointError> {
    let failed = |error| ftp_error(ErrorKind::Open, &format!("cannot open {url}"), error);
    let mut ftp = AsyncRustlsFtpStream::connect_with_stream(stream)
        .await
        .map_err(failed)?;
    if url.security == Security::Explicit {
        let config = options.tls.clone().ok_or_else(|| {
            let what = format!("cannot open {url}: no TLS configuration was given");
            EndpointError::new(ErrorKind::Open, Blame::Caller, what)
        })?;
        let connector = AsyncRustlsConnector::from(TlsConnector::from(config));
        ftp = ftp.into_secure(connector, &url.host).await.map_err(failed)?;
    }
    let password = options.password.as_deref().or(url.password.as_deref());
    let (user, password) = match (&url.user, password) {
        (Some(user), password) => (user.as_str(), password.unwrap_or_default()),
        (None, password) => ("anonymous", password.unwrap_or("anonymous@")),
    };
    ftp.login(user, password).await.map_err(failed)?;
    ftp.transfer_type(FileType::Image).await.map_err(failed)?;
    match options.mode {
        DataMode::Passive => ftp.set_mode(Mode::ExtendedPassive),
        DataMode::Active => ftp.set_mode(Mode::Active),
    }
    ftp.set_passive_nat_workaround(true);
    Ok(ftp)
}
