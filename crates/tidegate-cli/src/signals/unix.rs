//! The signals of Unix that this program listens to.
//!
//! Knows which wish each is, and no flow.

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
