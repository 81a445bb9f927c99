//! A child process as source (its standard output), sink (its standard input), or both at once.
//!
//! Knows nothing of quoting: the caller splits a command line. A finished stream closes the child's input and waits;
//! a stream that is cut short never does: the child is ended first (asked where the system can ask, killed after the
//! grace period) and its input stays open until it has, for a closed input would look finished to it.
//!
//! What starts, asks and kills a child differs by system: `process/posix.rs` (a process group) and `process/windows.rs`
//! (a job object). The two ends are `process/source.rs` and `process/sink.rs`.

#[cfg_attr(unix, path = "process/posix.rs")]
#[cfg_attr(windows, path = "process/windows.rs")]
mod os;
mod sink;
mod source;
mod supervisor;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use self::os::{Input, Output};
pub use self::sink::ProcessSink;
pub use self::source::ProcessSource;
use self::supervisor::{Ending, Supervised};
use crate::{Blame, Duplex, EndpointError, ErrorKind};

/// What becomes of the child's standard error.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stderr {
    /// The child writes to ours, and its last line is kept for the report.
    #[default]
    PassAndKeep,
    /// The child inherits ours; nothing is kept.
    Inherit,
    /// Read and dropped, but for the last line.
    Keep,
}

/// What a program is started with.
#[derive(Clone, Debug)]
enum Args {
    /// One by one; the system's own quoting, where it has one, is added.
    Words(Vec<OsString>),
    /// One line, for the shell to split.
    ShellLine(OsString),
}

/// A program to run, and how to treat it.
///
/// ```no_run
/// # async fn example() -> Result<(), tidegate_io::EndpointError> {
/// use tidegate_io::endpoint::process::Process;
/// let source = Process::shell("gzip -dc <big.gz").into_source()?;
/// let both = Process::exec("cat", ["-"]).into_duplex()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Process {
    program: OsString,
    args: Args,
    name: String,
    stderr: Stderr,
    grace: Duration,
    drain: Duration,
}

impl Process {
    /// Runs `program` with `args`, without a shell.
    pub fn exec<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Self {
        let program = program.as_ref().to_owned();
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut name = format!("exec:{}", program.display());
        for arg in &args {
            name.push(' ');
            name.push_str(&arg.to_string_lossy());
        }
        Self::new(program, Args::Words(args), name)
    }

    /// Has the system's shell run `line`: `/bin/sh`, on Windows `cmd.exe`.
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        let line = line.as_ref().to_owned();
        let name = format!("sh:{}", line.display());
        Self::new(os::SHELL.into(), Args::ShellLine(line), name)
    }

    fn new(program: OsString, args: Args, name: String) -> Self {
        Self {
            program,
            args,
            name: shortened(name),
            stderr: Stderr::default(),
            grace: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        }
    }

    /// What becomes of its standard error.
    #[must_use]
    pub fn stderr(self, stderr: Stderr) -> Self {
        Self { stderr, ..self }
    }

    /// How long a child that was asked to end has before it is killed. 5 s unless set. Windows has no such question: a
    /// child that writes to us is given half a second to notice that nobody reads, any other is killed at once.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// How long the output may stay open and silent after the child has exited (somebody it started holds it). Each
    /// byte starts the time anew. 5 s unless set.
    #[must_use]
    pub fn drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// Starts it, for what it writes. Its standard input is `/dev/null`.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it cannot be started.
    pub fn into_source(self) -> Result<ProcessSource, EndpointError> {
        let (child, _, output) = self.start(Ends::Output)?;
        Ok(self.source(child, output, Verdict::AtTheEnd))
    }

    /// Starts it, for what it reads. Its standard output is ours.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it cannot be started.
    pub fn into_sink(self) -> Result<ProcessSink, EndpointError> {
        let (child, input, _) = self.start(Ends::Input)?;
        Ok(self.sink(child, input, Reader::Elsewhere))
    }

    /// Starts it, for both. The end of its output is reported as it comes; the sink's finish waits for the exit and
    /// reports that.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it cannot be started.
    pub fn into_duplex(self) -> Result<Duplex, EndpointError> {
        let (source, sink) = self.into_ends()?;
        Ok(Duplex {
            source: Box::new(source),
            sink: Box::new(sink),
        })
    }

    /// As [`into_duplex`](Self::into_duplex), with the types of the two ends.
    ///
    /// # Errors
    /// `ErrorKind::Open` when it cannot be started.
    pub fn into_ends(self) -> Result<(ProcessSource, ProcessSink), EndpointError> {
        let (child, input, output) = self.start(Ends::Both)?;
        let source = self.source(child.clone(), output, Verdict::BySink);
        Ok((source, self.sink(child, input, Reader::Ours)))
    }

    fn start(&self, ends: Ends) -> Result<(Supervised, Option<Input>, Option<Output>), EndpointError> {
        let started = os::start(self, ends)
            .map_err(|error| EndpointError::open(format!("cannot start {}", self.name), error))?;
        let child = Supervised::new(started.child, self.stderr, self.grace);
        Ok((child, started.input, started.output))
    }
}

/// Which of a child's standard streams are ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ends {
    /// What it writes; it reads nothing.
    Output,
    /// What it reads; it writes where we do.
    Input,
    /// Both.
    Both,
}

/// Who tells how the child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// The source, once the output has ended.
    AtTheEnd,
    /// The sink's finish; the source too, when the exit comes soon after the output's end.
    BySink,
}

/// Who reads what the child writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reader {
    /// The source beside the sink.
    Ours,
    /// Somebody we know nothing of.
    Elsewhere,
}

fn verdict(name: &str, ending: &Ending, kind: ErrorKind) -> Result<(), EndpointError> {
    if ending.is_success() {
        return Ok(());
    }
    let what = format!("{name} {}", Told(ending));
    Err(EndpointError::new(kind, Blame::Peer, what))
}

/// An ending in words: `exited with code 3: no such file`.
struct Told<'a>(&'a Ending);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.status {
            Ok(status) => match (status.code(), os::signal(*status)) {
                (Some(code), _) => write!(f, "exited with code {}", os::code(code))?,
                (None, Some(signal)) => write!(f, "was killed by signal {signal}")?,
                (None, None) => write!(f, "ended: {status}")?,
            },
            Err(error) => write!(f, "could not be waited for: {error}")?,
        }
        match &self.0.last_line {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}

/// Names go into one-line messages.
fn shortened(name: String) -> String {
    const CHARS_MAX: usize = 60;
    let mut line: String = name
        .chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}
