//! What the sockets of the runtime must offer to be the ends of a connection.
//!
//! Knows no connection.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{Interest, Ready};

use crate::LaneFd;

/// What a stream socket of the runtime must offer.
pub trait StreamSocket: Send + Sync + 'static {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn attempt<T>(&self, interest: Interest, run: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
    /// Resolves once the runtime has news of that kind.
    fn news(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send;
    /// Resolves once the peer has closed both directions, where the system tells that without an error.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
    fn raw(&self) -> SockRef<'_>;
    /// What a lane works on, where there are lanes.
    fn lane_fd(&self) -> Option<LaneFd<'_>>;
}

macro_rules! stream_socket {
    ($socket:ty, $hung_up:path) => {
        impl $crate::endpoint::socket::StreamSocket for $socket {
            fn poll_readable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.poll_read_ready(cx)
            }
            fn poll_writable(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
                self.poll_write_ready(cx)
            }
            fn attempt<T>(
                &self,
                interest: tokio::io::Interest,
                run: impl FnOnce() -> std::io::Result<T>,
            ) -> std::io::Result<T> {
                self.try_io(interest, run)
            }
            fn news(
                &self,
                interest: tokio::io::Interest,
            ) -> impl Future<Output = std::io::Result<tokio::io::Ready>> + Send {
                self.ready(interest)
            }
            fn hung_up(&self) -> impl Future<Output = ()> + Send {
                $hung_up(self)
            }
            fn raw(&self) -> socket2::SockRef<'_> {
                socket2::SockRef::from(self)
            }
            fn lane_fd(&self) -> Option<$crate::LaneFd<'_>> {
                $crate::lane_fd(self)
            }
        }
    };
}
pub(crate) use stream_socket;
