//! Every reachable state of small gates, with every operation in each, held against the laws.
//!
//! The walk keeps beside each gate only what the laws speak of: what the registration heard, and what is held by a count
//! of its own. A gate's state is compared by its `Debug` text, which shows all of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use tidegate::gate::{Ended, Gate, HoldReason, Kind, Registered, Signal};
use tidegate::{AbortReason, Marks, Refusal, StopReason};

const WRITE_MAX: usize = 3;
/// More than any state of these gates needs in one settling.
const SIGNALS_MAX: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    Register(Kind),
    Unregister,
    Write(usize),
    Drain(usize),
    Hold,
    Release,
    Finish,
    Abort,
    Closed,
    Close,
}

/// A gate and what the laws need to remember.
#[derive(Clone, Debug)]
struct World {
    gate: Gate,
    held: usize,
    holds: usize,
    /// What the registration was told last.
    heard: Heard,
    /// Whether held bytes passed `high` and have not been at `low` since.
    full: bool,
    /// The registration's write was refused for `max`, and bytes are still held.
    refused: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Heard {
    Nobody,
    Running,
    Paused,
    Asked,
    /// A pull producer that owes no chunk.
    Idle,
}

fn operations() -> Vec<Op> {
    let mut all = vec![
        Op::Register(Kind::Push),
        Op::Register(Kind::Pull),
        Op::Unregister,
        Op::Hold,
        Op::Release,
        Op::Finish,
        Op::Abort,
        Op::Closed,
        Op::Close,
    ];
    all.extend((0..=WRITE_MAX).map(Op::Write));
    all.extend((1..=WRITE_MAX).map(Op::Drain));
    all
}

#[test]
fn every_state_of_small_gates_obeys_the_laws() {
    let mut states = 0;
    for high in 1..=4 {
        for low in 0..=high {
            for max in [high, high + 2] {
                states += walk(Marks::new(low, high).unwrap().with_max(max).unwrap());
            }
        }
    }
    assert!(states > 2_000, "only {states} states were reached");
}

/// Signals may be late: each state is reached with what is due delivered, and with it not yet delivered.
fn walk(marks: Marks) -> usize {
    let start = World {
        gate: Gate::new(marks),
        held: 0,
        holds: 0,
        heard: Heard::Nobody,
        full: false,
        refused: false,
    };
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if !seen.insert(format!("{world:?}")) {
            continue;
        }
        for op in operations() {
            let mut next = world.clone();
            if !next.apply(op) {
                continue;
            }
            next.check();
            open.push(next.clone());
            next.settle(op);
            open.push(next);
        }
    }
    seen.len()
}

impl World {
    /// Applies `op` to gate and memory; says whether it was possible.
    fn apply(&mut self, op: Op) -> bool {
        match op {
            Op::Register(kind) => self.register(kind),
            Op::Unregister => {
                self.gate.unregister();
                self.heard = Heard::Nobody;
                self.refused = false;
            }
            Op::Write(bytes) => self.write(bytes),
            Op::Drain(bytes) => {
                if bytes > self.held {
                    return false;
                }
                self.gate.drained(bytes);
                self.held -= bytes;
                self.full &= self.held > self.gate.marks().low();
                if self.held == 0 && std::mem::take(&mut self.refused) && self.heard == Heard::Asked {
                    self.heard = Heard::Idle;
                }
            }
            Op::Hold => {
                if self.holds == 2 {
                    return false;
                }
                self.holds += 1;
                self.gate.hold(HoldReason::User);
            }
            Op::Release => {
                if self.holds == 0 {
                    return false;
                }
                self.holds -= 1;
                self.gate.release(HoldReason::User);
            }
            Op::Finish => self.gate.finish(),
            Op::Abort => {
                let over = self.gate.is_over();
                let ended = self.gate.abort(AbortReason::Requested);
                self.died(over, ended);
            }
            Op::Closed => {
                let over = self.gate.is_over();
                let ended = self.gate.closed(StopReason::Closed);
                self.died(over, ended);
            }
            Op::Close => {
                let may = self.gate.closing();
                self.gate.close();
                assert!(!may || self.gate.is_over());
            }
        }
        true
    }

    fn register(&mut self, kind: Kind) {
        let finished = self.gate.is_finished();
        let dead = self.gate.death().is_some();
        match self.gate.register(kind) {
            Registered::Already => assert_ne!(
                self.heard,
                Heard::Nobody,
                "law 6: refused although nobody is registered"
            ),
            Registered::Over(reason) => {
                assert!(finished || dead, "law 6: stopped at a living consumer");
                assert_eq!(self.heard, Heard::Nobody);
                assert_eq!(matches!(reason, StopReason::Finished), !dead);
            }
            Registered::Yes => {
                assert!(!finished && !dead, "law 6: taken at a dead consumer");
                assert_eq!(
                    self.heard,
                    Heard::Nobody,
                    "law 6: a second registration was taken"
                );
                self.heard = if kind == Kind::Push {
                    Heard::Running
                } else {
                    Heard::Idle
                };
                if kind == Kind::Pull && self.holds == 0 {
                    assert!(
                        matches!(self.gate.due(), Some(Signal::Resume)),
                        "law 4: the first pull comes at once"
                    );
                }
            }
        }
    }

