//! One TLS session over any two-way endpoint: records in, records out, at most one of each on its way, and counted.
//!
//! Knows no certificates and no names of errors a handshake can have; `config.rs` does. A plaintext byte counts as
//! accepted only once the whole record it travels in was accepted below: nothing is buffered that the gate does not
//! count.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustls::{Connection, IoState};

use super::records::Records;
use crate::{Blame, Buffers, Confirmation, Duplex, EndpointError, ErrorKind, Held, Sink, Source};

/// The plaintext of one record: what `rustls` may buffer each way.
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// The most read from below at once: one record with what is around it.
const WIRE_BYTES: usize = RECORD_BYTES + 512;
/// Pieces joined into one record.
const SLICES_MAX: usize = 16;
/// Written in one go before others get their turn.
const TURN_BYTES: usize = 512 * 1024;

/// Which kind of error a broken session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Handshake,
    Moving,
}

pub(super) struct Engine {
    session: Connection,
    lower: Option<Box<dyn Source + Send>>,
    sink: Box<dyn Sink + Send>,
    /// For ciphertext; what it lends is given back as soon as it is deciphered.
    buffers: Buffers,
    wire_in: Bytes,
    /// What the session was given of a record that is not whole.
    records: Records,
    wire_out: Held,
    /// Plaintext bytes in the record that `wire_out` holds.
    in_flight: usize,
    phase: Phase,
    is_end_sent: bool,
    /// When our end was sent, the peer's system had taken all there was before it.
    was_all_taken: bool,
    failed: Option<EndpointError>,
    pub(super) name: String,
}

impl Engine {
    pub(super) fn new(mut session: Connection, transport: Duplex, name: String) -> Self {
        session.set_buffer_limit(Some(RECORD_BYTES));
        Self {
            session,
            lower: Some(transport.source),
            sink: transport.sink,
            buffers: Buffers::default(),
            wire_in: Bytes::new(),
            records: Records::default(),
            wire_out: Held::default(),
            in_flight: 0,
            phase: Phase::Handshake,
            is_end_sent: false,
            was_all_taken: false,
            failed: None,
            name,
        }
    }

