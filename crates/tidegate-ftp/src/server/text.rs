//! A source whose line ends are converted on the way: `TYPE A` in either direction.
//!
//! Knows no file and no connection.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate_io::{Buffers, EndpointError, LaneEnd, LaneOp, RunAhead, Source};

use crate::ascii::{FromWire, ToWire};

/// A source whose line ends are converted on the way.
pub(super) struct Converted {
    source: Box<dyn Source + Send>,
    way: Way,
}

enum Way {
    ToWire(ToWire),
    FromWire(FromWire),
    Ended,
}

impl Converted {
    pub(super) fn to_wire(source: Box<dyn Source + Send>) -> Self {
        Self {
            source,
            way: Way::ToWire(ToWire::default()),
        }
    }

    pub(super) fn from_wire(source: Box<dyn Source + Send>) -> Self {
        Self {
            source,
            way: Way::FromWire(FromWire::default()),
        }
    }

    fn convert(&mut self, chunk: Option<Bytes>) -> Option<Bytes> {
        match (&mut self.way, chunk) {
            (Way::ToWire(way), Some(chunk)) => Some(way.convert(&chunk)),
            (Way::FromWire(way), Some(chunk)) => Some(way.convert(&chunk)),
            (Way::FromWire(way), None) => {
                let last = way.end();
                self.way = Way::Ended;
                last
            }
            (Way::ToWire(_) | Way::Ended, None) => None,
            (Way::Ended, chunk) => chunk,
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Source for Converted {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        loop {
            // At most doubles.
            let chunk = ready!(self.source.poll_read(cx, buffers, max.div_ceil(2)))?;
            match self.convert(chunk) {
                Some(chunk) if chunk.is_empty() => {}
                converted => return Poll::Ready(Ok(converted)),
            }
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.source.poll_hangup(cx)
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_stop(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_discard(cx)
    }

    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_confirm(cx)
    }

    fn set_run_ahead(&mut self, ahead: RunAhead) {
        self.source.set_run_ahead(ahead);
    }

    /// None: how many line ends are to come, nobody knows.
    fn size_hint(&self) -> Option<u64> {
        None
    }

    /// None: the bytes change.
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        None
    }

    fn poll_lane(&mut self, _cx: &mut Context<'_>, _op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn lane_moved(&mut self, _bytes: u64) {}

    fn name(&self) -> String {
        format!("{} as text", self.source.name())
    }
}
