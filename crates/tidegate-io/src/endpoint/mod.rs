//! The endpoints: one file for each kind of OS handle that is a source, a sink or both.
//!
//! Knows nothing of flows: an endpoint is driven by whoever holds it.

#[cfg(unix)]
mod descriptor;
#[cfg(unix)]
pub mod fd;
pub mod file;
#[cfg(windows)]
pub mod npipe;
#[cfg(unix)]
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other_unix.rs")]
mod os;
#[cfg(windows)]
mod overlapped;
#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
mod polled;
#[cfg(any(unix, windows))]
pub mod process;
mod prompt;
mod socket;
#[cfg(any(unix, windows))]
#[cfg_attr(windows, path = "stdio_windows.rs")]
pub mod stdio;
pub mod tcp;
#[cfg(unix)]
mod threaded;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(unix)]
pub mod unix;
#[cfg(any(unix, windows))]
mod worker;
mod write_back;

#[cfg(unix)]
pub(crate) use self::os::is_null_device;
