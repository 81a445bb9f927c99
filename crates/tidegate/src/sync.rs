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

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::thread::ThreadId;

use std::sync::PoisonError;

/// Locks, whatever happened to an earlier holder: nothing foreign runs under our locks, so what they guard is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that calls.
#[cfg(not(loom))]
pub(crate) fn here() -> ThreadId {
    std::thread::current().id()
}

/// The thread that calls.
#[cfg(loom)]
pub(crate) fn here() -> ThreadId {
    loom::thread::current().id()
}
