//! A transfer: the data connection opened, the bytes moved, and the control connection heard meanwhile.
//!
//! Knows nothing of files: it is given a source or a sink.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tidegate::AbortReason;
use tidegate_io::{Flow, FlowError, FlowHandle, LaneChoice, Report, Sink, Source};
use tokio::net::TcpStream;

use super::control::Line;
use super::session::Session;
use super::text::Converted;
use super::{Shared, failure, opening};
use crate::data::DataConnection;
use crate::grammar::command::{Protection, TransferType, verb_of};
use crate::grammar::{Command, Reply};

/// Commands kept for after the transfer; a client that sends more is heard again when it is over.
const QUEUE_LINES_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 16 * 1024;

/// What is to be transferred.
pub(crate) struct Transfer {
    /// The text of the 150 reply.
    pub(crate) opening: Vec<u8>,
    /// The text of the 226 reply.
    pub(crate) done: Vec<u8>,
    /// For the log.
    pub(crate) what: String,
    pub(crate) direction: Direction,
    pub(crate) lines: Lines,
}

/// Whether `TYPE A` applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lines {
    /// A file: its line ends are converted in text.
    Converted,
    /// A listing: made with the line ends of the wire.
    AsTheyAre,
}

pub(crate) enum Direction {
    /// To the client.
    Send(Box<dyn Source + Send>),
    /// From the client.
    Receive(Box<dyn Sink + Send>),
}

impl Transfer {
    pub(crate) fn send(what: &[u8], source: impl Source + Send + 'static) -> Self {
        Self::new(what, Direction::Send(Box::new(source)))
    }

    pub(crate) fn receive(what: &[u8], sink: impl Sink + Send + 'static) -> Self {
        Self::new(what, Direction::Receive(Box::new(sink)))
    }

    fn new(what: &[u8], direction: Direction) -> Self {
        Self {
            opening: b"Opening data connection".to_vec(),
            done: b"Transfer complete".to_vec(),
            what: String::from_utf8_lossy(what).into_owned(),
            direction,
            lines: Lines::Converted,
        }
    }
}

/// What the client said while bytes moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Nothing,
    Abor,
    /// The control connection is gone.
    Left,
}

/// Whether the control connection can still say something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ears {
    Open,
    /// The client has closed its side, after a `QUIT`.
    Shut,
}

/// Runs a transfer to its end and gives the last reply.
///
/// `ABOR` and `STAT` are heard at any moment; other commands wait. A client whose control connection is lost has left:
/// the transfer is aborted.
pub(crate) async fn run(session: &mut Session, transfer: Transfer) -> io::Result<Reply> {
    let plan = std::mem::take(&mut session.plan);
    session.restart = 0;
    if let opening::Plan::None = plan {
        return Ok(Reply::new(
            425,
            "Say first how to connect: PASV, EPSV, PORT or EPRT",
        ));
    }
    let shared = std::sync::Arc::clone(&session.shared);
    let (local, peer) = (session.local.ip(), session.peer.ip());
    let connecting = tokio::time::timeout(shared.options.limits.data_open, opening::open(plan, local, peer));
    let stream = match Box::pin(heard(session, None, connecting)).await? {
        (Said::Nothing, Ok(Ok(stream))) => stream,
        (Said::Nothing, Ok(Err(error))) => {
            tracing::info!(peer = %session.peer, %error, "no data connection");
            return Ok(Reply::new(425, "Cannot open the data connection"));
        }
        (Said::Nothing, Err(_)) => return Ok(Reply::new(425, "No data connection came in time")),
        (said, _) => return aborted(session, said, &Reply::new(426, "Transfer aborted")).await,
    };
    session.reply(&Reply::new(150, transfer.opening.clone())).await?;
    let secured = secure(stream, session.protection, &shared);
    let connection = match Box::pin(heard(session, None, secured)).await? {
        (Said::Nothing, Ok(connection)) => connection,
        (Said::Nothing, Err(error)) => {
            tracing::info!(peer = %session.peer, %error, "no TLS on the data connection");
            return Ok(Reply::new(425, "Cannot secure the data connection"));
        }
        (said, _) => return aborted(session, said, &Reply::new(426, "Transfer aborted")).await,
    };
    flow(session, transfer, connection, &shared).await
}

type Work = Pin<Box<dyn Future<Output = Result<Report, FlowError>> + Send>>;

async fn flow(
    session: &mut Session,
    transfer: Transfer,
    connection: DataConnection,
    shared: &Shared,
) -> io::Result<Reply> {
    let Transfer {
        direction,
        done,
        what,
        lines,
        ..
    } = transfer;
    let text = match (session.transfer_type, lines) {
        (TransferType::Ascii, Lines::Converted) => Text::Yes,
        _ => Text::No,
    };
    let (work, handle) = work(direction, connection, text, shared);
    let (said, result) = Box::pin(heard(session, Some(&handle), work)).await?;
    log(session, &what, &result);
    let last = match &result {
        Ok(_) => Reply::new(226, done),
        Err(error) => failure::cut_short(error),
    };
    match said {
        Said::Nothing => Ok(last),
        said => aborted(session, said, &last).await,
    }
}

/// Whether line ends are converted.
enum Text {
    No,
    Yes,
}

