//! Everything that needs a connection: server, client, static files, faults and peers, over loopback.
#![allow(clippy::unwrap_used)]

mod common;

mod body_consumer;
mod client;
mod covered;
mod crowd;
mod faults;
mod gone;
mod hostile;
mod laws;
#[cfg(unix)]
mod peers;
mod polite_cuts;
mod static_files;
