//! The control connection with its questions, and the data connection of a transfer.
//!
//! Knows suppaftp; refuses to know sources and sinks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use suppaftp::FtpError;
use suppaftp::Status;
use suppaftp::tokio::{AsyncDataStream, AsyncRustlsFtpStream, AsyncRustlsStream, TransferStream};
use suppaftp::types::{Mode, Response};
use tidegate_io::{AfterAbort, Blame, EndpointError, ErrorKind, LaneEnd, LaneKind, LaneOp, lane_fd};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::error::{ftp_error, in_time, refusal_code};
use super::{ClientOptions, DataMode};
use crate::grammar::time::parse_timestamp;

/// How long a control connection that is done with may take to say so.
const QUIT_WAIT: Duration = Duration::from_secs(2);

/// What a server is trusted to hash at least; not measured of any.
const HASHED_BYTES_A_SECOND: u64 = 20 * 1024 * 1024;

/// A logged-in control connection.
pub(super) struct Client {
    ftp: AsyncRustlsFtpStream,
    mode: DataMode,
    reply_timeout: Duration,
    name: String,
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Retr,
    Stor,
    Appe,
}

impl Client {
    pub(super) fn new(ftp: AsyncRustlsFtpStream, options: &ClientOptions, name: String) -> Self {
        Self {
            ftp,
            mode: options.mode,
            reply_timeout: options.reply_timeout,
            name,
        }
    }

    /// `SIZE`; `None` where the server does not tell.
    pub(super) async fn size(&mut self, path: &str) -> Result<Option<u64>, EndpointError> {
        let text = self.ask(format!("SIZE {path}"), &[Status::File]).await?;
        Ok(text.and_then(|text| text.split_whitespace().next()?.parse().ok()))
    }

    /// `MDTM` in seconds since 1970; `None` where the server does not tell.
    pub(super) async fn modify(&mut self, path: &str) -> Result<Option<i64>, EndpointError> {
        let text = self.ask(format!("MDTM {path}"), &[Status::File]).await?;
        Ok(text.and_then(|text| parse_timestamp(text.trim().as_bytes())))
    }

    /// The SHA-256 by `HASH` or `XSHA256`, in lower-case hex; `None` where the server offers neither.
    pub(super) async fn hash(&mut self, path: &str) -> Result<Option<String>, EndpointError> {
        // 213 SHA-256 0-49 <hash> name; a server may have another algorithm chosen.
        if let Some(text) = self.ask(format!("HASH {path}"), &[Status::File]).await? {
            let mut words = text.split_whitespace();
            if words.next() == Some("SHA-256") {
                return Ok(words.nth(1).map(str::to_ascii_lowercase));
            }
        }
        let served = [Status::RequestedFileActionOk, Status::File];
        let text = self.ask(format!("XSHA256 {path}"), &served).await?;
        let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(text.and_then(|text| text.split_whitespace().find(is_hash).map(str::to_ascii_lowercase)))
    }

    /// The SHA-256 of the first `bytes` of a file, one at least, by `RANG` and `HASH`; `None` where the server does not offer both.
    pub(super) async fn hash_of_first(
        &mut self,
        path: &str,
        bytes: u64,
    ) -> Result<Option<String>, EndpointError> {
        let Some(last) = bytes.checked_sub(1) else {
            return Ok(None);
        };
        let range = self
            .ask(format!("RANG 0 {last}"), &[Status::RequestFilePending])
            .await?;
        if range.is_none() {
            return Ok(None);
        }
        let text = self.ask(format!("HASH {path}"), &[Status::File]).await?;
        let words: Vec<_> = text.iter().flat_map(|text| text.split_whitespace()).collect();
        Ok(match words[..] {
            // Of another algorithm or another range it says nothing.
            ["SHA-256", range, hash, ..] if range == format!("0-{last}") => Some(hash.to_ascii_lowercase()),
            _ => None,
        })
    }

    /// Replies of work that takes the longer the more `bytes` there are may take longer.
    pub(super) fn be_patient(&mut self, bytes: u64) {
        self.reply_timeout += Duration::from_secs(bytes / HASHED_BYTES_A_SECOND);
    }

    /// `RNFR`, `RNTO`.
    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Result<(), EndpointError> {
        let what = format!("cannot rename {from} to {to}");
        let renamed = async {
            let renamed = self.ftp.rename(from, to).await;
            renamed.map_err(|error| ftp_error(ErrorKind::Failed, &what, error))
        };
        in_time(self.reply_timeout, &what, renamed).await
    }

    /// Opens a data connection for `verb`, from `offset` on.
    pub(super) async fn open(
        &mut self,
        path: &str,
        verb: Verb,
        offset: u64,
    ) -> Result<Transfer, EndpointError> {
        let what = format!("cannot open {}", self.name);
        let limit = self.reply_timeout;
        let opened = async {
            match self.try_open(path, verb, offset).await {
                // EPSV is not known there.
                Err(error) if self.mode == DataMode::Passive && is_unknown_command(&error) => {
                    self.ftp.set_mode(Mode::Passive);
                    self.try_open(path, verb, offset).await
                }
                result => result,
            }
            .map_err(|error| ftp_error(ErrorKind::Open, &what, error))
        };
        let stream = in_time(limit, &what, opened).await?;
        Ok(Transfer { stream, hangup: None })
    }

