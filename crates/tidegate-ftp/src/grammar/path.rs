//! Paths as a client names them: resolved against the working directory, never above the root.
//!
//! Refuses to know whether anything is there, and what a link points to: the storage does, and has its own guard.

use std::path::PathBuf;

use crate::system::ANY_NAME_GOES;
pub use crate::system::os_name;

/// An absolute path inside a user's root: plain names, no `.` and no `..`.
///
/// ```
/// use tidegate_ftp::grammar::VirtualPath;
/// let here = VirtualPath::root().resolve(b"a/b", 100).unwrap();
/// assert_eq!(here.resolve(b"../../../c//d/.", 100).unwrap().to_bytes(), b"/c/d");
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct VirtualPath {
    names: Vec<Vec<u8>>,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PathError {
    /// Longer than the limit.
    TooLong,
    /// A byte no name can hold on this system.
    BadName,
}

impl VirtualPath {
    /// The root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// `argument` as seen from here. `..` at the root stays at the root (as `chroot` has it).
    ///
    /// # Errors
    /// [`PathError`]; the result is at most `path_bytes_max` long.
    pub fn resolve(&self, argument: &[u8], path_bytes_max: usize) -> Result<Self, PathError> {
        let mut names = if argument.first() == Some(&b'/') {
            Vec::new()
        } else {
            self.names.clone()
        };
        for name in argument.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop();
                }
                name if is_name(name) => names.push(name.to_vec()),
                _ => return Err(PathError::BadName),
            }
        }
        let path = Self { names };
        if path.to_bytes().len() > path_bytes_max {
            return Err(PathError::TooLong);
        }
        Ok(path)
    }

    /// The directory above; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut names = self.names.clone();
        names.pop();
        Self { names }
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.names.last().map(Vec::as_slice)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.names.starts_with(&self.names)
    }

    /// As the client sees it: `/a/b`, or `/` for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.names.is_empty() {
            return b"/".to_vec();
        }
        let mut out = Vec::new();
        for name in &self.names {
            out.push(b'/');
            out.extend_from_slice(name);
        }
        out
    }

    /// For a 257 reply: in quotes, with quotes inside doubled (RFC 959, appendix II).
    pub fn quoted(&self) -> Vec<u8> {
        let mut out = vec![b'"'];
        for byte in self.to_bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
        out
    }

    /// For the storage: relative to the root, `.` for the root itself.
    pub fn to_relative(&self) -> PathBuf {
        if self.names.is_empty() {
            return PathBuf::from(".");
        }
        self.names.iter().map(|name| os_name(name)).collect()
    }
}

/// A name of the system as it goes on the wire.
pub fn wire_name(name: &std::ffi::OsStr) -> Vec<u8> {
    name.as_encoded_bytes().to_vec()
}

fn is_name(name: &[u8]) -> bool {
    let plain = !name.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    plain && (ANY_NAME_GOES || is_windows_name(name))
}

fn is_windows_name(name: &[u8]) -> bool {
    let has_reserved = name.iter().any(|byte| *byte < 32 || b"\\:*?\"<>|".contains(byte));
    std::str::from_utf8(name).is_ok()
        && !has_reserved
        && !matches!(name.last(), Some(b'.' | b' '))
        && !is_windows_device(name)
}

/// Windows opens a device for these names in every directory and with every extension.
fn is_windows_device(name: &[u8]) -> bool {
    let stem = name.split(|&byte| byte == b'.').next().unwrap_or(name);
    let stem = stem.trim_ascii_end().to_ascii_uppercase();
    match stem.as_slice() {
        b"CON" | b"PRN" | b"AUX" | b"NUL" | b"CONIN$" | b"CONOUT$" => true,
        [b'C', b'O', b'M', port] | [b'L', b'P', b'T', port] => port.is_ascii_digit(),
        // The superscript digits one, two and three count as digits there.
        [b'C', b'O', b'M', 0xc2, port] | [b'L', b'P', b'T', 0xc2, port] => matches!(port, 0xb9 | 0xb2 | 0xb3),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dots_and_slashes_resolve_and_never_pass_the_root() {
        let here = VirtualPath::root().resolve(b"/a/b", 99).unwrap();
        for (argument, expected) in [
            (&b""[..], &b"/a/b"[..]),
            (b".", b"/a/b"),
            (b"..", b"/a"),
            (b"../../../../..", b"/"),
            (b"/", b"/"),
            (b"c", b"/a/b/c"),
            (b"/c//d/", b"/c/d"),
            (b"/../../etc/passwd", b"/etc/passwd"),
        ] {
            assert_eq!(here.resolve(argument, 99).unwrap().to_bytes(), expected);
        }
    }

    /// Windows drops the dots at the end of a name, so it is refused there.
    #[test]
    fn three_dots_are_a_name_where_the_system_has_such_names() {
        let resolved = VirtualPath::root()
            .resolve(b"...", 99)
            .map(|path| path.to_bytes());
        let expected = if cfg!(unix) {
            Ok(b"/...".to_vec())
        } else {
            Err(PathError::BadName)
        };
        assert_eq!(resolved, expected);
    }

    #[test]
    fn names_no_system_takes_and_long_paths_are_refused() {
        let root = VirtualPath::root();
        assert_eq!(root.resolve(b"a\0b", 99), Err(PathError::BadName));
        assert_eq!(root.resolve(b"a\rb", 99), Err(PathError::BadName));
        assert_eq!(root.resolve(b"abcd", 4), Err(PathError::TooLong));
        assert!(root.resolve(b"abc", 4).is_ok());
        assert!(!is_windows_name(b"a\\b"));
        assert!(!is_windows_name(b"c:"));
        assert!(!is_windows_name(b"nul."));
        for device in [
            "nul",
            "CON",
            "aux.txt",
            "com1",
            "Lpt9.log.gz",
            "prn .x",
            "conout$",
            "COM\u{b9}",
        ] {
            assert!(!is_windows_name(device.as_bytes()), "{device}");
        }
        for plain in ["null", "console", "com", "com10", "a.nul", "comx"] {
            assert!(is_windows_name(plain.as_bytes()), "{plain}");
        }
        assert!(is_windows_name("größe".as_bytes()));
    }

    #[test]
    fn quotes_are_doubled_for_257() {
        // Made by hand: Windows has no name with a quote in it.
        let path = VirtualPath {
            names: vec![b"a\"b".to_vec()],
        };
        assert_eq!(path.quoted(), b"\"/a\"\"b\"");
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root(cwd in "(a|[.]{1,2}|/){0,12}", argument in "[a-b./]{0,24}") {
            let here = VirtualPath::root().resolve(cwd.as_bytes(), 1000).unwrap_or_default();
            let Ok(path) = here.resolve(argument.as_bytes(), 1000) else {
                // Names Windows does not take: never refused elsewhere.
                prop_assert!(cfg!(windows));
                return Ok(());
            };
            let relative = path.to_relative();
            let only_names = relative.components().all(|component| {
                matches!(component, std::path::Component::Normal(_) | std::path::Component::CurDir)
            });
            prop_assert!(only_names, "{relative:?}");
            prop_assert_eq!(VirtualPath::root().resolve(&path.to_bytes(), 1000).unwrap(), path);
        }
    }
}
