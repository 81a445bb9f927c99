//! How many bytes of a TCP socket the kernel has taken and the peer has not acknowledged.
//!
//! Knows how to ask the kernel about one socket, and to look through its table where that is refused. There is no safe
//! wrapper of the call made for this (`SIOCOUTQ`). Knows nothing of who asks, nor how often.

use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockRef};

use super::diag;

/// `None` for sockets that are not TCP or not connected any more, and where nobody can tell.
pub(crate) fn unsent_bytes(socket: &SockRef<'_>) -> Option<u64> {
    let socket = socket.as_fd();
    diag::unsent_bytes(socket).unwrap_or_else(|_refused| in_table(socket))
}

/// Looks for the socket in the system's table of all of them: the price grows with their number.
fn in_table(socket: BorrowedFd<'_>) -> Option<u64> {
    let path = match SockRef::from(&socket).domain().ok()? {
        Domain::IPV4 => "/proc/self/net/tcp",
        Domain::IPV6 => "/proc/self/net/tcp6",
        _ => return None,
    };
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let table = std::fs::File::open(path).ok()?.take(TABLE_BYTES_MAX);
    let mut table = io::BufReader::with_capacity(TABLE_PIECE_BYTES, table);
    let mut line = String::new();
    loop {
        line.clear();
        if table.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(unsent) = unsent_in(&line, &inode) {
            return Some(unsent);
        }
    }
}

/// What a line of the table says, if it is about this socket.
fn unsent_in(line: &str, inode: &str) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let queues = fields.nth(4)?;
    let is_ours = fields.nth(4)? == inode;
    let unsent = queues.split_once(':').filter(|_| is_ours)?.0;
    u64::from_str_radix(unsent, 16).ok()
}

/// Some 100,000 sockets, those that only wait out their time among them.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much of the table is in memory at once.
const TABLE_PIECE_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The full send queue of a connection whose peer does not read, by both ways of asking.
    fn both_answers(listen_at: &str, dial: &str) -> Option<[Option<u64>; 2]> {
        let listener = TcpListener::bind(listen_at).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _reader_that_does_not = TcpStream::connect((dial, port)).unwrap();
        let (mut writer, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[1; 65_536]).is_ok() {}
        // Until what is on its way was acknowledged: the two answers are of two moments.
        loop {
            let ask = || diag::unsent_bytes(writer.as_fd());
            let (first, table, again) = (ask(), in_table(writer.as_fd()), ask());
            let (Ok(first), Ok(again)) = (first, again) else {
                eprintln!("SKIPPED: this system does not answer questions about one socket");
                return None;
            };
            if first == again {
                return Some([first, table]);
            }
        }
    }

    #[test]
    fn the_kernels_answer_is_what_its_table_says() {
        for (listen_at, dial) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            // IPv4 through a socket of IPv6.
            ("[::]:0", "127.0.0.1"),
        ] {
            let Some([asked, table]) = both_answers(listen_at, dial) else {
                return;
            };
            assert!(asked.is_some_and(|bytes| bytes > 0), "{listen_at}: {asked:?}");
            assert_eq!(asked, table, "{listen_at}");
        }
    }

    #[test]
    fn a_socket_that_is_no_tcp_connection_is_not_known() {
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(unsent_bytes(&SockRef::from(&unix)), None);
        assert_eq!(unsent_bytes(&SockRef::from(&listener)), None);
        assert_eq!(unsent_bytes(&SockRef::from(&datagrams)), None);
    }

    #[test]
    fn the_right_line_of_the_table_is_read() {
        let line = "   1: 0100007F:1F90 0100007F:A0B2 01 0000BEEF:00000000 01:00000014 00000000  1000        0 48812 2 0";
        assert_eq!(unsent_in(line, "48812"), Some(0xBEEF));
        assert_eq!(unsent_in(line, "4881"), None);
        assert_eq!(unsent_in("", "4881"), None);
    }
}
