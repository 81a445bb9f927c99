//! The core of Tidegate: the contract between producers and consumers, and the one gate that keeps it.
//!
//! Knows no operating system, no runtime and no clock.
//!
//! # The scenario
//!
//! Something produces bytes faster than something else consumes them. Between the two a *consumer* holds what was
//! accepted and not yet taken. When it holds more than `high` bytes it tells its producer to pause; when it is down to
//! `low`, to go on. A write that would pass `max` is given back. Nothing else is ever buffered.
//!
//! - A **push** producer goes on until it is paused: a socket, a process, a generator.
//! - A **pull** producer writes one chunk each time it is asked: a file, a list.
//!
//! Which of the two a producer is, is its type. Pausing a pull producer cannot be written down.
//!
//! ## Driven by push
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use bytes::Bytes;
//! use tidegate::{Consumer as _, FinishableConsumer as _, Marks, Producer, PushProducer, StopReason, channel};
//!
//! /// Handlers only set a flag; whoever produces looks at it.
//! #[derive(Default)]
//! struct Tap(AtomicBool);
//! impl PushProducer for Tap {
//!     fn pause_producing(&self) { self.0.store(true, Ordering::Release) }
//!     fn resume_producing(&self) { self.0.store(false, Ordering::Release) }
//!     fn stop_producing(&self, _: StopReason) {}
//! }
//!
//! # futures_util::FutureExt::now_or_never(async {
//! let (sender, mut receiver) = channel(Marks::TWISTED);
//! let tap = Arc::new(Tap::default());
//! sender.register_producer(Producer::push(tap.clone())).unwrap();
//! while !tap.0.load(Ordering::Acquire) {
//!     let _ = sender.write(Bytes::from_static(&[0; 1000])).unwrap();
//! }
//! assert_eq!(sender.held(), 66_000);
//! while sender.held() > 0 {
//!     receiver.recv().await.unwrap().unwrap();
//! }
//! assert!(!tap.0.load(Ordering::Acquire)); // resumed, for all is drained
//! # }).unwrap();
//! ```
//!
//! ## Driven by pull
//!
//! ```
//! use std::sync::{Arc, Mutex, Weak};
//! use bytes::Bytes;
//! use tidegate::{Consumer, FinishableConsumer as _, Marks, Producer, PullProducer, StopReason, channel};
//!
//! struct Pages { to: Weak<dyn Consumer>, left: Mutex<Vec<&'static str>> }
//! impl PullProducer for Pages {
//!     fn resume_producing(&self) {
//!         let Some(to) = self.to.upgrade() else { return };
//!         let page = self.left.lock().unwrap().pop(); // the lock is free again before the write
//!         match page {
//!             Some(page) => drop(to.write(Bytes::from(page))),
//!             None => to.unregister_producer(),
//!         }
//!     }
//!     fn stop_producing(&self, _: StopReason) {}
//! }
//!
//! # futures_util::FutureExt::now_or_never(async {
//! let (sender, mut receiver) = channel(Marks::TWISTED);
//! let left = Mutex::new(vec!["three", "two", "one"]);
//! let pages = Pages { to: Arc::downgrade(&sender.consumer()), left };
//! sender.register_producer(Producer::pull(Arc::new(pages))).unwrap();
//! sender.finish(); // the end comes when the producer has unregistered and all is drained
//! for page in ["one", "two", "three"] {
//!     assert_eq!(receiver.recv().await.unwrap().unwrap(), page);
//! }
//! assert!(receiver.recv().await.is_none());
//! # }).unwrap();
//! ```
//!
//! # The parts
//!
//! [`gate`] decides, and is pure. One private file, `signals.rs`, delivers what was decided. Two shells use both:
//! [`channel`](fn@channel), for a task that drains a device, and [`stage`], for a consumer in front of another consumer. Everything
//! else in the crate stands on the stage.
//!
//! # The laws
//!
//! Each holds for every consumer that ships with Tidegate, and is a named function of the suite `laws` (feature `laws`)
//! that you can run against a consumer of your own.
//!
//! 1. **Order.** Bytes leave in the order written; none is lost or doubled while the consumer is open.
//! 2. **Bound.** Held bytes never exceed `high` + one write with a push producer that obeys, `low` + one chunk with a
//!    pull producer. A write that would pass `max` is refused and given back, unless nothing is held.
//! 3. **Pause once.** Crossing `high` pauses a push producer once; it is resumed at or below `low`, once.
//! 4. **One chunk per pull.** The first pull comes before `register_producer` returns, the next after the write it was for.
//! 5. **Stop is last**, and comes once.
//! 6. **Second registration** is an error and disturbs nothing. Who comes to a dead or finished consumer is stopped.
//! 7. **Re-entrancy.** Handlers may call back. Pause and stop may nest inside a signal, resume never does.
//! 8. **Threads.** Once all is quiet, what the producer was last told is what the gate wants. Nothing foreign runs under
//!    a lock of ours.
//! 9. **Closing waits** for what is held and for the registered producer. An abort does not.
//! 10. **Reasons travel**, and a stream that was cut short never looks finished.
//! 11. **A pause is not blind**: a death is noticed.
//! 12. **Registrations are separate**, and empty writes are inert.
//! 13. **No spin, no stall**, at windows of 1, 2 and 3 bytes too.
//! 14. **Panics end one registration**; the stream is aborted, the gate stays usable, the panic goes on.
//! 15. **Outcome.** A future ends exactly once, with what became of the stream.
//! 16. **No leaks.** A consumer lets go of its producer at unregister, stop and end.
//!
//! Two corners that the laws leave open, and what happens there. The *first* pull of a registration does not wait for
//! room (only for holds), so a pull producer that comes to a full consumer adds one chunk to what is held already. And a
//! producer whose write was refused for `max` waits until nothing is held, when any write is taken: a push producer is
//! paused and resumed, a pull producer is asked again.
//!
//! # Which defects of Twisted cannot happen here
//!
//! Numbered as in our study of Twisted 24.7. *Type*: it cannot be written down. *Law n*: the law suite asserts it, over
//! every consumer. *Walk*: asserted in every state of small gates (`tests/gate_walk.rs`).
//!
//! | defect | | why not |
//! |---|---|---|
//! | D1, D66 | pause repeated on every write while full | law 3, walk |
//! | D2, D16, D20, D68 | an unearned resume | laws 3 and 12, walk |
//! | D3, D22 | close does not wait for a producer | law 9 |
//! | D4 | close with a paused producer parks | law 9: resumed first; a driver's deadline ends what stays silent |
//! | D5 | unregister after drain does not close | law 9, walk |
//! | D6 | a list that is consumed by checking it | type: `Vec<Bytes>` |
//! | D7 | fullness counts what was sent already | law 3, walk: `held` is the only count |
//! | D8, D9, D13, D50 | half-updated state after a panic | law 14 |
//! | D10, D44, D57, D79 | a newcomer at a full consumer is not paused | law 3 |
//! | D11, D43, D106 | pull that writes nothing: stall or spin | laws 4, 12 and 13 |
//! | D12, D53 | write inside pause recurses | law 7, walk |
//! | D14, D24 | bytes kept after a loss, or queued after death | laws 5 and 16, `tests/model.rs` |
//! | D15, D48, D63, D81 | register and unregister differ from place to place | law 6, one error type |
//! | D19, D65, D78 | pull producers are paused | type |
//! | D21, D46, D51 | no stop on a loss | law 5 |
//! | D23 | a list skips the tests a write gets | law 3, `tests/model.rs` |
//! | D34, D39, D80, D82 | two reasons to pause share one flag | counted holds; walk, `tests/loom.rs` |
//! | D40, D41, D42 | a signal out of turn raises | type: signals have no errors |
//! | D45 | a pull that writes twice stalls | walk |
//! | D52 | a pull producer runs on after a reset | law 5 |
//! | D61, D62 | a pause inside a resume loses data; finish overtakes held bytes | stage: laws 1, 7 and 9 |
//! | D67 | `>=` in one place, `>` in all others | one gate, walk |
//! | D85, D86 | a consumer without marks or stop | one gate: laws 2, 3 and 5 |
//! | D17 | a half-close that is named and not done | law 9, CASES B5 |
//! | D18 | an end without a reason | type: `StopReason`, `AbortReason` |
//! | D31 | a small write just before the end is lost | law 9, CASES 73, B23 |
//! | D32, D33 | re-entrant writes lost or doubled | law 1, CASES 6, 7, B25 |
//! | D37 | a paused consumer does not notice the end | law 11 |
//! | D38 | no limit of its own | law 2: `max` |
//! | D47, D76 | unregistering after the end, or with none registered | law 6, CASES 3, 72 |
//! | D49 | a failed registration leaves half of itself | type: `AlreadyRegistered` gives it back; CASES 1 |
//! | D60, D71 | text for bytes, fractions for tokens | type: `Bytes`; the token bucket is exact |
//! | D64 | a proxy that detaches for ever | CASES 114 |
//! | D69, D70 | a shaper without tokens stalls or asserts | CASES B46, B47 |
//! | D72, D73, D74, D75 | nested buckets and their sweep | CASES 129, B49 |
//! | D77 | a throttle without a producer | CASES B50 |
//! | D83, D84 | a forwarder that never closes, or forgets its peer | CASES B53 |
//! | D100 | an empty write ends the stream | law 12, CASES 40, B59 |
//! | D101 | an exact-length consumer that is no consumer | CASES 177, 178, 180 |
//! | D103 | counted pauses | told state is level-triggered; CASES 79, B61 |
//! | D108, D110 | a signal after the end | law 5 |
//! | D114 | a protocol adapter that never pulls | CASES B65 |
//!
//! *CASES n*: a numbered scenario in `tests/cases`, played over every consumer it fits; a test there holds each number as
//! played, belonging elsewhere, or exempt with a word why. Defects of sockets, TLS, files and processes are the driver
//! crate's, those of HTTP, FTP, maildir and Perspective Broker their own crates'.
#![forbid(unsafe_code)]

