//! FTP: a server, a client, the data connection as consumer and producer, and the file consumer.
//!
//! Knows the grammar of FTP and what the driver crate offers; refuses to know how a command line or a configuration
//! asks for any of it.
#![forbid(unsafe_code)]

pub mod ascii;
pub mod client;
pub mod data;
pub mod file;
pub mod grammar;
pub mod server;
pub mod storage;
#[cfg_attr(unix, path = "system/unix.rs")]
#[cfg_attr(windows, path = "system/windows.rs")]
mod system;
pub mod users;
