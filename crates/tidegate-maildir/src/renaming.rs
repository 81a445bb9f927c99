//! A rename that refuses to replace, which only Linux has.
//!
//! Knows two paths.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

pub(crate) fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}
