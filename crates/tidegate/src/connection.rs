//! One protocol's end of a connection: calls it one at a time and in order, and says once that it is lost.
//!
//! Knows nothing of where bytes come from or go to: a [`Lane`] feeds it, any consumer takes what it writes. Decides
//! about no pause: a read hold is a hold on the gate of the lane.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::forward::forward;
use crate::signals::Panicked;
use crate::stage::{cut, total};
use crate::sync::{Mutex, lock};
use crate::{
    AbortReason, Accepted, Below, Consumer, FinishableConsumer, Finished, HalfClose, Hold, HoldReason, Loss,
    Protocol, ReadHold, StageHandle, Transport,
};

/// See the module's page.
pub(crate) struct End(Mutex<State>);

struct State {
    protocol: Option<Arc<dyn Protocol>>,
    /// What the protocol writes to, and what feeds it. Given up, like the protocol, when the connection is lost.
    out: Option<Arc<dyn FinishableConsumer>>,
    feed: Option<StageHandle>,
    /// A call of the protocol is under way on some thread: that thread makes the next one too.
    busy: bool,
    /// Bytes were told to wait: the feed is to be poked once they need not any more.
    waits: bool,
    read_holds: usize,
    /// The protocol is done; what still comes is dropped.
    discards: bool,
    end_due: bool,
    input: Side,
    output: Side,
}

#[derive(Clone)]
enum Side {
    Open,
    Done,
    Cut(AbortReason),
}

/// The next call of the protocol.
enum Next {
    End(Arc<dyn Protocol>),
    Lost(Arc<dyn Protocol>, Loss, Released),
    Nothing(Option<StageHandle>),
}

/// What a lost connection lets go of, to be dropped without the lock.
type Released = (Option<Arc<dyn FinishableConsumer>>, Option<StageHandle>);

impl End {
    pub(crate) fn new(protocol: Arc<dyn Protocol>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            protocol: Some(protocol),
            out: None,
            feed: None,
            // Until it is connected, nothing is delivered.
            busy: true,
            waits: false,
            read_holds: 0,
            discards: false,
            end_due: false,
            input: Side::Open,
            output: Side::Open,
        })))
    }

    /// Tells the protocol that the connection stands.
    pub(crate) fn connect(self: &Arc<Self>, out: Arc<dyn FinishableConsumer>, feed: StageHandle) {
        let protocol = {
            let mut state = lock(&self.0);
            state.out = Some(Arc::clone(&out));
            state.feed = Some(feed);
            state.protocol.clone()
        };
        let end = Arc::clone(self);
        let mut panicked = Panicked::default();
        if let Some(protocol) = protocol {
            let made = || protocol.connection_made(Arc::new(Link { end, out }));
            if let Some(message) = panicked.catch(made) {
                self.cut(AbortReason::Panicked(message));
            }
        }
        self.leave(panicked);
    }

    /// Hands `data` over unless the protocol is busy, or holds reading.
    fn deliver(&self, data: Bytes) -> Accepted {
        let bytes = data.len();
        let protocol = {
            let mut state = lock(&self.0);
            if state.discards || state.protocol.is_none() {
                return Accepted::Took(bytes);
            }
            if state.busy || state.read_holds > 0 {
                state.waits = true;
                return Accepted::Wait;
            }
            state.busy = true;
            state.protocol.clone()
        };
        let mut panicked = Panicked::default();
        if let Some(protocol) = protocol {
            panicked.catch(|| protocol.data_received(data));
        }
        self.leave(panicked);
        Accepted::Took(bytes)
    }

    /// The peer ended its direction, after all of it was delivered.
    pub(crate) fn input_done(&self) {
        self.enter(|state| {
            if let Side::Open = state.input {
                state.input = Side::Done;
                state.end_due = true;
            }
        });
    }

    /// The other side has all that was written.
    pub(crate) fn output_done(&self) {
        self.enter(|state| {
            if let Side::Open = state.output {
                state.output = Side::Done;
            }
        });
    }

    /// Either direction was cut short, and with it both.
    pub(crate) fn cut(&self, reason: AbortReason) {
        let (out, feed) = {
            let mut state = lock(&self.0);
            if state.is_over() {
                return;
            }
            state.end_due = false;
            if let Side::Open = state.input {
                state.input = Side::Cut(reason.clone());
            }
            state.output = Side::Cut(reason.clone());
            (state.out.clone(), state.feed.clone())
        };
        if let Some(out) = out {
            out.abort(reason.clone());
        }
        if let Some(feed) = feed {
            feed.abort(reason);
        }
        self.enter(|_| ());
    }

    fn enter(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = lock(&self.0);
            change(&mut state);
            if state.busy {
                return;
            }
            state.busy = true;
        }
        self.leave(Panicked::default());
    }

    /// Makes the calls that became due while the protocol was busy, then frees it.
    fn leave(&self, mut panicked: Panicked) {
        loop {
            let next = lock(&self.0).next();
            match next {
                Next::End(protocol) => {
                    let mut answer = HalfClose::KeepWriting;
                    let message = panicked.catch(|| answer = protocol.end_received());
                    match message {
                        Some(message) => self.cut(AbortReason::Panicked(message)),
                        None if answer == HalfClose::Close => self.finish_out(),
                        None => {}
                    }
                }
                Next::Lost(protocol, loss, released) => {
                    panicked.catch(|| protocol.connection_lost(loss));
                    panicked.catch(|| drop((protocol, released)));
                }
                Next::Nothing(feed) => {
                    if let Some(feed) = feed {
                        feed.poke();
                    }
                    return panicked.rethrow();
                }
            }
        }
    }

    fn finish_out(&self) {
        let out = lock(&self.0).out.clone();
        if let Some(out) = out {
            out.finish();
        }
    }

    fn hold_reading(self: &Arc<Self>) -> ReadHold {
        let feed = {
            let mut state = lock(&self.0);
            state.read_holds += 1;
            state.feed.clone()
        };
        let on_gate = feed.and_then(|feed| feed.hold(HoldReason::Below));
        let end = Arc::clone(self);
        ReadHold::new(Reading { end, on_gate })
    }

    fn lose_connection(&self) {
        let (out, feed) = {
            let mut state = lock(&self.0);
            state.discards = true;
            (state.out.clone(), state.feed.clone())
        };
        if let Some(feed) = feed {
            feed.poke();
        }
        if let Some(out) = out {
            out.finish();
        }
    }
}

