//! The core of Tidegate: the contract between producers and consumers, and the one gate that keeps it.
//!
//! Knows no operating system, no runtime and no clock.
#![forbid(unsafe_code)]

mod bucket;
mod channel;
mod consumer;
pub mod gate;
mod hold;
#[cfg(feature = "laws")]
pub mod laws;
mod marks;
mod outcome;
mod paced;
mod producer;
mod protocol;
mod reason;
mod signals;
pub mod stage;
mod sync;

pub use bucket::{Allowance, Limiter, LimiterMap, Rate, TokenBucket};
pub use channel::{Aborted, Ready, Receiver, Sender, channel};
pub use consumer::{AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Refusal, WriteError};
pub use gate::{Gate, HoldReason};
pub use hold::Hold;
pub use marks::{Marks, MarksError};
pub use outcome::{Delivered, Outcome};
pub use paced::Paced;
pub use producer::{Producer, PullProducer, PushProducer};
pub use protocol::{HalfClose, Loss, Protocol, ReadHold, Transport};
pub use reason::{AbortReason, Cause, StopReason};
pub use stage::{Accepted, Below, BelowPause, Finished, Over, Stage, StageHandle};
