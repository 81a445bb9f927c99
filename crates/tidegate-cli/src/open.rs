//! From an address to an open source, sink or both.
//!
//! Knows every kind of endpoint by its open function, and in which order two ends are opened: what a source needs comes
//! first, so that a sink is not touched for a source that is not there.

#[cfg(feature = "maildir")]
pub(crate) mod mail;
#[cfg(feature = "pb")]
mod pages;
#[cfg(feature = "ftp")]
pub(crate) mod remote_file;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "http")]
pub(crate) mod web;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate::AbortReason;
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::endpoint::tcp;
#[cfg(feature = "tls")]
use tidegate_io::endpoint::tls::{Server as TlsServer, Tls};
#[cfg(unix)]
use tidegate_io::endpoint::{
    fd::Descriptor,
    pipe::{PipeSink, PipeSource},
    process::Process,
    stdio::{standard_io, stdin, stdout},
    unix,
};
use tidegate_io::{Blame, Duplex, EndpointError, ErrorKind, Side, Sink, Source};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::address::{Address, Place, Scheme};
use crate::report::{Failure, Stdout};
use crate::settings::{CopySettings, EndSettings, Existing};

/// A source of any kind.
pub(crate) type BoxSource = Box<dyn Source + Send>;
/// A sink of any kind.
pub(crate) type BoxSink = Box<dyn Sink + Send>;

/// What `-` is called as a source.
pub(crate) const STDIN: &str = "stdin";
/// What `-` is called as a sink.
pub(crate) const STDOUT: &str = "stdout";
/// What `-` is called in a relay.
pub(crate) const STDIO: &str = "stdin and stdout";

type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, EndpointError>> + 'a>>;

/// An end on its way: open, or waiting for somebody to come.
enum Opening<'a, T> {
    Open(T),
    Waiting(Later<'a, T>),
}

impl<'a, T> Opening<'a, T> {
    fn later(work: impl Future<Output = Result<T, EndpointError>> + 'a) -> Self {
        Self::Waiting(Box::pin(work))
    }

    async fn wait(self) -> Result<T, EndpointError> {
        match self {
            Self::Open(end) => Ok(end),
            Self::Waiting(later) => later.await,
        }
    }
}

/// Opens the two ends of a copy.
pub(crate) struct Opener<'a> {
    pub(crate) settings: &'a CopySettings,
    /// Told where a listener can be reached.
    pub(crate) announce: &'a dyn Fn(&str),
}

/// What an address is called in lines and reports.
pub(crate) fn name(address: &Address, dash: &str) -> String {
    match address.scheme {
        Scheme::Stdio => dash.to_owned(),
        _ => address.text.clone(),
    }
}

/// Whether an address is this program's standard output.
pub(crate) fn is_stdout(address: &Address) -> Stdout {
    match address.scheme {
        Scheme::Stdio => Stdout::IsTheSink,
        _ => Stdout::IsNot,
    }
}

