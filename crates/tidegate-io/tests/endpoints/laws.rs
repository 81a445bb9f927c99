//! The sixteen laws over real descriptors: every consumer that the endpoints make, with the ends swapped too.
//!
//! A pipe or a Unix socket has one way to end, so law 10 (an abort never looks finished) cannot hold on one and is not
//! run there; the table in `docs/endpoints.md` says so.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::time::Duration;

use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::endpoint::{fd, pipe, tcp, unix};
use tidegate_io::{Duplex, Sink};
use tokio::runtime::Runtime;

use crate::harness::{END_MARK, Ends, FarSide, Others, over, over_one_end, over_socket, suite_of_a_pipe};

const TIMEOUT: Duration = Duration::from_secs(10);

/// As little as the kernel allows, so that a sink is soon blocked.
const SMALL_BYTES: usize = 4096;

/// A record must fit, or the kernel's timers decide how fast it goes.
#[cfg(feature = "tls")]
const RECORD_BYTES: usize = 24 * 1024;

/// Kills a child and its own, and waits until their descriptors are closed.
fn kill_group(leader: rustix::process::Pid) {
    let leader_id = leader.as_raw_nonzero().get();
    let children = format!("/proc/{leader_id}/task/{leader_id}/children");
    let mut members = std::fs::read_to_string(children).unwrap_or_default();
    members.push_str(&leader_id.to_string());
    let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    for id in members.split_whitespace() {
        let is_alive =
            || std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        while is_alive() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn bounded(socket: &impl std::os::fd::AsFd, bytes: usize) {
    let socket = socket2::SockRef::from(socket);
    socket.set_send_buffer_size(bytes).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
}

fn tcp_pair(runtime: &Runtime, buffer_bytes: usize) -> (Duplex, Duplex) {
    runtime.block_on(async {
        let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap().0);
        bounded(&near, buffer_bytes);
        bounded(&far, buffer_bytes);
        (tcp::duplex(near), tcp::duplex(far))
    })
}

pub(crate) fn tcp_connected<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (near, far) = tcp_pair(runtime, BUFFER_BYTES);
    over_socket(near, far)
}

pub(crate) fn tcp_accepted<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (far, near) = tcp_pair(runtime, BUFFER_BYTES);
    over_socket(near, far)
}

pub(crate) fn unix_connected<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (near, far) = runtime.block_on(async {
        let listener = unix::Listener::bind(&path).await.unwrap();
        let (near, far) = tokio::join!(unix::connect(&path, TIMEOUT), listener.accept());
        (near.unwrap(), far.unwrap())
    });
    bounded(&near, BUFFER_BYTES);
    bounded(&far, BUFFER_BYTES);
    let _entered = runtime.enter();
    over_socket(unix::duplex(near, &path), unix::duplex(far, &path))
}

pub(crate) fn fifo<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    runtime.block_on(async {
        let source = pipe::PipeSource::open(&path).unwrap();
        let sink = pipe::PipeSink::open(&path).await.unwrap();
        rustix::pipe::fcntl_setpipe_size(sink.lane_end().unwrap().fd, BUFFER_BYTES).unwrap();
        let far_side = FarSide {
            source: Box::new(source),
            others: Others::Nothing,
            mark: b"",
        };
        (Box::new(sink) as Box<dyn Sink + Send>, far_side)
    })
}

/// An inherited pipe, as standard output is one.
pub(crate) fn adopted_pipe<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (read, write) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&write, BUFFER_BYTES).unwrap();
    let _entered = runtime.enter();
    let source = fd::Descriptor::adopt(read.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    let sink = fd::Descriptor::adopt(write.as_raw_fd())
        .unwrap()
        .into_sink()
        .unwrap();
    let far_side = FarSide {
        source: Box::new(source),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(sink), far_side)
}

