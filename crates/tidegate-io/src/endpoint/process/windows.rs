//! Starting and killing a child on Windows: a job object that it cannot leave, its ends on the completion port.
//!
//! Knows nothing of what the child's end means for a stream. Our ends of its standard streams are named pipes with one
//! instance and a name nobody can guess, for only those complete; the child gets ordinary handles. Arguments are quoted
//! by the standard library, the way Microsoft's C runtime splits them again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use process_wrap::tokio::{ChildWrapper, CommandWrap, CreationFlags, JobObject, KillOnDrop};
use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use tokio::process::Command;
use windows::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

use super::{Args, Ends, Process, Stderr};
use crate::endpoint::overlapped::{PipeEnd, Writing};
use crate::{Buffers, Held, LaneEnd, LaneOp};

pub(super) const SHELL: &str = "cmd.exe";

/// Whether closing its output is how a child is asked to end. There are no signals to send.
pub(super) const CLOSED_OUTPUT_ASKS: bool = true;

/// How long a child has to notice that nobody reads what it writes. One that does not write never will.
const NOTICE: Duration = Duration::from_millis(500);

/// What the system keeps of what a child has not read, or has written.
const SYSTEM_BYTES: u32 = 64 * 1024;

/// The end of a child's standard error that is ours.
pub(super) type Errors = NamedPipeServer;

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
        Args::ShellLine(line) => command.raw_arg(shell_words(line)),
    };
    let mut input = None;
    let mut output = None;
    let mut errors = None;
    match ends {
        Ends::Output => command.stdin(Stdio::null()),
        Ends::Input | Ends::Both => {
            let (ours, theirs) = pipe(Towards::Child)?;
            input = Some(Input::new(ours));
            command.stdin(theirs)
        }
    };
    match ends {
        Ends::Input => command.stdout(Stdio::inherit()),
        Ends::Output | Ends::Both => {
            let (ours, theirs) = pipe(Towards::Us)?;
            output = Some(Output(PipeEnd::Server(ours)));
            command.stdout(theirs)
        }
    };
    match process.stderr {
        Stderr::Inherit => command.stderr(Stdio::inherit()),
        Stderr::PassAndKeep | Stderr::Keep => {
            let (ours, theirs) = pipe(Towards::Us)?;
            errors = Some(ours);
            command.stderr(theirs)
        }
    };
    // A group of its own: a Ctrl-C at our console is for us to answer. The job takes it before it runs.
    let mut wrapped = CommandWrap::from(command);
    wrapped
        .wrap(KillOnDrop)
        .wrap(CreationFlags(CREATE_NEW_PROCESS_GROUP))
        .wrap(JobObject);
    let child = wrapped.spawn()?;
    let notice = match ends {
        Ends::Output => NOTICE,
        Ends::Input | Ends::Both => Duration::ZERO,
    };
    Ok(Started {
        child: Child {
            child,
            errors,
            notice,
        },
        input,
        output,
    })
}

/// What makes `cmd.exe` take `line` as it is: without the outer quotes, and without what a registry key would run first.
fn shell_words(line: &OsStr) -> std::ffi::OsString {
    let mut words = std::ffi::OsString::from("/D /S /C \"");
    words.push(line);
    words.push("\"");
    words
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Towards {
    Child,
    Us,
}

/// A pipe whose first end completes on the runtime, and whose second is an ordinary handle.
fn pipe(towards: Towards) -> io::Result<(NamedPipeServer, File)> {
    let name = format!(
        r"\\.\pipe\tidegate.{}.{:016x}{:016x}",
        std::process::id(),
        random(),
        random()
    );
    let ours = ServerOptions::new()
        .first_pipe_instance(true)
        .max_instances(1)
        // Towards the child we may read, too: what can never be read ends when the child lets go of it.
        .access_inbound(true)
        .access_outbound(towards == Towards::Child)
        .in_buffer_size(SYSTEM_BYTES)
        .out_buffer_size(SYSTEM_BYTES)
        .create(&name)?;
    let theirs = OpenOptions::new()
        .read(towards == Towards::Child)
        .write(towards == Towards::Us)
        .open(&name)?;
    // The other end is there, so there is nothing to wait for.
    let mut connecting = Box::pin(ours.connect());
    match connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(connected) => connected?,
        Poll::Pending => return Err(io::Error::other("a pipe to itself is not connected")),
    }
    drop(connecting);
    Ok((ours, theirs))
}

/// The standard library's keys for its hash maps are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Nothing kills a process here but somebody who says with which code.
pub(super) fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

/// An exit code as people know it here: a crash is told by its number in hexadecimal.
pub(super) fn code(code: i32) -> String {
    match code {
        0.. => code.to_string(),
        _ => format!("{code:#010X}"),
    }
}

/// The end of a child's standard input that is ours.
pub(super) struct Input {
    end: PipeEnd,
    writing: Writing,
}

impl Input {
    fn new(end: NamedPipeServer) -> Self {
        Self {
            end: PipeEnd::Server(end),
            writing: Writing::default(),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<io::Result<usize>> {
        self.writing.poll_write(cx, &self.end, held)
    }

    /// Ready once the child has let go of its end.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.poll_broken(cx)
    }

    /// The system does not say what a child has not read yet.
    pub(super) fn unsent_bytes(&self) -> Option<u64> {
        None
    }
}

/// The end of a child's standard output that is ours.
pub(super) struct Output(PipeEnd);

impl Output {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        self.0.poll_read(cx, buffers, max)
    }
}

/// There are no lanes here.
macro_rules! laneless {
    ($end:ty) => {
        impl $end {
            pub(super) fn lane_end(&self) -> Option<LaneEnd<'_>> {
                None
            }

            pub(super) fn poll_lane(
                &mut self,
                _cx: &mut Context<'_>,
                _op: LaneOp<'_>,
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }

            pub(super) fn lane_moved(&mut self, _bytes: u64) {}
        }
    };
}

laneless!(Input);
laneless!(Output);

/// A running child in its job.
pub(super) struct Child {
    child: Box<dyn ChildWrapper>,
    errors: Option<Errors>,
    notice: Duration,
}

impl Child {
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn take_errors(&mut self) -> Option<Errors> {
        self.errors.take()
    }

    /// Waits for the child alone; whoever it started is waited for by nobody.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.inner_mut().wait().await
    }

    pub(super) fn has_exited(&mut self) {}

    /// Its output was closed by whoever read it: says how long it has to notice.
    pub(super) fn ask_to_end(&self, grace: Duration) -> Duration {
        self.notice.min(grace)
    }

    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            // It may just have gone.
            tracing::debug!(%error, "a job was not ended");
        }
    }

    /// Ends whatever is left of the job.
    pub(super) async fn end_rest(&mut self, _grace: Duration) {
        self.kill();
    }
}
