//! A remote file as a sink: `STOR` or `APPE`, the reply that ends it, and the check behind it.
//!
//! Knows no URL and no login.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tidegate::AbortReason;
use tidegate_io::{Blame, Confirmation, EndpointError, ErrorKind, Held, LaneEnd, Sink};

use super::wire::{Client, Transfer, moving};

const SLICES_MAX: usize = 16;

/// Where an upload goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) written_to: String,
    pub(super) rename_to: Option<String>,
    /// Bytes that were there before, where that is known.
    pub(super) standing: Option<u64>,
}

/// An upload. Finished means that the server said 226 and, where it tells, that the size is right; an abort is a reset
/// of the data connection.
pub struct FtpSink {
    state: State,
    name: String,
    place: Place,
    sent: u64,
}

enum State {
    Moving(Box<(Client, Transfer)>),
    Ending(Pin<Box<dyn Future<Output = Result<(), EndpointError>> + Send>>),
    Over,
}

impl FtpSink {
    pub(super) fn new(client: Client, transfer: Transfer, name: String, place: Place) -> Self {
        Self {
            state: State::Moving(Box::new((client, transfer))),
            name,
            place,
            sent: 0,
        }
    }

    fn begin_end(&mut self) {
        let State::Moving(both) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let (mut client, transfer) = *both;
        let (place, sent, name) = (self.place.clone(), self.sent, self.name.clone());
        self.state = State::Ending(Box::pin(async move {
            client.finish(transfer, ErrorKind::Failed).await?;
            let size = client.size(&place.written_to).await?;
            if let (Some(size), Some(standing)) = (size, place.standing)
                && size != standing + sent
            {
                let what = format!(
                    "{name}: the server has {size} bytes instead of {}",
                    standing + sent
                );
                return Err(EndpointError::new(ErrorKind::Mismatch, Blame::Peer, what));
            }
            if let Some(target) = &place.rename_to {
                client.rename(&place.written_to, target).await?;
            }
            client.quit().await;
            Ok(())
        }));
    }

    fn gone(&self) -> EndpointError {
        moving(&self.name, io::ErrorKind::NotConnected.into())
    }
}

impl Sink for FtpSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let State::Moving(both) = &mut self.state else {
            return Poll::Ready(Err(self.gone()));
        };
        let mut slices = [io::IoSlice::new(&[]); SLICES_MAX];
        let filled = held.slices(&mut slices);
        let written = ready!(both.1.poll_write(cx, &slices[..filled]));
        Poll::Ready(match written {
            Ok(0) => Err(moving(&self.name, io::ErrorKind::WriteZero.into())),
            Ok(accepted) => {
                self.sent += accepted as u64;
                Ok(accepted)
            }
            Err(error) => Err(moving(&self.name, error)),
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        match &mut self.state {
            State::Moving(both) => both.1.poll_flush(cx).map_err(|error| moving(&self.name, error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if let State::Moving(both) = &mut self.state {
            if let Err(error) = ready!(both.1.poll_flush(cx)) {
                return Poll::Ready(Err(moving(&self.name, error)));
            }
            self.begin_end();
        }
        let State::Ending(ending) = &mut self.state else {
            return Poll::Ready(Err(self.gone()));
        };
        let result = ready!(ending.as_mut().poll(cx));
        self.state = State::Over;
        Poll::Ready(result.map(|()| Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        if let State::Moving(both) = std::mem::replace(&mut self.state, State::Over) {
            both.1.reset();
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &mut self.state {
            State::Moving(both) => both.1.poll_hangup(cx, &self.name),
            _ => Poll::Pending,
        }
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        match &self.state {
            State::Moving(both) => both.1.lane_end(),
            _ => None,
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: tidegate_io::LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Moving(both) => both.1.poll_lane(cx, tokio::io::Interest::WRITABLE, op),
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for FtpSink {
    fn drop(&mut self) {
        self.abort(&AbortReason::Dropped);
    }
}

impl fmt::Debug for FtpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FtpSink")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