impl State {
    fn is_over(&self) -> bool {
        match (&self.input, &self.output) {
            (Side::Cut(_), _) | (_, Side::Cut(_)) => true,
            (input, output) => matches!((input, output), (Side::Done, Side::Done)),
        }
    }

    fn next(&mut self) -> Next {
        if self.end_due && !self.discards {
            self.end_due = false;
            if let Some(protocol) = &self.protocol {
                return Next::End(Arc::clone(protocol));
            }
        }
        if self.is_over()
            && let Some(protocol) = self.protocol.take()
        {
            return Next::Lost(protocol, self.loss(), (self.out.take(), self.feed.take()));
        }
        self.busy = false;
        let poke = self.read_holds == 0 && std::mem::take(&mut self.waits);
        Next::Nothing(if poke { self.feed.clone() } else { None })
    }

    fn loss(&self) -> Loss {
        match (&self.input, &self.output) {
            (Side::Cut(reason), _) | (_, Side::Cut(reason)) => Loss::Cut(reason.clone()),
            _ => Loss::Clean,
        }
    }
}

/// A read hold: keeps bytes back here, and pauses the producer that feeds us.
struct Reading {
    end: Arc<End>,
    on_gate: Option<Hold>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let feed = {
            let mut state = lock(&self.end.0);
            state.read_holds -= 1;
            let poke = state.read_holds == 0 && !state.busy && std::mem::take(&mut state.waits);
            if poke { state.feed.clone() } else { None }
        };
        if let Some(feed) = feed {
            feed.poke();
        }
        drop(self.on_gate.take());
    }
}

/// The transport a protocol is given.
struct Link {
    end: Arc<End>,
    out: Arc<dyn FinishableConsumer>,
}

