//! From the path of a request to a relative path under a root, in one decoding.
//!
//! Knows nothing of the file system: what it lets through has no `..`, no root, no drive and no hidden separator, and
//! the directory handle it is opened under refuses to leave the root once more.

use std::path::PathBuf;

use crate::system::file_name;

/// Names that begin so are uploads under way: never served, never taken as a target.
pub const PARTIAL_PREFIX: &str = ".tidegate-part-";

/// A request path, decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecodedPath {
    /// Relative to the root; empty for the root itself.
    pub relative: PathBuf,
    /// Whether it ended in a slash (or is the root).
    pub shape: Shape,
}

/// What the end of a path says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Ends in a name.
    Name,
    /// Ends in a slash: a directory is meant.
    Directory,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadPath {
    /// A `%` without two hexadecimal digits after it.
    #[error("a percent sign without two hexadecimal digits")]
    Percent,
    /// A `..`, however spelled.
    #[error("the path leads upwards")]
    Upwards,
    /// A separator, a NUL or (on Windows) a drive or device, hidden in a name.
    #[error("a name holds a separator or another byte that no name may hold")]
    Name,
    /// An upload under way.
    #[error("the name is reserved for uploads under way")]
    Reserved,
}

/// Decodes the path of a request target (without its query). Each part is decoded once, after splitting, so that an
/// encoded slash stays inside its name, where it is refused.
///
/// ```
/// use tidegate_http::path::{decode, BadPath};
/// assert_eq!(decode("/a%20b/./c").unwrap().relative.to_str(), Some("a b/c"));
/// assert_eq!(decode("/a/%2e%2E/b"), Err(BadPath::Upwards));
/// ```
///
/// # Errors
/// [`BadPath`] says why.
pub fn decode(path: &str) -> Result<DecodedPath, BadPath> {
    let mut relative = PathBuf::new();
    let mut shape = Shape::Directory;
    for part in path.split('/') {
        let name = decode_part(part)?;
        shape = Shape::Directory;
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => return Err(BadPath::Upwards),
            _ => {}
        }
        if name
            .iter()
            .any(|&byte| byte == b'/' || byte == b'\\' || byte == 0)
        {
            return Err(BadPath::Name);
        }
        if name.starts_with(PARTIAL_PREFIX.as_bytes()) {
            return Err(BadPath::Reserved);
        }
        relative.push(file_name(name)?);
        shape = Shape::Name;
    }
    Ok(DecodedPath { relative, shape })
}

fn decode_part(part: &str) -> Result<Vec<u8>, BadPath> {
    let mut name = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
            (Some(high), Some(low)) => name.push(high << 4 | low),
            _ => return Err(BadPath::Percent),
        }
    }
    Ok(name)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn names_are_decoded_once() {
        for (path, expected, shape) in [
            ("/", "", Shape::Directory),
            ("", "", Shape::Directory),
            ("/a", "a", Shape::Name),
            ("//a///b", "a/b", Shape::Name),
            ("/a/b/", "a/b", Shape::Directory),
            ("/a/.", "a", Shape::Directory),
            ("/%61%2Etxt", "a.txt", Shape::Name),
            ("/%252e%252e/x", "%2e%2e/x", Shape::Name),
            ("/...a", "...a", Shape::Name),
            ("/a..b", "a..b", Shape::Name),
        ] {
            let decoded = decode(path).unwrap();
            assert_eq!(decoded.relative, PathBuf::from(expected), "{path}");
            assert_eq!(decoded.shape, shape, "{path}");
        }
    }

    #[test]
    fn no_encoding_of_upwards_passes() {
        for path in [
            "/..",
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/x",
            "/.%2e/x",
            "/%2E./x",
            "/%2e%2e%2fx",
            "/..%2fx",
            "/..%5cx",
            "/a%2f..%2fb",
            "/..\\x",
            "/a/..",
            "/a/../",
            "/a%00",
            "/a%00/../b",
            "/..%00/",
        ] {
            assert!(decode(path).is_err(), "{path}");
        }
        for path in ["/%", "/%2", "/%zz", "/a%2", "/%%32%65"] {
            assert_eq!(decode(path), Err(BadPath::Percent), "{path}");
        }
        assert_eq!(decode("/d/.tidegate-part-1"), Err(BadPath::Reserved));
        assert_eq!(decode("/d/%2etidegate-part-1"), Err(BadPath::Reserved));
    }

    /// A name that the system would take for something else.
    #[test]
    fn devices_streams_and_ends_that_vanish_are_no_names_on_windows() {
        for path in [
            "/...",
            "/a.",
            "/a%20",
            "/CON",
            "/aux.txt",
            "/d/Com1",
            "/nul%20.x",
            "/a:stream",
            "/C:",
            "/a%2A",
            "/a%3F",
            "/%01",
            "/%ff",
        ] {
            assert_eq!(decode(path) == Err(BadPath::Name), cfg!(windows), "{path}");
        }
        for path in ["/console", "/auxiliary.txt", "/com", "/a.b", "/%C3%BC"] {
            let is_device = cfg!(windows) && path == "/com";
            assert_eq!(decode(path).is_err(), is_device, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_has_only_names(path in "[a./%\\\\2eEfF50:]{0,24}") {
            if let Ok(decoded) = decode(&path) {
                let names_only = decoded.relative.components().all(|part| matches!(part, Component::Normal(_)));
                prop_assert!(names_only, "{path}");
            }
        }
    }
}
