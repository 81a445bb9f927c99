//! A remote file as a source: `RETR`, the reply that ends it, and the checks behind it.
//!
//! Knows no URL and no login.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_io::{Blame, Buffers, EndpointError, ErrorKind, LaneEnd, Source};

use super::wire::{Client, Transfer, moving};

/// What the server said of the file beforehand.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) offset: u64,
    pub(super) size: Option<u64>,
    pub(super) modify_unix_seconds: Option<i64>,
    pub(super) hash: Option<String>,
}

/// A download. Its clean end is the server's 226 **and** the announced size (and hash, where that was asked for);
/// anything less is `Truncated` or `Mismatch`.
pub struct FtpSource {
    state: State,
    name: String,
    expected: Expected,
    /// Of the file, with what was there before.
    offset: u64,
    hash: Option<Sha256>,
    /// A TLS stream without its closing alert ends cleanly only where the size proves it.
    alert: Alert,
}

enum State {
    Moving(Box<(Client, Transfer)>),
    Ending(Pin<Box<dyn Future<Output = Result<(), EndpointError>> + Send>>),
    Ended,
    Failed(EndpointError),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Alert {
    Fine,
    Missing,
}

impl FtpSource {
    pub(super) fn new(client: Client, transfer: Transfer, name: String, expected: Expected) -> Self {
        Self {
            state: State::Moving(Box::new((client, transfer))),
            name,
            offset: expected.offset,
            hash: expected.hash.is_some().then(Sha256::new),
            expected,
            alert: Alert::Fine,
        }
    }

    /// The size of the whole file, where the server told it.
    pub fn size(&self) -> Option<u64> {
        self.expected.size
    }

    /// When the file was last changed, in seconds since 1970, where the server told it.
    pub fn modify_unix_seconds(&self) -> Option<i64> {
        self.expected.modify_unix_seconds
    }

    /// The data connection is at its end: asks for the reply, then checks.
    fn begin_end(&mut self) {
        let State::Moving(both) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let (mut client, transfer) = *both;
        let checked = self.check();
        self.state = State::Ending(Box::pin(async move {
            client.finish(transfer, ErrorKind::Truncated).await?;
            client.quit().await;
            checked
        }));
    }

    fn check(&mut self) -> Result<(), EndpointError> {
        let fault = |kind, what| {
            Err(EndpointError::new(
                kind,
                Blame::Peer,
                format!("{}: {what}", self.name),
            ))
        };
        match self.expected.size {
            Some(size) if self.offset < size => {
                return fault(
                    ErrorKind::Truncated,
                    format!("ended after {} of {size} bytes", self.offset),
                );
            }
            Some(size) if self.offset > size => {
                return fault(
                    ErrorKind::Mismatch,
                    format!("{} bytes came instead of {size}", self.offset),
                );
            }
            None if self.alert == Alert::Missing => {
                return fault(
                    ErrorKind::Truncated,
                    "ended without the closing alert of TLS".to_owned(),
                );
            }
            _ => {}
        }
        if let (Some(hash), Some(expected)) = (self.hash.take(), &self.expected.hash) {
            let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if found != *expected {
                return fault(ErrorKind::Mismatch, "the SHA-256 is not the server's".to_owned());
            }
        }
        Ok(())
    }

    fn poll_moving(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let State::Moving(both) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        let transfer = &mut both.1;
        ready!(transfer.poll_readable(cx))?;
        let mut buffer = buffers.take(max);
        let asked = buffer.space().len().min(max);
        match ready!(transfer.poll_read(cx, &mut buffer.space()[..asked])) {
            Ok(0) => Poll::Ready(Ok(None)),
            Ok(got) => {
                buffers.learn(asked, got);
                Poll::Ready(Ok(Some(buffer.freeze(got))))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.alert = Alert::Missing;
                Poll::Ready(Ok(None))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if let State::Ending(ending) = &mut self.state {
            self.state = match ready!(ending.as_mut().poll(cx)) {
                Ok(()) => State::Ended,
                Err(error) => State::Failed(error),
            };
        }
        Poll::Ready(match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(None),
        })
    }
}

impl Source for FtpSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if let State::Moving(_) = self.state {
            match ready!(self.poll_moving(cx, buffers, max)) {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    if let Some(hash) = &mut self.hash {
                        hash.update(&bytes);
                    }
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Ok(None) => self.begin_end(),
                Err(error) => {
                    let error = moving(&self.name, error);
                    self.state = State::Failed(error.clone());
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.poll_end(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match &mut self.state {
            State::Moving(both) => both.1.poll_hangup(cx, &self.name),
            _ => Poll::Pending,
        }
    }

    fn poll_stop(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        if let State::Moving(both) = std::mem::replace(&mut self.state, State::Ended) {
            both.1.reset();
        }
        Poll::Ready(())
    }

    fn size_hint(&self) -> Option<u64> {
        self.expected.size.map(|size| size.saturating_sub(self.offset))
    }

    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        match &self.state {
            // A hash must see the bytes.
            State::Moving(both) if self.hash.is_none() => both.1.lane_end(),
            _ => None,
        }
    }

    fn lane_moved(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, op: tidegate_io::LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Moving(both) => both.1.poll_lane(cx, tokio::io::Interest::READABLE, op),
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl fmt::Debug for FtpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FtpSource")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
