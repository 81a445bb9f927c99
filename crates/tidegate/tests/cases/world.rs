//! Plays a scenario against one rig: scripted producers, their recorded signals, and the checks of each step.
//!
//! Knows no particular consumer: a rig is a consumer with a device the scenario can flush and kill.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, Pressure, Producer, PullProducer, PushProducer, Refusal,
    StopReason, WriteError,
};

use crate::script::{Action, Case, Player, PlayerKind, Step};

/// A consumer under test, and what stands in for its device.
pub(crate) trait Rig: Send + Sync {
    fn consumer(&self) -> Arc<dyn Consumer>;
    fn finish(&self);
    fn abort(&self, reason: AbortReason);
    /// Drops the write end without a word.
    fn drop_write_end(&self);
    /// One writability event: the device takes at most that many bytes.
    fn flush(&self, at_most: Option<usize>);
    /// The device dies.
    fn kill(&self);
    fn hold(&self);
    fn release(&self);
    fn held(&self) -> usize;
    fn out(&self) -> Vec<u8>;
    /// `open`, `finished`, `aborted` (seen from the device) or `dead` (the device died first).
    fn end(&self) -> String;
}

pub(crate) struct World {
    rig: Box<dyn Rig>,
    players: Vec<Arc<Actor>>,
    last: Mutex<String>,
}

struct Actor {
    player: Player,
    world: Weak<World>,
    heard: Mutex<Vec<char>>,
    reason: Mutex<Option<StopReason>>,
    depth: Mutex<usize>,
}

/// Plays the whole case and says how many bytes came out; the message says which step failed and how.
pub(crate) fn play(case: &Case, rig: Box<dyn Rig>) -> Result<u64, String> {
    let world = Arc::new_cyclic(|world: &Weak<World>| World {
        rig,
        players: case
            .producers
            .iter()
            .map(|player| Actor::new(player, world))
            .collect(),
        last: Mutex::new("none".to_owned()),
    });
    case.steps.iter().try_for_each(|step| world.step(step))?;
    Ok(world.rig.out().len() as u64)
}

impl World {
    fn step(&self, step: &Step) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            step.actions.iter().for_each(|action| self.act(action))
        }));
        let panicked = if outcome.is_err() { "yes" } else { "no" };
        if outcome.is_err() && !step.expect.iter().any(|(name, _)| name == "panic") {
            return Err(format!("`{}` panicked", step.text));
        }
        step.expect.iter().try_for_each(|(name, wanted)| {
            let found = if name == "panic" {
                panicked.to_owned()
            } else {
                self.look(name)
            };
            let same = if name == "out" {
                crate::script::data(wanted) == found.as_bytes()
            } else {
                wanted.replace(' ', "_") == found.replace(' ', "_")
            };
            if same {
                Ok(())
            } else {
                Err(format!("`{}`: {name} is {found:?}", step.text))
            }
        })
    }

    fn look(&self, name: &str) -> String {
        match name {
            "out" => String::from_utf8(self.rig.out()).expect("scenarios write text"),
            "sent" => self.rig.out().len().to_string(),
            "held" => self.rig.held().to_string(),
            "end" => self.rig.end(),
            "last" => lock(&self.last).clone(),
            _ => match name.strip_suffix(".reason") {
                Some(player) => lock(&self.actor(player).reason)
                    .as_ref()
                    .map_or("none", reason_word)
                    .to_owned(),
                None => self.actor(name).signals(),
            },
        }
    }

    fn actor(&self, name: &str) -> &Arc<Actor> {
        let found = self.players.iter().find(|actor| actor.player.name == name);
        found.unwrap_or_else(|| panic!("no producer is called {name:?}"))
    }

    fn act(&self, action: &Action) {
        match action {
            Action::Register(name) => self.register(name),
            Action::Unregister => self.rig.consumer().unregister_producer(),
            Action::Write(data) => self.note(written(self.rig.consumer().write(Bytes::from(data.clone())))),
            Action::WriteList(list) => {
                let list = list.iter().cloned().map(Bytes::from).collect();
                self.note(written(self.rig.consumer().write_list(list)));
            }
            Action::Finish => self.rig.finish(),
            Action::Abort => self.rig.abort(AbortReason::Requested),
            Action::Drop => self.rig.drop_write_end(),
            Action::Kill => self.rig.kill(),
            Action::Flush(at_most) => self.rig.flush(*at_most),
            Action::Drain => self.drain(),
            Action::Hold => self.rig.hold(),
            Action::Release => self.rig.release(),
            Action::Panic => panic!("a scripted panic"),
        }
    }

    fn register(&self, name: &str) {
        let actor = Arc::clone(self.actor(name));
        let producer = match actor.player.kind {
            PlayerKind::Push => Producer::push(actor),
            PlayerKind::Pull => Producer::pull(actor),
        };
        self.note(match self.rig.consumer().register_producer(producer) {
            Ok(()) => "ok",
            Err(AlreadyRegistered(_)) => "already",
        });
    }

    /// Flushes until a flush changes nothing. A scenario that never comes to rest spins.
    fn drain(&self) {
        let mut before = None;
        for _ in 0..100_000 {
            self.rig.flush(None);
            let now = Some((
                self.rig.out().len(),
                self.rig.held(),
                self.rig.end(),
                self.heard(),
            ));
            if now == before {
                return;
            }
            before = now;
        }
        panic!("the consumer never comes to rest");
    }

    fn heard(&self) -> usize {
        self.players.iter().map(|actor| lock(&actor.heard).len()).sum()
    }

    fn note(&self, word: &str) {
        word.clone_into(&mut lock(&self.last));
    }
}

