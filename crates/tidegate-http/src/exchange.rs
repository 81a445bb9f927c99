//! One request and the means to answer it.
//!
//! Knows which message may have a body and how to cut one short; nothing of what is asked for.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode, Version, request};
use tidegate::Marks;

use crate::body::{Body, Progress};
use crate::breaker::{Breaker, current_stream};
use crate::drain::Moved;
use crate::hangup::Hangup;
use crate::incoming::IncomingBody;
use crate::io_guard::{Ending, KillSwitch};
use crate::outgoing::OutgoingBody;

/// What a handler answers with.
pub type Answer = Response<Body>;

/// A request: its head, its body as a source, and the means to answer piece by piece.
#[derive(Debug)]
pub struct Request {
    /// Method, target, version, headers.
    pub head: request::Parts,
    /// What the client sends. Unread, it holds the client back.
    pub body: IncomingBody,
    /// Makes answers whose body is produced piece by piece.
    pub responder: Responder,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// An Internet address.
    Tcp(SocketAddr),
    /// A Unix socket, which has no address worth showing.
    Local,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Local => f.write_str("unix"),
        }
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// An answer that needs no waiting and no body piece by piece, if there is one. Called first, on the connection's
    /// own task: it must not block.
    fn at_once(&self, head: &HeadView<'_>) -> Option<Answer> {
        let _ = head;
        None
    }

    /// Answers. Errors are answers too.
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// The head of a request, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct HeadView<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target.
    pub uri: &'r http::Uri,
    /// The headers.
    pub headers: &'r http::HeaderMap,
}

/// Makes the bodies of answers to one request.
#[derive(Clone, Debug)]
pub struct Responder {
    pub(crate) peer: Peer,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) marks: Marks,
    pub(crate) line: Line,
}

/// The connection under a request.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    One(Arc<KillSwitch>),
    /// The streams of the connection, and the breaker of this one once its task runs.
    Two(Arc<Streams>, Breaker),
}

impl Line {
    /// What tells that the peer of one exchange is gone: for HTTP/1 that of the connection, for a stream its own.
    pub(crate) fn hangup(&self) -> Arc<Hangup> {
        match self {
            Self::One(switch) => Arc::clone(&switch.hangup),
            Self::Two(..) => Arc::default(),
        }
    }

    /// What counts the bytes of the bodies, where those of the wire say nothing.
    pub(crate) fn moved(&self) -> Option<&Moved> {
        match self {
            Self::One(_) => None,
            Self::Two(streams, _) => Some(&streams.moved),
        }
    }

    /// To be called in the task that hyper runs for a request: only there an HTTP/2 stream can be found.
    pub(crate) fn of_this_task(self) -> Self {
        match self {
            Self::One(switch) => Self::One(switch),
            Self::Two(streams, _) => Self::Two(streams, current_stream()),
        }
    }
}

/// The responses under way on one HTTP/2 connection, for whoever looks for stalled ones.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    moved: Moved,
    live: std::sync::Mutex<Vec<(std::sync::Weak<Progress>, Breaker)>>,
}

impl Streams {
    /// `moved` counts the bytes of the bodies.
    pub(crate) fn counted_by(moved: Moved) -> Self {
        Self {
            moved,
            ..Self::default()
        }
    }

    fn watch(&self, progress: &Arc<Progress>, breaker: Breaker) {
        let mut live = self
            .live
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        live.retain(|(progress, _)| progress.strong_count() > 0);
        live.push((Arc::downgrade(progress), breaker));
    }

    /// Resets the streams whose client has taken nothing for `limit`; says how many.
    pub(crate) fn reset_stalled(&self, limit: std::time::Duration) -> usize {
        let mut stalled = Vec::new();
        let mut live = self
            .live
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        live.retain(|(progress, breaker)| match progress.upgrade() {
            None => false,
            Some(progress) if progress.stalled_for() >= limit => {
                stalled.push(breaker.clone());
                false
            }
            Some(_) => true,
        });
        drop(live);
        stalled.iter().for_each(Breaker::break_off);
        stalled.len()
    }
}

impl Responder {
    /// Who asked.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// An answer whose body is written through a consumer. `length` is announced where it is known.
    ///
    /// A client that may not get a body (HEAD, 204, 304) has all it wants: a producer that registers is stopped with
    /// `Closed`.
    pub fn stream(&self, mut head: Response<()>, length: Option<u64>) -> (OutgoingBody, Answer) {
        self.stream_with(&mut head, length, self.marks)
    }

    /// The same with marks of its own.
    pub fn stream_with(
        &self,
        head: &mut Response<()>,
        length: Option<u64>,
        marks: Marks,
    ) -> (OutgoingBody, Answer) {
        let head = std::mem::take(head);
        let progress = Arc::new(Progress::new());
        let breaker = match &self.line {
            Line::One(switch) => {
                // Without chunks and without a length the end of the connection is the end of the body.
                let by_close = length.is_none() && self.version < Version::HTTP_11;
                let ending = if by_close { Ending::Reset } else { Ending::Close };
                Breaker::Connection(Arc::clone(switch), ending)
            }
            Line::Two(streams, breaker) => {
                streams.watch(&progress, breaker.clone());
                breaker.clone()
            }
        };
        let (consumer, body) = OutgoingBody::new(length, marks, breaker, Some(progress));
        let mut answer = head.map(|()| body);
        if let Some(length) = length
            && !is_bodiless_status(answer.status())
        {
            answer
                .headers_mut()
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        if self.method == Method::HEAD || is_bodiless_status(answer.status()) {
            answer.body_mut().close();
        }
        (consumer, answer)
    }
}

/// Statuses whose answers never have a body. (RFC 9110, section 6.4.1.)
pub(crate) fn is_bodiless_status(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// A short answer in plain text: the status in words and a reason.
pub fn plain(status: StatusCode, why: &str) -> Answer {
    let text = match (status.canonical_reason(), why) {
        (Some(reason), "") => format!("{reason}\n"),
        (Some(reason), why) => format!("{reason}: {why}\n"),
        (None, why) => format!("{why}\n"),
    };
    let mut answer = Response::new(Body::whole(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
