//! The reading half of a stream socket.
//!
//! Knows nothing of what is written.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::Interest;

use super::StreamSocket;
use super::connection::{Connection, Watch};
use crate::{Buffers, EndpointError, LaneEnd, LaneOp, RunAhead, Source};

/// The reading half of a stream socket.
pub struct SocketSource<T: StreamSocket> {
    pub(super) connection: Arc<Connection<T>>,
    pub(super) watch: Option<Watch>,
}

impl<T: StreamSocket> Source for SocketSource<T> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let connection = &self.connection;
        // Bytes first, then the buffer: an idle connection holds none.
        ready!(connection.socket.poll_readable(cx)).map_err(|error| connection.error(error))?;
        let mut buffer = buffers.take(max);
        let asked = buffer.space().len();
        match ready!(connection.poll_read(cx, buffer.space())) {
            Ok(0) => Poll::Ready(match connection.death() {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            }),
            Ok(got) => {
                buffers.learn(asked, got);
                Poll::Ready(Ok(Some(buffer.freeze(got))))
            }
            Err(error) => Poll::Ready(Err(connection.error(error))),
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.connection.poll_watch(&mut self.watch, cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _gone = ready!(self.connection.poll_drop_rest(cx));
        Poll::Ready(())
    }

    fn set_run_ahead(&mut self, ahead: RunAhead) {
        self.connection.set_run_ahead(ahead);
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.connection.lane_end()
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        self.connection.poll_lane(cx, Interest::READABLE, op)
    }

    fn name(&self) -> String {
        self.connection.peer.to_string()
    }
}