impl Actor {
    fn new(player: &Player, world: &Weak<World>) -> Arc<Self> {
        Arc::new(Self {
            player: player.clone(),
            world: world.clone(),
            heard: Mutex::default(),
            reason: Mutex::default(),
            depth: Mutex::default(),
        })
    }

    fn signals(&self) -> String {
        let heard = lock(&self.heard);
        heard.iter().map(char::to_string).collect::<Vec<_>>().join(",")
    }

    fn hear(&self, signal: char) {
        let nth = {
            let mut heard = lock(&self.heard);
            heard.push(signal);
            heard.iter().filter(|one| **one == signal).count()
        };
        assert!(
            self.player.kind == PlayerKind::Push || signal != 'P',
            "a pull producer is never paused"
        );
        self.enter(signal);
        let Some(world) = self.world.upgrade() else { return };
        for handler in &self.player.handlers {
            if handler.signal == signal && handler.nth.is_none_or(|wanted| wanted == nth) {
                handler.actions.iter().for_each(|action| world.act(action));
            }
        }
        *lock(&self.depth) -= 1;
    }

    /// Law 7, in every scenario: a resume never nests.
    fn enter(&self, signal: char) {
        let mut depth = lock(&self.depth);
        assert!(signal != 'R' || *depth == 0, "a resume nests inside a signal");
        *depth += 1;
    }
}

impl PushProducer for Actor {
    fn pause_producing(&self) {
        self.hear('P');
    }

    fn resume_producing(&self) {
        self.hear('R');
    }

    fn stop_producing(&self, reason: StopReason) {
        *lock(&self.reason) = Some(reason);
        self.hear('S');
    }
}

impl PullProducer for Actor {
    fn resume_producing(&self) {
        self.hear('R');
    }

    fn stop_producing(&self, reason: StopReason) {
        *lock(&self.reason) = Some(reason);
        self.hear('S');
    }
}

pub(crate) fn written<D>(result: Result<Pressure, WriteError<D>>) -> &'static str {
    match result.map_err(|error| error.refusal) {
        Ok(Pressure::Open) => "open",
        Ok(Pressure::Full) => "full",
        Err(Refusal::OverMax { .. }) => "over-max",
        Err(Refusal::Finished) => "finished",
        Err(Refusal::Dead(_)) => "dead",
        Err(Refusal::PastEnd { .. }) => "past-end",
        Err(_) => "refused",
    }
}

pub(crate) fn reason_word(reason: &StopReason) -> &'static str {
    match reason {
        StopReason::Finished => "finished",
        StopReason::Aborted(AbortReason::Requested) => "requested",
        StopReason::Aborted(AbortReason::Dropped) => "writer-dropped",
        StopReason::Aborted(AbortReason::Panicked(_)) => "panicked",
        // What came from further down is the reason.
        StopReason::Aborted(AbortReason::Stopped(below)) => reason_word(below),
        StopReason::Aborted(_) => "aborted",
        StopReason::Failed(_) => "failed",
        StopReason::Closed => "closed",
        StopReason::Dropped => "dropped",
        _ => "other",
    }
}

/// A scripted panic may poison a lock; what it guards is whole all the same.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
