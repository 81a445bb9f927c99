//! What can go wrong with a delivery.
//!
//! Knows nothing of exit codes; says what happened and translates itself for the driver layer.

use std::io;
use std::path::PathBuf;

use tidegate_io::{Blame, EndpointError, ErrorKind};

/// Why a message was not delivered. After any of these nothing of it is in `new/`, `cur/` or `tmp/`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaildirError {
    /// There is no mailbox and none was to be created.
    #[error("{0} is no Maildir mailbox")]
    Missing(PathBuf),
    /// The mailbox could not be created, or its `tmp/` takes no file.
    #[error("cannot deliver into {path}")]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The message is larger than allowed.
    #[error("the message is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// Writing or syncing failed: a full disk, a quota, a broken device.
    #[error("cannot store the message in {path}")]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The delivery was aborted before the message appeared.
    #[error("the delivery was aborted")]
    Aborted,
    /// The thread that did the disk work is gone: the runtime is shutting down.
    #[error("the delivery was interrupted by the end of the program")]
    Interrupted,
}

impl From<MaildirError> for EndpointError {
    fn from(error: MaildirError) -> Self {
        let text = error.to_string();
        match error {
            MaildirError::Missing(_) => Self::new(ErrorKind::Open, Blame::Caller, text),
            MaildirError::Open { error, .. } => Self::open(text, error),
            MaildirError::TooLarge { .. } => Self::new(ErrorKind::Failed, Blame::Caller, text),
            MaildirError::Store { error, .. } => {
                Self::new(ErrorKind::Failed, Blame::System, text).caused_by(error)
            }
            MaildirError::Aborted => Self::new(ErrorKind::Failed, Blame::Caller, text),
            MaildirError::Interrupted => Self::new(ErrorKind::Failed, Blame::System, text),
        }
    }
}
