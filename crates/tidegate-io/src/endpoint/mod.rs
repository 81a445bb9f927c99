//! The endpoints: one file for each kind of OS handle that is a source, a sink or both.
//!
//! Knows nothing of flows: an endpoint is driven by whoever holds it.

pub mod file;
mod socket;
pub mod tcp;
#[cfg(unix)]
pub mod unix;
