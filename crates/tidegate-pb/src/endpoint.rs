//! Pages as endpoints of a flow: a source that fetches them, a sink that serves them to one client.
//!
//! Knows how the two ends of the program meet (`getAllPages(root, NAME)`, without login); the rest is the broker's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tidegate::{
    AbortReason, Consumer as _, FinishableConsumer as _, Marks, Producer, PushProducer, Ready, Receiver,
    Sender, StopReason, channel,
};
use tidegate_io::{Blame, Buffers, Confirmation, EndpointError, ErrorKind, Held, Sink, Source};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::broker::{Broker, Call, Referenceable};
use crate::collector::{collect_into, error_of};
use crate::jelly::Value;
use crate::pager::{PAGE_BYTES, Paging, PagingEnd, page_from};
use crate::{Options, PbError, RemoteError, client, server};

/// How many clients may be connected and not have asked for the pages.
const CLIENTS_MAX: usize = 16;

/// Fetches `getAllPages(root, name)` from a Perspective Broker server. Connects at the first read.
///
/// The end is clean only after the peer's end notice; pages that stop without one are an error of kind *truncated*.
/// Must be polled within a tokio runtime.
pub fn fetch(host: impl Into<String>, port: u16, name: impl Into<String>) -> FetchSource {
    FetchSource {
        host: host.into(),
        port,
        object: name.into(),
        state: Fetch::Fresh,
    }
}

/// A source of pages. Made by [`fetch`].
pub struct FetchSource {
    host: String,
    port: u16,
    object: String,
    state: Fetch,
}

enum Fetch {
    Fresh,
    Reading {
        receiver: Receiver,
        session: JoinHandle<Result<(), EndpointError>>,
    },
    /// The pages are at their end one way or the other; the session says which.
    Ending(JoinHandle<Result<(), EndpointError>>),
    Ended,
    Failed(EndpointError),
}

impl Source for FetchSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        loop {
            match &mut self.state {
                Fetch::Fresh => {
                    let (sender, receiver) = channel(Marks::default());
                    let (host, port, name) = (self.host.clone(), self.port, self.object.clone());
                    let session = tokio::spawn(fetch_session(host, port, name, sender));
                    self.state = Fetch::Reading { receiver, session };
                }
                Fetch::Reading { receiver, .. } => {
                    if let Ok(Ready::Bytes) = ready!(receiver.poll_ready(cx)) {
                        let first = receiver.pieces().next().cloned().unwrap_or_default();
                        let piece = first.slice(..first.len().min(max));
                        receiver.advance(piece.len());
                        return Poll::Ready(Ok(Some(piece)));
                    }
                    if let Fetch::Reading { receiver, session } =
                        std::mem::replace(&mut self.state, Fetch::Ended)
                    {
                        receiver.complete();
                        self.state = Fetch::Ending(session);
                    }
                }
                Fetch::Ending(session) => {
                    let ended = ready!(Pin::new(session).poll(cx)).unwrap_or_else(|_| Err(interrupted()));
                    self.state = match ended {
                        Ok(()) => Fetch::Ended,
                        Err(error) => Fetch::Failed(error),
                    };
                }
                Fetch::Ended => return Poll::Ready(Ok(None)),
                Fetch::Failed(error) => return Poll::Ready(Err(error.clone())),
            }
        }
    }

    /// The connection may break while what came is not read. The pages are then not whole, whatever of them is here.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Fetch::Reading { session, .. } = &mut self.state else {
            return Poll::Pending;
        };
        let ended = ready!(Pin::new(session).poll(cx)).unwrap_or_else(|_| Err(interrupted()));
        // A session ends well only when its pages were read to their end.
        let error = ended.err().unwrap_or_else(interrupted);
        self.state = Fetch::Failed(error.clone());
        Poll::Ready(error)
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Fetch::Reading { .. } = self.state
            && let Fetch::Reading { receiver, session } = std::mem::replace(&mut self.state, Fetch::Ended)
        {
            // The collector hears it and cuts the connection.
            receiver.close(StopReason::Dropped);
            self.state = Fetch::Ending(session);
        }
        if let Fetch::Ending(session) = &mut self.state {
            let _ = ready!(Pin::new(session).poll(cx));
            self.state = Fetch::Ended;
        }
        Poll::Ready(())
    }

    fn name(&self) -> String {
        format!("pb://{}:{}/{}", self.host, self.port, self.object)
    }
}

