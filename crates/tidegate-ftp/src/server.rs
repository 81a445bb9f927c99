//! The server: a directory given out over FTP, with limits on everything a client can ask for.
//!
//! Refuses to know where its options come from. A session is one task; a session that waits holds no buffer.

mod control;
mod failure;
mod guests;
mod opening;
mod options;
mod policy;
mod session;
mod text;
mod transfer;
mod verbs;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::grammar::Reply;
use crate::storage::{Storage, StorageError};
use crate::users::Users;
use guests::Guests;
use session::Session;

pub use options::{Anonymous, Limits, ServeOptions, SiteChmod, Tls};

/// After an `accept` that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The directory cannot be served.
    #[error("cannot serve the directory: {0}")]
    Directory(#[from] StorageError),
    /// Nobody could ever log in.
    #[error("nobody may log in: there are no users, and anonymous login is refused")]
    Nobody,
    /// The TLS configuration lacks what sessions need.
    #[error("cannot prepare TLS: {0}")]
    Tls(String),
}

/// A server that is set up.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ServeOptions,
    pub(crate) storage: Storage,
    pub(crate) users: Users,
    pub(crate) tls: Option<options::Acceptors>,
    pub(crate) guests: Guests,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    Serving,
    /// No new work; what is under way may end.
    Closing,
}

/// Serves `directory` on `listener` until `shutdown` resolves; then transfers under way get
/// [`Limits::shutdown_grace`] to end.
///
/// # Errors
/// [`ServeError`], before anything is served.
///
/// # Cancel safety
/// Dropping the future resets every connection at once.
pub async fn serve(
    directory: &Path,
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<Ended, ServeError> {
    let server = Server::new(directory, options)?;
    Ok(server.run(listener, shutdown).await)
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ended {
    /// Sessions that were still busy when the grace was over.
    pub sessions_cut: usize,
}

impl Server {
    /// Sets a server up. Blocks for the time it takes to open a directory.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn new(directory: &Path, options: ServeOptions) -> Result<Self, ServeError> {
        let users = options.users.clone().unwrap_or_default();
        if users.is_empty() && options.anonymous == Anonymous::Refused {
            return Err(ServeError::Nobody);
        }
        let storage = Storage::open(directory, options.access)?;
        let tls = options::Acceptors::new(&options.tls)?;
        Ok(Self {
            shared: Arc::new(Shared {
                guests: Guests::new(&options.limits),
                options,
                storage,
                users,
                tls,
            }),
        })
    }

    /// Accepts and serves until `shutdown` resolves and the last session has ended, or the grace is over.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Ended {
        let (stage, _) = watch::channel(Stage::Serving);
        let mut sessions = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = sessions.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer, &stage, &mut sessions),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let _ = stage.send(Stage::Closing);
        let grace = self.shared.options.limits.shutdown_grace;
        let all_ended = async { while sessions.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(grace, all_ended).await;
        let sessions_cut = sessions.len();
        if sessions_cut > 0 {
            tracing::warn!(sessions_cut, "still busy after the grace: cut short");
        }
        sessions.shutdown().await;
        Ended { sessions_cut }
    }

    fn welcome(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stage: &watch::Sender<Stage>,
        sessions: &mut JoinSet<()>,
    ) {
        match self.shared.guests.admit(peer.ip()) {
            Ok(seat) => {
                let (shared, stage) = (Arc::clone(&self.shared), stage.subscribe());
                sessions.spawn(async move {
                    match Session::new(shared, stream, peer, stage) {
                        Ok(session) => session.run().await,
                        Err(error) => tracing::debug!(%peer, %error, "gone before it was greeted"),
                    }
                    drop(seat);
                });
            }
            Err(why) => {
                tracing::info!(%peer, %why, "refused");
                // Best effort, without waiting: the socket's buffer is empty.
                let _ = stream.try_write(&Reply::new(421, why.to_string()).encode());
            }
        }
    }
}
