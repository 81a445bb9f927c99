//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them, within limits, until it is asked to drain.
//!
//! Knows nothing of what is served: a [`Handler`] answers. The grammar on the wire is hyper's.

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_io::EndpointError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::alarm::Alarm;
use crate::breaker::{Breaker, StreamExecutor};
use crate::crew::{Crew, Given};
use crate::drain::{Moved, finish_all};
use crate::exchange::{Handler, Line, Peer, Streams};
use crate::io_guard::{Guarded, KillSwitch};
use crate::limits::Limits;
use crate::listener::{Connection, Listener, rest_after};
use crate::local;
use crate::opening::{Opening, read_opening};
use crate::service::Service;
use crate::wire::{TcpWire, Watch, Wire};

/// A server that is bound and not yet running.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    limits: Limits,
    tls: Option<Arc<rustls::ServerConfig>>,
    threads: Option<NonZeroUsize>,
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Served {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Connections that had to be ended when nothing had moved for the drain's deadline.
    pub cut: usize,
}

impl Server {
    /// Listens on an Internet address, `host:port`.
    ///
    /// # Errors
    /// The address cannot be resolved or bound.
    pub async fn bind(address: &str) -> Result<Self, EndpointError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| EndpointError::open(format!("cannot listen on {address}"), error))?;
        Ok(Self::new(Listener::Tcp(listener)))
    }

    /// Serves on a listener that is there already.
    pub fn from_tcp(listener: TcpListener) -> Self {
        Self::new(Listener::Tcp(listener))
    }

    pub(crate) fn new(listener: Listener) -> Self {
        Self {
            listener,
            limits: Limits::default(),
            tls: None,
            threads: None,
        }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves on threads of its own, each with its own loop, and each connection on one of them: no work is handed from
    /// thread to thread, which for small answers costs more than the work. Without this, on the runtime that runs it.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    pub(crate) fn drain_for(mut self, limit: Duration) -> Self {
        self.limits.drain_timeout = limit;
        self
    }

    /// TLS, with HTTP/2 and HTTP/1.1 offered by ALPN.
    #[must_use]
    pub fn tls(mut self, mut config: rustls::ServerConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.tls = Some(Arc::new(config));
        self
    }

    /// Where it listens; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Local(_) => None,
        }
    }

    /// Serves until `shutdown`, then lets requests under way end, up to the drain deadline. Dropping the future ends
    /// everything at once.
    pub async fn run<H: Handler>(self, handler: Arc<H>, shutdown: impl Future<Output = ()>) -> Served {
        let (drain, drained) = watch::channel(());
        let house = Arc::new(House {
            handler,
            limits: self.limits,
            tls: self.tls.map(TlsAcceptor::from),
            requests: AtomicU64::new(0),
        });
        let mut crew = Crew::hire(self.threads, |given| {
            Arc::clone(&house).work(given, drained.clone())
        });
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let mut shutdown = pin!(shutdown);
        let mut connections = 0;
        loop {
            // A place first: connections beyond the limit wait in the kernel's backlog.
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (self.listener.accept(&self.limits).await, place)
            };
            let (accepted, place) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok(connection) => {
                    connections += 1;
                    crew.give(connection, place.ok());
                }
                Err(error) => rest_after(&error).await,
            }
        }
        drop(self.listener);
        let _ = drain.send(());
        let cut = crew.dismiss().await;
        Served {
            connections,
            requests: house.requests.load(Ordering::Relaxed),
            cut,
        }
    }
}

/// What all connections of a server share.
pub(crate) struct House<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) limits: Limits,
    tls: Option<TlsAcceptor>,
    pub(crate) requests: AtomicU64,
}

