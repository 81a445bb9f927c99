//! Anything with tokio's `AsyncRead` or `AsyncWrite` as a source or a sink, for protocols and TLS.
//!
//! Knows the two traits and nothing of what is behind them: no hang-up, no lane.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate::AbortReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Buffers, Confirmation, EndpointError, Held, Sink, Source};

const SLICES_MAX: usize = 16;

/// A reader as a source. Its end is taken as clean; an `UnexpectedEof` is a truncation.
#[derive(Debug)]
pub struct AsyncSource<R> {
    reader: R,
    name: Arc<str>,
}

impl<R> AsyncSource<R> {
    /// Wraps `reader`; `name` is for people.
    pub fn new(reader: R, name: impl Into<Arc<str>>) -> Self {
        Self {
            reader,
            name: name.into(),
        }
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: AsyncRead + Unpin> Source for AsyncSource<R> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let mut buffer = buffers.take(max);
        let mut space = ReadBuf::new(buffer.space());
        let asked = space.capacity();
        let result = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut space));
        let got = space.filled().len();
        Poll::Ready(match result {
            Ok(()) if got == 0 => Ok(None),
            Ok(()) => {
                buffers.learn(asked, got);
                Ok(Some(buffer.freeze(got)))
            }
            Err(error) => Err(EndpointError::io(Arc::clone(&self.name), error)),
        })
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// A writer as a sink. Finish shuts it down and says *sent*; abort drops it.
#[derive(Debug)]
pub struct AsyncSink<W> {
    writer: Option<W>,
    name: Arc<str>,
}

impl<W> AsyncSink<W> {
    /// Wraps `writer`; `name` is for people.
    pub fn new(writer: W, name: impl Into<Arc<str>>) -> Self {
        Self {
            writer: Some(writer),
            name: name.into(),
        }
    }

    fn error(&self, error: std::io::Error) -> EndpointError {
        EndpointError::io(Arc::clone(&self.name), error)
    }
}

impl<W: AsyncWrite + Unpin> Sink for AsyncSink<W> {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Err(self.error(std::io::ErrorKind::NotConnected.into())));
        };
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = held.slices(&mut slices);
        let result = if writer.is_write_vectored() {
            ready!(Pin::new(writer).poll_write_vectored(cx, &slices[..filled]))
        } else {
            ready!(Pin::new(writer).poll_write(cx, &slices[0]))
        };
        Poll::Ready(match result {
            Ok(0) => Err(self.error(std::io::ErrorKind::WriteZero.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(self.error(error)),
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_flush(cx).map_err(|error| self.error(error)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if let Some(writer) = &mut self.writer {
            ready!(Pin::new(writer).poll_shutdown(cx)).map_err(|error| self.error(error))?;
        }
        self.writer = None;
        Poll::Ready(Ok(Confirmation::Sent))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        self.writer = None;
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}
