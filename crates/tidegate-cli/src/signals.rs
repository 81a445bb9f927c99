//! Signals as a stream of wishes: end, look, stop for a while.
//!
//! Knows nothing of flows; whoever runs one obeys.

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

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{Ending, Wish};

    /// The signals this program listens to.
    pub(crate) struct Signals {
        interrupt: Signal,
        terminate: Signal,
        look: Signal,
        suspend: Signal,
        resumed: Signal,
    }

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                look: signal(SignalKind::user_defined1())?,
                suspend: signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
                resumed: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
            })
        }

        /// The next wish. Cancel safe.
        pub(crate) async fn next(&mut self) -> Wish {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => Wish::End(Ending::Interrupt),
                _ = self.terminate.recv() => Wish::End(Ending::Terminate),
                _ = self.resumed.recv() => Wish::Continue,
                _ = self.suspend.recv() => Wish::Suspend,
                _ = self.look.recv() => Wish::Look,
            }
        }
    }

    /// Stops this process as SIGTSTP would have; returns when it was continued.
    pub(crate) fn suspend() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

    use super::{Ending, Wish};

    /// What a console tells. There is nothing here to look at a run from outside, and no stop that ends again.
    pub(crate) struct Signals {
        interrupt: CtrlC,
        terminate: CtrlBreak,
        close: CtrlClose,
        shutdown: CtrlShutdown,
    }

    impl Signals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: ctrl_c()?,
                terminate: ctrl_break()?,
                close: ctrl_close()?,
                shutdown: ctrl_shutdown()?,
            })
        }

        /// The next wish. Cancel safe.
        pub(crate) async fn next(&mut self) -> Wish {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => Wish::End(Ending::Interrupt),
                _ = self.terminate.recv() => Wish::End(Ending::Terminate),
                _ = self.close.recv() => Wish::End(Ending::Terminate),
                _ = self.shutdown.recv() => Wish::End(Ending::Terminate),
            }
        }
    }

    /// There is no such stop here.
    pub(crate) fn suspend() {}
}

pub(crate) use system::{Signals, suspend};
