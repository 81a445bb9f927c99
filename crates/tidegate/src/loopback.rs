//! Two protocols joined in memory, and a one-way relay: connections without a system, in turns that somebody else takes.
//!
//! Knows no schedule: nothing is delivered inside a write, but in the next [`turn`](Loopback::turn).
//! (Twisted: `loopback.loopbackAsync`, `LoopbackRelay`.)

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::adapters::answering;
use crate::connection::{End, Lane, Pump};
use crate::forward::{debug_held, forward};
use crate::stage::total;
use crate::{
    AbortReason, AlreadyRegistered, BelowPause, Consumer, FinishableConsumer, Marks, Outcome, Protocol, Stage,
};

/// A pump that delivers each write as it was made.
pub fn identity(held: &[Bytes]) -> usize {
    held[0].len()
}

/// A pump that joins all that a turn delivers into one piece.
pub fn collapsing(held: &[Bytes]) -> usize {
    total(held)
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turned {
    /// Something was delivered.
    Moved,
    /// Nothing was there, or nobody takes it.
    Quiet,
}

/// A connection between two protocols. Dropping it before its end cuts it.
///
/// ```
/// # use std::sync::{Arc, Mutex, OnceLock};
/// # use bytes::Bytes;
/// # use tidegate::{Consumer as _, Loss, Marks, Protocol, Transport, loopback::{self, Loopback, Turned}};
/// # #[derive(Default)]
/// # struct Peer { transport: OnceLock<Arc<dyn Transport>>, heard: Mutex<Vec<Bytes>> }
/// # impl Protocol for Peer {
/// #     fn connection_made(&self, transport: Arc<dyn Transport>) { let _ = self.transport.set(transport); }
/// #     fn data_received(&self, data: Bytes) { self.heard.lock().unwrap().push(data); }
/// #     fn connection_lost(&self, _: Loss) {}
/// # }
/// let (client, server) = (Arc::new(Peer::default()), Arc::new(Peer::default()));
/// let between = Loopback::new(client.clone(), server.clone(), Marks::default(), loopback::collapsing);
/// let transport = client.transport.get().unwrap();
/// transport.write(Bytes::from_static(b"foo")).unwrap();
/// transport.write(Bytes::from_static(b"bar")).unwrap();
/// assert!(server.heard.lock().unwrap().is_empty());
/// assert_eq!(between.turn(), Turned::Moved);
/// assert_eq!(*server.heard.lock().unwrap(), ["foobar"]);
/// assert_eq!(between.turn(), Turned::Quiet);
/// ```
pub struct Loopback {
    /// One for each direction, named by whom it feeds.
    lanes: [Arc<Stage<Lane>>; 2],
}

impl Loopback {
    /// Connects both. `marks` bound what waits in each direction; `pump` says how many bytes from the front of what a
    /// turn may deliver go in one piece (the answer is kept within what is there).
    pub fn new(
        one: Arc<dyn Protocol>,
        other: Arc<dyn Protocol>,
        marks: Marks,
        pump: impl Fn(&[Bytes]) -> usize + Send + Sync + 'static,
    ) -> Self {
        let pump: Pump = Arc::new(pump);
        let ends = [End::new(one), End::new(other)];
        let lane = |reader: &Arc<End>, writer: &Arc<End>| {
            let (reader, writer) = (Arc::clone(reader), Arc::clone(writer));
            let pump = Arc::clone(&pump);
            let below = |handle| Lane::in_turns(reader, Some(writer), pump, handle);
            Arc::new(Stage::new(marks, BelowPause::Buffer, below))
        };
        let lanes = [lane(&ends[0], &ends[1]), lane(&ends[1], &ends[0])];
        ends[0].connect(lanes[1].clone(), lanes[0].handle());
        ends[1].connect(lanes[0].clone(), lanes[1].handle());
        Self { lanes }
    }

    /// Delivers, in both directions, what was written before, and an end that came.
    pub fn turn(&self) -> Turned {
        let held = [self.lanes[0].held(), self.lanes[1].held()];
        let moved = [turn(&self.lanes[0], held[0]), turn(&self.lanes[1], held[1])];
        if moved.contains(&Turned::Moved) {
            Turned::Moved
        } else {
            Turned::Quiet
        }
    }

    /// How what the first protocol writes ends, and what the other one writes: `Ok` when it was finished and delivered.
    pub fn outcomes(&self) -> [Outcome; 2] {
        [self.lanes[1].outcome(), self.lanes[0].outcome()]
    }

    /// Takes turns until a quiet one, at most `turns_max`, and says how many moved something.
    pub fn run(&self, turns_max: usize) -> usize {
        (0..turns_max)
            .take_while(|_| self.turn() == Turned::Moved)
            .count()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for lane in &self.lanes {
                if lane.outcome().now().is_none() {
                    lane.abort(AbortReason::Dropped);
                }
            }
            self.turn();
        }
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = [self.lanes[0].held(), self.lanes[1].held()];
        f.debug_struct("Loopback")
            .field("held", &held)
            .finish_non_exhaustive()
    }
}

fn turn(lane: &Stage<Lane>, held: usize) -> Turned {
    let ended = lane.below().turn(held);
    if ended || lane.held() < held {
        Turned::Moved
    } else {
        Turned::Quiet
    }
}

/// A consumer whose bytes reach a protocol, all in one piece, each time somebody clears it.
pub struct Relay {
    stage: Stage<Lane>,
    answers: Outcome,
}

impl Relay {
    /// Connects `target`; what it writes goes to `answers`.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `answers` has a producer; the target is not connected then.
    pub fn new(
        target: Arc<dyn Protocol>,
        answers: Arc<dyn FinishableConsumer>,
        marks: Marks,
    ) -> Result<Self, AlreadyRegistered> {
        let end = End::new(target);
        let out = answering(&end, answers, marks)?;
        let answers = out.outcome();
        let pump: Pump = Arc::new(collapsing);
        let below = |handle| Lane::in_turns(Arc::clone(&end), None, pump, handle);
        let stage = Stage::new(marks, BelowPause::Buffer, below);
        end.connect(out, stage.handle());
        Ok(Self { stage, answers })
    }

    /// Delivers what is held in one piece, then an end that came.
    pub fn clear(&self) -> Turned {
        turn(&self.stage, self.stage.held())
    }

    /// How what the target writes ends: `Ok` when it finished and `answers` accepted it all.
    pub fn answers_outcome(&self) -> Outcome {
        self.answers.clone()
    }

    forward!(stage: outcome hold held);
}

impl Consumer for Relay {
    forward!(stage: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for Relay {
    forward!(stage: finish abort);
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if self.outcome().now().is_none() {
                self.stage.abort(AbortReason::Dropped);
            }
            self.clear();
        }
    }
}

debug_held!(Relay);