/// The flow of a transfer, to be awaited, and its handle.
fn work(direction: Direction, connection: DataConnection, text: Text, shared: &Shared) -> (Work, FlowHandle) {
    let options = &shared.options;
    let flow_of = |source: Box<dyn Source + Send>, sink: Box<dyn Sink + Send>, lane| {
        Flow::new(source, sink)
            .marks(options.marks)
            .stall(options.limits.stall)
            .drain(options.limits.stall)
            .lane(lane)
    };
    match direction {
        Direction::Send(source) => {
            let source: Box<dyn Source + Send> = match text {
                Text::Yes => Box::new(Converted::to_wire(source)),
                Text::No => source,
            };
            // On one machine too: the client's copy out of the page cache is the only one then.
            let lane = match options.lane {
                LaneChoice::Auto => LaneChoice::Sendfile,
                lane => lane,
            };
            let flow = flow_of(source, Box::new(connection.into_sink()), lane);
            let handle = flow.handle();
            (Box::pin(flow.run()), handle)
        }
        Direction::Receive(sink) => {
            let source = Box::new(connection.into_source().end_grace(options.limits.end_grace));
            let source: Box<dyn Source + Send> = match text {
                Text::Yes => Box::new(Converted::from_wire(source)),
                Text::No => source,
            };
            // Spared a copy into user space and back; what is small, under TLS or text is copied all the same.
            let lane = match options.lane {
                LaneChoice::Auto => LaneChoice::Splice,
                lane => lane,
            };
            let flow = flow_of(source, sink, lane);
            let handle = flow.handle();
            (Box::pin(flow.run()), handle)
        }
    }
}

/// After `ABOR`: the reply of the transfer, then the reply of `ABOR` (RFC 959 §4.1.3).
async fn aborted(session: &mut Session, said: Said, transfer: &Reply) -> io::Result<Reply> {
    if said == Said::Left {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    session.reply(transfer).await?;
    Ok(Reply::new(226, "ABOR done; data connection closed"))
}

/// Drives `work` to its end and hears the client meanwhile. `ABOR` ends work that has no handle by dropping it later:
/// the caller looks at what was said.
async fn heard<F: Future>(
    session: &mut Session,
    handle: Option<&FlowHandle>,
    work: F,
) -> io::Result<(Said, F::Output)>
where
    F::Output: Interrupted,
{
    let mut work = Box::pin(work);
    let mut said = Said::Nothing;
    let mut ears = Ears::Open;
    loop {
        let hears = said == Said::Nothing && ears == Ears::Open && session.queue_has_room();
        tokio::select! {
            // The control connection first: a client that was killed closes both, and then the end of its data is no
            // end of a file, which stream mode alone cannot tell.
            biased;
            line = session.control.next_line(), if hears => {
                said = match line {
                    Ok(Some(line)) => obey_now(session, line, handle).await?,
                    Ok(None) if session.wants_to_quit() => {
                        ears = Ears::Shut;
                        Said::Nothing
                    }
                    Ok(None) | Err(_) => Said::Left,
                };
                match (said, handle) {
                    (Said::Nothing, _) => {}
                    (_, Some(handle)) => handle.abort(AbortReason::Requested),
                    (_, None) => return Ok((said, F::Output::interrupted())),
                }
            }
            result = &mut work => return Ok((said, result)),
        }
    }
}

/// The result of work that was dropped before its end.
trait Interrupted {
    fn interrupted() -> Self;
}

impl Interrupted for Result<io::Result<TcpStream>, tokio::time::error::Elapsed> {
    fn interrupted() -> Self {
        Ok(Err(io::ErrorKind::Interrupted.into()))
    }
}

impl Interrupted for io::Result<DataConnection> {
    fn interrupted() -> Self {
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Interrupted for Result<Report, FlowError> {
    fn interrupted() -> Self {
        unreachable!("a flow has a handle and ends by itself")
    }
}

async fn obey_now(session: &mut Session, line: Line, handle: Option<&FlowHandle>) -> io::Result<Said> {
    let verb = line.as_ref().map(|line| verb_of(line)).unwrap_or_default();
    match verb.as_str() {
        "ABOR" => return Ok(Said::Abor),
        "STAT" if line.as_deref().map(Command::parse) == Ok(Ok(Command::Stat(Vec::new()))) => {
            let bytes = handle.map_or(0, |handle| handle.snapshot().bytes_sent);
            session
                .reply(&Reply::new(
                    213,
                    format!("Transfer under way: {bytes} bytes so far"),
                ))
                .await?;
        }
        _ => session.queue.push_back(line),
    }
    Ok(Said::Nothing)
}

async fn secure(stream: TcpStream, protection: Protection, shared: &Shared) -> io::Result<DataConnection> {
    match (protection, &shared.tls) {
        (Protection::Private, Some(acceptors)) => {
            let patience = shared.options.limits.data_open;
            let mut tls = tokio::time::timeout(patience, acceptors.data.accept(stream)).await??;
            // One record: a layer that buffers counts.
            tls.get_mut().1.set_buffer_limit(Some(16 * 1024));
            DataConnection::tls(tls)
        }
        _ => DataConnection::plain(stream),
    }
}

fn log(session: &Session, what: &str, result: &Result<Report, FlowError>) {
    let user = session.user().map_or("", |user| &user.name);
    let (report, error) = match result {
        Ok(report) => (report, None),
        Err(error) => (&error.report, Some(error)),
    };
    let (lane, bytes) = (report.lane.name(), report.bytes_sent);
    match error {
        None => tracing::info!(peer = %session.peer, user, what, bytes, lane, "transferred"),
        Some(error) => tracing::warn!(peer = %session.peer, user, what, bytes, lane, %error, "cut short"),
    }
}

impl Session {
    fn queue_has_room(&self) -> bool {
        let bytes: usize = self.queue.iter().flatten().map(Vec::len).sum();
        self.queue.len() < QUEUE_LINES_MAX && bytes < QUEUE_BYTES_MAX
    }

    /// A client may send `QUIT` behind a transfer and close its side at once.
    fn wants_to_quit(&self) -> bool {
        let is_quit = |line: &Line| line.as_ref().is_ok_and(|line| verb_of(line) == "QUIT");
        self.queue.iter().any(is_quit)
    }
}
