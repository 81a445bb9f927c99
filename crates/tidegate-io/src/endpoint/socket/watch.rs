//! News of a connection's death while nobody reads or writes, where the system has an event for it.
//!
//! Knows nothing of whose error it was.

use std::io;

use tokio::io::Interest;

use super::StreamSocket;

/// Whether the system has no more, or no more room, when it did less than it was asked for.
pub(super) const SHORT_IS_BLOCKED: bool = true;

/// The connection's error, once it has one; `None` when somebody else took it. Unread data is not touched.
pub(super) async fn error<T: StreamSocket>(socket: &T) -> Option<io::Error> {
    if socket.news(Interest::ERROR).await.is_err() {
        return std::future::pending().await;
    }
    match socket.raw().take_error() {
        Ok(Some(error)) | Err(error) => Some(error),
        Ok(None) => {
            // Not for us: forget this readiness.
            let _: io::Result<()> = socket.attempt(Interest::ERROR, || Err(io::ErrorKind::WouldBlock.into()));
            None
        }
    }
}