impl Opener<'_> {
    /// Opens source and sink. While a listening source waits, a sink that only waits too (a file, another listener) is
    /// made ready beside it; a sink that would act (connect, start a program) is opened when the source is there.
    pub(crate) async fn both(
        &self,
        source: &Address,
        sink: &Address,
    ) -> Result<(BoxSource, BoxSink), Failure> {
        let at_source = |error: EndpointError| Failure::open(Side::Source, &error);
        let at_sink = |error: EndpointError| Failure::open(Side::Sink, &error);
        let offset = self.offset(sink).await.map_err(at_sink)?;
        match self.source(source, offset).await.map_err(at_source)? {
            Opening::Open(opened) => {
                refuse_same_file(source, sink).map_err(at_sink)?;
                let end = End {
                    offset,
                    size: opened.size_hint(),
                };
                let sink = self.sink(sink, end).await.map_err(at_sink)?;
                Ok((opened, sink.wait().await.map_err(at_sink)?))
            }
            Opening::Waiting(later) if is_passive(sink) => {
                let sink = self.sink(sink, End::default()).await.map_err(at_sink)?;
                let source = async { later.await.map_err(at_source) };
                let sink = async { sink.wait().await.map_err(at_sink) };
                tokio::try_join!(source, sink)
            }
            Opening::Waiting(later) => {
                let opened = later.await.map_err(at_source)?;
                let sink = self.sink(sink, End::default()).await.map_err(at_sink)?;
                Ok((opened, sink.wait().await.map_err(at_sink)?))
            }
        }
    }

    /// How much of the target is there already, when an earlier copy is to be continued.
    async fn offset(&self, sink: &Address) -> Result<u64, EndpointError> {
        if !self.settings.resume {
            return Ok(0);
        }
        match (sink.scheme, &sink.place) {
            (Scheme::File, Place::Path(path)) => match tokio::fs::metadata(path).await {
                Ok(found) if found.is_file() => Ok(found.len()),
                _ => Ok(0),
            },
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => remote_file::size(url, self.settings).await,
            _ => Ok(0),
        }
    }

    async fn source<'a>(
        &'a self,
        address: &'a Address,
        offset: u64,
    ) -> Result<Opening<'a, BoxSource>, EndpointError> {
        let timeout = self.settings.flow.connect_timeout;
        let open: BoxSource = match (address.scheme, &address.place) {
            #[cfg(unix)]
            (Scheme::Stdio, _) => Box::new(stdin()?),
            #[cfg(unix)]
            (Scheme::File, Place::Path(path)) if is_fifo(path) => Box::new(PipeSource::open(path)?),
            (Scheme::File, Place::Path(path)) => Box::new(FileSource::open(path).await?.from_offset(offset)),
            (Scheme::Tcp, Place::HostPort { host, port }) => {
                Box::new(tcp::source(tcp::connect(&join(host, *port), timeout).await?))
            }
            #[cfg(unix)]
            (Scheme::Unix, Place::Path(path)) => {
                Box::new(unix::source(unix::connect(path, timeout).await?, path))
            }
            #[cfg(unix)]
            (Scheme::Pipe, Place::Path(path)) => Box::new(PipeSource::open(path)?),
            #[cfg(unix)]
            (Scheme::Fd, Place::Number(number)) => Box::new(Descriptor::adopt(*number)?.into_source()?),
            #[cfg(unix)]
            (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_source()?),
            #[cfg(feature = "tls")]
            (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
                tls_connect(address, host, *port, &self.settings.ends, timeout)
                    .await?
                    .into_source(),
            ),
            #[cfg(feature = "http")]
            (Scheme::Http | Scheme::Https, Place::Url(url)) => {
                Box::new(web::source(url, offset, self.settings).await?)
            }
            #[cfg(feature = "http")]
            (Scheme::HttpListen, Place::HostPort { host, port }) => {
                let listener = self.bind(address, host, *port).await?;
                Box::new(web::listen_source(listener, self.settings))
            }
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => {
                Box::new(remote_file::source(url, offset, self.settings).await?)
            }
            #[cfg(feature = "pb")]
            (Scheme::Pb, Place::Named { host, port, name }) => Box::new(pages::source(host, *port, name)),
            (Scheme::TcpListen | Scheme::UnixListen | Scheme::TlsListen, _) => {
                let acceptor = self.listen(address).await?;
                return Ok(Opening::later(async move {
                    Ok(one(acceptor, timeout).await?.source())
                }));
            }
            _ => return Err(not_here(address)),
        };
        Ok(Opening::Open(open))
    }

    async fn sink<'a>(
        &'a self,
        address: &'a Address,
        end: End,
    ) -> Result<Opening<'a, BoxSink>, EndpointError> {
        let timeout = self.settings.flow.connect_timeout;
        let open: BoxSink = match (address.scheme, &address.place) {
            #[cfg(unix)]
            (Scheme::Stdio, _) => Box::new(stdout()?),
            #[cfg(unix)]
            (Scheme::File | Scheme::Pipe, Place::Path(path))
                if address.scheme == Scheme::Pipe || is_fifo(path) =>
            {
                return Ok(Opening::later(async move {
                    Ok(Box::new(PipeSink::open(path).await?) as BoxSink)
                }));
            }
            (Scheme::File, Place::Path(path)) => {
                let sink = match self.settings.existing {
                    _ if end.offset > 0 => FileSink::append(path).await?,
                    Existing::Refuse => FileSink::create(path, Overwrite::Refuse).await?,
                    Existing::Replace => FileSink::create(path, Overwrite::Allow).await?,
                    Existing::Append => FileSink::append(path).await?,
                };
                Box::new(sink.durability(self.settings.durability))
            }
            (Scheme::Tcp, Place::HostPort { host, port }) => {
                Box::new(tcp::sink(tcp::connect(&join(host, *port), timeout).await?))
            }
            #[cfg(unix)]
            (Scheme::Unix, Place::Path(path)) => {
                Box::new(unix::sink(unix::connect(path, timeout).await?, path))
            }
            #[cfg(unix)]
            (Scheme::Fd, Place::Number(number)) => Box::new(Descriptor::adopt(*number)?.into_sink()?),
            #[cfg(unix)]
            (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_sink()?),
            #[cfg(feature = "tls")]
            (Scheme::Tls, Place::HostPort { host, port }) => Box::new(
                tls_connect(address, host, *port, &self.settings.ends, timeout)
                    .await?
                    .into_sink(),
            ),
            #[cfg(feature = "http")]
            (Scheme::Http | Scheme::Https, Place::Url(url)) => {
                Box::new(web::sink(url, end.size, self.settings)?)
            }
            #[cfg(feature = "http")]
            (Scheme::HttpListen, Place::HostPort { host, port }) => {
                let listener = self.bind(address, host, *port).await?;
                Box::new(web::listen_sink(listener, end.size, self.settings))
            }
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => {
                Box::new(remote_file::sink(url, end.offset, self.settings).await?)
            }
            #[cfg(feature = "maildir")]
            (Scheme::Maildir, Place::Path(path)) => Box::new(mail::sink(address, path)?),
            #[cfg(feature = "pb")]
            (Scheme::PbListen, Place::Named { host, port, name }) => {
                let listener = self.bind(address, host, *port).await?;
                Box::new(pages::sink(listener, name)?)
            }
            (Scheme::TcpListen | Scheme::UnixListen | Scheme::TlsListen, _) => {
                let acceptor = self.listen(address).await?;
                return Ok(Opening::later(
                    async move { Ok(one(acceptor, timeout).await?.sink()) },
                ));
            }
            _ => return Err(not_here(address)),
        };
        Ok(Opening::Open(open))
    }

    /// A listening socket for a protocol that accepts on its own.
    #[cfg(any(feature = "http", feature = "pb"))]
    async fn bind(
        &self,
        address: &Address,
        host: &str,
        port: u16,
    ) -> Result<tokio::net::TcpListener, EndpointError> {
        let listener = tcp::Listener::bind(&join(host, port)).await?;
        (self.announce)(&format!("{}://{}", address.row().name, listener.local_addr()?));
        Ok(listener.into_inner())
    }

    async fn listen(&self, address: &Address) -> Result<Acceptor, EndpointError> {
        let acceptor = Acceptor::bind(address, &self.settings.ends).await?;
        (self.announce)(&acceptor.address());
        Ok(acceptor)
    }
}

