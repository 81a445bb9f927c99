//! Drivers for Tidegate on tokio: sources and sinks over operating-system handles, and the flow between two of them.
//!
//! Knows the operating system and no protocol grammar.
//!
//! # Which defects of Twisted's transports cannot happen here
//!
//! Numbers are those of the study that Tidegate was built from. *Scenarios* are `the_scenarios_hold_over_…`: the core's own
//! table, played over every kind of descriptor. A test checks that each proof named here exists.
//!
//! | defect | | why not |
//! |---|---|---|
//! | D1, D2, D3, D4, D5, D7, D8, D9, D10, D11, D12, D13, D14 | signals repeated, lost, unearned; closes that do not wait or park for ever | scenarios: `the_scenarios_hold_over_tcp_connected` |
//! | D19, D20, D21, D22, D23, D24 | pipes that pause pull producers, resume unearned, tell nobody of their death | scenarios: `the_scenarios_hold_over_a_fifo`, `the_scenarios_hold_over_an_inherited_pipe` |
//! | D25 | a timer that polls and is never started again | type: nothing polls a pipe on a timer |
//! | D26 | a paused process stops its input too | `a_paused_output_does_not_stop_the_input` |
//! | D27, D30 | standard streams that stop by half, or read on after their end | `an_inherited_socket_goes_both_ways_and_stays_blocking` |
//! | D28, D29 | a process without flow control, or without input | type: a process is a source and a sink; `a_child_is_paused_resumed_and_stopped` |
//! | D31, D32, D33, D34 | TLS loses, doubles and reorders small writes, resumes early | scenarios: `the_scenarios_hold_over_tls_as_client` |
//! | D35 | registering on a dead lower transport | scenarios: `the_scenarios_hold_over_tls_as_server` |
//! | D36 | an upgrade to TLS while paused | `an_upgrade_to_tls_keeps_the_producer_and_its_pause` |
//! | D37 | a fatal TLS error with a paused producer | `a_fatal_error_stops_a_paused_producer`, `an_upgrade_that_fails_cuts_the_connection_and_says_why` |
//! | D38 | TLS without a limit of its own | `no_layer_holds_more_than_a_record_each_way`, `a_peer_that_does_not_read_holds_the_writer` |
//! | D83, D84 | a forwarder that never closes its full side, or writes to a lost one | `a_forwarder_ends_the_full_side_after_all_was_delivered`, `a_forwarder_survives_data_for_a_side_that_is_gone` |
//! | D106, D107 | a transform that leaves chunks out | `a_transform_may_leave_chunks_out` |
//! | D108, D109, D110 | a file sender that goes on after its end, an error or a stop | `a_file_is_sent_a_chunk_a_pull`, `a_file_that_cannot_be_read_is_an_error`, `a_stopped_sender_produces_nothing` |
#![forbid(unsafe_code)]

mod async_io;
mod buffers;
mod consumer;
pub mod endpoint;
mod error;
mod file_sender;
mod flow;
mod folder;
mod handle;
mod held;
#[cfg_attr(not(target_os = "linux"), path = "lane/none.rs")]
mod lane;
mod lane_end;
#[cfg(feature = "laws")]
pub mod laws;
#[cfg_attr(not(target_os = "linux"), path = "page_cache/none.rs")]
pub mod page_cache;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "pipe_room/none.rs")]
mod pipe_room;
mod producer;
mod rate;
mod relay;
mod report;
mod sink;
mod source;
mod spare;
#[cfg_attr(unix, path = "system/unix.rs")]
#[cfg_attr(windows, path = "system/windows.rs")]
mod system;
pub mod transport;

pub use async_io::{AsyncSink, AsyncSource};
pub use buffers::{BUFFER_BYTES_MIN, Buffer, Buffers};
pub use consumer::{DriveError, Driven, SinkConsumer, SinkDriver};
pub use error::{Blame, EndpointError, ErrorKind};
pub use file_sender::{FileSender, SendError, Sending, Sent, Transform};
pub use flow::{DRAIN_DEFAULT, Flow, FlowRun, Inspect};
pub use folder::as_far_as_folders_sync;
pub use handle::{FlowHandle, FlowHold, FlowState, Snapshot};
pub use held::Held;
pub use lane_end::{AfterAbort, LaneEnd, LaneFd, LaneJob, LaneKind, LaneOp, lane_fd};
pub use producer::{CHUNK_DEFAULT, ProduceError, SourceProducer};
pub use rate::SharedRate;
pub use relay::{Direction, HalfClose, Relay, RelayError, RelayHandle, RelayReport, RelayRun};
pub use report::{FlowError, FlowErrorKind, Lane, LaneChoice, PausedTime, Report, Side, SlowSide};
pub use sink::{Confirmation, Sink};
pub use source::{RunAhead, Source};
pub use tidegate::HoldReason;

/// A two-way endpoint: what it sends us, and what we send it.
pub struct Duplex {
    /// Bytes from the endpoint.
    pub source: Box<dyn Source + Send>,
    /// Bytes to the endpoint.
    pub sink: Box<dyn Sink + Send>,
}
