//! One end of a Windows pipe whose reads and writes complete on the runtime's completion port: nothing is polled.
//!
//! Knows no names and no ways to end; the endpoints over it do. The runtime reads one buffer ahead by itself and copies
//! what it writes, so a write is told as accepted only once the system has completed it, and one is under way at a time.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer};

use crate::{Buffers, Held};

/// The most that one write takes: it is copied.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// How many pieces go into one write.
const SLICES_MAX: usize = 16;

/// `ERROR_PIPE_NOT_CONNECTED`: the server has disconnected us, and what it had sent is gone.
const NOT_CONNECTED: i32 = 233;

/// An end of a pipe, on either side.
#[derive(Debug)]
pub(crate) enum PipeEnd {
    /// The side that made it.
    Server(NamedPipeServer),
    /// The side that opened it by its name.
    Client(NamedPipeClient),
}

/// Calls the same method of whichever side it is.
macro_rules! either {
    ($end:expr, $pipe:ident => $call:expr) => {
        match $end {
            PipeEnd::Server($pipe) => $call,
            PipeEnd::Client($pipe) => $call,
        }
    };
}

impl PipeEnd {
    /// `None` is the end: nobody has the other side open any more.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let mut is_empty_again = false;
        loop {
            ready!(either!(self, pipe => pipe.poll_read_ready(cx)))?;
            let mut buffer = buffers.take(max);
            let asked = buffer.space().len();
            match either!(self, pipe => pipe.try_read(buffer.space())) {
                // An end repeats itself; a peer's write of nothing does not.
                Ok(0) if is_empty_again => return Poll::Ready(Ok(None)),
                Ok(0) => is_empty_again = true,
                Ok(got) => {
                    buffers.learn(asked, got);
                    return Poll::Ready(Ok(Some(buffer.freeze(got))));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => is_empty_again = false,
                Err(error) => return Poll::Ready(Err(spelled(error))),
            }
        }
    }

    /// Ready once the other side is gone, for an end that only writes: what comes from there is dropped.
    pub(crate) fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_dropping(cx)) {
            Ok(()) => Poll::Ready(()),
            // Opened for writing alone: its end cannot be seen before something is written.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    }

    /// Reads and drops until the end.
    fn poll_dropping(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffers = Buffers::default();
        while ready!(self.poll_read(cx, &mut buffers, 1024))?.is_some() {}
        Poll::Ready(Ok(()))
    }

    /// The server's way to say that a stream was cut short: the client's next read is an error, not an end. A client has
    /// none.
    pub(crate) fn cut(&self) {
        if let Self::Server(server) = self
            && let Err(error) = server.disconnect()
        {
            tracing::debug!(%error, "a pipe was not disconnected");
        }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, pipe => pipe.try_write_vectored(slices))
    }

    /// Begins a write and forgets, in the same step, that the pipe was writable: the next time it is, this is complete.
    fn begin_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut begun = None;
        let begin = || {
            begun = Some(self.try_write(slices)?);
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        };
        let result = either!(self, pipe => pipe.try_io(Interest::WRITABLE, begin));
        match (begun, result) {
            (Some(count), _) => Ok(count),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// What a writer knows of its own last write.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    /// Bytes at the front of what is held whose write has not completed.
    under_way: usize,
}

impl Writing {
    /// Takes bytes from the front of `held` and says how many the system has accepted.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        end: &PipeEnd,
        held: &Held,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(end, pipe => pipe.poll_write_ready(cx)))?;
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = following(held, self.under_way, &mut slices);
            // With nothing to follow, a write of nothing: a pipe of bytes ignores it, and it tells whether the last one
            // failed.
            let begun = match filled {
                0 => end.try_write(&[]),
                _ => end.begin_write(&slices[..filled]),
            };
            match begun {
                Ok(begun) => match std::mem::replace(&mut self.under_way, begun) {
                    0 => {}
                    completed => return Poll::Ready(Ok(completed)),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(spelled(error))),
            }
        }
    }
}

/// The pieces of `held` behind its first `skip` bytes, as many as one write takes.
fn following<'a>(held: &'a Held, mut skip: usize, slices: &mut [IoSlice<'a>]) -> usize {
    let mut room = WRITE_BYTES_MAX;
    let mut filled = 0;
    for piece in held.pieces() {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        let piece = &piece[skipped..];
        let piece = &piece[..piece.len().min(room)];
        if filled == slices.len() || room == 0 {
            break;
        }
        if !piece.is_empty() {
            slices[filled] = IoSlice::new(piece);
            room -= piece.len();
            filled += 1;
        }
    }
    filled
}

/// Names what the standard library has no kind for.
fn spelled(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(NOT_CONNECTED) => io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the other side disconnected the pipe",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn what_follows_a_write_under_way_starts_where_that_ends() {
        let mut held = Held::default();
        for piece in ["abc", "de", "fghi"] {
            held.push(Bytes::from_static(piece.as_bytes()));
        }
        for skip in 0..=9 {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = following(&held, skip, &mut slices);
            let joined = joined(&slices[..filled]);
            let expected = &b"abcdefghi"[skip..];
            assert_eq!(joined, &expected[..joined.len()], "after {skip}");
            assert_eq!(joined.is_empty(), expected.is_empty());
        }
        held.push(Bytes::from(vec![0; 3 * WRITE_BYTES_MAX]));
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = following(&held, 1, &mut slices);
        assert_eq!(joined(&slices[..filled]).len(), WRITE_BYTES_MAX);
    }
}
