//! The core of Tidegate: the contract between producers and consumers, and the one gate that keeps it.
//!
//! Knows no operating system, no runtime and no clock.
#![forbid(unsafe_code)]

mod bucket;
mod consumer;
mod marks;
mod producer;
mod protocol;
mod reason;

pub use bucket::{Allowance, Limiter, LimiterMap, Rate, TokenBucket};
pub use consumer::{AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Refusal, WriteError};
pub use marks::{Marks, MarksError};
pub use producer::{Producer, PullProducer, PushProducer};
pub use protocol::{HalfClose, Loss, Protocol, ReadHold, Transport};
pub use reason::{AbortReason, Cause, StopReason};