impl<H: Handler> House<H> {
    /// Serves what it is given until there is no more, then lets it end.
    async fn work(
        self: Arc<Self>,
        mut from: mpsc::UnboundedReceiver<Given>,
        drained: watch::Receiver<()>,
    ) -> usize {
        let mut tasks = JoinSet::new();
        let moved = Moved::default();
        loop {
            let given = tokio::select! {
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                given = from.recv() => given,
            };
            let Some(given) = given else { break };
            tasks.spawn(Arc::clone(&self).serve(given, moved.clone(), drained.clone()));
        }
        finish_all(tasks, self.limits.drain_timeout, &moved).await
    }

    async fn serve(self: Arc<Self>, given: Given, moved: Moved, drained: watch::Receiver<()>) {
        let Given {
            connection,
            held: _held,
        } = given;
        let unusable = match connection {
            Connection::Tcp(stream, address) => match TcpStream::from_std(stream) {
                Ok(stream) => {
                    return self
                        .serve_wire(TcpWire::from(stream), Peer::Tcp(address), (moved, drained))
                        .await;
                }
                Err(error) => error,
            },
            Connection::Local(stream) => match local::wire(stream) {
                Ok(wire) => return self.serve_wire(wire, Peer::Local, (moved, drained)).await,
                Err(error) => error,
            },
        };
        tracing::warn!(error = %unusable, "cannot serve a connection");
    }

