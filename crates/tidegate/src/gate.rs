//! The gate: the one state machine that decides when a producer is to pause, go on and stop.
//!
//! Pure. Knows no clock, no lock, no waker, no operating system and no bytes, only lengths, so that a queue of `Bytes`,
//! a kernel pipe or a reused read buffer can all be what it counts. It calls nobody: a shell changes the gate, asks
//! [`due`](Gate::due), makes the call and records it with [`told`](Gate::told).
//!
//! **Level-triggered.** What is due is computed from what the registration was last told and what the gate wants now,
//! never from history. So it does not matter how many changes lie between two looks, nor on which threads they
//! happened: once everybody is quiet, what the producer was last told is what the gate wants.
//!
//! ```text
//!                 wrote: held > high                 finish                closing() and the shell passes the end on
//!        ┌──────┐ ─────────────────▶ ┌──────┐   Open ───────▶ Finishing ───────▶ Closed
//!        │ open │                    │ full │     │               │
//!        └──────┘ ◀───────────────── └──────┘     └───────┬───────┘ abort, closed
//!                drained: held <= low                     ▼
//!                                                       Dead(reason)
//! ```
//!
//! # Invariants
//! - `full` is set exactly from the moment `held` passes `high` until it is at or below `low`.
//! - A push registration was told Running or Paused, at first Running; a pull registration is asked or not.
//! - Nothing is due to a registration that was stopped, because there is none any more.

use crate::{AbortReason, Marks, Pressure, Refusal, StopReason};

/// Why a producer is not to run. Each is counted; the producer runs when none is out.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum HoldReason {
    /// Held bytes passed `high` and are not yet at `low`. The gate derives this one by itself.
    Full,
    /// The user, or the code that owns the stream, asked for a pause.
    User,
    /// A rate limit has no tokens left.
    Shaped,
    /// The far end is not connected yet.
    Connecting,
    /// The consumer further down paused us.
    Below,
    /// Something else.
    Other,
}

impl HoldReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Full,
        Self::User,
        Self::Shaped,
        Self::Connecting,
        Self::Below,
        Self::Other,
    ];

    const fn index(self) -> usize {
        match self {
            Self::Full => 0,
            Self::User => 1,
            Self::Shaped => 2,
            Self::Connecting => 3,
            Self::Below => 4,
            Self::Other => 5,
        }
    }
}

/// Which kind of producer is registered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Goes on until paused.
    Push,
    /// One chunk a resume.
    Pull,
}

/// What the registration must be told now.
#[derive(Clone, Debug)]
#[must_use = "a producer that is not told never knows"]
pub enum Signal {
    /// Only ever due to a push producer.
    Pause,
    /// Balances a pause, or asks a pull producer for one chunk.
    Resume,
    /// The last signal of a registration.
    Stop(StopReason),
}

/// A [`Signal`] without its reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wants {
    Pause,
    Resume,
    Stop,
}

/// What became of an attempt to register.
#[derive(Clone, Debug)]
#[must_use]
pub enum Registered {
    /// There is a registration now; ask what is due to it.
    Yes,
    /// Somebody else is registered. Nothing changed.
    Already,
    /// The stream is over: the newcomer is to be stopped with this reason and is not kept.
    Over(StopReason),
}

/// The flow-control state of one stream. See the module's own page.
#[derive(Clone, Debug)]
pub struct Gate {
    marks: Marks,
    held: usize,
    full: bool,
    holds: [u32; HoldReason::ALL.len()],
    end: End,
    registration: Option<Registration>,
}

