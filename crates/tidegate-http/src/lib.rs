//! HTTP for Tidegate, on hyper: responses and request bodies as consumers and sources, a client, static files.
//!
//! Knows HTTP; leaves the grammar on the wire to hyper, and how bytes travel to the drivers below.
#![forbid(unsafe_code)]

mod alarm;
mod body;
mod breaker;
mod chunked;
mod client;
mod connect;
mod crew;
mod drain;
mod exchange;
mod file_answer;
mod file_parts;
mod gate_wait;
mod get;
mod hangup;
mod incoming;
mod io_guard;
mod limits;
mod listener;
pub mod listing;
#[cfg_attr(unix, path = "local/unix.rs")]
#[cfg_attr(not(unix), path = "local/none.rs")]
mod local;
pub mod negotiate;
mod oneshot;
mod open_files;
mod opening;
mod outgoing;
pub mod path;
mod put;
pub mod range;
mod server;
mod service;
mod site;
mod static_files;
#[cfg_attr(unix, path = "system/unix.rs")]
#[cfg_attr(windows, path = "system/windows.rs")]
mod system;
mod upload;
pub mod validators;
mod wire;

pub use body::{Body, BodyError, FRAME_BYTES_MAX, PeerGone};
pub use chunked::ChunkedBody;
pub use client::{Client, ClientOptions, Protocol, Proxies};
pub use exchange::{Answer, Handler, HeadView, Peer, Request, Responder, plain};
pub use file_parts::{CHUNK_BYTES, FileError, FileParts, Part, Stamp};
pub use get::GetSource;
pub use incoming::IncomingBody;
pub use limits::Limits;
pub use oneshot::{ListenSink, ListenSource, listen_sink, listen_source};
pub use outgoing::OutgoingBody;
pub use put::UploadSink;
pub use server::{Served, Server};
pub use static_files::{Listings, Precompressed, StaticFiles, StaticOptions, Symlinks, Uploads};
pub use upload::Durability;
