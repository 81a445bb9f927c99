//! A connection over a Unix socket as a wire.
//!
//! Knows nothing but the kind of stream.

use tokio::net::{UnixStream, unix};

use super::*;

halved!(
    /// A connection of a server over a Unix socket.
    UnixWire, UnixStream, unix
);