#[derive(Clone, Debug)]
enum End {
    Open,
    Finishing,
    Closed,
    Dead(StopReason),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Registration {
    told: Told,
    /// A write of this registration was refused for `max`. It is to wait until nothing is held, when any write is
    /// taken: a producer that got its bytes back would otherwise have no signal to wait for.
    refused: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Told {
    Running,
    Paused,
    /// A pull producer that was never asked: the first pull does not wait for room.
    NeverAsked,
    Asked,
    Answered,
}

/// Inputs: what happened.
impl Gate {
    /// An open gate that holds nothing.
    pub const fn new(marks: Marks) -> Self {
        Self {
            marks,
            held: 0,
            full: false,
            holds: [0; HoldReason::ALL.len()],
            end: End::Open,
            registration: None,
        }
    }

    /// A producer came.
    pub fn register(&mut self, kind: Kind) -> Registered {
        if self.registration.is_some() {
            return Registered::Already;
        }
        match &self.end {
            End::Dead(reason) => return Registered::Over(reason.clone()),
            End::Finishing | End::Closed => return Registered::Over(StopReason::Finished),
            End::Open => {}
        }
        let told = match kind {
            Kind::Push => Told::Running,
            Kind::Pull => Told::NeverAsked,
        };
        self.registration = Some(Registration { told, refused: false });
        Registered::Yes
    }

    /// The registration ends. Nothing when there is none.
    pub fn unregister(&mut self) {
        self.registration = None;
    }

    /// Whether a write of `bytes` may be taken. An empty write is never over `max`.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is counted then.
    #[inline]
    pub fn admit(&mut self, bytes: usize) -> Result<(), Refusal> {
        let takes = match &self.end {
            End::Open => true,
            End::Finishing => self.registration.is_some(),
            End::Closed | End::Dead(_) => false,
        };
        let fits = bytes == 0 || self.held == 0 || bytes <= self.marks.max().saturating_sub(self.held);
        if takes && fits {
            return Ok(());
        }
        Err(self.refuse())
    }

    #[cold]
    fn refuse(&mut self) -> Refusal {
        match &self.end {
            End::Dead(reason) => return Refusal::Dead(reason.clone()),
            End::Closed => return Refusal::Finished,
            End::Finishing if self.registration.is_none() => return Refusal::Finished,
            End::Finishing | End::Open => {}
        }
        if let Some(registration) = &mut self.registration {
            registration.refused = true;
        }
        let (held, max) = (self.held, self.marks.max());
        Refusal::OverMax { held, max }
    }

    /// A write of `bytes` was taken, after [`admit`](Self::admit). Zero is inert.
    #[inline]
    pub fn wrote(&mut self, bytes: usize) {
        if bytes == 0 || self.is_over() {
            return;
        }
        self.held += bytes;
        if self.held > self.marks.high() {
            self.full = true;
        }
        if let Some(registration) = &mut self.registration {
            if registration.told == Told::Asked {
                registration.told = Told::Answered;
            }
            registration.refused = false;
        }
    }

    /// The device, or the consumer below, accepted `bytes` of what is held.
    ///
    /// # Panics
    /// If fewer are held: the shell's account is wrong.
    #[inline]
    pub fn drained(&mut self, bytes: usize) {
        if self.is_over() {
            return;
        }
        assert!(bytes <= self.held, "more bytes drained than were held");
        self.held -= bytes;
        if self.held <= self.marks.low() {
            self.full = false;
        }
        if self.held == 0
            && let Some(registration) = &mut self.registration
            && registration.refused
        {
            registration.refused = false;
            if registration.told == Told::Asked {
                // The chunk it was asked for came, and was given back: ask again.
                registration.told = Told::Answered;
            }
        }
    }

    /// One more reason not to run.
    pub fn hold(&mut self, reason: HoldReason) {
        self.holds[reason.index()] += 1;
    }

    /// Balances one [`hold`](Self::hold) of the same reason.
    ///
    /// # Panics
    /// If none is out: holds are owned, and dropping one releases it once.
    pub fn release(&mut self, reason: HoldReason) {
        let count = &mut self.holds[reason.index()];
        assert!(*count > 0, "a hold was released twice");
        *count -= 1;
    }

    /// The writer says that the stream is complete. Idempotent.
    pub fn finish(&mut self) {
        if matches!(self.end, End::Open) {
            self.end = End::Finishing;
        }
    }

    /// The writing side gives up. Says whether that changed anything: not after an end of any kind.
    pub fn abort(&mut self, reason: AbortReason) -> Ended {
        self.die(StopReason::Aborted(reason))
    }

    /// The reading side, the device or the peer is gone. Says whether that changed anything.
    pub fn closed(&mut self, reason: StopReason) -> Ended {
        self.die(reason)
    }

    /// The shell has passed the end of the stream on, as [`closing`](Self::closing) allowed.
    pub fn close(&mut self) {
        if self.closing() {
            self.end = End::Closed;
        }
    }

    /// Records that the signal that was due is being delivered.
    pub fn told(&mut self, signal: &Signal) {
        match signal {
            Signal::Stop(_) => self.registration = None,
            Signal::Pause => self.set_told(Told::Paused),
            Signal::Resume => {
                let next = match self.registration.map(|registration| registration.told) {
                    Some(Told::Running | Told::Paused) | None => Told::Running,
                    Some(Told::NeverAsked | Told::Asked | Told::Answered) => Told::Asked,
                };
                self.set_told(next);
            }
        }
    }

    fn set_told(&mut self, told: Told) {
        if let Some(registration) = &mut self.registration {
            registration.told = told;
        }
    }

    fn die(&mut self, reason: StopReason) -> Ended {
        if self.is_over() {
            return Ended::Before;
        }
        self.end = End::Dead(reason);
        self.held = 0;
        self.full = false;
        Ended::Now
    }
}

/// Whether an abort or a death was the one that ended the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Ended {
    /// It did.
    Now,
    /// The stream had ended before; nothing changed.
    Before,
}

/// Views: what is to be done, and what is.
impl Gate {
    /// The one signal the registration must be told now, if any.
    pub fn due(&self) -> Option<Signal> {
        Some(match (self.wants()?, &self.end) {
            (Wants::Pause, _) => Signal::Pause,
            (Wants::Resume, _) => Signal::Resume,
            (Wants::Stop, End::Dead(reason)) => Signal::Stop(reason.clone()),
            (Wants::Stop, _) => return None,
        })
    }

