//! The endpoints: one file for each kind of OS handle that is a source, a sink or both.
//!
//! Knows nothing of flows: an endpoint is driven by whoever holds it.

#[cfg(unix)]
mod descriptor;
#[cfg(unix)]
pub mod fd;
pub mod file;
#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
mod polled;
#[cfg(unix)]
pub mod process;
mod socket;
#[cfg(unix)]
pub mod stdio;
pub mod tcp;
#[cfg(unix)]
mod threaded;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(unix)]
pub mod unix;
mod write_back;
