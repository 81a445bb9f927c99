//! Signals as a stream of wishes: end, look, stop for a while.
//!
//! Knows nothing of flows; whoever runs one obeys.

#[cfg_attr(unix, path = "signals/unix.rs")]
#[cfg_attr(windows, path = "signals/windows.rs")]
mod system;

pub(crate) use self::system::{Signals, suspend};
use crate::exit::Exit;

/// Why the program is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// The exit code of a copy ended so.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    /// For the error line.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        }
    }
}

/// What a signal asks for.
#[allow(dead_code, reason = "not every system tells all of them")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    End(Ending),
    /// Print a snapshot.
    Look,
    /// The terminal asks the program to stop for a while.
    Suspend,
    /// It goes on.
    Continue,
}
