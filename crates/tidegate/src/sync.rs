//! The lock and the thread identity that the shells use, exchanged for loom's under `cfg(loom)`.
//!
//! Knows nothing of gates. Everything else in the crate takes its primitives from here, so that a model checker sees
//! every one of them.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(loom)]
pub(crate) use loom::thread::ThreadId;

use std::sync::PoisonError;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// Locks, whatever happened to an earlier holder: nothing foreign runs under our locks, so what they guard is whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread, told from every other that lives at the same time. (`std`'s own identity costs a counted reference each time
/// it is asked for.)
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ThreadId(usize);

/// The thread that calls.
#[cfg(not(loom))]
#[inline]
#[allow(
    clippy::missing_const_for_thread_local,
    reason = "it is one; for Windows clippy overlooks that"
)]
pub(crate) fn here() -> ThreadId {
    std::thread_local! {
        static PLACE: u8 = const { 0 };
    }
    ThreadId(PLACE.with(|place| std::ptr::from_ref(place).addr()))
}

/// The thread that calls.
#[cfg(loom)]
pub(crate) fn here() -> ThreadId {
    loom::thread::current().id()
}
