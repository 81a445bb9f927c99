//! The writing half of a stream socket, and its ends: shut in good order, or reset.
//!
//! Knows nothing of what is read, but for the peer's end that confirms ours.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate::AbortReason;
use tokio::io::Interest;

use super::StreamSocket;
use super::connection::{Connection, Peer, Watch};
use super::kernel;
use crate::{Confirmation, EndpointError, Held, LaneEnd, LaneOp, Sink};

/// Pieces in one vectored write.
const SLICES_MAX: usize = 16;

/// The writing half of a stream socket.
pub struct SocketSink<T: StreamSocket> {
    /// `None` once aborted: the socket is closed as soon as nobody else has it.
    pub(super) connection: Option<Arc<Connection<T>>>,
    /// `None` for a sink that is neither watched nor aborted, as of most idle connections.
    pub(super) aside: Option<Box<Aside>>,
    pub(super) ending: Ending,
}

/// What few sinks need.
#[derive(Default)]
pub(super) struct Aside {
    watch: Option<Watch>,
    hung_up: Option<Watch>,
    /// Whose connection it was, after an abort.
    peer: Option<Peer>,
}

/// What a finish waits for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Ending {
    /// This sink has the connection alone: the peer's end is the acknowledgement.
    PeersEnd,
    /// A source reads the other direction: sending our end is all.
    OurEnd,
    /// Our end was sent; waits for the peer's.
    EndSent,
    /// Nothing more to do.
    Over,
}

impl<T: StreamSocket> SocketSink<T> {
    fn open(&self) -> Result<&Arc<Connection<T>>, EndpointError> {
        self.connection
            .as_ref()
            .ok_or_else(|| EndpointError::io(self.name(), io::ErrorKind::NotConnected.into()))
    }
}

impl<T: StreamSocket> Sink for SocketSink<T> {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let connection = self.open()?;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = held.slices(&mut slices);
        let slices = &slices[..filled];
        let total = slices.iter().map(|slice| slice.len()).sum();
        connection.poll_write(cx, slices, total).map_err(|error| {
            connection
                .death()
                .cloned()
                .unwrap_or_else(|| connection.error(error))
        })
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        let connection = Arc::clone(self.open()?);
        if matches!(self.ending, Ending::PeersEnd | Ending::OurEnd) {
            connection
                .socket
                .raw()
                .shutdown(std::net::Shutdown::Write)
                .map_err(|error| connection.error(error))?;
            if self.ending == Ending::OurEnd {
                self.ending = Ending::Over;
                return Poll::Ready(Ok(Confirmation::Sent));
            }
            self.ending = Ending::EndSent;
        }
        ready!(connection.poll_drop_rest(cx))?;
        self.ending = Ending::Over;
        Poll::Ready(Ok(Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        if let Some(connection) = self.connection.take() {
            self.aside = Some(Box::new(Aside {
                peer: Some(connection.peer.clone()),
                ..Aside::default()
            }));
            // Closing with a linger of zero sends a reset: nobody takes the stream for complete.
            let _ = connection.socket.raw().set_linger(Some(Duration::ZERO));
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(connection) = &self.connection else {
            return Poll::Pending;
        };
        let aside = self.aside.get_or_insert_default();
        let hung_up = aside.hung_up.get_or_insert_with(|| {
            let connection = Arc::clone(connection);
            Box::pin(async move { connection.socket.hung_up().await })
        });
        if hung_up.as_mut().poll(cx).is_ready() {
            aside.hung_up = None;
            return Poll::Ready(connection.error(io::ErrorKind::BrokenPipe.into()));
        }
        connection.poll_watch(&mut aside.watch, cx)
    }

    fn unsent_bytes(&self) -> Option<u64> {
        kernel::unsent_bytes(&self.connection.as_ref()?.socket.raw())
    }

    fn finish_unconfirmed(&mut self) -> Option<Confirmation> {
        let sent = self.ending == Ending::EndSent && self.unsent_bytes().is_none_or(|unsent| unsent == 0);
        sent.then_some(Confirmation::Sent)
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.connection.as_ref()?.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &self.connection {
            Some(connection) => connection.poll_lane(cx, Interest::WRITABLE, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn name(&self) -> String {
        let aborted = || self.aside.as_ref().and_then(|aside| aside.peer.as_ref());
        self.connection
            .as_ref()
            .map(|connection| &connection.peer)
            .or_else(aborted)
            .map_or_else(|| "a connection".to_owned(), Peer::to_string)
    }
}

impl<T: StreamSocket> Drop for SocketSink<T> {
    fn drop(&mut self) {
        if matches!(self.ending, Ending::PeersEnd | Ending::OurEnd) {
            self.abort(&AbortReason::Dropped);
        }
    }
}
