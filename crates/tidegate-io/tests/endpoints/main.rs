//! The endpoints over real descriptors, real processes and real peers.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod laws;
mod pipes;
mod process;
mod producers;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod transport;