    async fn serve_wire<W: Wire>(
        self: Arc<Self>,
        wire: W,
        peer: Peer,
        (moved, drained): (Moved, watch::Receiver<()>),
    ) {
        let switch = Arc::new(KillSwitch::default());
        let mut guarded = Guarded::new(wire, Arc::clone(&switch), self.limits.stall_timeout);
        let watch = guarded.watch();
        let served = match self.tls.clone() {
            Some(tls) => {
                let handshake = tokio::time::timeout(self.limits.handshake_timeout, tls.accept(guarded));
                let Ok(Ok(mut stream)) = handshake.await else {
                    tracing::debug!(%peer, "the TLS handshake failed or took too long");
                    return;
                };
                let (guarded, session) = stream.get_mut();
                session.set_buffer_limit(Some(16 * 1024));
                if session.alpn_protocol() == Some(b"h2") {
                    self.serve_h2(stream, peer, moved, drained).await
                } else {
                    guarded.count_by(moved);
                    self.serve_h1(stream, peer, (switch, watch), drained).await
                }
            }
            None => {
                let mut drain = drained.clone();
                let opening = tokio::select! {
                    biased;
                    opening = read_opening(&mut guarded, self.limits.header_timeout) => opening,
                    _ = drain.changed() => return,
                };
                match opening {
                    Some(Opening::Two(ahead)) => {
                        guarded.give_back(ahead);
                        self.serve_h2(guarded, peer, moved, drained).await
                    }
                    Some(Opening::One(ahead)) => {
                        guarded.give_back(ahead);
                        guarded.count_by(moved);
                        self.serve_h1(guarded, peer, (switch, watch), drained).await
                    }
                    None => return,
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "the connection ended early");
        }
    }

    async fn serve_h1<I>(
        self: Arc<Self>,
        io: I,
        peer: Peer,
        (switch, mut watch): (Arc<KillSwitch>, Watch),
        mut drained: watch::Receiver<()>,
    ) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.limits;
        let hangup = Arc::clone(&switch.hangup);
        let service = Service {
            house: self,
            peer,
            line: Line::One(switch),
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(Alarm::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.headers_max)
            .max_header_size(limits.header_bytes_max)
            .max_buf_size(limits.wire_bytes_max)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        // Polled after the connection: what a request has just asked for is watched from then on.
        let mut reset = pin!(poll_fn(|cx| match hangup.is_wanted() {
            true => watch.as_mut().poll(cx),
            false => Poll::Pending,
        }));
        let (mut serving, mut whole) = (true, true);
        loop {
            tokio::select! {
                biased;
                served = connection.as_mut() => return served,
                _ = drained.changed(), if serving => {
                    serving = false;
                    connection.as_mut().graceful_shutdown();
                }
                () = reset.as_mut(), if whole => {
                    whole = false;
                    hangup.tell();
                }
            }
        }
    }

    async fn serve_h2<I>(
        self: Arc<Self>,
        io: I,
        peer: Peer,
        moved: Moved,
        mut drained: watch::Receiver<()>,
    ) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = self.limits;
        let streams = Arc::new(Streams::counted_by(moved));
        let service = Service {
            house: self,
            peer,
            line: Line::Two(Arc::clone(&streams), Breaker::Body),
        };
        let connection = hyper::server::conn::http2::Builder::new(StreamExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_send_buf_size(limits.stream_bytes_max)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.stall_timeout)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut look = tokio::time::interval(limits.stall_timeout / 4);
        loop {
            tokio::select! {
                biased;
                served = connection.as_mut() => return served,
                _ = drained.changed() => break,
                _ = look.tick() => { streams.reset_stalled(limits.stall_timeout); }
            }
        }
        connection.as_mut().graceful_shutdown();
        loop {
            tokio::select! {
                biased;
                served = connection.as_mut() => return served,
                _ = look.tick() => { streams.reset_stalled(limits.stall_timeout); }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::Pin;

    use bytes::Bytes;
    use http_body::Body as _;
    use hyper_util::rt::TokioExecutor;
    use tidegate::Consumer;
    use tokio::io::DuplexStream;
    use tokio::sync::Notify;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::body::Body;
    use crate::exchange::{Answer, Request};

    const BETWEEN_PIECES: Duration = Duration::from_secs(20);

    /// Answers with so many pieces, and never ends. Without any, never answers.
    struct Stuck {
        asked: Notify,
        pieces: u32,
    }

    impl Handler for Stuck {
        async fn answer(&self, request: Request) -> Answer {
            self.asked.notify_one();
            if self.pieces == 0 {
                return std::future::pending().await;
            }
            let (body, answer) = request.responder.stream(http::Response::new(()), None);
            let pieces = self.pieces;
            tokio::spawn(async move {
                for _ in 0..pieces {
                    sleep(BETWEEN_PIECES).await;
                    let _ = body.write(Bytes::from_static(b"piece")).unwrap();
                }
                std::future::pending::<()>().await;
            });
            answer
        }
    }

    async fn get(wire: DuplexStream) {
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://t/").body(Body::empty()).unwrap();
        let mut body = client.send_request(request).await.unwrap().into_body();
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
    }

    /// Drains while an HTTP/2 request is under way, which is cut in the end; says after how long.
    async fn cut_after(pieces: u32) -> Duration {
        let (drain, drained) = watch::channel(());
        let asked = Notify::new();
        let house = Arc::new(House {
            handler: Arc::new(Stuck { asked, pieces }),
            limits: Limits::default(),
            tls: None,
            requests: AtomicU64::new(0),
        });
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut tasks, moved) = (JoinSet::new(), Moved::default());
        tasks.spawn(Arc::clone(&house).serve_wire(near, Peer::Local, (moved.clone(), drained)));
        let client = tokio::spawn(get(far));
        house.handler.asked.notified().await;
        drain.send(()).unwrap();
        let (start, limit) = (Instant::now(), house.limits.drain_timeout);
        let end = tokio::time::timeout(limit * 100, finish_all(tasks, limit, &moved));
        assert_eq!(end.await.unwrap(), 1, "the connection was cut");
        client.abort();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn pings_keep_no_drain_waiting_and_pieces_of_a_body_do() {
        let limit = Limits::default().drain_timeout;
        let silent = cut_after(0).await;
        assert!(silent >= limit && silent <= limit * 2, "{silent:?}");
        let slow = cut_after(5).await;
        let all = BETWEEN_PIECES * 5;
        assert!(slow >= all + limit && slow <= all + limit * 2, "{slow:?}");
    }
}
