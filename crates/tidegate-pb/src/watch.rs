//! Notices that a connection broke while nobody reads from it.
//!
//! Knows the socket and nothing of what it carries; touches no unread data.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Looks while it is polled; made anew after [`forget`](Self::forget).
#[derive(Default)]
pub(crate) struct Watch(Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>);

impl Watch {
    /// Resolves with the error once the system reports one. The system tells it only once, so it is the caller's now.
    pub(crate) fn poll(&mut self, stream: &Arc<TcpStream>, cx: &mut Context<'_>) -> Poll<io::Error> {
        let broken = self.0.get_or_insert_with(|| Box::pin(broken(Arc::clone(stream))));
        broken.as_mut().poll(cx)
    }

    /// Somebody reads again, and will notice by reading.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

async fn broken(stream: Arc<TcpStream>) -> io::Error {
    loop {
        if let Err(error) = stream.ready(Interest::ERROR).await {
            return error;
        }
        match SockRef::from(&*stream).take_error() {
            Ok(Some(error)) | Err(error) => return error,
            Ok(None) => {
                // Readiness that is not about an error of ours: forget it, or the loop would spin.
                let _: io::Result<()> =
                    stream.try_io(Interest::ERROR, || Err(io::ErrorKind::WouldBlock.into()));
                tokio::task::yield_now().await;
            }
        }
    }
}
