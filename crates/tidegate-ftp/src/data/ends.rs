//! The two ends a data connection can be: the source of an upload, the sink of a download.
//!
//! Knows nothing of files. A plain connection is the driver crate's socket, lanes included; TLS is added here.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate::AbortReason;
use tidegate_io::endpoint::tcp::{self, TcpSink, TcpSource};
use tidegate_io::{Buffers, Confirmation, EndpointError, Held, LaneEnd, RunAhead, Sink, Source};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::{DataConnection, Stream};

/// How long a finished download waits for the client's own end before the connection is left to the system. Most clients
/// close at once; some wait for the reply first.
const CLOSE_WAIT: Duration = Duration::from_millis(500);
const SLICES_MAX: usize = 16;

type Tls = Box<TlsStream<TcpStream>>;

/// The upload end: bytes from the client. (Twisted: `DTP` as a producer.)
///
/// Not reading is pausing: the client's window closes. Stopping closes the connection under the client.
pub struct DataSource {
    from: From,
    name: String,
    end_grace: Duration,
    ending: Option<Pin<Box<Sleep>>>,
}

enum From {
    Plain(TcpSource),
    Tls(Tls, End),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    NotSeen,
    /// Seen; the answer to it (the closing alert) is on its way.
    Seen,
    Answered,
}

/// The download end: bytes to the client. (Twisted: `DTP` as a consumer.)
pub struct DataSink {
    to: To,
    closing: Option<Pin<Box<Sleep>>>,
    name: String,
}

