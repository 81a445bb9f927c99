//! Addresses: the table of what there is, and the grammar that reads them.
//!
//! Knows nothing of opening: [`crate::open`] does that.

mod body;
mod error;
pub(crate) mod grammar;
pub(crate) mod habits;
mod options;
mod pipe_name;
#[cfg(unix)]
mod posix;
pub(crate) mod slips;
pub(crate) mod table;
#[cfg(any(windows, test))]
mod windows;

#[cfg(unix)]
use self::posix as system;
#[cfg(windows)]
use self::windows as system;

pub(crate) use grammar::{Address, Place};
pub(crate) use table::{Role, Scheme};