/// What the sink is told of the source.
#[derive(Clone, Copy, Default)]
struct End {
    /// Where an earlier copy broke off.
    offset: u64,
    /// How many bytes are to come, where the source knows.
    size: Option<u64>,
}

#[cfg(feature = "tls")]
async fn tls_connect(
    address: &Address,
    host: &str,
    port: u16,
    ends: &EndSettings,
    timeout: Duration,
) -> Result<Tls, EndpointError> {
    let client = tls::client(address, &ends.tls)?.handshake_timeout(timeout);
    let stream = tcp::connect(&join(host, port), timeout).await?;
    client
        .connect(tcp::duplex(stream), address.option("name").unwrap_or(host))
        .await
}

/// One connection; the listener is closed as soon as it has come.
async fn one(acceptor: Acceptor, timeout: Duration) -> Result<Connection, EndpointError> {
    let accepted = acceptor.accept().await?;
    drop(acceptor);
    accepted.ready(timeout).await
}

/// Something that takes connections, of any kind.
pub(crate) struct Acceptor {
    listener: Listener,
}

enum Listener {
    Tcp(tcp::Listener),
    #[cfg(unix)]
    Unix(unix::Listener),
    #[cfg(feature = "tls")]
    Tls(tcp::Listener, TlsServer),
}

