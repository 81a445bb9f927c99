//! What a console of Windows tells.
//!
//! Knows which wish each is, and no flow.

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