/// One connection from the call to the end of the pages. It runs on when the source is dropped, until the dropped
/// receiver has stopped the collector.
async fn fetch_session(
    host: String,
    port: u16,
    name: String,
    sender: tidegate::Sender,
) -> Result<(), EndpointError> {
    let outcome = sender.outcome();
    let stream = TcpStream::connect((&host[..], port))
        .await
        .map_err(|error| EndpointError::open(format!("cannot connect to {host}:{port}"), error))?;
    let (broker, driver) = client(stream, Options::default());
    let collector = collect_into(&broker, Arc::new(sender))?;
    let root = broker.root();
    let conversation = async {
        root.call(&name, vec![collector]).await?;
        // The pages come whenever they come; the outcome is decided when the last was taken, or by the first fault.
        outcome.await.map(|_| ()).map_err(|reason| match reason {
            StopReason::Aborted(reason) => error_of(reason),
            other => PbError::Aborted(AbortReason::Stopped(Arc::new(other))),
        })
    };
    let (ended, _) = tokio::join!(
        async {
            let ended = conversation.await;
            match &ended {
                Ok(()) => broker.close(),
                Err(error) => broker.abort(AbortReason::Failed(error.clone().into_cause())),
            }
            ended
        },
        driver
    );
    ended.map_err(EndpointError::from)
}

/// Listens on `address` and serves what the sink is given to the first client that calls `name` on the root with a
/// page collector: to Twisted, `getAllPages(root, name)`. No login.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(
    address: impl tokio::net::ToSocketAddrs,
    name: impl Into<String>,
) -> io::Result<ServeSink> {
    let listener = TcpListener::bind(address).await?;
    serve(listener, name)
}

/// As [`listen`], on a listener that is there already. Must be called within a tokio runtime.
///
/// # Errors
/// The listener has no address.
pub fn serve(listener: TcpListener, name: impl Into<String>) -> io::Result<ServeSink> {
    let object = name.into();
    let address = listener.local_addr()?;
    let (sender, receiver) = channel(Marks::default());
    let valve = Arc::new(Valve::default());
    let producer = Producer::Push(Arc::clone(&valve) as Arc<dyn PushProducer>);
    if sender.register_producer(producer).is_err() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let (asked, asks) = mpsc::unbounded_channel();
    let root = Arc::new(Root {
        name: object.clone(),
        pages: Mutex::new(Some(receiver)),
        asked,
    });
    let (report, session_end) = oneshot::channel();
    let session = tokio::spawn(serve_session(listener, root, asks, report));
    Ok(ServeSink {
        address,
        object,
        sender,
        valve,
        session,
        session_end,
        ended: None,
    })
}

/// A sink whose bytes become pages for one client. Made by [`listen`] or [`serve`].
pub struct ServeSink {
    address: SocketAddr,
    object: String,
    sender: Sender,
    valve: Arc<Valve>,
    session: JoinHandle<()>,
    session_end: oneshot::Receiver<Result<PagingEnd, PbError>>,
    ended: Option<Result<Confirmation, EndpointError>>,
}

/// What the pager's gate last said.
#[derive(Default)]
struct Valve {
    state: Mutex<ValveState>,
}

#[derive(Default)]
struct ValveState {
    paused: bool,
    stopped: bool,
    waker: Option<Waker>,
}

impl ServeSink {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn poll_session_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if self.ended.is_none() {
            let ended = ready!(Pin::new(&mut self.session_end).poll(cx));
            self.ended = Some(match ended {
                Ok(Ok(PagingEnd::Confirmed)) => Ok(Confirmation::Confirmed),
                Ok(Ok(PagingEnd::Sent)) => Ok(Confirmation::Sent),
                Ok(Err(PbError::Closed)) => Err(gone()),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(interrupted()),
            });
        }
        Poll::Ready(self.ended.clone().unwrap_or_else(|| Err(interrupted())))
    }
}