impl Consumer for Link {
    forward!(out: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for Link {
    forward!(out: finish);

    /// Both directions: a connection that is half cut does not exist. Each lane tells its ends in its own time.
    fn abort(&self, reason: AbortReason) {
        let feed = lock(&self.end.0).feed.clone();
        self.out.abort(reason.clone());
        if let Some(feed) = feed {
            feed.abort(reason);
        }
    }
}

impl Transport for Link {
    fn hold_reading(&self) -> ReadHold {
        self.end.hold_reading()
    }

    fn lose_connection(&self) {
        self.end.lose_connection();
    }
}

/// How many bytes from the front of what is held are delivered at once.
pub(crate) type Pump = Arc<dyn Fn(&[Bytes]) -> usize + Send + Sync>;

/// What stands between a stage and the protocol it feeds.
pub(crate) struct Lane {
    reader: Arc<End>,
    /// Who writes into this lane, if it is a protocol too.
    writer: Option<Arc<End>>,
    /// None: everything is delivered at once.
    turns: Option<Turns>,
}

/// Deliveries that wait for a turn.
struct Turns {
    pump: Pump,
    state: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    /// Bytes that may be delivered in this turn.
    permit: usize,
    end: Option<Ending>,
    handle: Option<StageHandle>,
}

enum Ending {
    Finish,
    Abort(AbortReason),
}

impl Lane {
    pub(crate) fn direct(reader: Arc<End>) -> Self {
        let (writer, turns) = (None, None);
        Self {
            reader,
            writer,
            turns,
        }
    }

    pub(crate) fn in_turns(
        reader: Arc<End>,
        writer: Option<Arc<End>>,
        pump: Pump,
        handle: StageHandle,
    ) -> Self {
        let state = Turn {
            handle: Some(handle),
            ..Turn::default()
        };
        let state = Mutex::new(state);
        let turns = Some(Turns { pump, state });
        Self {
            reader,
            writer,
            turns,
        }
    }

    /// Delivers up to `bytes` that were held before, then an end that came. Says whether an end was delivered.
    pub(crate) fn turn(&self, bytes: usize) -> bool {
        let Some(turns) = &self.turns else { return false };
        let handle = {
            let mut state = lock(&turns.state);
            state.permit = bytes;
            state.handle.clone()
        };
        if let Some(handle) = &handle {
            handle.poke();
        }
        let end = {
            let mut state = lock(&turns.state);
            state.permit = 0;
            state.end.take()
        };
        let Some(end) = end else { return false };
        self.end(end);
        if let Some(handle) = handle {
            handle.complete();
        }
        true
    }

    fn end(&self, end: Ending) {
        match end {
            Ending::Finish => {
                self.reader.input_done();
                if let Some(writer) = &self.writer {
                    writer.output_done();
                }
            }
            Ending::Abort(reason) => {
                self.reader.cut(reason.clone());
                if let Some(writer) = &self.writer {
                    writer.cut(reason);
                }
            }
        }
    }

    /// Ends now, or in the next turn.
    fn end_in_turn(&self, end: Ending) -> Finished {
        match &self.turns {
            None => {
                self.end(end);
                Finished::Done
            }
            Some(turns) => {
                lock(&turns.state).end = Some(end);
                Finished::Later
            }
        }
    }
}

impl Below for Lane {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        let Some(turns) = &self.turns else {
            return self.reader.deliver(held[0].clone());
        };
        let permit = lock(&turns.state).permit;
        if permit == 0 {
            return Accepted::Wait;
        }
        let now = cut(held, permit);
        let bytes = (turns.pump)(&now).clamp(1, total(&now));
        let accepted = self.reader.deliver(joined(&now, bytes));
        if let Accepted::Took(bytes) = accepted {
            let mut state = lock(&turns.state);
            // Another thread may have ended the turn during the delivery; then nothing of it is left to spend.
            state.permit = state.permit.saturating_sub(bytes);
        }
        accepted
    }

    fn finish(&self) -> Finished {
        self.end_in_turn(Ending::Finish)
    }

    fn abort(&self, reason: AbortReason) {
        let _ = self.end_in_turn(Ending::Abort(reason));
    }
}

/// The first `bytes` of `held` in one piece; without a copy if they are in one already.
fn joined(held: &[Bytes], bytes: usize) -> Bytes {
    if bytes <= held[0].len() {
        return held[0].slice(..bytes);
    }
    let mut all = BytesMut::with_capacity(bytes);
    for piece in held {
        let room = bytes - all.len();
        all.put_slice(&piece[..piece.len().min(room)]);
    }
    all.freeze()
}
