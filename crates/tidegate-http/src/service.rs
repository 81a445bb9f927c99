//! One request after the other: hands each to the handler, and tells the access log what became of it.
//!
//! Knows nothing of connections but the line a request came on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::body::BodyEnd;
use crate::exchange::{Answer, Handler, HeadView, Line, Peer, Request, Responder, plain};
use crate::incoming::IncomingBody;
use crate::server::House;

/// hyper's view of one connection.
pub(crate) struct Service<H> {
    pub(crate) house: Arc<House<H>>,
    pub(crate) peer: Peer,
    pub(crate) line: Line,
}

impl<H: Handler> hyper::service::Service<http::Request<Incoming>> for Service<H> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        self.house.requests.fetch_add(1, Ordering::Relaxed);
        let view = HeadView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        let at_once = if is_host_unclear(&request) {
            Some(host_unclear())
        } else {
            self.house.handler.at_once(&view)
        };
        if let Some(answer) = at_once {
            log(self.peer, request.method(), request.uri().path(), &answer);
            return Answering::Now(Some(answer));
        }
        let house = Arc::clone(&self.house);
        let (peer, line) = (self.peer, self.line.clone());
        Answering::Later(Box::pin(async move {
            house.answer(request, peer, line.of_this_task()).await
        }))
    }
}

impl<H: Handler> House<H> {
    async fn answer(&self, request: http::Request<Incoming>, peer: Peer, line: Line) -> Answer {
        let (head, incoming) = request.into_parts();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let limit = self.limits.body_bytes_max;
        let moved = line.moved().cloned();
        let too_large = incoming.size_hint().lower() > limit;
        let answer = if too_large {
            plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than this server takes",
            )
        } else {
            let empty = incoming.is_end_stream();
            let mut body = IncomingBody::new(incoming, limit, self.limits.stall_timeout, peer.to_string())
                .over(head.version)
                .counted_by(moved.clone());
            if let Line::Two(_, breaker) = &line {
                breaker.watch(body.slot());
            }
            let hangup = line.hangup();
            let waits = hangup.unless_answered();
            if !empty {
                body = body.watched_by(hangup);
            }
            let responder = Responder {
                peer,
                method: method.clone(),
                version: head.version,
                marks: self.limits.marks,
                line,
            };
            let request = Request {
                head,
                body,
                responder,
            };
            let answer = self.handler.answer(request).await;
            waits.disarm();
            answer
        }
        .map(|body| body.counted_by(moved));
        if answer
            .body()
            .size_hint()
            .exact()
            .is_some_and(|bytes| bytes <= 1024)
        {
            log(peer, &method, &path, &answer);
            return answer;
        }
        log_at_end(peer, method, path, answer)
    }
}

/// HTTP/1.1 wants a host, and all want no two: whoever stands in front of us may have believed the other one. (RFC 9112,
/// section 3.2.)
fn is_host_unclear(request: &http::Request<Incoming>) -> bool {
    match request.headers().iter().filter(|(name, _)| *name == HOST).count() {
        0 => request.version() == Version::HTTP_11,
        hosts => hosts > 1,
    }
}

fn host_unclear() -> Answer {
    let mut answer = plain(StatusCode::BAD_REQUEST, "a request names one host");
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

const ACCESS: &str = "tidegate::access";

/// One line of the access log for an answer whose body goes out with its head.
fn log(peer: Peer, method: &Method, path: &str, answer: &Answer) {
    let status = answer.status().as_u16();
    let bytes = answer.body().size_hint().exact().unwrap_or(0);
    tracing::info!(target: ACCESS, %peer, %method, path, status, bytes, "served");
}

/// One line of the access log when the body has gone, or has not.
fn log_at_end(peer: Peer, method: Method, path: String, answer: Answer) -> Answer {
    if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
        return answer;
    }
    let status = answer.status().as_u16();
    let head_only = method == Method::HEAD;
    answer.map(|body| {
        body.witnessed(Box::new(move |bytes, end| {
            if end == BodyEnd::Whole || head_only {
                tracing::info!(target: ACCESS, %peer, %method, path, status, bytes, "served");
            } else {
                tracing::warn!(target: ACCESS, %peer, %method, path, status, bytes, "cut short");
            }
        }))
    })
}

/// The answer to one request, there or to be waited for.
pub(crate) enum Answering {
    Now(Option<Answer>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer)),
                None => Poll::Pending,
            },
            Self::Later(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}
