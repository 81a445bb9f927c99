//! What can go wrong with files, in the words of files.
//!
//! Knows nothing of reply codes: the server translates.

use std::io;
use std::sync::Arc;

/// Why the storage refused or failed. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Nothing has that name.
    #[error("no such file or directory")]
    NotFound,
    /// The system forbids it, or the path leads out of the root.
    #[error("permission denied")]
    Denied,
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A file was needed.
    #[error("is a directory")]
    IsADirectory,
    /// Neither file nor directory: a device, a FIFO, a socket.
    #[error("not a regular file")]
    NotAFile,
    /// The directory holds something.
    #[error("directory not empty")]
    NotEmpty,
    /// The device is full.
    #[error("no space left")]
    NoSpace,
    /// The user's share is used up, or the file would pass a size limit.
    #[error("quota exceeded")]
    Quota,
    /// The server does not let anybody change anything.
    #[error("read-only")]
    ReadOnly,
    /// No name the system takes.
    #[error("name not allowed")]
    BadName,
    /// A resume from behind the end of what is there.
    #[error("the offset lies behind the end, at {size} bytes")]
    PastEnd {
        /// How much is there.
        size: u64,
    },
    /// Anything else the system reported.
    #[error("{0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::PermissionDenied => Self::Denied,
            Kind::AlreadyExists => Self::Exists,
            Kind::NotADirectory => Self::NotADirectory,
            Kind::IsADirectory => Self::IsADirectory,
            Kind::DirectoryNotEmpty => Self::NotEmpty,
            Kind::StorageFull => Self::NoSpace,
            Kind::QuotaExceeded | Kind::FileTooLarge => Self::Quota,
            Kind::ReadOnlyFilesystem => Self::ReadOnly,
            Kind::InvalidFilename | Kind::InvalidInput => Self::BadName,
            _ => Self::Io(Arc::new(error)),
        }
    }
}
