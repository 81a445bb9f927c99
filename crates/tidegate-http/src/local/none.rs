//! The stand-in where there are no Unix sockets.
//!
//! Knows the shape of `local/unix.rs`; nobody ever has anything of it.

use std::io;

use crate::wire::TcpWire;

#[derive(Debug)]
pub(crate) enum LocalListener {}
pub(crate) enum LocalConnection {}

pub(crate) async fn accept(listener: &LocalListener) -> io::Result<LocalConnection> {
    match *listener {}
}

pub(crate) fn wire(connection: LocalConnection) -> io::Result<TcpWire> {
    match connection {}
}
