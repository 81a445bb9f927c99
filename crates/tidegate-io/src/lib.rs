//! Drivers for Tidegate on tokio: sources and sinks over operating-system handles, and the flow between two of them.
//!
//! Knows the operating system and no protocol grammar.
#![forbid(unsafe_code)]

mod async_io;
mod buffers;
mod consumer;
pub mod endpoint;
mod error;
mod file_sender;
mod flow;
mod handle;
mod held;
#[cfg(target_os = "linux")]
mod lane;
#[cfg(not(target_os = "linux"))]
#[path = "lane/none.rs"]
mod lane;
mod lane_end;
#[cfg(feature = "laws")]
pub mod laws;
#[cfg(target_os = "linux")]
mod pipe_room;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "pipe_room/none.rs"]
mod pipe_room;
mod producer;
mod rate;
mod relay;
mod report;
mod sink;
mod source;
mod spare;
pub mod transport;

pub use async_io::{AsyncSink, AsyncSource};
pub use buffers::{BUFFER_BYTES_MIN, Buffer, Buffers};
pub use consumer::{DriveError, Driven, SinkConsumer, SinkDriver};
pub use error::{Blame, EndpointError, ErrorKind};
pub use file_sender::{FileSender, SendError, Sending, Sent, Transform};
pub use flow::{DRAIN_DEFAULT, Flow, FlowRun, Inspect};
pub use handle::{FlowHandle, FlowHold, FlowState, Snapshot};
pub use held::Held;
#[cfg(unix)]
pub use lane_end::LaneOp;
pub use lane_end::{LaneEnd, LaneKind};
pub use producer::{CHUNK_DEFAULT, ProduceError, SourceProducer};
pub use rate::SharedRate;
pub use relay::{Direction, HalfClose, Relay, RelayError, RelayHandle, RelayReport, RelayRun};
pub use report::{FlowError, FlowErrorKind, Lane, LaneChoice, PausedTime, Report, Side, SlowSide};
pub use sink::{Confirmation, Sink};
pub use source::Source;
pub use tidegate::HoldReason;

/// A two-way endpoint: what it sends us, and what we send it.
pub struct Duplex {
    /// Bytes from the endpoint.
    pub source: Box<dyn Source + Send>,
    /// Bytes to the endpoint.
    pub sink: Box<dyn Sink + Send>,
}
