//! Who writes next on a connection: pages and messages take turns at one gate.
//!
//! The multiplexer is the one pull producer of the connection's consumer, registered while somebody waits for a turn.
//! Each pull is one turn: one page of one pager, or one message that found the connection full. Pagers take turns in a
//! ring, so that fifty share it evenly. Knows nothing of banana or sockets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tidegate::{Consumer, Producer, PullProducer, StopReason};

/// What takes turns.
pub(crate) trait Turns: Send + Sync {
    /// Your turn. Called without a lock, never twice at once.
    fn turn(&self) -> Turn;
    /// What your turn gave has been written.
    fn written(&self);
    /// The connection is gone. Called without a lock, at most once, perhaps during a turn.
    fn lost(&self, reason: &StopReason);
}

/// What became of a turn.
pub(crate) enum Turn {
    /// These pieces are to be written, and there may be more to come.
    Write(Vec<Bytes>),
    /// These are the last.
    Last(Vec<Bytes>),
    /// Nothing now; [`Mux::ready`] will say when.
    Wait,
    /// Never anything again.
    Gone,
}

/// The multiplexer of one connection.
pub(crate) struct Mux {
    out: Arc<dyn Consumer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those with something to write, next one first.
    ring: VecDeque<Entry>,
    /// Those with nothing to write now.
    waiting: Vec<(u64, Arc<dyn Turns>)>,
    /// Ready calls that came while their entry had its turn.
    recalled: Vec<u64>,
    entries: u64,
    registered: bool,
    pulled: bool,
    /// A message has left the ring and is about to be written.
    writing_message: bool,
    /// A thread is acting; whoever else comes leaves it to that thread to look again.
    busy: bool,
    /// Nothing is written before the handshake is done.
    open: bool,
    lost: Option<StopReason>,
}

enum Entry {
    Turns(u64, Arc<dyn Turns>),
    Message(Vec<Bytes>, Option<Ticket>),
}

/// Dropped when the message it came with has been written, or never will be.
pub(crate) type Ticket = Box<dyn Send>;

enum Act {
    Register,
    Unregister,
    Turn(u64, Arc<dyn Turns>),
    Message(Vec<Bytes>, Option<Ticket>),
}

impl Mux {
    pub(crate) fn new(out: Arc<dyn Consumer>) -> Arc<Self> {
        Arc::new(Self {
            out,
            state: Mutex::default(),
        })
    }

    /// The handshake is done: turns begin.
    pub(crate) fn open(self: &Arc<Self>) {
        self.lock().open = true;
        self.act();
    }

    /// Whether messages wait for a turn; those that come now must wait behind them.
    pub(crate) fn has_queue(&self) -> bool {
        let state = self.lock();
        let queued = |entry: &Entry| matches!(entry, Entry::Message(..));
        !state.open || state.writing_message || state.ring.iter().any(queued)
    }

