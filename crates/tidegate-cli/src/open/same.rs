//! Whether source and sink are one file: reading a file into itself has no end, or none that is wanted.
//!
//! Knows what a name leads to, not what it is called.

use tidegate_io::{Blame, EndpointError, ErrorKind};

use super::system;
use crate::address::Address;

/// Refuses a copy of a file into itself.
pub(super) fn refuse_same_file(source: &Address, sink: &Address) -> Result<(), EndpointError> {
    match system::are_one_file(source, sink) {
        false => Ok(()),
        true => Err(EndpointError::new(
            ErrorKind::Exists,
            Blame::Caller,
            "source and sink are the same file",
        )),
    }
}
