//! One exchange as an endpoint: a server that takes one upload, or serves one download, and is done.
//!
//! Knows nothing of files. What else is asked of it meanwhile is refused.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use tidegate::Consumer as _;
use tidegate::{AbortReason, FinishableConsumer as _, StopReason};
use tidegate_io::{Blame, Buffers, Confirmation, EndpointError, ErrorKind, Held, Sink, Source};
use tokio::sync::oneshot;

use crate::body::Body;
use crate::exchange::{Answer, Handler, Request, plain};
use crate::gate_wait::GateWait;
use crate::incoming::IncomingBody;
use crate::outgoing::OutgoingBody;
use crate::server::{Served, Server};

const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The exchange is all the server is for: the stall timer ends it, no drain deadline.
const DRAIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// The server behind an endpoint: its task, and the way to end it.
struct Running {
    address: Option<SocketAddr>,
    done: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Served>,
}

impl Running {
    fn start(server: Server, handler: impl Handler) -> Self {
        let server = server.drain_for(DRAIN);
        let (done, asked) = oneshot::channel::<()>();
        let address = server.local_addr();
        let shutdown = async {
            // A dropped sender asks too.
            let _ = asked.await;
        };
        let task = tokio::spawn(server.run(Arc::new(handler), shutdown));
        Self {
            address,
            done: Some(done),
            task,
        }
    }

    /// Lets exchanges under way end, then ends the server. Ready when it has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.done = None;
        if self.task.is_finished() {
            return Poll::Ready(());
        }
        Pin::new(&mut self.task).poll(cx).map(|_| ())
    }
}

/// Takes the first upload (PUT or POST) as a source. The client is answered when the flow confirms: 200 once the sink
/// has finished, 500 when the flow fails.
pub struct ListenSource {
    server: Running,
    state: Taking,
    name: String,
}

enum Taking {
    Waiting(oneshot::Receiver<Upload>),
    Body(Box<Upload>),
    /// The end was read; the client still waits for its answer.
    Read(oneshot::Sender<Answer>),
    Over,
}

struct Upload {
    body: IncomingBody,
    answer: oneshot::Sender<Answer>,
}

struct TakeOne {
    slot: Mutex<Option<oneshot::Sender<Upload>>>,
}

impl Handler for TakeOne {
    async fn answer(&self, request: Request) -> Answer {
        if !matches!(request.head.method, Method::PUT | Method::POST) {
            return refuse("PUT, POST");
        }
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(slot) = slot else {
            return plain(StatusCode::CONFLICT, "one upload is all that is taken here");
        };
        let (answer, answered) = oneshot::channel();
        let failed = || {
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the upload could not be passed on",
            )
        };
        match slot.send(Upload {
            body: request.body,
            answer,
        }) {
            Ok(()) => answered.await.unwrap_or_else(|_| failed()),
            Err(_) => failed(),
        }
    }
}

fn refuse(allowed: &'static str) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Starts to listen for one upload. Must be called within a runtime.
pub fn listen_source(server: Server) -> ListenSource {
    let (slot, upload) = oneshot::channel();
    let server = Running::start(
        server,
        TakeOne {
            slot: Mutex::new(Some(slot)),
        },
    );
    let name = named(&server);
    ListenSource {
        server,
        state: Taking::Waiting(upload),
        name,
    }
}

fn named(server: &Running) -> String {
    server.address.map_or_else(
        || "http-listen".to_owned(),
        |address| format!("http-listen:{address}"),
    )
}

impl ListenSource {
    /// Where it listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.address
    }

    /// Gives the client its answer, which ends the exchange.
    fn give(&mut self, status: StatusCode) {
        if let Taking::Read(answer) = std::mem::replace(&mut self.state, Taking::Over) {
            let mut verdict = Response::new(Body::empty());
            *verdict.status_mut() = status;
            let _ = answer.send(verdict);
        }
    }
}

