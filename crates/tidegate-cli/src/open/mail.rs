//! `maildir:` addresses.
//!
//! Knows how a delivery's choices are written; delivering is the mailbox crate's.

use std::path::Path;

use tidegate_io::{Blame, EndpointError, ErrorKind};
use tidegate_maildir::{Create, LineEnds, MaildirSink, Options, Target};

use crate::address::Address;
use crate::size::parse_size;

/// The delivery an address asks for. Nothing is touched yet.
pub(super) fn sink(address: &Address, path: &Path) -> Result<MaildirSink, EndpointError> {
    let options =
        options(address).map_err(|what| EndpointError::new(ErrorKind::Open, Blame::Caller, what))?;
    Ok(tidegate_maildir::sink(path, options))
}

/// The choices of an address, checked.
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn options(address: &Address) -> Result<Options, String> {
    let mut options = Options::default();
    if address.option("create") == Some("no") {
        options.create = Create::Never;
    }
    if let Some(flags) = address.option("flags") {
        options.target = Target::Cur(flags.parse().map_err(|error| format!("flags={flags}: {error}"))?);
    }
    if let Some(folder) = address.option("folder") {
        let parsed = tidegate_maildir::Folder::parse(folder);
        options.folder = Some(parsed.map_err(|error| format!("folder={folder}: {error}"))?);
    }
    if let Some(size) = address.option("max") {
        options.size_bytes_max = Some(parse_size(size)?);
    }
    options.line_ends = match address.option("eol") {
        Some("lf") => LineEnds::Lf,
        Some("crlf") => LineEnds::Crlf,
        _ => LineEnds::AsIs,
    };
    Ok(options)
}
