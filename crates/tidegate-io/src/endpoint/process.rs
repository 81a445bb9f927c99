//! A child process as source (its standard output), sink (its standard input), or both at once.
//!
//! Knows nothing of quoting: the caller splits a command line. A finished stream closes the child's input and waits;
//! a stream that is cut short never does: the child is ended first (asked where the system can ask, killed after the
//! grace period) and its input stays open until it has, for a closed input would look finished to it.

//!
//! What starts, asks and kills a child differs by system: `process/posix.rs` (a process group) and `process/windows.rs`
//! (a job object).

#[cfg_attr(unix, path = "process/posix.rs")]
#[cfg_attr(windows, path = "process/windows.rs")]
mod os;
mod supervisor;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate::AbortReason;

use self::os::{Input, Output};
use self::supervisor::{Ending, Supervised};
use crate::{Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, Sink, Source};
#[cfg(unix)]
use crate::{LaneEnd, LaneOp};

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

    fn source(&self, child: Supervised, output: Option<Output>, verdict: Verdict) -> ProcessSource {
        ProcessSource {
            child,
            output,
            verdict,
            state: Reading::Output,
            silence: None,
            drain: self.drain,
            name: self.name.clone(),
        }
    }

    fn sink(&self, child: Supervised, input: Option<Input>, reader: Reader) -> ProcessSink {
        ProcessSink {
            child,
            input,
            reader,
            is_over: false,
            is_stopped: false,
            has_closed_input: false,
            name: self.name.clone(),
        }
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

#[derive(Debug)]
enum Reading {
    /// Bytes are to come.
    Output,
    /// The output has ended; the exit is awaited.
    Exit,
    /// All is said.
    Over,
}

/// A child's standard output.
pub struct ProcessSource {
    child: Supervised,
    output: Option<Output>,
    verdict: Verdict,
    state: Reading,
    /// Runs while the child has exited and its output is open and silent.
    silence: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    drain: Duration,
    name: String,
}

impl ProcessSource {
    /// The process id, as long as the child has not been reaped.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the child's end is still this side's affair.
    fn is_waited_for(&self) -> bool {
        match self.state {
            Reading::Output => true,
            Reading::Exit => self.verdict == Verdict::AtTheEnd,
            Reading::Over => false,
        }
    }

    /// What the exit makes of the end of the output. Beside a sink it counts when it comes soon, so that the output of a
    /// child that died does not look whole; a child that only closed its output may live on.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        let (ending, kind) = match self.verdict {
            Verdict::AtTheEnd => (Some(ready!(self.child.poll_ending(cx))), ErrorKind::Failed),
            Verdict::BySink => (ready!(self.child.poll_ending_soon(cx)), ErrorKind::Died),
        };
        Poll::Ready(ending.map_or(Ok(()), |ending| verdict(&self.name, &ending, kind)))
    }

    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let Some(output) = self.output.as_mut() else {
            return Poll::Ready(Ok(None));
        };
        if let Poll::Ready(read) = output.poll_read(cx, buffers, max) {
            self.silence = None;
            let read = read.map_err(|error| EndpointError::io(format!("cannot read {}", self.name), error));
            return Poll::Ready(read);
        }
        ready!(self.child.poll_exited(cx));
        // Whoever the child started may hold its output for ever.
        let drain = self.drain;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(drain)));
        ready!(silence.as_mut().poll(cx));
        let what = format!(
            "the output of {} was not closed {} ms after its exit: something it started holds it",
            self.name,
            drain.as_millis()
        );
        Poll::Ready(Err(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what)))
    }
}

impl Source for ProcessSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if matches!(self.state, Reading::Output) {
            match ready!(self.poll_output(cx, buffers, max)) {
                Ok(Some(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(None) => self.state = Reading::Exit,
                Err(error) => {
                    self.state = Reading::Over;
                    self.output = None;
                    self.child.output_is_over();
                    self.child.stop(None);
                    return Poll::Ready(Err(error));
                }
            }
            self.output = None;
            self.child.output_is_over();
        }
        if matches!(self.state, Reading::Exit) {
            let told = ready!(self.poll_exit(cx));
            self.state = Reading::Over;
            return Poll::Ready(told.map(|()| None));
        }
        Poll::Ready(Ok(None))
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waited_for() {
            return Poll::Ready(());
        }
        if os::CLOSED_OUTPUT_ASKS {
            self.output = None;
        }
        self.child.stop(None);
        self.child.output_is_over();
        ready!(self.child.poll_gone(cx));
        self.state = Reading::Over;
        self.output = None;
        Poll::Ready(())
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.output.as_ref()?.lane_end()
    }

