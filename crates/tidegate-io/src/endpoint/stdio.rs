//! Standard input and output as a source, a sink, or one two-way transport. (Twisted: `StandardIO`.)
//!
//! Knows nothing of terminals' modes. Descriptors 0 and 1 are never made non-blocking; see `fd.rs` for how.
//!
//! A process started with standard input or output **closed** cannot be told from one whose are `/dev/null`: Rust's
//! runtime opens that in their place before any of our code runs.

use std::os::fd::AsFd;

use super::fd::{Descriptor, FdSink, FdSource, Origin};
use crate::{Duplex, EndpointError};

/// Standard input: a pipe, a terminal, a file or a socket.
///
/// # Errors
/// `ErrorKind::Open` when it cannot be used for reading.
pub fn stdin() -> Result<FdSource, EndpointError> {
    Descriptor::copy(std::io::stdin().as_fd(), Origin::Stdin)?.into_source()
}

/// Standard output: a pipe, a terminal, a file or a socket.
///
/// # Errors
/// `ErrorKind::Open` when it cannot be used for writing.
pub fn stdout() -> Result<FdSink, EndpointError> {
    Descriptor::copy(std::io::stdout().as_fd(), Origin::Stdout)?.into_sink()
}

/// Standard input and output as the two ends of one transport.
///
/// # Errors
/// As [`stdin`] and [`stdout`].
pub fn standard_io() -> Result<Duplex, EndpointError> {
    Ok(Duplex {
        source: Box::new(stdin()?),
        sink: Box::new(stdout()?),
    })
}