    pub(super) fn session(&self) -> &Connection {
        &self.session
    }

    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        loop {
            ready!(self.poll_out(cx))?;
            if !self.session.is_handshaking() {
                self.phase = Phase::Moving;
                return self.poll_flush(cx);
            }
            ready!(self.poll_in(cx))?;
        }
    }

    /// The plaintext that has come; `None` once the peer has said that there is no more.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        loop {
            match self.read_plain(buffers, max) {
                Ok(None) => {}
                Ok(Some(bytes)) if bytes.is_empty() => return Poll::Ready(Ok(None)),
                Ok(some) => return Poll::Ready(Ok(some)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_in(cx))?;
            self.answer(cx)?;
        }
    }

    /// Reads and drops what the peer sends, until it ends.
    pub(super) fn poll_drop_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        let mut buffers = Buffers::default();
        while ready!(self.poll_read(cx, &mut buffers, RECORD_BYTES))?.is_some() {}
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        held: &Held,
    ) -> Poll<Result<usize, EndpointError>> {
        let mut accepted = 0;
        loop {
            match self.poll_out(cx)? {
                Poll::Ready(()) => accepted += std::mem::take(&mut self.in_flight),
                Poll::Pending if accepted > 0 => return Poll::Ready(Ok(accepted)),
                Poll::Pending => return Poll::Pending,
            }
            if accepted >= held.len().min(TURN_BYTES) {
                return Poll::Ready(Ok(accepted));
            }
            self.in_flight = self.encipher(held, accepted)?;
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        ready!(self.poll_out(cx))?;
        self.sink.poll_flush(cx)
    }

    /// Says that nothing more will come from us, after all that was written.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if !self.is_end_sent {
            ready!(self.poll_out(cx))?;
            self.was_all_taken = self.sink.unsent_bytes() == Some(0);
            self.session.send_close_notify();
            self.is_end_sent = true;
        }
        Poll::Ready(match ready!(self.poll_close(cx)) {
            // Most clients close at once when they have all they want: our end then finds nobody, and nobody missed it.
            Err(error)
                if error.blame == Blame::Peer
                    && self.was_all_taken
                    && self.state(IoState::peer_has_closed) =>
            {
                Ok(Confirmation::Sent)
            }
            result => result,
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        ready!(self.poll_flush(cx))?;
        self.sink.poll_finish(cx)
    }

    pub(super) fn is_end_sent(&self) -> bool {
        self.is_end_sent && self.wire_out.is_empty()
    }

    /// What has come from below and was not read: of a record that is not whole, enciphered, of a whole one, plain.
    pub(super) fn bytes_in(&mut self) -> usize {
        self.wire_in.len() + self.records.partial_bytes() + self.state(IoState::plaintext_bytes_to_read)
    }

    /// What is on its way down: the record of bytes that do not count as accepted yet.
    pub(super) fn bytes_out(&mut self) -> usize {
        self.wire_out.len() + self.state(IoState::tls_bytes_to_write)
    }

    /// What the session itself says of its state. Everything it was given was processed before: nothing else happens.
    fn state<T: Default>(&mut self, look: impl FnOnce(&IoState) -> T) -> T {
        self.session
            .process_new_packets()
            .as_ref()
            .map(look)
            .unwrap_or_default()
    }

    pub(super) fn sink(&mut self) -> &mut (dyn Sink + Send) {
        &mut *self.sink
    }

    pub(super) fn source(&mut self) -> Option<&mut (dyn Source + Send + 'static)> {
        self.lower.as_deref_mut()
    }

    /// Nobody will read: lets go of the reading half below.
    pub(super) fn drop_source(&mut self) {
        self.lower = None;
    }

    /// An empty `Bytes` is the end, `None` that more must come first.
    fn read_plain(&mut self, buffers: &mut Buffers, max: usize) -> Result<Option<Bytes>, EndpointError> {
        let mut reader = self.session.reader();
        let result = match reader.fill_buf() {
            Ok([]) => return Ok(Some(Bytes::new())),
            // A buffer is taken only now that there is something to put into it.
            Ok(_) => {
                let mut buffer = buffers.take(max);
                let asked = buffer.space().len().min(max);
                let got = reader.read(&mut buffer.space()[..asked]);
                got.map(|got| {
                    buffers.learn(asked, got);
                    buffer.freeze(got)
                })
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &self.failed {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            },
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.cut_short()),
            Err(error) => Err(EndpointError::io(self.name.clone(), error)),
        }
    }

    /// Takes in something from below: bytes, or the end.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if self.wire_in.is_empty() {
            let Some(lower) = &mut self.lower else {
                return Poll::Ready(Err(self.cut_short()));
            };
            // What is left of the record on its way and no more, so that one is all there ever is here.
            let most = self.records.missing_bytes().unwrap_or(WIRE_BYTES);
            match ready!(lower.poll_read(cx, &mut self.buffers, most)) {
                Ok(Some(bytes)) => self.wire_in = bytes,
                Ok(None) => {
                    // Tells the session that it has seen the end of the connection.
                    self.session
                        .read_tls(&mut io::empty())
                        .map_err(|error| EndpointError::io(self.name.clone(), error))?;
                    if self.phase == Phase::Handshake {
                        return Poll::Ready(Err(self.fail(self.cut_short())));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
        let taken = self.session.read_tls(&mut &self.wire_in[..]);
        let taken = taken.map_err(|error| EndpointError::io(self.name.clone(), error))?;
        if taken == 0 {
            // After the peer's end nothing counts.
            self.wire_in = Bytes::new();
            return Poll::Ready(Ok(()));
        }
        self.records.saw(&self.wire_in[..taken]);
        self.wire_in.advance(taken);
        if self.wire_in.is_empty() {
            self.wire_in = Bytes::new();
        }
        if let Err(error) = self.session.process_new_packets() {
            let told = self.told(error);
            self.fail(told.clone());
            // An alert is queued for the peer; if it cannot go now it never will.
            let _ = self.push_out(cx);
            if self.phase == Phase::Handshake {
                return Poll::Ready(Err(told));
            }
            // What was deciphered before comes first; the error follows it.
        }
        Poll::Ready(Ok(()))
    }

    /// What the session has to say by itself (a new key) goes out now, unless a record is on its way: it follows that.
    fn answer(&mut self, cx: &mut Context<'_>) -> Result<(), EndpointError> {
        if self.failed.is_none() && self.session.wants_write() && self.wire_out.is_empty() {
            return match self.push_out(cx) {
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            };
        }
        Ok(())
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        self.push_out(cx)
    }

    fn push_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EndpointError>> {
        loop {
            while !self.wire_out.is_empty() {
                match ready!(self.sink.poll_write(cx, &self.wire_out)) {
                    Ok(taken) => self.wire_out.advance(taken),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if !self.session.wants_write() {
                return Poll::Ready(Ok(()));
            }
            let mut record = Vec::with_capacity(WIRE_BYTES);
            self.session
                .write_tls(&mut record)
                .map_err(|error| EndpointError::io(self.name.clone(), error))?;
            self.wire_out.push(record.into());
        }
    }

    /// Makes a record of what follows the first `skip` bytes of `held`, and says how much went into it.
    fn encipher(&mut self, held: &Held, mut skip: usize) -> Result<usize, EndpointError> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut filled = 0;
        for piece in held.pieces() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let Some(slot) = slices.get_mut(filled) else { break };
            *slot = IoSlice::new(&piece[skip..]);
            skip = 0;
            filled += 1;
        }
        let written = self.session.writer().write_vectored(&slices[..filled]);
        written.map_err(|error| EndpointError::io(self.name.clone(), error))
    }

    fn fail(&mut self, error: EndpointError) -> EndpointError {
        self.failed.get_or_insert(error).clone()
    }

    fn cut_short(&self) -> EndpointError {
        match self.phase {
            Phase::Handshake => EndpointError::new(
                ErrorKind::Open,
                Blame::Peer,
                format!("{} closed the connection during the TLS handshake", self.name),
            ),
            Phase::Moving => EndpointError::new(
                ErrorKind::Truncated,
                Blame::Peer,
                format!(
                    "{} closed the connection without TLS's end (close_notify)",
                    self.name
                ),
            ),
        }
    }

    fn told(&self, error: rustls::Error) -> EndpointError {
        let kind = match self.phase {
            Phase::Handshake => ErrorKind::Open,
            Phase::Moving => ErrorKind::Failed,
        };
        super::trouble::told(kind, &self.name, error)
    }
}
