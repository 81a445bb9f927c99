//! The core of Tidegate: the contract between producers and consumers, and the one gate that keeps it.
//!
//! Knows no operating system, no runtime and no clock.
#![forbid(unsafe_code)]

mod adapters;
mod bucket;
mod channel;
mod connection;
mod consumer;
mod front;
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
