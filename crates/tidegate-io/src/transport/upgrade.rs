//! From plain to TLS in mid-stream: what was written before goes out plain, what is written after goes out in records.
//!
//! Knows nothing of the producer: it stands at the gate above, which is not touched.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tidegate::AbortReason;
use tokio::sync::oneshot;

use super::{Connection, Running};
use crate::endpoint::tls::{Client, Server, Tls};
use crate::{Blame, Confirmation, Duplex, EndpointError, ErrorKind, Held, Sink};

/// Which side of a handshake we are.
#[derive(Clone)]
pub enum HandshakeSide {
    /// We connect, and the peer must prove to be this host.
    Client(Client, String),
    /// We accept.
    Server(Server),
}

type Answer = oneshot::Sender<Result<(), EndpointError>>;

/// Asked for and not begun.
pub(super) struct Request {
    side: HandshakeSide,
    answer: Answer,
}

pub(super) enum Upgrade {
    /// The last plain bytes go out; nothing is read.
    Draining(Request),
    /// Whoever shakes hands has both halves.
    Shaking {
        work: Pin<Box<dyn Future<Output = Result<Tls, EndpointError>> + Send>>,
        answer: Answer,
    },
}

impl Connection {
    /// Goes over to TLS: what was written until now is sent plain, then hands are shaken, and from then on everything is
    /// in TLS. Writes, a registered producer and its pause stand as they are; nothing is read plain any more.
    /// (Twisted: `startTLS`.)
    ///
    /// # Errors
    /// What was wrong with the handshake; the connection is cut then. `ErrorKind::Failed` when an upgrade is under way
    /// already, or the connection was lost before.
    ///
    /// # Cancel safety
    /// The upgrade goes on when the future is dropped.
    pub fn start_tls(
        &self,
        side: HandshakeSide,
    ) -> impl Future<Output = Result<(), EndpointError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let request = Request { side, answer };
        let refused = self.change(|shared| match shared.upgrade {
            Some(_) => Some(request),
            None if self.barrier.load(Ordering::Acquire) != u64::MAX => Some(request),
            None => {
                let plain_bytes = self.written.load(Ordering::Acquire);
                self.barrier.store(plain_bytes, Ordering::Release);
                shared.upgrade = Some(request);
                None
            }
        });
        drop(refused);
        async move {
            answered.await.unwrap_or_else(|_| {
                Err(EndpointError::new(
                    ErrorKind::Failed,
                    Blame::Caller,
                    "TLS was not begun: another handshake is under way, or the connection was lost",
                ))
            })
        }
    }
}

impl Running {
    /// Says whether anything happened.
    pub(super) fn poll_upgrade(&mut self, cx: &mut Context<'_>) -> bool {
        match self.upgrade.take() {
            None => {
                let Some(request) = self.connection.lock().upgrade.take() else {
                    return false;
                };
                self.upgrade = Some(Upgrade::Draining(request));
                true
            }
            Some(Upgrade::Draining(request)) => match self.driver.poll_barrier(cx) {
                Poll::Pending => {
                    self.upgrade = Some(Upgrade::Draining(request));
                    false
                }
                Poll::Ready(Err(error)) => {
                    let _ = request.answer.send(Err(error.clone()));
                    self.fail(error);
                    true
                }
                Poll::Ready(Ok(())) => {
                    self.begin(request);
                    true
                }
            },
            Some(Upgrade::Shaking { mut work, answer }) => match work.as_mut().poll(cx) {
                Poll::Pending => {
                    self.upgrade = Some(Upgrade::Shaking { work, answer });
                    false
                }
                Poll::Ready(result) => {
                    self.shaken(result, answer);
                    true
                }
            },
        }
    }

    fn begin(&mut self, request: Request) {
        let Some(source) = self.source.take() else { return };
        let sink = std::mem::replace(self.driver.sink_mut(), Box::new(Nowhere));
        let plain = Duplex { source, sink };
        let work: Pin<Box<dyn Future<Output = _> + Send>> = match request.side {
            HandshakeSide::Client(client, host) => {
                Box::pin(async move { client.connect(plain, &host).await })
            }
            HandshakeSide::Server(server) => Box::pin(async move { server.accept(plain).await }),
        };
        self.upgrade = Some(Upgrade::Shaking {
            work,
            answer: request.answer,
        });
    }

    fn shaken(&mut self, result: Result<Tls, EndpointError>, answer: Answer) {
        match result {
            Ok(tls) => {
                let both = tls.into_duplex();
                self.source = Some(both.source);
                *self.driver.sink_mut() = both.sink;
                self.connection.barrier.store(u64::MAX, Ordering::Release);
                let _ = answer.send(Ok(()));
            }
            Err(error) => {
                let _ = answer.send(Err(error.clone()));
                self.fail(error);
            }
        }
    }
}

/// In the place of a sink that a handshake has.
struct Nowhere;

impl Sink for Nowhere {
    fn poll_write(&mut self, _cx: &mut Context<'_>, _held: &Held) -> Poll<Result<usize, EndpointError>> {
        Poll::Pending
    }
    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        Poll::Pending
    }
    fn abort(&mut self, _reason: &AbortReason) {}
    fn name(&self) -> String {
        "a handshake".into()
    }
}