mod adapters;
mod bucket;
mod channel;
mod connection;
mod consumer;
mod forward;
pub mod gate;
mod hold;
#[cfg(feature = "laws")]
pub mod laws;
mod length;
pub mod loopback;
mod marks;
#[cfg(loom)]
#[doc(hidden)]
pub mod mutants;
#[cfg(not(loom))]
mod mutants;
mod outcome;
mod paced;
mod producer;
mod protocol;
pub mod proxy;
mod pull_to_push;
mod reason;
mod shape;
mod signals;
pub mod stage;
mod sync;
mod throttle;

pub use adapters::{ConsumerProtocol, ProtocolConsumer};
pub use bucket::{Allowance, Limiter, LimiterMap, Rate, TokenBucket};
pub use channel::{Aborted, Ready, Receiver, Sender, channel};
pub use consumer::{AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Refusal, WriteError};
pub use gate::{Gate, HoldReason};
pub use hold::Hold;
pub use length::{ExactLength, LengthError};
pub use marks::{Marks, MarksError};
pub use outcome::{Delivered, Outcome};
pub use paced::Paced;
pub use producer::{Producer, PullProducer, PushProducer};
pub use protocol::{HalfClose, Loss, Protocol, ReadHold, Transport};
pub use pull_to_push::PullToPush;
pub use reason::{AbortReason, Cause, StopReason};
pub use shape::Shaper;
pub use stage::{Accepted, Below, BelowPause, Finished, Over, Stage, StageHandle};
pub use throttle::{Member, NoSeat, Throttle, Throttled, ThrottledError};