    async fn try_open(
        &mut self,
        path: &str,
        verb: Verb,
        offset: u64,
    ) -> Result<TransferStream<AsyncRustlsStream>, FtpError> {
        let offset = usize::try_from(offset).map_err(|_| FtpError::BadResponse)?;
        self.ftp.resume_transfer(offset).await?;
        match verb {
            Verb::Retr => self.ftp.retr_as_stream(path).await,
            Verb::Stor => self.ftp.put_with_stream(path).await,
            Verb::Appe => self.ftp.append_with_stream(path).await,
        }
    }

    /// Reads the reply that ends a transfer. The stream counts as cut short unless it is 226 or 250.
    pub(super) async fn finish(&mut self, transfer: Transfer, kind: ErrorKind) -> Result<(), EndpointError> {
        let what = format!("{} was not transferred", self.name);
        let finished = async {
            let finished = transfer.stream.finish().await;
            finished.map_err(|error| ftp_error(kind, &what, error))
        };
        in_time(self.reply_timeout, &what, finished).await
    }

    /// Best effort.
    pub(super) async fn quit(mut self) {
        let _ = tokio::time::timeout(QUIT_WAIT, self.ftp.quit()).await;
    }

    /// The text of a good reply, without its code; `None` for a refusal.
    async fn ask(&mut self, command: String, good: &[Status]) -> Result<Option<String>, EndpointError> {
        let what = format!("cannot ask about {}", self.name);
        let asked = async {
            match self.ftp.custom_command(command, good).await {
                Ok(response) => Ok(Some(text_of(&response))),
                Err(error) if refusal_code(&error).is_some_and(|code| code >= 500) => Ok(None),
                Err(error) => Err(ftp_error(ErrorKind::Open, &what, error)),
            }
        };
        in_time(self.reply_timeout, &what, asked).await
    }
}

fn text_of(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body);
    text.get(4..).unwrap_or_default().trim_end().to_owned()
}

fn is_unknown_command(error: &FtpError) -> bool {
    matches!(refusal_code(error), Some(500 | 501 | 502 | 504 | 522))
}

/// An open data connection.
pub(super) struct Transfer {
    stream: TransferStream<AsyncRustlsStream>,
    hangup: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Transfer {
    fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().get_ref()
    }

    fn plain(&self) -> Option<&TcpStream> {
        match self.stream.get_ref() {
            AsyncDataStream::Tcp(tcp) => Some(tcp),
            AsyncDataStream::Ssl(_) => None,
        }
    }

    /// Ready at once when nothing has arrived is a lie under TLS, where it costs a buffer.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hangup = None;
        match self.plain() {
            Some(tcp) => tcp.poll_read_ready(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.hangup = None;
        if let Some(tcp) = self.plain() {
            loop {
                ready!(tcp.poll_write_ready(cx))?;
                match tcp.try_write_vectored(slices) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        let bytes = first.map_or(&[][..], |slice| slice);
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    /// Cuts the transfer short: the server sees a reset, under TLS too, and never a clean end. (Dropping suppaftp's
    /// stream alone would close it in good order.)
    pub(super) fn reset(mut self) {
        self.hangup = None;
        let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Resolves when the connection breaks while nobody reads or writes.
    pub(super) fn poll_hangup(&mut self, cx: &mut Context<'_>, name: &str) -> Poll<EndpointError> {
        if self.hangup.is_none() {
            self.hangup = watch(self.tcp()).ok();
        }
        let Some(hangup) = &mut self.hangup else {
            return Poll::Pending;
        };
        ready!(hangup.as_mut().poll(cx));
        self.hangup = None;
        let error = match self.tcp().take_error() {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => io::ErrorKind::ConnectionReset.into(),
        };
        Poll::Ready(EndpointError::io(name, error))
    }

    pub(super) fn lane_end(&self) -> Option<LaneEnd<'_>> {
        Some(LaneEnd {
            kind: LaneKind::Socket,
            fd: lane_fd(self.plain()?)?,
            offset: 0,
            after_abort: AfterAbort::Stays,
        })
    }

    pub(super) fn poll_lane(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        op: LaneOp<'_>,
    ) -> Poll<io::Result<usize>> {
        self.hangup = None;
        let Some((tcp, fd)) = self.plain().and_then(|tcp| Some((tcp, lane_fd(tcp)?))) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        loop {
            if interest.is_readable() {
                ready!(tcp.poll_read_ready(cx))?;
            } else {
                ready!(tcp.poll_write_ready(cx))?;
            }
            match tcp.try_io(interest, || op(fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Watches a second descriptor of the same socket, because suppaftp owns the first.
fn watch(tcp: &TcpStream) -> io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let second: std::net::TcpStream = socket2::SockRef::from(tcp).try_clone()?.into();
    let second = TcpStream::from_std(second)?;
    Ok(Box::pin(async move {
        if second.ready(Interest::ERROR).await.is_err() {
            std::future::pending::<()>().await;
        }
    }))
}

/// What broke while bytes moved, as the fault of one stream.
pub(super) fn moving(name: &str, error: io::Error) -> EndpointError {
    let told = EndpointError::io(name, error);
    match told.blame {
        Blame::System => EndpointError {
            blame: Blame::Peer,
            ..told
        },
        _ => told,
    }
}