enum To {
    Plain(TcpSink),
    Tls(Tls, Closing),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closing {
    Open,
    AlertSent,
    Over,
}

impl DataSource {
    pub(super) fn new(connection: DataConnection) -> Self {
        Self {
            name: format!("data connection from {}", connection.peer),
            end_grace: Duration::ZERO,
            ending: None,
            from: match connection.stream {
                Stream::Plain(tcp) => From::Plain(tcp::source(tcp)),
                Stream::Tls(tls) => From::Tls(tls, End::NotSeen),
            },
        }
    }
}

impl DataSource {
    /// Keeps the end of a plain connection back for so long: a client that was killed ends it as properly as one that is
    /// done, and only the control connection, which ends a moment later, tells. Under TLS the closing alert does.
    #[must_use]
    pub fn end_grace(mut self, grace: Duration) -> Self {
        self.end_grace = grace;
        self
    }

    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end_grace.is_zero() {
            return Poll::Ready(());
        }
        let grace = self.end_grace;
        let ending = self
            .ending
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(grace)));
        ending.as_mut().poll(cx)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Source for DataSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        match &mut self.from {
            From::Plain(source) => match ready!(source.poll_read(cx, buffers, max)) {
                Ok(None) => self.poll_grace(cx).map(|()| Ok(None)),
                read => Poll::Ready(read),
            },
            From::Tls(tls, end) => {
                read_tls(tls, end, cx, buffers, max).map_err(|error| failed(&self.name, error))
            }
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &mut self.from {
            From::Plain(source) => source.poll_hangup(cx),
            // The TLS stream owns its socket: a reset is seen with the next read, or by the stall limit.
            From::Tls(..) => Poll::Pending,
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.from {
            From::Plain(source) => source.poll_stop(cx),
            From::Tls(tls, _) => {
                reset(tls);
                Poll::Ready(())
            }
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.from {
            From::Plain(source) => source.poll_discard(cx),
            From::Tls(..) => Poll::Ready(()),
        }
    }

    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.from {
            From::Plain(source) => source.poll_confirm(cx),
            // Answered with its end.
            From::Tls(..) => Poll::Ready(()),
        }
    }

    fn set_run_ahead(&mut self, ahead: RunAhead) {
        if let From::Plain(source) = &mut self.from {
            source.set_run_ahead(ahead);
        }
    }

    fn size_hint(&self) -> Option<u64> {
        match &self.from {
            From::Plain(source) => source.size_hint(),
            From::Tls(..) => None,
        }
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        match &self.from {
            From::Plain(source) => source.lane_end(),
            From::Tls(..) => None,
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        if let From::Plain(source) = &mut self.from {
            source.lane_moved(bytes);
        }
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: tidegate_io::LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.from {
            From::Plain(source) => source.poll_lane(cx, op),
            From::Tls(..) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A TLS stream that ends without its closing alert was cut short.
fn read_tls(
    tls: &mut Tls,
    end: &mut End,
    cx: &mut Context<'_>,
    buffers: &mut Buffers,
    max: usize,
) -> Poll<io::Result<Option<Bytes>>> {
    if *end == End::NotSeen {
        let mut buffer = buffers.take(max);
        let asked = buffer.space().len().min(max);
        let mut space = ReadBuf::new(&mut buffer.space()[..asked]);
        ready!(Pin::new(&mut *tls).poll_read(cx, &mut space))?;
        let got = space.filled().len();
        if got > 0 {
            buffers.learn(asked, got);
            return Poll::Ready(Ok(Some(buffer.freeze(got))));
        }
        *end = End::Seen;
    }
    if *end == End::Seen {
        // The client waits for our alert; if it has gone meanwhile, that is no fault of the stream.
        let _ = ready!(Pin::new(tls).poll_shutdown(cx));
        *end = End::Answered;
    }
    Poll::Ready(Ok(None))
}

impl DataSink {
    pub(super) fn new(connection: DataConnection) -> Self {
        Self {
            name: format!("data connection to {}", connection.peer),
            closing: None,
            to: match connection.stream {
                Stream::Plain(tcp) => To::Plain(tcp::sink(tcp)),
                Stream::Tls(tls) => To::Tls(tls, Closing::Open),
            },
        }
    }

    /// The client did not close in time: what is queued is left to the system.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Confirmation> {
        loop {
            let wait = self
                .closing
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_WAIT)));
            ready!(wait.as_mut().poll(cx));
            self.closing = None;
            let sent = match &mut self.to {
                To::Plain(sink) => sink.finish_unconfirmed(),
                To::Tls(_, closing) => {
                    *closing = Closing::Over;
                    Some(Confirmation::Sent)
                }
            };
            if let Some(confirmation) = sent {
                return Poll::Ready(confirmation);
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Sink for DataSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        match &mut self.to {
            To::Plain(sink) => sink.poll_write(cx, held),
            To::Tls(tls, _) => {
                let mut slices = [io::IoSlice::new(&[]); SLICES_MAX];
                let filled = held.slices(&mut slices);
                let written = ready!(Pin::new(tls).poll_write_vectored(cx, &slices[..filled]));
                Poll::Ready(match written {
                    Ok(0) => Err(failed(&self.name, io::ErrorKind::WriteZero.into())),
                    Ok(accepted) => Ok(accepted),
                    Err(error) => Err(failed(&self.name, error)),
                })
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        match &mut self.to {
            To::Plain(sink) => sink.poll_flush(cx),
            To::Tls(tls, _) => Pin::new(tls)
                .poll_flush(cx)
                .map_err(|error| failed(&self.name, error)),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        let finished = match &mut self.to {
            To::Plain(sink) => sink.poll_finish(cx),
            To::Tls(tls, closing) => finish_tls(tls, closing, cx).map_err(|error| failed(&self.name, error)),
        };
        match finished {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_patience(cx).map(Ok),
        }
    }

    fn abort(&mut self, reason: &AbortReason) {
        match &mut self.to {
            To::Plain(sink) => sink.abort(reason),
            To::Tls(tls, _) => reset(tls),
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.to {
            To::Plain(sink) => sink.poll_aborted(cx),
            To::Tls(..) => Poll::Ready(()),
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &mut self.to {
            To::Plain(sink) => sink.poll_hangup(cx),
            To::Tls(..) => Poll::Pending,
        }
    }

    fn unsent_bytes(&self) -> Option<u64> {
        match &self.to {
            To::Plain(sink) => sink.unsent_bytes(),
            To::Tls(..) => None,
        }
    }

    fn is_heard_out(&self) -> bool {
        match &self.to {
            To::Plain(sink) => sink.is_heard_out(),
            To::Tls(..) => false,
        }
    }

    fn is_busy(&self) -> bool {
        match &self.to {
            To::Plain(sink) => sink.is_busy(),
            To::Tls(..) => false,
        }
    }

    /// None: a finish has a patience of its own.
    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        None
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        match &self.to {
            To::Plain(sink) => sink.lane_end(),
            To::Tls(..) => None,
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        if let To::Plain(sink) = &mut self.to {
            sink.lane_moved(bytes);
        }
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: tidegate_io::LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.to {
            To::Plain(sink) => sink.poll_lane(cx, op),
            To::Tls(..) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// None: this end is no file.
    fn poll_lane_job(
        &mut self,
        _cx: &mut Context<'_>,
        _job: &mut dyn FnMut() -> tidegate_io::LaneJob,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Our alert, then the client's end; whatever it sends meanwhile is dropped.
fn finish_tls(tls: &mut Tls, closing: &mut Closing, cx: &mut Context<'_>) -> Poll<io::Result<Confirmation>> {
    if *closing == Closing::Open {
        ready!(Pin::new(&mut *tls).poll_shutdown(cx))?;
        *closing = Closing::AlertSent;
    }
    let mut scrap = [0; 512];
    loop {
        let mut space = ReadBuf::new(&mut scrap);
        match ready!(Pin::new(&mut *tls).poll_read(cx, &mut space)) {
            Ok(()) if !space.filled().is_empty() => {}
            Ok(()) => break,
            // After our alert the client owes us none.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    *closing = Closing::Over;
    Poll::Ready(Ok(Confirmation::Confirmed))
}

impl Drop for DataSink {
    fn drop(&mut self) {
        // The plain sink does the same for itself.
        if let To::Tls(tls, Closing::Open) = &self.to {
            reset(tls);
        }
    }
}

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataSource").field(&self.name).finish()
    }
}

impl fmt::Debug for DataSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataSink").field(&self.name).finish()
    }
}

/// Makes the coming close a reset.
fn reset(tls: &TlsStream<TcpStream>) {
    let _ = socket2::SockRef::from(tls.get_ref().0).set_linger(Some(Duration::ZERO));
}

fn failed(name: &str, error: io::Error) -> EndpointError {
    EndpointError::io(name, error)
}
