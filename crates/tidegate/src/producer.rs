//! What writes to a consumer: push producers, pull producers, and the handle a consumer keeps of either.
//!
//! Knows nothing of gates or queues: only which signals exist and what a producer promises when it gets one.
//!
//! # What a producer must bear
//!
//! - Signals may come from any thread, and one already decided may still arrive just after `unregister_producer`
//!   returned.
//! - A handler may call back into the consumer: write, register, unregister, finish.
//! - **Hold no lock over `write`, `register_producer` or `finish` that a handler of yours takes.** The consumer may
//!   signal you before that call returns:
//!
//! ```no_run
//! # use std::sync::{Arc, Mutex};
//! # use tidegate::{Consumer, PushProducer, StopReason};
//! # use bytes::Bytes;
//! struct Wrong { state: Mutex<bool>, to: Arc<dyn Consumer> }
//! impl Wrong {
//!     fn produce(&self) {
//!         let state = self.state.lock().unwrap();        // held over the write ...
//!         let _ = self.to.write(Bytes::from_static(b"x")); // ... which may call pause_producing: deadlock
//!         drop(state);
//!     }
//! }
//! impl PushProducer for Wrong {
//!     fn pause_producing(&self) { *self.state.lock().unwrap() = false; }
//!     fn resume_producing(&self) { *self.state.lock().unwrap() = true; }
//!     fn stop_producing(&self, _: StopReason) {}
//! }
//! ```

use std::fmt;
use std::sync::Arc;

use crate::StopReason;
use crate::gate::Signal;

/// Produces on its own until paused. Starts unpaused. (Twisted: `IPushProducer`.)
pub trait PushProducer: Send + Sync {
    /// Stop writing until [`resume_producing`](Self::resume_producing). What was under way may still be written.
    fn pause_producing(&self);
    /// Go on writing. Only ever balances an earlier pause.
    fn resume_producing(&self);
    /// The consumer is done with you, for good. The last signal of a registration.
    fn stop_producing(&self, reason: StopReason);
}

/// Produces one chunk each time it is asked. Cannot be paused, by type. (Twisted: `IPullProducer`.)
pub trait PullProducer: Send + Sync {
    /// Write one chunk, now or later. You are not asked again before you have written it.
    fn resume_producing(&self);
    /// The consumer is done with you, for good. The last signal of a registration.
    fn stop_producing(&self, reason: StopReason);
}

/// A producer as a consumer keeps it.
#[derive(Clone)]
pub enum Producer {
    /// Goes on until paused.
    Push(Arc<dyn PushProducer>),
    /// One chunk a resume.
    Pull(Arc<dyn PullProducer>),
}

impl Producer {
    /// Wraps a push producer.
    pub fn push(producer: Arc<impl PushProducer + 'static>) -> Self {
        Self::Push(producer)
    }

    /// Wraps a pull producer.
    pub fn pull(producer: Arc<impl PullProducer + 'static>) -> Self {
        Self::Pull(producer)
    }

    /// Calls the handler of a signal that was due.
    pub(crate) fn tell(&self, signal: Signal) {
        match (self, signal) {
            (Self::Push(push), Signal::Pause) => push.pause_producing(),
            (Self::Push(push), Signal::Resume) => push.resume_producing(),
            (Self::Pull(pull), Signal::Resume) => pull.resume_producing(),
            (_, Signal::Stop(reason)) => self.stop(reason),
            (Self::Pull(_), Signal::Pause) => unreachable!("the gate never pauses a pull producer"),
        }
    }

    /// Tells the producer, whichever its kind, to stop for good.
    pub fn stop(&self, reason: StopReason) {
        match self {
            Self::Push(producer) => producer.stop_producing(reason),
            Self::Pull(producer) => producer.stop_producing(reason),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Push(_) => "Producer::Push",
            Self::Pull(_) => "Producer::Pull",
        })
    }
}