    /// Which signal that is, without the reason of a stop.
    #[inline]
    pub(crate) fn wants(&self) -> Option<Wants> {
        let registration = self.registration?;
        if let End::Dead(_) = &self.end {
            return Some(Wants::Stop);
        }
        let waits = registration.refused && self.held > 0;
        match registration.told {
            Told::Running if waits || self.pauses() => Some(Wants::Pause),
            Told::Paused if !waits && !self.pauses() => Some(Wants::Resume),
            Told::NeverAsked if !self.is_on_hold() => Some(Wants::Resume),
            Told::Answered if !waits && !self.pauses() && self.held <= self.marks.low() => {
                Some(Wants::Resume)
            }
            Told::Running | Told::Paused | Told::NeverAsked | Told::Asked | Told::Answered => None,
        }
    }

    /// The stream is finished, drained and has no producer any more: the shell may pass the end on.
    #[inline]
    pub fn closing(&self) -> bool {
        matches!(self.end, End::Finishing) && self.registration.is_none() && self.held == 0
    }

    /// Bytes accepted and not yet taken by the device.
    #[inline]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The marks.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// What a writer is answered.
    #[inline]
    pub fn pressure(&self) -> Pressure {
        if self.pauses() {
            Pressure::Full
        } else {
            Pressure::Open
        }
    }

    /// Whether the gate wants bytes: alive, not finished, and no reason to pause is out.
    pub fn is_open(&self) -> bool {
        matches!(self.end, End::Open) && !self.pauses()
    }

    /// How many bytes a flow may read next, at most: `chunk` while open, so that it never holds more than
    /// `high + chunk`; 0 while not.
    pub fn credit(&self) -> usize {
        if self.is_open() { self.marks.chunk() } else { 0 }
    }

    /// Whether `reason` is a reason to pause at the moment.
    pub fn is_held_by(&self, reason: HoldReason) -> bool {
        self.holds[reason.index()] > 0 || (reason == HoldReason::Full && self.full)
    }

    /// Every reason to pause that is out.
    pub fn hold_reasons(&self) -> impl Iterator<Item = HoldReason> + '_ {
        HoldReason::ALL
            .into_iter()
            .filter(move |reason| self.is_held_by(*reason))
    }

    /// Which kind of producer is registered, if any.
    pub fn registered(&self) -> Option<Kind> {
        self.registration.map(|registration| match registration.told {
            Told::Running | Told::Paused => Kind::Push,
            Told::NeverAsked | Told::Asked | Told::Answered => Kind::Pull,
        })
    }

    /// Whether the writer has said that the stream is complete, and nothing cut it short since.
    pub fn is_finished(&self) -> bool {
        matches!(self.end, End::Finishing | End::Closed)
    }

    /// Whether the end was passed on, or the stream died.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self.end, End::Closed | End::Dead(_))
    }

    /// Why the stream died, if it did.
    #[inline]
    pub fn death(&self) -> Option<&StopReason> {
        match &self.end {
            End::Dead(reason) => Some(reason),
            End::Open | End::Finishing | End::Closed => None,
        }
    }

    #[inline]
    fn is_on_hold(&self) -> bool {
        self.holds != [0; HoldReason::ALL.len()]
    }

    #[inline]
    fn pauses(&self) -> bool {
        self.full || self.is_on_hold()
    }
}
