//! Calls on files, and names for them, that each system makes in its own way, on Windows.
//!
//! Knows nothing of HTTP.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::windows::fs::FileExt;

use cap_std::fs::{Dir, OpenOptions};

use crate::path::BadPath;

/// Whether an open file tells that another was renamed over it.
pub(crate) const OPEN_FILES_TELL: bool = false;

/// What tells one file from another, beside its size and time: here nothing does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Marks {
    /// 0 where files have no number.
    pub(crate) inode: u64,
}

impl Marks {
    pub(crate) fn of(_metadata: &Metadata) -> Self {
        Self { inode: 0 }
    }
}

/// The number of a file; 0 where files have none.
pub(crate) fn inode(_metadata: &cap_std::fs::Metadata) -> u64 {
    0
}

/// Reads at an offset. Moves the file's own, which nobody here goes by: a file is shared by all who send it.
pub(crate) fn read_at(file: &File, space: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(space, offset)
}

/// A directory cannot be synced.
pub(crate) fn sync_folder(_folder: &Dir) -> io::Result<()> {
    Ok(())
}

/// No name in a directory leads to what waits when it is opened.
pub(crate) fn never_wait(_options: &mut OpenOptions) {}

/// A colon opens a drive or a stream, and some names are devices in every directory.
pub(crate) fn file_name(name: Vec<u8>) -> Result<OsString, BadPath> {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "COM", "LPT"];
    let name = String::from_utf8(name).map_err(|_| BadPath::Name)?;
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let device = DEVICES.iter().any(|device| {
        stem.strip_prefix(device)
            .is_some_and(|rest| rest.chars().all(|digit| digit.is_ascii_digit()))
    });
    let bad = |letter: char| letter.is_control() || r#"<>:"|?*"#.contains(letter);
    if device || name.contains(bad) || name.ends_with(['.', ' ']) {
        return Err(BadPath::Name);
    }
    Ok(name.into())
}