pub(crate) fn adopted_socket<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    bounded(&near, BUFFER_BYTES);
    bounded(&far, BUFFER_BYTES);
    let _entered = runtime.enter();
    let adopt = |end: &std::os::unix::net::UnixStream| fd::Descriptor::adopt(end.as_raw_fd()).unwrap();
    let sink = adopt(&near).into_sink().unwrap();
    let far_side = FarSide {
        source: Box::new(adopt(&far).into_source().unwrap()),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(sink), far_side)
}

pub(crate) fn child(runtime: &Runtime) -> Ends {
    let _entered = runtime.enter();
    let mark = std::str::from_utf8(END_MARK).unwrap();
    let process = Process::shell(format!("cat; printf '{mark}'")).stderr(Stderr::Inherit);
    let before = children();
    let Duplex { source, sink } = process.grace(Duration::from_secs(1)).into_duplex().unwrap();
    assert!(sink.name().starts_with("sh:"));
    // While others end, the kernel's list may leave out some: it is asked until it names a new one.
    let child = loop {
        let new = children().into_iter().filter(|child| !before.contains(child));
        if let Some((_, child)) = new.max_by_key(|(started, _)| *started) {
            break child;
        }
        std::thread::yield_now();
    };
    let far_side = FarSide {
        source,
        others: Others::Child(Box::new(move || kill_group(child))),
        mark: END_MARK,
    };
    (sink, far_side)
}

/// The children of this thread, with the order in which they were started.
fn children() -> Vec<(u64, rustix::process::Pid)> {
    let listed = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let started = |id: &str| -> Option<(u64, rustix::process::Pid)> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let after = stat.rsplit_once(')')?.1;
        let pid = rustix::process::Pid::from_raw(id.parse().ok()?)?;
        Some((after.split_whitespace().nth(19)?.parse().ok()?, pid))
    };
    listed.split_whitespace().filter_map(started).collect()
}

#[cfg(feature = "tls")]
fn tls_pair(runtime: &Runtime, buffer_bytes: usize) -> (Duplex, Duplex) {
    use tidegate_io::endpoint::tls::{Client, Options, Server};

    let papers = crate::tls::Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    let (near, far) = tcp_pair(runtime, buffer_bytes);
    runtime.block_on(async {
        let (near, far) = tokio::join!(client.connect(near, "localhost"), server.accept(far));
        (near.unwrap().into_duplex(), far.unwrap().into_duplex())
    })
}

#[cfg(feature = "tls")]
pub(crate) fn tls_client<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (near, far) = tls_pair(runtime, BUFFER_BYTES);
    over_socket(near, far)
}

#[cfg(feature = "tls")]
pub(crate) fn tls_server<const BUFFER_BYTES: usize>(runtime: &Runtime) -> Ends {
    let (far, near) = tls_pair(runtime, BUFFER_BYTES);
    over_socket(near, far)
}

tidegate::law_suite!(
    over_tcp_connected,
    over("tcp, connected", 128 * 1024, tcp_connected::<SMALL_BYTES>)
);
tidegate::law_suite!(
    over_tcp_accepted,
    over("tcp, accepted", 128 * 1024, tcp_accepted::<SMALL_BYTES>)
);
tidegate::law_suite!(over_child, over("process", 512 * 1024, child));
#[cfg(feature = "tls")]
tidegate::law_suite!(
    over_tls_client,
    over("tls, client", 192 * 1024, tls_client::<RECORD_BYTES>)
);
#[cfg(feature = "tls")]
tidegate::law_suite!(
    over_tls_server,
    over("tls, server", 192 * 1024, tls_server::<RECORD_BYTES>)
);

suite_of_a_pipe!(over_fifo, over_one_end("pipe", 8 * 1024, fifo::<SMALL_BYTES>));
suite_of_a_pipe!(
    over_adopted_pipe,
    over_one_end("fd, pipe", 8 * 1024, adopted_pipe::<SMALL_BYTES>)
);
suite_of_a_pipe!(
    over_adopted_socket,
    over_one_end("fd, socket", 64 * 1024, adopted_socket::<SMALL_BYTES>)
);
suite_of_a_pipe!(
    over_unix,
    over_one_end("unix", 64 * 1024, unix_connected::<SMALL_BYTES>)
);
