//! A connection as the system gives it: it can be told to end with a reset, and be watched while nobody reads from it.
//!
//! A connection belongs to hyper, which does not look at it while a body is paused. So it is held in halves: reading is
//! hyper's alone, the writing half is shared with whoever watches for a reset. Knows nothing of HTTP.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, tcp};

/// Resolves when the peer has reset the connection. Keeps the connection open as long as it is there.
pub(crate) type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a guard watches over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The close to come throws away what is not sent and tells the peer so.
    fn reset_on_close(&self);

    /// A watch for a reset, where there can be one.
    fn watch(&self) -> Watch {
        Box::pin(std::future::pending())
    }
}

#[cfg(test)]
impl Wire for tokio::io::DuplexStream {
    fn reset_on_close(&self) {}
}

/// A writing half that is shared. Its drop must not shut the write side, as tokio's does: the close may have to be a
/// reset, and a tidy end before it would look like the end of a body.
#[derive(Debug)]
struct Shared<H: Half>(Option<H>);

/// Where a watch over a connection can be had, as long as the connection is there.
#[derive(Clone, Debug)]
pub(crate) struct Lookout(Weak<Shared<tcp::OwnedWriteHalf>>);

impl Lookout {
    pub(crate) fn watch(&self) -> Option<Watch> {
        self.0.upgrade().map(TcpWire::watch_by)
    }
}

impl TcpWire {
    pub(crate) fn lookout(&self) -> Lookout {
        Lookout(Arc::downgrade(&self.write))
    }
}

/// A writing half of one of tokio's streams.
trait Half: Send + Sync + 'static {
    type Stream;
    fn stream(&self) -> &Self::Stream;
    fn forget(self);
}

impl<H: Half> Shared<H> {
    fn stream(&self) -> io::Result<&H::Stream> {
        // There until the drop.
        self.0
            .as_ref()
            .map(Half::stream)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<H: Half> Drop for Shared<H> {
    fn drop(&mut self) {
        if let Some(half) = self.0.take() {
            half.forget();
        }
    }
}

macro_rules! halved {
    ($(#[$doc:meta])* $name:ident, $stream:ident, $halves:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            read: $halves::OwnedReadHalf,
            write: Arc<Shared<$halves::OwnedWriteHalf>>,
        }

        impl Half for $halves::OwnedWriteHalf {
            type Stream = $stream;
            fn stream(&self) -> &$stream {
                self.as_ref()
            }
            fn forget(self) {
                Self::forget(self);
            }
        }

        impl From<$stream> for $name {
            fn from(stream: $stream) -> Self {
                let (read, write) = stream.into_split();
                Self {
                    read,
                    write: Arc::new(Shared(Some(write))),
                }
            }
        }

        impl $name {
            fn watch_by(write: Arc<Shared<$halves::OwnedWriteHalf>>) -> Watch {
                Box::pin(async move {
                    // A reset wakes this, bytes and a clean end do not.
                    if let Ok(stream) = write.stream() {
                        let _ = stream.ready(Interest::ERROR).await;
                    }
                })
            }
        }

        impl Wire for $name {
            fn reset_on_close(&self) {
                if let Ok(stream) = self.write.stream() {
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
            }

            fn watch(&self) -> Watch {
                Self::watch_by(Arc::clone(&self.write))
            }
        }

        impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.read).poll_read(cx, buf)
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let stream = self.write.stream()?;
                loop {
                    ready!(stream.poll_write_ready(cx))?;
                    match stream.try_write(buf) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        written => return Poll::Ready(written),
                    }
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let stream = self.write.stream()?;
                loop {
                    ready!(stream.poll_write_ready(cx))?;
                    match stream.try_write_vectored(bufs) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        written => return Poll::Ready(written),
                    }
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(SockRef::from(self.write.stream()?).shutdown(Shutdown::Write))
            }
        }
    };
}

halved!(
    /// A TCP connection of a server.
    TcpWire, TcpStream, tcp
);

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use self::unix::UnixWire;
