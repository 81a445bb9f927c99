//! `tidegate serve http|ftp DIR`: hands the options to the servers of the protocol crates and obeys signals.
//!
//! Knows no protocol.

use crate::args::Serve;
use crate::exit::Exit;
use crate::report::Failure;

/// Runs the command.
pub(crate) fn run(serve: &Serve) -> Exit {
    let output = match serve {
        Serve::Http(args) => &args.output,
        Serve::Ftp(args) => &args.output,
    };
    crate::fail(&Failure::usage("this build has no server yet"), output)
}
