//! An upload as a sink, and as a consumer: PUT or POST, chunked or of an announced length.
//!
//! Knows nothing of sources. An answer that comes before the body is whole stops the upload and says why.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::CaptureConnection;
use tidegate::{AbortReason, Consumer as _, FinishableConsumer as _};
use tidegate_io::{Blame, Confirmation, EndpointError, ErrorKind, Held, Sink};

use crate::breaker::Breaker;
use crate::client::{Client, Target, failed, host, timed_out};
use crate::connect::About;
use crate::gate_wait::GateWait;
use crate::io_guard::Ending;
use crate::outgoing::OutgoingBody;

/// The most that is handed to the body at a time: with its high mark, all that waits here.
const PIECE_BYTES_MAX: usize = 64 * 1024;

type AnswerFuture = Pin<Box<dyn Future<Output = Result<StatusCode, EndpointError>> + Send>>;

/// An upload. Made by [`Client::upload`].
pub struct UploadSink {
    body: Option<OutgoingBody>,
    gate: Arc<GateWait>,
    answer: Option<AnswerFuture>,
    answered: Option<Result<StatusCode, EndpointError>>,
    connection: CaptureConnection,
    state: State,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    answer_timeout: std::time::Duration,
    uri: Uri,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Writing,
    Finishing,
    Over,
}

impl Client {
    /// Starts an upload and returns the consumer of its body and the answer: `ChunkedBody` without a length,
    /// `ExactLengthBody` with one. (Twisted: `ChunkedEncoder`, `LengthEnforcingConsumer`.)
    ///
    /// # Errors
    /// `url` is no address.
    pub fn start(
        &self,
        method: Method,
        url: &str,
        length: Option<u64>,
    ) -> Result<
        (
            OutgoingBody,
            impl Future<Output = Result<Response<Incoming>, EndpointError>> + Send + use<>,
        ),
        EndpointError,
    > {
        let target = Target::parse(url)?;
        let (consumer, body) = OutgoingBody::new(length, self.options.marks, Breaker::Body, None);
        let underway = self.send(method, &target.uri, self.headers(&target), body);
        let answer = async move { underway.answer.await.map_err(|error| failed(&target.uri, error)) };
        Ok((consumer, answer))
    }

    /// An upload to `url` as a sink: with `Content-Length` when the length is known, else chunked.
    ///
    /// # Errors
    /// `url` is no address. Everything else shows when the sink is used.
    pub fn upload(
        &self,
        method: Method,
        url: &str,
        length: Option<u64>,
    ) -> Result<UploadSink, EndpointError> {
        let target = Target::parse(url)?;
        let (consumer, body) = OutgoingBody::new(length, self.options.marks, Breaker::Body, None);
        let underway = self.send(method, &target.uri, self.headers(&target), body);
        let (uri, answer) = (target.uri.clone(), underway.answer);
        let answer = async move {
            match answer.await {
                Ok(answer) => Ok(answer.status()),
                Err(error) => Err(failed(&uri, error)),
            }
        };
        Ok(UploadSink {
            gate: GateWait::on(&consumer),
            body: Some(consumer),
            answer: Some(Box::pin(answer)),
            answered: None,
            connection: underway.connection,
            state: State::Writing,
            timer: None,
            answer_timeout: self.options.answer_timeout,
            uri: target.uri,
        })
    }
}

impl UploadSink {
    /// Looks whether the answer has come.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<StatusCode, EndpointError>> {
        if let Some(answered) = &self.answered {
            return Poll::Ready(answered.clone());
        }
        let Some(answer) = &mut self.answer else {
            return Poll::Pending;
        };
        let answered = ready!(answer.as_mut().poll(cx));
        self.answer = None;
        self.answered = Some(answered.clone());
        Poll::Ready(answered)
    }

    /// What an answer before the end of the body means: nobody wants the rest.
    fn early(&mut self, answered: Result<StatusCode, EndpointError>) -> EndpointError {
        let error = match answered {
            Ok(status) => {
                let what = format!(
                    "{} answered {status} before the upload was complete",
                    host(&self.uri)
                );
                let blame = if status.is_client_error() {
                    Blame::Caller
                } else {
                    Blame::Peer
                };
                EndpointError::new(ErrorKind::Failed, blame, what)
            }
            Err(error) => error,
        };
        self.cut(AbortReason::Failed(Arc::new(error.clone())));
        error
    }

    fn cut(&mut self, reason: AbortReason) {
        self.state = State::Over;
        if let Some(body) = self.body.take() {
            body.abort(reason);
        }
        self.answer = None;
        // hyper sees the abort only when it has room to send; a blocked HTTP/1 connection is ended from below. On
        // HTTP/2 dropping the answer resets the stream.
        if let Some(connected) = &*self.connection.connection_metadata()
            && !connected.is_negotiated_h2()
        {
            let mut extras = http::Extensions::new();
            connected.get_extras(&mut extras);
            if let Some(about) = extras.get::<About>() {
                about.switch.arm(Ending::Close);
            }
        }
    }

    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.answer_timeout;
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)))
            .as_mut()
            .poll(cx)
    }
}

impl Sink for UploadSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if let Poll::Ready(answered) = self.poll_answer(cx) {
            return Poll::Ready(Err(self.early(answered)));
        }
        let (Some(body), Some(front)) = (&self.body, held.front()) else {
            let what = format!("the upload to {} is over", host(&self.uri));
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        };
        let stopped = match ready!(self.gate.poll_open(cx)) {
            Ok(()) => {
                let piece = front.slice(..front.len().min(PIECE_BYTES_MAX));
                let bytes = piece.len();
                match body.write(piece) {
                    Ok(_) => return Poll::Ready(Ok(bytes)),
                    Err(error) => error.to_string(),
                }
            }
            Err(reason) => reason.to_string(),
        };
        // The answer, or hyper's own error, says more than our body can, and follows at once.
        match self.poll_answer(cx) {
            Poll::Ready(answered) => Poll::Ready(Err(self.early(answered))),
            Poll::Pending if self.answer.is_some() && self.poll_too_late(cx).is_pending() => Poll::Pending,
            Poll::Pending => {
                let what = format!("the upload to {} was stopped: {stopped}", host(&self.uri));
                Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Peer, what)))
            }
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if self.state == State::Writing {
            self.state = State::Finishing;
            if let Some(body) = &self.body {
                body.unregister_producer();
                body.finish();
            }
        }
        match self.poll_answer(cx) {
            Poll::Ready(Ok(status)) if status.is_success() => {
                self.state = State::Over;
                Poll::Ready(Ok(Confirmation::Confirmed))
            }
            Poll::Ready(Ok(status)) => {
                self.cut(AbortReason::Requested);
                let blame = if status.is_client_error() {
                    Blame::Caller
                } else {
                    Blame::Peer
                };
                let what = format!("{} answered {status}", host(&self.uri));
                Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, blame, what)))
            }
            Poll::Ready(Err(error)) => {
                self.cut(AbortReason::Requested);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                ready!(self.poll_too_late(cx));
                self.cut(AbortReason::TimedOut);
                Poll::Ready(Err(timed_out(&self.uri)))
            }
        }
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.cut(reason.clone());
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        if self.state != State::Writing {
            return Poll::Pending;
        }
        let answered = ready!(self.poll_answer(cx));
        Poll::Ready(self.early(answered))
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.body.as_ref().map(|body| body.held() as u64)
    }

    fn name(&self) -> String {
        self.uri.to_string()
    }
}

impl Drop for UploadSink {
    fn drop(&mut self) {
        if self.state != State::Over {
            self.cut(AbortReason::Dropped);
        }
    }
}
