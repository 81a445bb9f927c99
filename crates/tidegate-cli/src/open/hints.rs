//! What may help when an end could not be opened: a word behind the error, in the same line.
//!
//! Knows what people often mean; nothing of how an end is opened.

use std::path::Path;

use tidegate_io::{EndpointError, ErrorKind, Side};

use super::system;
use crate::address::habits::{self, Meant};
use crate::address::{Address, Place, Scheme};
use crate::report::Failure;

/// The failure of one side, with a hint where there is one.
pub(super) fn failure(side: Side, address: &Address, error: &EndpointError) -> Failure {
    let mut failure = Failure::open(side, error);
    if let Some(hint) = hint(side, address, error) {
        failure.message.push_str(&format!(" ({hint})"));
    }
    failure
}

fn hint(side: Side, address: &Address, error: &EndpointError) -> Option<String> {
    let (Place::Path(path), Scheme::File) = (&address.place, address.scheme) else {
        return None;
    };
    match (side, error.kind) {
        (Side::Sink, ErrorKind::Exists) if error.what.contains("exists") => {
            Some("--force replaces it, --append adds to it".to_owned())
        }
        (Side::Source, _) if path.is_dir() => Some(format!("for a directory: {}", system::tar_of(path))),
        (Side::Sink, _) if path.is_dir() => {
            Some(format!("name the file in it: {}", path.join("NAME").display()))
        }
        (Side::Sink, _) => missing_folder(path),
        (Side::Source, _) if !path.exists() => habits::meant(&address.text).map(|meant| match meant {
            Meant::Connection(other) => format!("for a connection: {other}"),
            Meant::Other(other) => format!("did you mean {other}?"),
        }),
        _ => None,
    }
}

fn missing_folder(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""))?;
    (!folder.exists()).then(|| format!("there is no directory {}", folder.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tidegate_io::Blame;

    use super::*;

    fn of(side: Side, text: &str, kind: ErrorKind, what: &str) -> Option<String> {
        let address = Address::parse(text.as_ref()).unwrap();
        hint(side, &address, &EndpointError::new(kind, Blame::Caller, what))
    }

    #[test]
    fn directories_and_names_that_look_like_connections_get_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().display().to_string();
        let open = ErrorKind::Open;
        assert_eq!(
            of(Side::Source, &dir, open, "is a directory"),
            Some(format!("for a directory: {}", system::tar_of(dir.as_ref())))
        );
        assert_eq!(
            of(Side::Sink, &dir, open, "is a directory"),
            Some(format!(
                "name the file in it: {}",
                Path::new(&dir).join("NAME").display()
            ))
        );
        assert_eq!(
            of(Side::Sink, &format!("{dir}/no/x"), open, "not found"),
            Some(format!("there is no directory {dir}/no"))
        );
        assert_eq!(
            of(Side::Source, "localhost:9000", open, "not found").as_deref(),
            Some("for a connection: tcp://localhost:9000")
        );
        assert_eq!(
            of(Side::Source, "STDIN", open, "not found").as_deref(),
            Some("did you mean -?")
        );
        assert_eq!(of(Side::Source, "tcp://localhost:1", open, "refused"), None);
        assert!(
            of(Side::Sink, "x", ErrorKind::Exists, "x exists")
                .unwrap()
                .contains("--force")
        );
    }
}