    fn write(&mut self, bytes: usize) {
        let marks = self.gate.marks();
        let before = format!("{:?}", self.gate);
        match self.gate.admit(bytes) {
            Ok(()) => {
                let ended = self.gate.is_finished() && self.heard == Heard::Nobody;
                assert!(
                    !ended && !self.gate.is_over(),
                    "law 9: a write was taken after the end"
                );
                assert!(
                    self.held == 0 || self.held + bytes <= marks.max() || bytes == 0,
                    "law 2: past max"
                );
                self.gate.wrote(bytes);
                if bytes == 0 {
                    assert_eq!(
                        format!("{:?}", self.gate),
                        before,
                        "law 12: an empty write changed something"
                    );
                    return;
                }
                self.held += bytes;
                self.full |= self.held > marks.high();
                self.refused = false;
                if self.heard == Heard::Asked {
                    self.heard = Heard::Idle;
                }
            }
            Err(Refusal::OverMax { held, max }) => {
                assert_eq!((held, max), (self.held, marks.max()));
                assert!(held > 0 && held + bytes > max, "law 2: refused although it fits");
                self.refused = self.heard != Heard::Nobody;
            }
            Err(Refusal::Finished) => assert!(self.gate.is_finished() && self.heard == Heard::Nobody),
            Err(Refusal::Dead(_)) => assert!(self.gate.death().is_some()),
            Err(other) => panic!("a gate does not refuse for {other}"),
        }
    }

    fn died(&mut self, was_over: bool, ended: Ended) {
        assert_eq!(
            ended == Ended::Before,
            was_over,
            "an end changes nothing after an end"
        );
        if ended == Ended::Now {
            self.held = 0;
            self.full = false;
        }
    }

    /// What holds in every state, whatever is still to be delivered.
    fn check(&self) {
        let gate = &self.gate;
        assert_eq!(gate.held(), self.held);
        assert_eq!(gate.is_held_by(HoldReason::Full), self.full, "law 3: Full");
        assert_eq!(gate.registered().is_some(), self.heard != Heard::Nobody);
        assert!(
            gate.credit() == 0 || gate.held() <= gate.marks().high(),
            "law 2: a flow's credit above high"
        );
        assert!(
            !gate.closing() || (self.held == 0 && self.heard == Heard::Nobody),
            "law 9: closing too early"
        );
        if gate.is_finished() && !gate.is_over() {
            let drained = self.held == 0 && self.heard == Heard::Nobody;
            assert_eq!(
                gate.closing(),
                drained,
                "law 9: when drained, exactly one thing happens"
            );
        }
        let pauses = self.full || self.holds > 0;
        match (gate.due(), self.heard) {
            (None, _) => {}
            (Some(Signal::Stop(_)), heard) => {
                assert!(gate.death().is_some() && heard != Heard::Nobody, "law 5");
            }
            (Some(Signal::Pause), heard) => {
                assert_eq!(
                    heard,
                    Heard::Running,
                    "law 3: a pause to one who is paused or pulls"
                );
                assert!(pauses || self.refused, "law 3: a pause without a reason");
            }
            (Some(Signal::Resume), Heard::Paused) => {
                assert!(!pauses && !self.refused, "law 3: resumed too early")
            }
            (Some(Signal::Resume), heard) => {
                assert_eq!(
                    heard,
                    Heard::Idle,
                    "law 4: a resume that balances nothing, or a second pull"
                );
                assert_eq!(self.holds, 0, "a pull while held");
            }
        }
    }

    /// Delivers what is due, as a shell does; then what was told last is what is wanted.
    fn settle(&mut self, op: Op) {
        for _ in 0..SIGNALS_MAX {
            let Some(signal) = self.gate.due() else { break };
            self.check();
            self.gate.told(&signal);
            self.heard = match (&signal, self.heard) {
                (Signal::Stop(_), _) => Heard::Nobody,
                (Signal::Pause, _) => Heard::Paused,
                (Signal::Resume, Heard::Paused) => Heard::Running,
                (Signal::Resume, _) => Heard::Asked,
            };
            if matches!(signal, Signal::Stop(_)) {
                self.refused = false;
            }
        }
        assert!(
            self.gate.due().is_none(),
            "law 13: signals without end after {op:?}: {self:?}"
        );
        self.check();
        let pauses = self.full || self.holds > 0 || self.refused;
        match self.heard {
            Heard::Nobody => {}
            Heard::Running => assert!(!pauses, "law 8: running although a reason to pause is out"),
            Heard::Paused => assert!(pauses, "law 8: paused for no reason"),
            Heard::Idle => {
                let waits = pauses || self.held > self.gate.marks().low();
                assert!(waits, "law 13: not pulled although there is room: {self:?}");
            }
            Heard::Asked => {}
        }
        let dead = self.gate.death().is_some();
        assert!(
            !dead || self.heard == Heard::Nobody,
            "law 5: registered at a dead consumer"
        );
    }
}
