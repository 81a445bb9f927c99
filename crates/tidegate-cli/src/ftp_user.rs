//! `tidegate ftp-user NAME`: makes the line of one user for `serve ftp --users`.
//!
//! Knows where the password is read from and that it is never echoed or taken from the command line.

use crate::args::{FtpUserArgs, OutputArgs};
use crate::exit::Exit;
use crate::report::Failure;

/// Runs the command.
pub(crate) fn run(_: &FtpUserArgs) -> Exit {
    crate::fail(
        &Failure::usage("this build has no server yet"),
        &OutputArgs::default(),
    )
}
