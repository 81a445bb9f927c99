//! Starting, asking and killing a child on Unix: a process group of its own, its ends on the readiness loop.
//!
//! Knows nothing of what the child's end means for a stream.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::process::{ChildStderr, Command};

use super::{Args, Ends, Process, Stderr};
use crate::endpoint::descriptor::{DescriptorKind, Reader, Writer};
use crate::endpoint::polled::{Polled, Unwaiting};

pub(super) const SHELL: &str = "/bin/sh";

/// Whether closing its output is how a child is asked to end. Here a signal is.
pub(super) const CLOSED_OUTPUT_ASKS: bool = false;

/// How often a group whose leader has gone is looked at while its grace period runs.
const GROUP_PAUSE: Duration = Duration::from_millis(20);

/// The end of a child's standard input that is ours.
pub(super) type Input = Writer;
/// The end of a child's standard output that is ours.
pub(super) type Output = Reader;
/// The end of a child's standard error that is ours.
pub(super) type Errors = ChildStderr;

/// A child that runs, and the ends of it that are ours.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) input: Option<Input>,
    pub(super) output: Option<Output>,
}

/// Starts what `process` says.
pub(super) fn start(process: &Process, ends: Ends) -> io::Result<Started> {
    let mut command = Command::new(&process.program);
    match &process.args {
        Args::Words(words) => command.args(words),
        Args::ShellLine(line) => command.arg("-c").arg(line),
    };
    command
        .stdin(match ends {
            Ends::Output => Stdio::null(),
            Ends::Input | Ends::Both => Stdio::piped(),
        })
        .stdout(match ends {
            Ends::Input => Stdio::inherit(),
            Ends::Output | Ends::Both => Stdio::piped(),
        })
        .stderr(match process.stderr {
            Stderr::Inherit => Stdio::inherit(),
            Stderr::PassAndKeep | Stderr::Keep => Stdio::piped(),
        })
        // A group of its own, so that a kill reaches whoever it started.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let input = child.stdin.take().map(|end| end.into_owned_fd()).transpose()?;
    let output = child.stdout.take().map(|end| end.into_owned_fd()).transpose()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    Ok(Started {
        child: Child {
            group: id.and_then(Pid::from_raw),
            child,
        },
        input: input
            .map(|end| watch(end, Interest::WRITABLE))
            .transpose()?
            .map(|polled| Writer::polled(polled, DescriptorKind::Pipe)),
        output: output
            .map(|end| watch(end, Interest::READABLE))
            .transpose()?
            .map(|polled| Reader::polled(polled, DescriptorKind::Pipe)),
    })
}

/// The child's own end is another description and stays blocking; tokio gives ours back blocking, too.
fn watch(end: OwnedFd, interest: Interest) -> io::Result<Polled> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Polled::new(end, Unwaiting::Ours, interest)
}

/// The signal that killed it.
pub(super) fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// An exit code as people know it here.
pub(super) fn code(code: i32) -> String {
    code.to_string()
}

/// A running child and its group.
pub(super) struct Child {
    child: tokio::process::Child,
    group: Option<Pid>,
}

impl Child {
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn take_errors(&mut self) -> Option<Errors> {
        self.child.stderr.take()
    }

    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Its exit was seen. When nobody is left in its group, the group's number may soon be somebody else's.
    pub(super) fn has_exited(&mut self) {
        if self
            .group
            .is_some_and(|group| rustix::process::test_kill_process_group(group).is_err())
        {
            self.group = None;
        }
    }

    /// Asks the group to end, and says how long of `grace` it has.
    pub(super) fn ask_to_end(&self, grace: Duration) -> Duration {
        self.signal(Signal::TERM);
        grace
    }

    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Gives whatever is left of the group the same time, then ends it hard.
    pub(super) async fn end_rest(&mut self, grace: Duration) {
        let Some(group) = self.group else { return };
        let is_empty = async {
            while rustix::process::test_kill_process_group(group).is_ok() {
                tokio::time::sleep(GROUP_PAUSE).await;
            }
        };
        if tokio::time::timeout(grace, is_empty).await.is_err() {
            self.signal(Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group
            && let Err(error) = rustix::process::kill_process_group(group, signal)
        {
            // It may just have gone.
            tracing::debug!(%error, ?signal, "a process group was not signalled");
        }
    }
}
