//! Storage errors and flow errors as replies.
//!
//! The one place that knows both languages.

use tidegate_io::{ErrorKind, FlowError, FlowErrorKind, Side};

use crate::grammar::{CommandError, LineError, PathError, Reply};
use crate::storage::StorageError;

/// Before a transfer, or for a command without one: permanent unless the device is full. Names the path.
pub(crate) fn refused(path: &[u8], error: &StorageError) -> Reply {
    let code = match error {
        StorageError::NoSpace => 452,
        StorageError::Quota => 552,
        StorageError::BadName => 553,
        StorageError::Io(_) => 451,
        StorageError::PastEnd { .. } => 554,
        _ => 550,
    };
    let mut text = path.to_vec();
    text.extend_from_slice(format!(": {}", sentence(error)).as_bytes());
    Reply::new(code, text)
}

/// A transfer that had begun and was cut short.
pub(crate) fn cut_short(error: &FlowError) -> Reply {
    if let Some(storage) = storage_error(error) {
        let code = match storage {
            StorageError::NoSpace => 452,
            StorageError::Quota => 552,
            _ => 451,
        };
        return Reply::new(code, format!("Transfer failed: {}", sentence(storage)));
    }
    let is_local = error.cause.blame == tidegate_io::Blame::System && error.cause.kind == ErrorKind::Failed;
    match (error.kind, error.side) {
        (FlowErrorKind::Aborted, _) => Reply::new(426, "Transfer aborted"),
        (FlowErrorKind::Stalled, _) => Reply::new(426, "Data connection stalled; transfer aborted"),
        (FlowErrorKind::Truncated, Some(Side::Source)) if !is_local => {
            Reply::new(426, "Data connection ended too early; transfer aborted")
        }
        _ if is_local => Reply::new(451, "Transfer failed: local error"),
        _ => Reply::new(426, "Data connection broke; transfer aborted"),
    }
}

/// A line that is no command.
pub(crate) fn not_a_command(error: CommandError) -> Reply {
    match error {
        CommandError::Unknown => Reply::new(500, "Not a command"),
        CommandError::NotServed => Reply::new(502, "Not served here"),
        CommandError::Argument => Reply::new(501, "Argument missing or malformed"),
        CommandError::Parameter => Reply::new(504, "Not supported with this parameter"),
        CommandError::Family => Reply::new(522, "Network protocol not supported, use (1,2)"),
        CommandError::Protection => Reply::new(536, "Protection level not offered; use C or P"),
    }
}

pub(crate) fn not_a_line(error: LineError) -> Reply {
    match error {
        LineError::TooLong => Reply::new(500, "Command line too long"),
    }
}

pub(crate) fn not_a_path(error: PathError) -> Reply {
    match error {
        PathError::TooLong => Reply::new(553, "Path too long"),
        PathError::BadName => Reply::new(553, "Name not allowed"),
    }
}

fn storage_error(error: &FlowError) -> Option<&StorageError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(&error.cause);
    while let Some(error) = next {
        if let Some(storage) = error.downcast_ref() {
            return Some(storage);
        }
        next = error.source();
    }
    None
}

/// For people; the details of an I/O error stay in the log.
fn sentence(error: &StorageError) -> String {
    match error {
        StorageError::Io(_) => "local error".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_failure_of_the_storage_has_its_reply() {
        for (kind, code) in [
            (io::ErrorKind::NotFound, 550),
            (io::ErrorKind::PermissionDenied, 550),
            (io::ErrorKind::StorageFull, 452),
            (io::ErrorKind::QuotaExceeded, 552),
            (io::ErrorKind::FileTooLarge, 552),
            (io::ErrorKind::ReadOnlyFilesystem, 550),
            (io::ErrorKind::InvalidFilename, 553),
            (io::ErrorKind::TimedOut, 451),
        ] {
            let reply = refused(b"x/y", &io::Error::from(kind).into());
            assert_eq!(reply.code, code, "{kind:?}");
            assert!(reply.text().starts_with("x/y: "), "{reply:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn quota_and_space_are_told_apart_by_the_system() {
        use rustix::io::Errno;
        let of = |errno: Errno| refused(b"x", &io::Error::from(errno).into()).code;
        assert_eq!(of(Errno::DQUOT), 552);
        assert_eq!(of(Errno::NOSPC), 452);
        assert_eq!(of(Errno::FBIG), 552);
        assert_eq!(of(Errno::ACCESS), 550);
    }
}
