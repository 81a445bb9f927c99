//! What is asked of a terminal: how wide it is, and a line that it does not show.
//!
//! Knows nothing of what either is for.

use std::io::{self, BufRead};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

/// How many columns the terminal on standard error has, where it tells.
pub(crate) fn columns() -> Option<usize> {
    let size = tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// Reads a line from the terminal without showing it.
pub(crate) fn read_unseen(line: &mut String) -> io::Result<usize> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut unseen = before.clone();
    unseen.local_modes -= LocalModes::ECHO;
    eprint!("password: ");
    tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
    let read = stdin.lock().read_line(line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    read
}