impl Acceptor {
    /// Begins to listen.
    pub(crate) async fn bind(address: &Address, ends: &EndSettings) -> Result<Self, EndpointError> {
        #[cfg(not(feature = "tls"))]
        let _ = ends;
        let listener = match (address.scheme, &address.place) {
            (Scheme::TcpListen, Place::HostPort { host, port }) => {
                Listener::Tcp(tcp::Listener::bind(&join(host, *port)).await?)
            }
            #[cfg(unix)]
            (Scheme::UnixListen, Place::Path(path)) => Listener::Unix(unix::Listener::bind(path).await?),
            #[cfg(feature = "tls")]
            (Scheme::TlsListen, Place::HostPort { host, port }) => {
                let server = tls::server(address, &ends.tls)?;
                Listener::Tls(tcp::Listener::bind(&join(host, *port)).await?, server)
            }
            _ => return Err(not_here(address)),
        };
        Ok(Self { listener })
    }

    /// Where it can be reached: with the real port.
    pub(crate) fn address(&self) -> String {
        let at = |scheme: &str, listener: &tcp::Listener| match listener.local_addr() {
            Ok(at) => format!("{scheme}://{at}"),
            Err(_) => scheme.to_owned(),
        };
        match &self.listener {
            Listener::Tcp(listener) => at("tcp-listen", listener),
            #[cfg(feature = "tls")]
            Listener::Tls(listener, _) => at("tls-listen", listener),
            #[cfg(unix)]
            Listener::Unix(listener) => format!("unix-listen:{}", listener.path().display()),
        }
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<Accepted, EndpointError> {
        Ok(match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Accepted {
                    peer: peer.into(),
                    stream: Stream::Tcp(stream, peer),
                }
            }
            #[cfg(unix)]
            Listener::Unix(listener) => Accepted {
                peer: Peer::Other(listener.path().display().to_string().into()),
                stream: Stream::Unix(listener.accept().await?),
            },
            #[cfg(feature = "tls")]
            Listener::Tls(listener, server) => {
                let (stream, peer) = listener.accept().await?;
                Accepted {
                    peer: peer.into(),
                    stream: Stream::Tls(stream, server.clone()),
                }
            }
        })
    }
}

