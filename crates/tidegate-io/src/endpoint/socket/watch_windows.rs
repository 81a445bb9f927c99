//! News of a connection's death while nobody reads or writes, on Windows: the completion port has no event for it alone.
//!
//! Knows nothing of whose error it was. The runtime keeps what the system last said of the connection, and a reset closes
//! its write side; a look that takes nothing tells of what came without an event. With nothing unread the next event
//! brings a reset at once. With unread data, or after the peer's end, the event to wait for has been: then it is looked
//! at now and then.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::Interest;

use super::StreamSocket;

/// Whether a read or write that did less than it was asked for has used up the readiness: here the runtime's next event must
/// be asked for by one that would block.
pub(super) const SHORT_IS_BLOCKED: bool = false;

/// How often a connection with unread data is looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection's error, once it has one; `None` when it is to be looked at again. Unread data is not touched.
pub(super) async fn error<T: StreamSocket>(socket: &T) -> Option<io::Error> {
    if let Ok(Some(error)) = socket.raw().take_error() {
        return Some(error);
    }
    if is_reset(socket) {
        return Some(io::ErrorKind::ConnectionReset.into());
    }
    let look = || socket.raw().peek(&mut [MaybeUninit::uninit()]);
    match socket.attempt(Interest::READABLE, look) {
        Ok(_) => tokio::time::sleep(PAUSE).await,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            if socket.news(Interest::READABLE).await.is_err() {
                return std::future::pending().await;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Some(error),
    }
    None
}

/// Whether the system has said that nothing can be sent any more: a peer's end does not do that.
fn is_reset<T: StreamSocket>(socket: &T) -> bool {
    let known = pin!(socket.news(Interest::READABLE | Interest::WRITABLE));
    match known.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(known)) => known.is_write_closed(),
        Poll::Ready(Err(_)) | Poll::Pending => false,
    }
}
