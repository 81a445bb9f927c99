//! From an address to an open source, sink or both.
//!
//! Knows which file opens a kind of endpoint, and in which order two ends are opened: what a source needs comes first,
//! so that a sink is not touched for a source that is not there.

mod accept;
mod dial;
mod hints;
mod local;
#[cfg(feature = "maildir")]
pub(crate) mod mail;
#[cfg(feature = "pb")]
mod pages;
#[cfg(feature = "ftp")]
pub(crate) mod remote_file;
#[cfg(feature = "ftp")]
mod resumed;
mod same;
#[cfg_attr(windows, path = "open/system_windows.rs")]
mod system;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "http")]
pub(crate) mod web;

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

#[cfg(any(feature = "http", feature = "pb"))]
use tidegate_io::endpoint::tcp;
use tidegate_io::{Blame, EndpointError, ErrorKind, Side, Sink, Source};

pub(crate) use self::accept::{Accepted, Acceptor, Peer};
pub(crate) use self::dial::Dialler;
use crate::address::{Address, Place, Scheme};
use crate::report::{Failure, Stdout};
use crate::settings::CopySettings;

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

/// Where a copy begins.
#[derive(Clone, Copy, Default)]
struct Start {
    offset: u64,
    /// When the part before was written, as far as it is in a file here.
    written: Option<SystemTime>,
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
        let at_source = |error: EndpointError| hints::failure(Side::Source, source, &error);
        let at_sink = |error: EndpointError| hints::failure(Side::Sink, sink, &error);
        let start = self.start(source, sink).await?;
        let offset = start.offset;
        match self.source(source, start).await.map_err(at_source)? {
            Opening::Open(opened) => {
                same::refuse_same_file(source, sink).map_err(at_sink)?;
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
    async fn start(&self, source: &Address, sink: &Address) -> Result<Start, Failure> {
        if !self.settings.resume {
            return Ok(Start::default());
        }
        match (sink.scheme, &sink.place) {
            (Scheme::File, Place::Path(path)) => {
                let start = match tokio::fs::metadata(path).await {
                    Ok(found) if found.is_file() => Start {
                        offset: found.len(),
                        written: found.modified().ok(),
                    },
                    _ => Start::default(),
                };
                #[cfg(feature = "ftp")]
                resumed::download(source, path, start.offset, self.settings)
                    .await
                    .map_err(|error| hints::failure(Side::Source, source, &error))?;
                Ok(start)
            }
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => resumed::upload(source, url, self.settings)
                .await
                .map(|offset| Start {
                    offset,
                    written: None,
                })
                .map_err(|error| hints::failure(Side::Sink, sink, &error)),
            _ => Ok(Start::default()),
        }
    }

    async fn source<'a>(
        &'a self,
        address: &'a Address,
        start: Start,
    ) -> Result<Opening<'a, BoxSource>, EndpointError> {
        let timeout = self.settings.flow.connect_timeout;
        let open = match address.scheme {
            Scheme::TcpListen | Scheme::UnixListen | Scheme::TlsListen | Scheme::NamedPipeListen => {
                let acceptor = self.listen(address).await?;
                return Ok(Opening::later(async move {
                    Ok(accept::one(acceptor, timeout).await?.source())
                }));
            }
            Scheme::Tcp | Scheme::Unix | Scheme::Tls | Scheme::NamedPipe => {
                dial::source(address, &self.settings.ends, timeout).await?
            }
            Scheme::Stdio | Scheme::File | Scheme::Pipe | Scheme::Fd | Scheme::Exec | Scheme::Shell => {
                local::source(address, start.offset).await?
            }
            _ => self.protocol_source(address, start).await?,
        };
        Ok(Opening::Open(open))
    }

    async fn protocol_source(&self, address: &Address, start: Start) -> Result<BoxSource, EndpointError> {
        match (address.scheme, &address.place) {
            #[cfg(feature = "http")]
            (Scheme::Http | Scheme::Https, Place::Url(url)) => Ok(Box::new(
                web::source(url, start.offset, start.written, self.settings).await?,
            )),
            #[cfg(feature = "http")]
            (Scheme::HttpListen, Place::HostPort { host, port }) => {
                let listener = self.bind(address, host, *port).await?;
                Ok(Box::new(web::listen_source(listener, self.settings)))
            }
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => Ok(Box::new(
                remote_file::source(url, start.offset, self.settings).await?,
            )),
            #[cfg(feature = "pb")]
            (Scheme::Pb, Place::Named { host, port, name }) => Ok(Box::new(pages::source(host, *port, name))),
            _ => Err(not_here(address)),
        }
    }

    async fn sink<'a>(
        &'a self,
        address: &'a Address,
        end: End,
    ) -> Result<Opening<'a, BoxSink>, EndpointError> {
        let timeout = self.settings.flow.connect_timeout;
        let open = match address.scheme {
            Scheme::TcpListen | Scheme::UnixListen | Scheme::TlsListen | Scheme::NamedPipeListen => {
                let acceptor = self.listen(address).await?;
                return Ok(Opening::later(async move {
                    Ok(accept::one(acceptor, timeout).await?.sink())
                }));
            }
            Scheme::Tcp | Scheme::Unix | Scheme::Tls | Scheme::NamedPipe => {
                dial::sink(address, &self.settings.ends, timeout).await?
            }
            Scheme::Stdio | Scheme::File | Scheme::Pipe | Scheme::Fd | Scheme::Exec | Scheme::Shell => {
                return local::sink(address, self.settings).await;
            }
            _ => self.protocol_sink(address, end).await?,
        };
        Ok(Opening::Open(open))
    }

    async fn protocol_sink(&self, address: &Address, end: End) -> Result<BoxSink, EndpointError> {
        match (address.scheme, &address.place) {
            #[cfg(feature = "http")]
            (Scheme::Http | Scheme::Https, Place::Url(url)) => {
                Ok(Box::new(web::sink(url, end.size, self.settings)?))
            }
            #[cfg(feature = "http")]
            (Scheme::HttpListen, Place::HostPort { host, port }) => {
                let listener = self.bind(address, host, *port).await?;
                Ok(Box::new(web::listen_sink(listener, end.size, self.settings)))
            }
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => {
                Ok(Box::new(remote_file::sink(url, end.offset, self.settings).await?))
            }
            #[cfg(feature = "maildir")]
            (Scheme::Maildir, Place::Path(path)) => Ok(Box::new(mail::sink(address, path)?)),
            #[cfg(feature = "pb")]
            (Scheme::PbListen, Place::Named { host, port, name }) => {
                let listener = self.bind(address, host, *port).await?;
                Ok(Box::new(pages::sink(listener, name)?))
            }
            _ => Err(not_here(address)),
        }
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

/// A sink that can be made ready before the first byte is sure to come, without anybody noticing.
fn is_passive(sink: &Address) -> bool {
    matches!(
        sink.scheme,
        Scheme::Stdio | Scheme::File | Scheme::Fd | Scheme::Pipe
    ) || sink.row().listens()
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
