//! The sixteen laws over every consumer of Windows: TCP, named pipes, a child's standard input, our own standard output.
//! (Files: `file_laws.rs`, on every system.)
//!
//! On a pipe's connecting side, and on standard output, an abort looks like an end: law 10 is not run there. That nobody
//! reads standard output any more shows with the next write only: laws 5, 6 and 16, where nothing is written, are not run
//! there.

use std::fs::OpenOptions;
use std::time::Duration;

use tidegate_io::Duplex;
use tidegate_io::endpoint::process::Stderr;
use tidegate_io::endpoint::{npipe, stdio, tcp};
use tokio::runtime::Runtime;

use crate::harness::{END_MARK, Ends, FarSide, Others, over, over_one_end, over_socket, suite_of_a_pipe};
use crate::npipe::pair;
use crate::{child, pipe_name};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a pipe, or a socket with small buffers, takes while nobody reads.
const SLACK: usize = 512 * 1024;

/// Asked of the system for each direction of a socket that is to fill.
const SMALL_BYTES: usize = 4096;

fn tcp_pair(runtime: &Runtime, buffer_bytes: usize) -> (Duplex, Duplex) {
    runtime.block_on(async {
        let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap().0);
        for end in [&near, &far] {
            let socket = socket2::SockRef::from(end);
            socket.set_send_buffer_size(buffer_bytes).unwrap();
            socket.set_recv_buffer_size(buffer_bytes).unwrap();
        }
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

pub(crate) fn pipe_accepted(runtime: &Runtime) -> Ends {
    let (near, far) = runtime.block_on(pair());
    let far_side = FarSide {
        source: Box::new(npipe::source(far)),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(npipe::sink(near)), far_side)
}

pub(crate) fn pipe_connected(runtime: &Runtime) -> Ends {
    let (far, near) = runtime.block_on(pair());
    let far_side = FarSide {
        source: Box::new(npipe::source(far)),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(npipe::sink(near)), far_side)
}

pub(crate) fn process(runtime: &Runtime) -> Ends {
    let _entered = runtime.enter();
    let process = child(&["copy", std::str::from_utf8(END_MARK).unwrap()]).stderr(Stderr::Inherit);
    let (source, sink) = process.into_ends().unwrap();
    let id = sink.id().unwrap();
    let far_side = FarSide {
        source: Box::new(source),
        others: Others::Child(Box::new(move || kill(id))),
        mark: END_MARK,
    };
    (Box::new(sink), far_side)
}

/// Standard output as whoever starts us leaves it: a pipe whose writes wait.
pub(crate) fn standard_output(runtime: &Runtime) -> Ends {
    let name = pipe_name();
    let (output, far) = runtime.block_on(async {
        let listener = npipe::Listener::bind(&name).unwrap();
        let output = OpenOptions::new().write(true).open(&name).unwrap();
        (output, listener.accept().await.unwrap())
    });
    let far_side = FarSide {
        source: Box::new(npipe::source(far)),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(stdio::sink_of(output.into(), "stdout")), far_side)
}

fn kill(id: u32) {
    let killed = std::process::Command::new("taskkill")
        .args(["/F", "/PID", &id.to_string()])
        .output()
        .unwrap();
    assert!(killed.status.success(), "{killed:?}");
}

tidegate::law_suite!(
    over_tcp_connected,
    over("tcp, connected", SLACK, tcp_connected::<SMALL_BYTES>)
);
tidegate::law_suite!(
    over_tcp_accepted,
    over("tcp, accepted", SLACK, tcp_accepted::<SMALL_BYTES>)
);
tidegate::law_suite!(over_pipe_accepted, over("npipe, accepted", SLACK, pipe_accepted));
suite_of_a_pipe!(
    over_pipe_connected,
    over_one_end("npipe, connected", SLACK, pipe_connected)
);
tidegate::law_suite!(over_process, over("process", SLACK, process));
mod over_standard_output {
    use super::*;
    tidegate::law_suite!(@each over_one_end("stdout", SLACK, standard_output);
        law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_07_reentrancy law_08_threads
        law_09_closing_waits law_11_a_pause_is_not_blind law_12_registrations_are_separate
        law_13_no_spin_no_stall law_14_panics_end_one_registration law_15_outcome);
}
