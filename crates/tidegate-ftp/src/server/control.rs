//! The control connection: lines in, replies out, plain or under TLS.
//!
//! Knows nothing of what a line means.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::grammar::{LineError, Lines, Reply};
use crate::system::keep_urgent_in_line;

/// Read at once; on the stack, so that a session that waits holds no buffer.
const READ_BYTES: usize = 1024;

/// A line, or why there is none.
pub(crate) type Line = Result<Vec<u8>, LineError>;

/// A control connection.
#[derive(Debug)]
pub(crate) struct Control {
    stream: Stream,
    lines: Lines,
    line_bytes_max: usize,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake failed; the connection is over.
    Gone,
}

impl Control {
    pub(crate) fn new(stream: TcpStream, line_bytes_max: usize) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        keep_urgent_in_line(&stream)?;
        Ok(Self {
            stream: Stream::Plain(stream),
            lines: Lines::new(line_bytes_max),
            line_bytes_max,
        })
    }

    /// Whether the connection is under TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The next line; `None` when the client has closed.
    ///
    /// Cancel safe: what was read stays.
    pub(crate) async fn next_line(&mut self) -> io::Result<Option<Line>> {
        std::future::poll_fn(|cx| self.poll_line(cx)).await
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Line>>> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return Poll::Ready(Ok(Some(line)));
            }
            let mut space = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut space);
            let read = match &mut self.stream {
                Stream::Plain(tcp) => poll_plain(tcp, cx, &mut buffer),
                Stream::Tls(tls) => Pin::new(tls).poll_read(cx, &mut buffer),
                Stream::Gone => return Poll::Ready(Ok(None)),
            };
            match ready!(read) {
                // Many clients close TLS without its alert; commands have their own ends.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(Ok(None)),
                Ok(()) => self.lines.push(buffer.filled()),
            }
        }
    }

    /// Sends a reply.
    pub(crate) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        let bytes = reply.encode();
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(&bytes).await,
            Stream::Tls(tls) => {
                tls.write_all(&bytes).await?;
                tls.flush().await
            }
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Puts the connection under TLS. What a client sent behind its `AUTH` in plain is forgotten: nobody between us may
    /// slip a command into the protected session.
    pub(crate) async fn start_tls(&mut self, acceptor: &TlsAcceptor) -> io::Result<()> {
        self.lines = Lines::new(self.line_bytes_max);
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(tcp) => {
                let mut tls = acceptor.accept(tcp).await?;
                // One record: a layer that buffers counts.
                tls.get_mut().1.set_buffer_limit(Some(16 * 1024));
                self.stream = Stream::Tls(Box::new(tls));
                Ok(())
            }
            other => {
                self.stream = other;
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Says goodbye properly where there is something to say.
    pub(crate) async fn close(&mut self) {
        match &mut self.stream {
            Stream::Plain(tcp) => drop(tcp.shutdown().await),
            Stream::Tls(tls) => drop(tls.shutdown().await),
            Stream::Gone => {}
        }
    }
}

/// Not the runtime's own `poll_read`: that takes a read which did not fill its buffer for the last one, and a read ends
/// before urgent data, which then nobody would fetch.
fn poll_plain(tcp: &TcpStream, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        match tcp.try_read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
