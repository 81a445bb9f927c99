//! What TCP and Unix stream sockets have in common as a source, a sink or both.
//!
//! Knows no addresses: `tcp` and `unix` open the sockets. Here the two halves are put together.

mod connection;
#[cfg_attr(not(target_os = "linux"), path = "socket/kernel/none.rs")]
mod kernel;
mod sink;
mod source;
mod stream;
#[cfg_attr(windows, path = "socket/watch_windows.rs")]
mod watch;

use std::sync::Arc;

use self::connection::Connection;
pub(crate) use self::connection::{Far, Peer};
pub(crate) use self::kernel::limit_unsent;
#[cfg(unix)]
pub(crate) use self::kernel::unsent_bytes;
use self::sink::Ending;
pub(crate) use self::sink::SocketSink;
pub(crate) use self::source::SocketSource;
pub(crate) use self::stream::StreamSocket;
pub(crate) use self::stream::stream_socket;
use crate::Duplex;

pub(crate) fn source<T: StreamSocket>(socket: T, far: Far) -> SocketSource<T> {
    SocketSource {
        connection: Connection::new(socket, far),
        watch: None,
    }
}

pub(crate) fn sink<T: StreamSocket>(socket: T, far: Far) -> SocketSink<T> {
    SocketSink {
        connection: Some(Connection::new(socket, far)),
        aside: None,
        ending: Ending::PeersEnd,
    }
}

pub(crate) fn duplex<T: StreamSocket>(socket: T, far: Far) -> Duplex {
    let connection = Connection::new(socket, far);
    Duplex {
        source: Box::new(SocketSource {
            connection: Arc::clone(&connection),
            watch: None,
        }),
        sink: Box::new(SocketSink {
            connection: Some(connection),
            aside: None,
            ending: Ending::OurEnd,
        }),
    }
}
