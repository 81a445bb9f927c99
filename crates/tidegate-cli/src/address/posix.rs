//! How Unix writes what addresses hold: command lines and paths.
//!
//! Knows the shape of `windows.rs`. Pure; knows nothing of opening.

/// A command with a quoted word, for hints.
pub(super) const QUOTED: &str = "exec:printf 'two words'";

/// Splits a command line as a shell does.
///
/// # Errors
/// Where the quote that is never closed may stand.
pub(super) fn words(line: &str) -> Result<Vec<String>, usize> {
    shell_words::split(line).map_err(|_| line.rfind(['"', '\'']).unwrap_or(line.len()))
}

/// The path of a `file://` URL is a path.
pub(super) fn path_of_url(path: &str) -> &str {
    path
}
