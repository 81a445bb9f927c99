//! How a data connection comes to be: waited for (passive) or made (active), with the control peer and nobody else.
//!
//! Knows nothing of what will travel on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::system::allow_rebinding;

/// How the next data connection is to be opened.
#[derive(Debug, Default)]
pub(crate) enum Plan {
    /// The client has not said.
    #[default]
    None,
    /// The client comes to us.
    Passive(TcpListener),
    /// We go to the client.
    Active(SocketAddr),
}

/// Binds a passive listener on the address the client came to.
pub(crate) async fn listen(local: IpAddr, ports: Option<&RangeInclusive<u16>>) -> io::Result<TcpListener> {
    let Some(ports) = ports else {
        return bind(SocketAddr::new(local, 0));
    };
    let count = usize::from(ports.end().saturating_sub(*ports.start())) + 1;
    // Begins anywhere, so that a port is hard to guess and seldom taken.
    let first = random() % count;
    let order = ports.clone().cycle_from(first, count);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in order {
        match bind(SocketAddr::new(local, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Opens what was planned. A stranger who comes to a passive port is turned away, and the wait goes on; whoever comes
/// second finds nobody listening.
pub(crate) async fn open(plan: Plan, local: IpAddr, peer: IpAddr) -> io::Result<TcpStream> {
    match plan {
        Plan::None => Err(io::ErrorKind::NotConnected.into()),
        Plan::Passive(listener) => loop {
            let (stream, from) = listener.accept().await?;
            if from.ip().to_canonical() == peer.to_canonical() {
                return Ok(stream);
            }
            tracing::warn!(%from, expected = %peer, "a stranger came to a data port");
        },
        Plan::Active(address) => {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // From the address the client knows us by; it may check.
            let local = local.to_canonical();
            if local.is_ipv4() == address.is_ipv4() {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            socket.connect(address).await
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.port() != 0 {
        allow_rebinding(&socket)?;
    }
    socket.bind(address)?;
    socket.listen(2)
}

fn random() -> usize {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    usize::try_from(random % (1 << 31)).unwrap_or(0)
}

trait CycleFrom {
    fn cycle_from(self, first: usize, count: usize) -> impl Iterator<Item = u16>;
}

impl CycleFrom for RangeInclusive<u16> {
    fn cycle_from(self, first: usize, count: usize) -> impl Iterator<Item = u16> {
        self.cycle().skip(first).take(count)
    }
}