impl Source for ListenSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        loop {
            match &mut self.state {
                Taking::Waiting(upload) => match ready!(Pin::new(upload).poll(cx)) {
                    Ok(upload) => self.state = Taking::Body(Box::new(upload)),
                    Err(_) => {
                        let what = format!("{} ended before an upload came", self.name);
                        return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::System, what)));
                    }
                },
                Taking::Body(upload) => match ready!(upload.body.poll_read(cx, buffers, max))? {
                    Some(bytes) => return Poll::Ready(Ok(Some(bytes))),
                    None => {
                        if let Taking::Body(upload) = std::mem::replace(&mut self.state, Taking::Over) {
                            self.state = Taking::Read(upload.answer);
                        }
                    }
                },
                Taking::Read(_) | Taking::Over => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &mut self.state {
            Taking::Body(upload) => upload.body.poll_hangup(cx),
            Taking::Waiting(_) | Taking::Read(_) | Taking::Over => Poll::Pending,
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.give(StatusCode::INTERNAL_SERVER_ERROR);
        self.server.poll_end(cx)
    }

    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.give(StatusCode::OK);
        self.server.poll_end(cx)
    }

    fn size_hint(&self) -> Option<u64> {
        match &self.state {
            Taking::Body(upload) => upload.body.size_hint(),
            _ => None,
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Serves the first download (GET) as a sink: 200, chunked or by stream, and closed only when the flow finishes.
pub struct ListenSink {
    server: Running,
    state: Giving,
    name: String,
}

enum Giving {
    Waiting(oneshot::Receiver<OutgoingBody>),
    Body(OutgoingBody, Arc<GateWait>),
    Over,
}

struct GiveOne {
    slot: Mutex<Option<oneshot::Sender<OutgoingBody>>>,
    length: Option<u64>,
}

impl Handler for GiveOne {
    async fn answer(&self, request: Request) -> Answer {
        let mut head = Response::new(());
        head.headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if request.head.method == Method::HEAD {
            return request.responder.stream(head, self.length).1;
        }
        if request.head.method != Method::GET {
            return refuse("GET, HEAD");
        }
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(slot) = slot else {
            return plain(StatusCode::GONE, "one download is all that is served here");
        };
        let (consumer, answer) = request.responder.stream(head, self.length);
        match slot.send(consumer) {
            Ok(()) => answer,
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the download is gone"),
        }
    }
}

/// Starts to listen for one download; `length` is announced where it is known. Must be called within a runtime.
pub fn listen_sink(server: Server, length: Option<u64>) -> ListenSink {
    let (slot, consumer) = oneshot::channel();
    let server = Running::start(
        server,
        GiveOne {
            slot: Mutex::new(Some(slot)),
            length,
        },
    );
    let name = named(&server);
    ListenSink {
        server,
        state: Giving::Waiting(consumer),
        name,
    }
}

impl ListenSink {
    /// Where it listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.address
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        if let Giving::Waiting(consumer) = &mut self.state {
            let Ok(consumer) = ready!(Pin::new(consumer).poll(cx)) else {
                let what = format!("{} ended before a client came", self.name);
                return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::System, what)));
            };
            let gate = GateWait::on(&consumer);
            self.state = Giving::Body(consumer, gate);
        }
        Poll::Ready(Ok(()))
    }

    fn gone(&self, reason: impl std::fmt::Display) -> EndpointError {
        EndpointError::new(
            ErrorKind::BrokenPipe,
            Blame::Peer,
            format!("the client of {} went away: {reason}", self.name),
        )
    }
}

impl Sink for ListenSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        ready!(self.poll_client(cx))?;
        let (Giving::Body(consumer, gate), Some(front)) = (&self.state, held.front()) else {
            return Poll::Ready(Err(self.gone("the exchange is over")));
        };
        if let Err(reason) = ready!(gate.poll_open(cx)) {
            return Poll::Ready(Err(self.gone(reason)));
        }
        let piece = front.slice(..front.len().min(PIECE_BYTES_MAX));
        let bytes = piece.len();
        Poll::Ready(match consumer.write(piece) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.gone(error)),
        })
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        ready!(self.poll_client(cx))?;
        if let Giving::Body(consumer, _) = &self.state {
            consumer.unregister_producer();
            consumer.finish();
            if let Err(reason) = ready!(Pin::new(&mut consumer.outcome()).poll(cx)) {
                return Poll::Ready(Err(self.gone(reason)));
            }
            self.state = Giving::Over;
        }
        // The server's drain ends when the connection has sent everything and is closed; nobody acknowledges more.
        ready!(self.server.poll_end(cx));
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, reason: &AbortReason) {
        if let Giving::Body(consumer, _) = &self.state {
            consumer.abort(reason.clone());
        }
        self.state = Giving::Over;
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.server.poll_end(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &self.state {
            Giving::Body(consumer, _) => match ready!(Pin::new(&mut consumer.outcome()).poll(cx)) {
                Ok(_) | Err(StopReason::Finished) => Poll::Pending,
                Err(reason) => Poll::Ready(self.gone(reason)),
            },
            Giving::Waiting(_) | Giving::Over => Poll::Pending,
        }
    }

    fn unsent_bytes(&self) -> Option<u64> {
        match &self.state {
            Giving::Body(consumer, _) => Some(consumer.held() as u64),
            _ => None,
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