/// Who has come, as lines and snapshots name it. Small: every connection keeps one.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    V4(SocketAddrV4),
    Other(Arc<str>),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(_) => Self::Other(address.to_string().into()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A connection that has come and said nothing yet.
pub(crate) struct Accepted {
    peer: Peer,
    stream: Stream,
}

enum Stream {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Before its handshake.
    #[cfg(feature = "tls")]
    Tls(TcpStream, TlsServer),
}

impl Accepted {
    /// Who it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends it away at once.
    pub(crate) fn refuse(self) {
        let mut end = match self.stream {
            Stream::Tcp(stream, peer) => tcp::duplex_with(stream, peer),
            #[cfg(unix)]
            Stream::Unix(stream) => unix::duplex(stream, Path::new(&self.peer.to_string())),
            #[cfg(feature = "tls")]
            Stream::Tls(stream, _) => tcp::duplex(stream),
        };
        end.sink.abort(&AbortReason::Requested);
    }

    /// Both its ends, after whatever greeting its kind needs.
    pub(crate) async fn greet(self, timeout: Duration) -> Result<Duplex, EndpointError> {
        Ok(match self.ready(timeout).await? {
            Connection::Tcp(stream, peer) => tcp::duplex_with(stream, peer),
            #[cfg(unix)]
            Connection::Unix(stream, path) => unix::duplex(stream, Path::new(&path)),
            #[cfg(feature = "tls")]
            Connection::Tls(session) => session.into_duplex(),
        })
    }

    async fn ready(self, timeout: Duration) -> Result<Connection, EndpointError> {
        Ok(match self.stream {
            Stream::Tcp(stream, peer) => Connection::Tcp(stream, peer),
            #[cfg(unix)]
            Stream::Unix(stream) => Connection::Unix(stream, self.peer.to_string()),
            #[cfg(feature = "tls")]
            Stream::Tls(stream, server) => {
                let server = server.handshake_timeout(timeout);
                // Boxed, so that the tasks of plain connections keep no room for a handshake.
                let shaking = Box::pin(server.accept(tcp::duplex(stream)));
                Connection::Tls(Box::new(shaking.await?))
            }
        })
    }
}

/// A connection over which bytes can go.
enum Connection {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(UnixStream, String),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Connection {
    fn source(self) -> BoxSource {
        match self {
            Self::Tcp(stream, _) => Box::new(tcp::source(stream)),
            #[cfg(unix)]
            Self::Unix(stream, path) => Box::new(unix::source(stream, Path::new(&path))),
            #[cfg(feature = "tls")]
            Self::Tls(session) => Box::new(session.into_source()),
        }
    }

    fn sink(self) -> BoxSink {
        match self {
            Self::Tcp(stream, _) => Box::new(tcp::sink(stream)),
            #[cfg(unix)]
            Self::Unix(stream, path) => Box::new(unix::sink(stream, Path::new(&path))),
            #[cfg(feature = "tls")]
            Self::Tls(session) => Box::new(session.into_sink()),
        }
    }
}

/// The other side of a relay: made anew for each connection.
pub(crate) struct Dialler {
    address: Address,
    timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<tls::Client>,
    /// A listener as the other side: each connection here waits for one there.
    acceptor: Option<Acceptor>,
}

impl Dialler {
    pub(crate) async fn bind(
        address: &Address,
        ends: &EndSettings,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let acceptor = match address.row().listens() {
            true => Some(Acceptor::bind(address, ends).await?),
            false => None,
        };
        Ok(Self {
            address: address.clone(),
            timeout,
            // Certificates are read once, not for each connection.
            #[cfg(feature = "tls")]
            tls: match address.scheme {
                Scheme::Tls => Some(tls::client(address, &ends.tls)?.handshake_timeout(timeout)),
                _ => None,
            },
            acceptor,
        })
    }

    /// Where a listening side can be reached.
    pub(crate) fn listens_at(&self) -> Option<String> {
        self.acceptor.as_ref().map(Acceptor::address)
    }

    /// A new end of the other side.
    pub(crate) async fn dial(&self) -> Result<Duplex, EndpointError> {
        if let Some(acceptor) = &self.acceptor {
            return Box::pin(async { acceptor.accept().await?.greet(self.timeout).await }).await;
        }
        match (self.address.scheme, &self.address.place) {
            (Scheme::Tcp, Place::HostPort { host, port }) => {
                match host.parse::<IpAddr>() {
                    Ok(ip) => {
                        let to = SocketAddr::new(ip, *port);
                        Ok(tcp::duplex_with(tcp::connect_to(to, self.timeout).await?, to))
                    }
                    // Boxed, so that connections to a literal address keep no room for the lookup.
                    Err(_) => Ok(tcp::duplex(
                        Box::pin(tcp::connect(&join(host, *port), self.timeout)).await?,
                    )),
                }
            }
            #[cfg(unix)]
            (Scheme::Unix, Place::Path(path)) => {
                Ok(unix::duplex(unix::connect(path, self.timeout).await?, path))
            }
            #[cfg(feature = "tls")]
            (Scheme::Tls, Place::HostPort { host, port }) => {
                let client = self.tls.as_ref().ok_or_else(|| not_here(&self.address))?;
                let stream = tcp::connect(&join(host, *port), self.timeout).await?;
                let name = self.address.option("name").unwrap_or(host);
                Ok(Box::pin(client.connect(tcp::duplex(stream), name))
                    .await?
                    .into_duplex())
            }
            #[cfg(unix)]
            (Scheme::Stdio, _) => standard_io(),
            #[cfg(unix)]
            (Scheme::Fd, Place::Number(number)) => Descriptor::adopt(*number)?.into_duplex(),
            #[cfg(unix)]
            (Scheme::Exec | Scheme::Shell, place) => process(place, &self.address)?.into_duplex(),
            _ => Err(not_here(&self.address)),
        }
    }
}

/// A sink that can be made ready before the first byte is sure to come, without anybody noticing.
fn is_passive(sink: &Address) -> bool {
    matches!(
        sink.scheme,
        Scheme::Stdio | Scheme::File | Scheme::Fd | Scheme::Pipe
    ) || sink.row().listens()
}

#[cfg(unix)]
fn process(place: &Place, address: &Address) -> Result<Process, EndpointError> {
    match place {
        Place::Command(words) => match words.split_first() {
            Some((program, args)) => Ok(Process::exec(program, args)),
            None => Err(not_here(address)),
        },
        Place::Line(line) => Ok(Process::shell(line)),
        _ => Err(not_here(address)),
    }
}

/// Reading a file into itself has no end, or none that is wanted.
#[cfg(unix)]
fn refuse_same_file(source: &Address, sink: &Address) -> Result<(), EndpointError> {
    let (Some(from), Some(to)) = (identity(source, STDIN), identity(sink, STDOUT)) else {
        return Ok(());
    };
    if from != to {
        return Ok(());
    }
    Err(EndpointError::new(
        ErrorKind::Exists,
        Blame::Caller,
        "source and sink are the same file",
    ))
}

/// Device and inode of a regular file behind an address.
#[cfg(unix)]
fn identity(address: &Address, dash: &str) -> Option<(u64, u64)> {
    use rustix::fs::{FileType, fstat, stat};
    let found = match (&address.place, address.scheme) {
        (Place::Path(path), Scheme::File) => stat(path),
        (_, Scheme::Stdio) if dash == STDIN => fstat(std::io::stdin()),
        (_, Scheme::Stdio) => fstat(std::io::stdout()),
        _ => return None,
    };
    let found = found.ok()?;
    (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then_some((found.st_dev, found.st_ino))
}

#[cfg(not(unix))]
fn refuse_same_file(source: &Address, sink: &Address) -> Result<(), EndpointError> {
    let (Place::Path(from), Place::Path(to)) = (&source.place, &sink.place) else {
        return Ok(());
    };
    match (std::fs::canonicalize(from), std::fs::canonicalize(to)) {
        (Ok(from), Ok(to)) if from == to => Err(EndpointError::new(
            ErrorKind::Exists,
            Blame::Caller,
            "source and sink are the same file",
        )),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use rustix::fs::{FileType, stat};
    stat(path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// `host:port` as the resolver takes it.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn not_here(address: &Address) -> EndpointError {
    let what = format!(
        "`{}:` addresses cannot be opened here by this build",
        address.row().name
    );
    EndpointError::new(ErrorKind::Open, Blame::Caller, what)
}
