//! Faults that a model-checking test switches on in our own code, to show that it would notice them.
//!
//! Outside `cfg(loom)` no fault can be switched on, and asking costs nothing.

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(loom), allow(dead_code, unreachable_pub))]
pub enum Mutant {
    /// None: the code as it is.
    None,
    /// A signal is delivered although another thread is delivering one to the same registration.
    IgnoreBusy,
    /// Nobody looks again when a signal has returned.
    NoSecondLook,
    /// A receiver leaves its waker without looking again.
    WaitBlindly,
    /// Who registers asks before it takes the lock whether the stream is over, and not again.
    RegisterBlindly,
    /// Who releases a hold leaves it to others to look what is due.
    ReleaseBlindly,
    /// A resume that was decided ahead is taken in two steps: looked at, then cleared.
    TakeInTwoSteps,
    /// A resume that was decided ahead stays decided, whatever changes.
    NothingIsRevoked,
    /// A stage that is told to wait does not mind a poke that came while it asked.
    PokeIsForgotten,
}

#[cfg(loom)]
std::thread_local! {
    // Loom runs the threads of a model on one thread of the system, so this is one choice a model.
    static CHOSEN: std::cell::Cell<Mutant> = const { std::cell::Cell::new(Mutant::None) };
}

/// Switches one fault on, or all off, for the model that runs on this thread.
#[cfg(loom)]
pub fn choose(mutant: Mutant) {
    CHOSEN.with(|chosen| chosen.set(mutant));
}

/// Whether a fault is switched on.
#[cfg(loom)]
pub(crate) fn is(mutant: Mutant) -> bool {
    CHOSEN.with(|chosen| chosen.get() == mutant)
}

/// Whether a fault is switched on.
#[cfg(not(loom))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
