//! Addresses: the table of what there is, and the grammar that reads them.
//!
//! Knows nothing of opening: [`crate::open`] does that.

mod body;
mod error;
pub(crate) mod grammar;
pub(crate) mod habits;
mod options;
pub(crate) mod slips;
pub(crate) mod table;
mod windows;

pub(crate) use grammar::{Address, Place};
pub(crate) use table::{Role, Scheme};
