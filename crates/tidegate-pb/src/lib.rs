//! Perspective Broker: banana, the needed part of jelly, the broker, pagers and the page collector.
//!
//! Knows Twisted's protocol from the bytes up; knows nothing of files, users or the program.
#![forbid(unsafe_code)]

pub mod banana;
mod integer;
pub mod jelly;

pub use integer::{Integer, Sign};
