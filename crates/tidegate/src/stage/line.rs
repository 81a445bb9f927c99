//! What a stage keeps under its lock, and what whoever hands on is to do next.
//!
//! Pure as far as the stage goes: calls nobody, and decides about no pause.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::drain::Operations;
use crate::gate::Gate;
use crate::mutants::{self, Mutant};
use crate::outcome::Verdict;
use crate::signals::{Later, Shell};
use crate::{AbortReason, StopReason};

/// What is kept under the lock: bytes not yet handed on, and who is at it.
pub(super) struct Line {
    pub(super) pieces: VecDeque<Bytes>,
    /// An empty queue that keeps its memory from one drainer to the next.
    spare: VecDeque<Bytes>,
    /// A thread is handing on, or about to.
    pub(super) draining: bool,
    /// `Below` said to wait and nobody poked since.
    pub(super) waits: bool,
    /// The consumer below paused us.
    pub(super) paused: bool,
    /// A poke came; if it came while `Below` was being asked, its answer is out of date.
    pub(super) poked: bool,
    /// The end was handed on.
    pub(super) ended: bool,
    /// The gate's death was seen.
    pub(super) dead: bool,
    pub(super) verdict: Verdict,
    pub(super) accepted: u64,
    /// Its outcome is decided.
    pub(super) over: bool,
    /// The stage itself, when its write end was dropped after `finish`: what is held goes out all the same.
    pub(super) kept: Option<Arc<dyn Operations>>,
}

/// What the drainer does next, without the lock.
pub(super) enum Step {
    Offer,
    Finish,
    Abort(AbortReason),
    Leave,
}

impl Line {
    pub(super) fn new(verdict: Verdict) -> Self {
        Self {
            pieces: VecDeque::new(),
            spare: VecDeque::new(),
            draining: false,
            waits: false,
            paused: false,
            poked: false,
            ended: false,
            dead: false,
            verdict,
            accepted: 0,
            over: false,
            kept: None,
        }
    }

    /// What the drainer is to do. `batch` is what it took out before and has not handed on.
    pub(super) fn step(&mut self, gate: &mut Gate, batch: &mut VecDeque<Bytes>) -> Step {
        if self.ended {
            return Step::Leave;
        }
        if let Some(reason) = gate.death() {
            self.ended = true;
            return Step::Abort(match reason.clone() {
                StopReason::Aborted(reason) => reason,
                other => AbortReason::Stopped(Arc::new(other)),
            });
        }
        if gate.closing() {
            self.ended = true;
            gate.close();
            return Step::Finish;
        }
        if batch.is_empty() {
            if batch.capacity() == 0 {
                std::mem::swap(batch, &mut self.spare);
            }
            std::mem::swap(batch, &mut self.pieces);
        }
        if batch.is_empty() || self.waits || self.paused {
            return Step::Leave;
        }
        self.poked = false;
        Step::Offer
    }

    /// Lets go of the stage once its outcome is decided; to be dropped without the lock.
    pub(super) fn let_go(&mut self) -> Option<Arc<dyn Operations>> {
        if self.over { self.kept.take() } else { None }
    }

    /// Whether a drainer would find anything to do.
    pub(super) fn has_step(&self, gate: &Gate) -> bool {
        let can_offer = !self.pieces.is_empty() && !self.waits && !self.paused;
        !self.ended && (can_offer || gate.closing() || gate.death().is_some())
    }

    /// `Below` said to wait; if a poke came meanwhile that is out of date.
    pub(super) fn wait(&mut self) {
        self.waits = !self.poked || mutants::is(Mutant::PokeIsForgotten);
    }

    /// Puts back, in front, what was taken out and not handed on.
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<Bytes>) {
        if self.pieces.is_empty() {
            std::mem::swap(batch, &mut self.pieces);
        }
        while let Some(piece) = batch.pop_back() {
            self.pieces.push_front(piece);
        }
        std::mem::swap(batch, &mut self.spare);
    }

    pub(super) fn push(&mut self, piece: Bytes, later: &mut Later) {
        if piece.is_empty() {
            later.discard([piece]);
        } else {
            self.pieces.push_back(piece);
        }
    }
}

impl Shell for Line {
    fn settle(&mut self, gate: &mut Gate, later: &mut Later) {
        if let Some(reason) = gate.death()
            && !self.dead
        {
            self.dead = true;
            self.over = true;
            later.discard(self.pieces.drain(..));
            later.wake_all(self.verdict.decide(Err(reason.clone())));
        }
    }
}
