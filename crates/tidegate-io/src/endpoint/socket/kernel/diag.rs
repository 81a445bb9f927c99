//! Asks the kernel about one TCP socket, by its two addresses, over netlink (`sock_diag`): the price does not grow with the
//! number of sockets.
//!
//! Knows the two messages and no more of the protocol; what is to be done where the kernel refuses is the caller's affair.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use socket2::SockRef;

/// One socket for the process, opened when first needed and kept. Its lock is held for the 2 µs of a look, and no data path takes
/// it: a stall limit of 30 s looks every 7.5 s, which for 10,000 connections is 3 ms a second.
static CHANNEL: Mutex<Option<Channel>> = Mutex::new(None);

struct Channel {
    netlink: OwnedFd,
    sequence: u32,
}

/// `None` when the socket is not connected by IP (any more), or is not the one that the kernel found.
///
/// # Errors
/// Where the kernel does not answer such questions: it may have been built without, or a sandbox may forbid them.
pub(super) fn unsent_bytes(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let found = look(socket, NO_MORE)?;
    Ok(found.map(|found| found.unsent_bytes))
}

/// The shortest time to the peer and back that the kernel has seen lately, its handshake included. `None` also where it does not
/// say.
pub(super) fn round_trip(socket: BorrowedFd<'_>) -> Option<Duration> {
    look(socket, TCP_INFO).ok()??.round_trip
}

fn look(socket: BorrowedFd<'_>, more: u8) -> io::Result<Option<Found>> {
    let raw = SockRef::from(&socket);
    let address = |address: io::Result<socket2::SockAddr>| address.ok()?.as_socket();
    let (Some(local), Some(peer)) = (address(raw.local_addr()), address(raw.peer_addr())) else {
        return Ok(None);
    };
    let inode = rustix::fs::fstat(socket)?.st_ino;
    let mut channel = CHANNEL.lock().unwrap_or_else(PoisonError::into_inner);
    let channel = match &mut *channel {
        Some(open) => open,
        none => none.insert(Channel::open()?),
    };
    let found = channel.ask(more, local, peer)?;
    Ok((found.inode == inode).then_some(found))
}

/// What the kernel says of a socket.
struct Found {
    inode: u64,
    unsent_bytes: u64,
    round_trip: Option<Duration>,
}

const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// The address families, one byte each in this message.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// Where in an answer (`inet_diag_msg`, after the header) the two numbers stand.
const SEND_QUEUE_AT: usize = HEADER_BYTES + 60;
const INODE_AT: usize = HEADER_BYTES + 68;
/// What else is to be told, as a set of bits: nothing, or `tcp_info`, which comes as an attribute of this kind after the rest.
const NO_MORE: u8 = 0;
const TCP_INFO: u8 = 1 << (TCP_INFO_KIND - 1);
const TCP_INFO_KIND: u32 = 2;
const ATTRIBUTES_AT: usize = HEADER_BYTES + 72;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Where in `tcp_info` the shortest round trip stands, in microseconds.
const ROUND_TRIP_AT: usize = 148;

impl Channel {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::SOCK_DIAG);
        let netlink = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        Ok(Self { netlink, sequence: 0 })
    }

    fn ask(&mut self, more: u8, local: SocketAddr, peer: SocketAddr) -> io::Result<Found> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence, more, local, peer);
        rustix::net::send(&self.netlink, &request, SendFlags::empty())?;
        // The kernel has answered before `send` returns. An answer to a question that was given up comes first.
        loop {
            let mut answer = [0; 1024];
            let (got, _) = rustix::net::recv(&self.netlink, &mut answer, RecvFlags::empty())?;
            let answer = answer.get(..got).unwrap_or_default();
            if number(answer, 8)? == self.sequence {
                return found(answer);
            }
        }
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`, without attributes: any state, any cookie.
fn request(sequence: u32, more: u8, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let interface = match (local, peer) {
        (SocketAddr::V6(local), SocketAddr::V6(peer)) => local.scope_id().max(peer.scope_id()),
        _ => 0,
    };
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    let length = u32::try_from(REQUEST_BYTES).unwrap_or_default();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    bytes.extend([family, TCP, more, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(sixteen(local.ip()));
    bytes.extend(sixteen(peer.ip()));
    bytes.extend(interface.to_ne_bytes());
    bytes.extend([u8::MAX; 8]);
    bytes
}

/// An address in the room of the longer kind.
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
    }
}

fn found(answer: &[u8]) -> io::Result<Found> {
    let kind = number(answer, 4)?.to_ne_bytes();
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        SOCK_DIAG_BY_FAMILY => Ok(Found {
            inode: number(answer, INODE_AT)?.into(),
            unsent_bytes: number(answer, SEND_QUEUE_AT)?.into(),
            round_trip: round_trip_in(answer),
        }),
        NLMSG_ERROR => {
            let code = number(answer, HEADER_BYTES)?.cast_signed();
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn round_trip_in(answer: &[u8]) -> Option<Duration> {
    let mut rest = answer.get(ATTRIBUTES_AT..)?;
    loop {
        let head = number(rest, 0).ok()?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u32::from(u16::from_ne_bytes([head[2], head[3]])) == TCP_INFO_KIND {
            let micros = number(rest, ATTRIBUTE_HEADER_BYTES + ROUND_TRIP_AT).ok()?;
            // All bits: never measured.
            return (micros != u32::MAX).then(|| Duration::from_micros(micros.into()));
        }
        rest = rest.get(length.max(ATTRIBUTE_HEADER_BYTES).next_multiple_of(4)..)?;
    }
}

/// The number of four bytes that stands there.
fn number(answer: &[u8], at: usize) -> io::Result<u32> {
    let bytes = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(u32::from_ne_bytes)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_way_to_oneself_is_short() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        for socket in [near.as_fd(), far.as_fd()] {
            match round_trip(socket) {
                // A measured one, which no other number of this message would pass for.
                Some(time) => assert!(!time.is_zero() && time < Duration::from_millis(500), "{time:?}"),
                None => eprintln!("SKIPPED: this system does not answer questions about one socket"),
            }
        }
    }

    #[test]
    fn an_answer_without_it_and_a_broken_one_say_nothing() {
        assert_eq!(round_trip_in(&[0; ATTRIBUTES_AT]), None);
        // An attribute that claims no length must not be looked at for ever.
        assert_eq!(round_trip_in(&[0; ATTRIBUTES_AT + 40]), None);
    }
}
