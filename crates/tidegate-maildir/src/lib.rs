//! Appends one message to a Maildir mailbox: `tmp/`, sync, `new/`.
//!
//! Knows file names and the three steps of a delivery; knows nothing of mail headers, readers or indexes.
//!
//! The names ([`UniqueName`], [`Flags`], [`Folder`]) and the line-end normaliser are pure. The disk is touched in one
//! file only, always from the blocking pool. [`sink`](fn@sink) gives the delivery as a `tidegate_io::Sink`;
//! [`append`](fn@append) gives it as a core consumer with a future for the outcome. (Twisted:
//! `mail.maildir._MaildirMailboxAppendMessageTask`.)
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let mailbox = directory.path().join("Maildir");
//! use tidegate::{Consumer as _, FinishableConsumer as _, Marks};
//! let (message, delivery) = tidegate_maildir::append(mailbox, Default::default(), Marks::default());
//! let delivery = tokio::spawn(delivery);
//! let _ = message.write("Subject: hello\n\nworld\n".into())?;
//! message.finish();
//! let path = delivery.await??;
//! assert_eq!(std::fs::read(path)?, b"Subject: hello\n\nworld\n");
//! # Ok(())
//! # }
//! ```
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
#[cfg_attr(not(target_os = "linux"), path = "renaming/none.rs")]
mod renaming;
mod sink;
#[cfg_attr(unix, path = "system/unix.rs")]
#[cfg_attr(windows, path = "system/windows.rs")]
mod system;

pub use append::{Delivering, append};
pub use error::MaildirError;
pub use flags::{Flags, FlagsError, INFO_SEPARATOR};
pub use folder::{Folder, FolderError};
pub use lines::{LineEnds, Normaliser};
pub use name::{NameError, UniqueName};
pub use options::{Create, Options, SWEEP_AGE, Target};
pub use sink::{MaildirSink, sink};