    #[cfg(unix)]
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.output {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    #[cfg(unix)]
    fn lane_moved(&mut self, bytes: u64) {
        self.silence = None;
        if let Some(output) = &mut self.output {
            output.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for ProcessSource {
    fn drop(&mut self) {
        if self.is_waited_for() {
            self.child.stop(None);
        }
        self.child.output_is_over();
    }
}

/// A child's standard input.
pub struct ProcessSink {
    child: Supervised,
    input: Option<Input>,
    reader: Reader,
    /// The child has ended, or was told to.
    is_over: bool,
    /// It was told to.
    is_stopped: bool,
    /// The child reads no more, and its output, which is ours to read, tells when it is over.
    has_closed_input: bool,
    name: String,
}

impl ProcessSink {
    /// The process id, as long as the child has not been reaped.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The child no longer reads: its exit, when it comes soon, says more than a broken pipe does. Beside a source it is
    /// no news before the output was read to its end: a child that exits early loses none of it.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.has_closed_input = self.reader == Reader::Ours;
        let ending = match self.reader {
            Reader::Ours => ready!(self.child.poll_all_over(cx)),
            Reader::Elsewhere => ready!(self.child.poll_ending_soon(cx)),
        };
        let what = match &ending {
            Some(ending) => format!("{} {} before it had read everything", self.name, Told(ending)),
            None => format!("{} has closed its input", self.name),
        };
        let ended_well = ending.is_some_and(|ending| ending.is_success());
        let kind = match self.reader {
            Reader::Ours if ended_well => {
                // What it has left behind is its own affair.
                self.is_over = true;
                ErrorKind::Declined
            }
            Reader::Ours => ErrorKind::Died,
            Reader::Elsewhere => ErrorKind::BrokenPipe,
        };
        Poll::Ready(EndpointError::new(kind, Blame::Peer, what))
    }
}

impl Sink for ProcessSink {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let Some(input) = self.input.as_mut() else {
            let what = format!("the input of {} was ended before", self.name);
            return Poll::Ready(Err(EndpointError::new(ErrorKind::Failed, Blame::Caller, what)));
        };
        match ready!(input.poll_write(cx, held)) {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.poll_closed(cx).map(Err),
            Err(error) => Poll::Ready(Err(EndpointError::io(
                format!("cannot write {}", self.name),
                error,
            ))),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.input = None;
        let ending = ready!(self.child.poll_ending(cx));
        self.is_over = true;
        let kind = match self.reader {
            Reader::Ours => ErrorKind::Died,
            Reader::Elsewhere => ErrorKind::Failed,
        };
        Poll::Ready(verdict(&self.name, &ending, kind).map(|()| Confirmation::Confirmed))
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let input = self.input.take();
        if !std::mem::replace(&mut self.is_over, true) {
            self.is_stopped = true;
            self.child.stop(input);
        }
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.is_stopped {
            true => self.child.poll_gone(cx),
            false => Poll::Ready(()),
        }
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        let Some(input) = self.input.as_mut() else {
            return Poll::Pending;
        };
        ready!(input.poll_broken(cx));
        self.poll_closed(cx)
    }

    /// A child that reads no more, because it does not want to or because we have ended its input, is waited for through
    /// its output, which has limits of its own. Once that is over, only its exit is to come.
    fn is_heard_out(&self) -> bool {
        let reads_no_more = self.has_closed_input || self.input.is_none();
        self.reader == Reader::Ours && reads_no_more && !self.is_over && !self.child.is_output_over()
    }

    #[cfg(unix)]
    fn unsent_bytes(&self) -> Option<u64> {
        self.input.as_ref()?.unsent_bytes()
    }

    #[cfg(unix)]
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        self.input.as_ref()?.lane_end()
    }

    #[cfg(unix)]
    fn poll_lane(&mut self, cx: &mut Context<'_>, op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(end) => end.poll_lane(cx, op),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    #[cfg(unix)]
    fn lane_moved(&mut self, bytes: u64) {
        if let Some(input) = &mut self.input {
            input.lane_moved(bytes);
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for ProcessSink {
    fn drop(&mut self) {
        if !self.is_over {
            self.abort(&AbortReason::Dropped);
        }
    }
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