    /// A number for somebody who is going to join.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.lock();
        state.entries += 1;
        state.entries
    }

    /// Somebody who writes again and again joins. The first turn may come before this returns.
    pub(crate) fn join(self: &Arc<Self>, id: u64, turns: Arc<dyn Turns>) {
        let lost = {
            let mut state = self.lock();
            if state.lost.is_none() {
                state.ring.push_back(Entry::Turns(id, Arc::clone(&turns)));
            }
            state.lost.clone()
        };
        match lost {
            Some(reason) => turns.lost(&reason),
            None => self.act(),
        }
    }

    /// A message waits for its turn.
    pub(crate) fn queue(self: &Arc<Self>, message: Vec<Bytes>, ticket: Option<Ticket>) {
        let mut state = self.lock();
        let lost = state.lost.is_some();
        let entry = Entry::Message(message, ticket);
        let refused = if lost {
            Some(entry)
        } else {
            state.ring.push_back(entry);
            None
        };
        drop(state);
        drop(refused);
        self.act();
    }

    /// One that had nothing to write has something now.
    pub(crate) fn ready(self: &Arc<Self>, id: u64) {
        let mut state = self.lock();
        match state.waiting.iter().position(|(waiting, _)| *waiting == id) {
            Some(at) => {
                let (id, turns) = state.waiting.swap_remove(at);
                state.ring.push_back(Entry::Turns(id, turns));
            }
            // Perhaps it has its turn right now.
            None if state.busy && state.lost.is_none() => state.recalled.push(id),
            None => {}
        }
        drop(state);
        self.act();
    }

    /// The connection is gone: everybody is told, once.
    pub(crate) fn lose(&self, reason: StopReason) {
        let mut state = self.lock();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(reason.clone());
        let ring = std::mem::take(&mut state.ring);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for entry in &ring {
            if let Entry::Turns(_, turns) = entry {
                turns.lost(&reason);
            }
        }
        for (_, turns) in &waiting {
            turns.lost(&reason);
        }
    }

    /// Does what there is to do, on one thread at a time and without the lock.
    fn act(self: &Arc<Self>) {
        loop {
            let act = {
                let mut state = self.lock();
                if state.busy {
                    return;
                }
                let Some(act) = state.next() else { return };
                state.busy = true;
                act
            };
            let gone = self.perform(act);
            let mut state = self.lock();
            state.busy = false;
            state.writing_message = false;
            state.recalled.clear();
            let lost = state.lost.clone();
            drop(state);
            // It had its turn while the connection went.
            if let (Some(turns), Some(reason)) = (gone, lost) {
                turns.lost(&reason);
            }
        }
    }

    /// Performs one act; gives back whoever is to be told if the connection was lost meanwhile.
    fn perform(self: &Arc<Self>, act: Act) -> Option<Arc<dyn Turns>> {
        match act {
            Act::Register => {
                let handle = Producer::pull(Arc::new(Handle(Arc::downgrade(self))));
                if self.out.register_producer(handle).is_err() {
                    tracing::error!("the connection's consumer has a foreign producer");
                }
                None
            }
            Act::Unregister => {
                self.out.unregister_producer();
                None
            }
            Act::Message(message, ticket) => {
                self.write(message);
                drop(ticket);
                None
            }
            Act::Turn(id, turns) => self.take_turn(id, turns),
        }
    }

    fn take_turn(self: &Arc<Self>, id: u64, turns: Arc<dyn Turns>) -> Option<Arc<dyn Turns>> {
        let turn = turns.turn();
        match turn {
            Turn::Write(pieces) => {
                self.write(pieces);
                turns.written();
                let mut state = self.lock();
                if state.lost.is_none() {
                    state.ring.push_back(Entry::Turns(id, turns));
                    return None;
                }
                Some(turns)
            }
            Turn::Last(pieces) => {
                self.write(pieces);
                turns.written();
                None
            }
            Turn::Wait => {
                let mut state = self.lock();
                if state.lost.is_some() {
                    return Some(turns);
                }
                if state.recalled.contains(&id) {
                    state.ring.push_back(Entry::Turns(id, turns));
                } else {
                    state.waiting.push((id, turns));
                }
                // The pull it was given is still unanswered: the next one has it.
                state.pulled = true;
                None
            }
            Turn::Gone => {
                self.lock().pulled = true;
                None
            }
        }
    }

    fn write(&self, pieces: Vec<Bytes>) {
        // A refusal means that the connection is dead; its end is told by `lose`.
        if let Err(error) = self.out.write_list(pieces) {
            tracing::debug!(%error, "a turn came after the end");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Act> {
        if self.lost.is_some() {
            return None;
        }
        let wanted = self.open && !(self.ring.is_empty() && self.waiting.is_empty());
        if wanted && !self.registered {
            self.registered = true;
            self.pulled = false;
            return Some(Act::Register);
        }
        // A registration begins with a pull, full or not. Ending one before the next pull of its own accord (which says
        // that the connection has drained) and beginning another would be a way around the gate.
        if !wanted && self.registered && self.pulled {
            self.registered = false;
            self.pulled = false;
            return Some(Act::Unregister);
        }
        if !self.pulled {
            return None;
        }
        // Answered by the write to come, which may bring the next pull with it.
        let entry = self.ring.pop_front()?;
        self.pulled = false;
        Some(match entry {
            Entry::Turns(id, turns) => Act::Turn(id, turns),
            Entry::Message(message, ticket) => {
                self.writing_message = true;
                Act::Message(message, ticket)
            }
        })
    }
}

/// The producer the connection's consumer keeps: it owns nothing.
struct Handle(Weak<Mux>);

impl PullProducer for Handle {
    fn resume_producing(&self) {
        if let Some(mux) = self.0.upgrade() {
            mux.lock().pulled = true;
            mux.act();
        }
    }

    fn stop_producing(&self, reason: StopReason) {
        if let Some(mux) = self.0.upgrade() {
            mux.lose(reason);
        }
    }
}
