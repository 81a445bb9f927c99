//! Connects a client: straight, through a proxy, with or without TLS; each connection under a guard.
//!
//! Knows nothing of requests; the pool above is hyper-util's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tidegate_io::endpoint::{tcp, tls};
use tidegate_io::{Blame, EndpointError, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};

use crate::io_guard::{Guarded, KillSwitch};
use crate::wire::{Lookout, TcpWire};

/// The most of a proxy's answer to CONNECT that is read. 16 KiB, twice what common proxies send.
const PROXY_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Makes connections for the pool.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) proxies: Arc<Matcher>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What the pool holds.
pub(crate) struct Wired {
    io: TokioIo<Box<dyn Stream>>,
    about: About,
    route: Route,
    version: Spoken,
}

/// What is to be known of the connection under a request; travels as an extension.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) switch: Arc<KillSwitch>,
    pub(crate) lookout: Lookout,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Route {
    /// To the server, or through a tunnel.
    Straight,
    /// To a proxy that reads our requests.
    Proxied,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Spoken {
    One,
    Two,
}

impl Connector {
    async fn connect(self, to: Uri) -> Result<Wired, EndpointError> {
        let secure = to.scheme_str() == Some("https");
        let host = to.host().unwrap_or_default().to_owned();
        let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let proxy = self.proxies.intercept(&to);
        let switch = Arc::new(KillSwitch::default());
        let stream = match &proxy {
            None => tcp::connect(&format!("{host}:{port}"), self.connect_timeout).await?,
            Some(proxy) => {
                self.connect_proxy(proxy, secure.then(|| format!("{host}:{port}")))
                    .await?
            }
        };
        let wire = TcpWire::from(stream);
        let about = About {
            switch: Arc::clone(&switch),
            lookout: wire.lookout(),
        };
        let guarded = Guarded::new(wire, switch, self.stall_timeout);
        if !secure {
            let route = if proxy.is_some() {
                Route::Proxied
            } else {
                Route::Straight
            };
            return Ok(Wired {
                io: TokioIo::new(Box::new(guarded)),
                about,
                route,
                version: Spoken::One,
            });
        }
        let (stream, version) = self.start_tls(guarded, &host).await?;
        Ok(Wired {
            io: TokioIo::new(stream),
            about,
            route: Route::Straight,
            version,
        })
    }

    async fn connect_proxy(
        &self,
        proxy: &Intercept,
        tunnel_to: Option<String>,
    ) -> Result<TcpStream, EndpointError> {
        let uri = proxy.uri();
        if uri.scheme_str() != Some("http") {
            let what = format!(
                "a proxy of the kind {} is not spoken",
                uri.scheme_str().unwrap_or("?")
            );
            return Err(EndpointError::new(ErrorKind::Open, Blame::Caller, what));
        }
        let address = format!(
            "{}:{}",
            uri.host().unwrap_or_default(),
            uri.port_u16().unwrap_or(80)
        );
        let mut stream = tcp::connect(&address, self.connect_timeout).await?;
        if let Some(target) = tunnel_to {
            let open = open_tunnel(&mut stream, &target, proxy.basic_auth());
            let opened = tokio::time::timeout(self.connect_timeout, open).await;
            opened
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the proxy did not answer in time"))
                .and_then(|opened| opened)
                .map_err(|error| {
                    EndpointError::open(format!("the proxy {address} opens no tunnel to {target}"), error)
                })?;
        }
        Ok(stream)
    }

    async fn start_tls(
        &self,
        guarded: Guarded<TcpWire>,
        host: &str,
    ) -> Result<(Box<dyn Stream>, Spoken), EndpointError> {
        let what = format!("no TLS with {host}");
        let Some(config) = &self.tls else {
            return Err(EndpointError::new(
                ErrorKind::Open,
                Blame::Caller,
                format!("{what}: it is not set up"),
            ));
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| {
            EndpointError::new(ErrorKind::Open, Blame::Caller, what.clone()).caused_by(error)
        })?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, guarded);
        let mut stream = tokio::time::timeout(self.connect_timeout, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))
            .and_then(|shaken| shaken)
            .map_err(|error| tls::handshake_failed(host, error))?;
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(16 * 1024));
        let version = if session.alpn_protocol() == Some(b"h2") {
            Spoken::Two
        } else {
            Spoken::One
        };
        Ok((Box::new(stream), version))
    }
}

/// Asks a proxy for a tunnel. (RFC 9110, section 9.3.6.)
async fn open_tunnel(stream: &mut TcpStream, target: &str, auth: Option<&HeaderValue>) -> io::Result<()> {
    let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(auth) = auth {
        ask.extend_from_slice(b"Proxy-Authorization: ");
        ask.extend_from_slice(auth.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    stream.write_all(&ask).await?;
    // Byte by byte would be safe too; a server behind the tunnel does not speak before we do.
    let mut answer = Vec::with_capacity(512);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if answer.len() > PROXY_ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its answer has no end",
            ));
        }
    }
    let status = answer.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    if status.first() == Some(&b'2') {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("it answered {}", String::from_utf8_lossy(status)),
    ))
}

impl tower_service::Service<Uri> for Connector {
    type Response = Wired;
    type Error = EndpointError;
    type Future = Pin<Box<dyn Future<Output = Result<Wired, EndpointError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

impl Connection for Wired {
    fn connected(&self) -> Connected {
        let connected = Connected::new()
            .proxy(self.route == Route::Proxied)
            .extra(self.about.clone());
        if self.version == Spoken::Two {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl hyper::rt::Read for Wired {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Wired {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }
}
