//! Appends one message to a Maildir mailbox: `tmp/`, sync, `new/`.
//!
//! Knows file names and the three steps of a delivery; knows nothing of mail headers, readers or indexes.
//!
//! The names ([`UniqueName`], [`Flags`], [`Folder`]) and the line-end normaliser are pure. The disk is touched in one
//! file only, always from the blocking pool. [`sink`](fn@sink) gives the delivery as a `tidegate_io::Sink`;
//! [`append`](fn@append) gives it as a core consumer with a future for the outcome. (Twisted:
//! `mail.maildir._MaildirMailboxAppendMessageTask`.)
#![forbid(unsafe_code)]

mod append;
mod delivery;
mod error;
mod flags;
mod folder;
mod lines;
mod mailbox;
mod name;
mod options;
mod sink;

pub use append::{Delivering, append};
pub use error::MaildirError;
pub use flags::{Flags, FlagsError, INFO_SEPARATOR};
pub use folder::{Folder, FolderError};
pub use lines::{LineEnds, Normaliser};
pub use name::{NameError, UniqueName};
pub use options::{Create, Options, SWEEP_AGE, Target};
pub use sink::{MaildirSink, sink};