impl Sink for ServeSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if self.valve.stopped() {
            let ended = ready!(self.poll_session_end(cx));
            return Poll::Ready(Err(ended.err().unwrap_or_else(gone)));
        }
        if self.valve.paused(cx) {
            return Poll::Pending;
        }
        let piece = held.front().cloned().unwrap_or_default();
        let bytes = piece.len();
        match self.sender.write(piece) {
            Ok(_) => Poll::Ready(Ok(bytes)),
            Err(_) => {
                let ended = ready!(self.poll_session_end(cx));
                Poll::Ready(Err(ended.err().unwrap_or_else(gone)))
            }
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.sender.unregister_producer();
        self.sender.finish();
        self.poll_session_end(cx)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.sender.abort(reason.clone());
        // Dropping the session resets the connection.
        self.session.abort();
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.session.is_finished() {
            let _ = ready!(Pin::new(&mut self.session).poll(cx));
        }
        Poll::Ready(())
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match ready!(self.poll_session_end(cx)) {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn unsent_bytes(&self) -> Option<u64> {
        Some(self.sender.held() as u64)
    }

    fn name(&self) -> String {
        format!("pb-listen:{}/{}", self.address, self.object)
    }
}

impl Drop for ServeSink {
    fn drop(&mut self) {
        // A finished one whose end was told has a session that only closes its connection.
        if !matches!(self.ended, Some(Ok(_))) {
            self.session.abort();
        }
    }
}

impl Valve {
    fn paused(&self, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut state = self.state();
        let old = if state.paused {
            state.waker.replace(waker)
        } else {
            None
        };
        let paused = state.paused;
        drop(state);
        drop(old);
        paused
    }

    fn stopped(&self) -> bool {
        self.state().stopped
    }

    fn change(&self, change: impl FnOnce(&mut ValveState)) {
        let mut state = self.state();
        change(&mut state);
        let waker = if state.paused && !state.stopped {
            None
        } else {
            state.waker.take()
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, ValveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PushProducer for Valve {
    fn pause_producing(&self) {
        self.change(|state| state.paused = true);
    }

    fn resume_producing(&self) {
        self.change(|state| state.paused = false);
    }

    fn stop_producing(&self, _reason: StopReason) {
        self.change(|state| state.stopped = true);
    }
}

/// The root object of every client that connects: the first that asks gets the pages.
struct Root {
    name: String,
    pages: Mutex<Option<Receiver>>,
    asked: mpsc::UnboundedSender<(Broker, Paging)>,
}

impl Referenceable for Root {
    fn call(&self, call: Call) {
        let broker = call.broker().clone();
        if call.method != self.name {
            let text = format!("No such method: remote_{}", call.method);
            return call
                .responder
                .fail(RemoteError::new("twisted.spread.flavors.NoSuchMethod", text));
        }
        let Some(collector) = call.args.first().and_then(|collector| call.reference(collector)) else {
            return call.responder.fail(RemoteError::new(
                "TypeError",
                "the first argument is a page collector",
            ));
        };
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pages) = pages else {
            return call.responder.fail(RemoteError::new(
                "twisted.spread.pb.Error",
                "served to another client",
            ));
        };
        call.responder.answer(Value::None);
        let paging = page_from(&collector, pages, PAGE_BYTES);
        let _ = self.asked.send((broker, paging));
    }
}

/// Takes clients until one has asked, and stays until it is served.
async fn serve_session(
    listener: TcpListener,
    root: Arc<Root>,
    mut asks: mpsc::UnboundedReceiver<(Broker, Paging)>,
    report: oneshot::Sender<Result<PagingEnd, PbError>>,
) {
    let mut clients = JoinSet::new();
    let asked = loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, _)) => {
                    let root: Arc<dyn Referenceable> = Arc::clone(&root) as _;
                    let (_, driver) = server(stream, Options { root: Some(root), ..Options::default() });
                    clients.spawn(driver);
                }
                Err(error) => tracing::debug!(%error, "a client went away as it came"),
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            Some(asked) = asks.recv() => break asked,
        }
    };
    drop(listener);
    let (broker, paging) = asked;
    let mut paging = std::pin::pin!(paging);
    let end = loop {
        tokio::select! {
            end = &mut paging => break end,
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    };
    let served = end.is_ok();
    let _ = report.send(end);
    if served {
        broker.close();
        let mut ended = std::pin::pin!(broker.ended());
        loop {
            tokio::select! {
                _ = &mut ended => break,
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
            }
        }
    }
}

fn gone() -> EndpointError {
    EndpointError::new(
        ErrorKind::BrokenPipe,
        Blame::Peer,
        "the client left before the end of the pages",
    )
}

fn interrupted() -> EndpointError {
    EndpointError::new(
        ErrorKind::Failed,
        Blame::System,
        "the connection's task was ended",
    )
}
