//! The sixteen laws over every consumer of Windows: TCP, named pipes, a child's standard input, a child's output.
//!
//! On a pipe's connecting side an abort looks like an end, so law 10 is not run there.

use std::time::Duration;

use tidegate_io::Duplex;
use tidegate_io::endpoint::process::Stderr;
use tidegate_io::endpoint::{npipe, tcp};
use tokio::runtime::Runtime;

use crate::child;
use crate::harness::{END_MARK, Ends, FarSide, Others, over, over_one_end, over_socket, suite_of_a_pipe};
use crate::npipe::pair;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a pipe, or a socket with small buffers, takes while nobody reads.
const SLACK: usize = 512 * 1024;

fn tcp_pair(runtime: &Runtime) -> (Duplex, Duplex) {
    runtime.block_on(async {
        let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap().0);
        for end in [&near, &far] {
            let socket = socket2::SockRef::from(end);
            socket.set_send_buffer_size(4096).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
        }
        (tcp::duplex(near), tcp::duplex(far))
    })
}

fn tcp_connected(runtime: &Runtime) -> Ends {
    let (near, far) = tcp_pair(runtime);
    over_socket(near, far)
}

fn tcp_accepted(runtime: &Runtime) -> Ends {
    let (far, near) = tcp_pair(runtime);
    over_socket(near, far)
}

fn pipe_accepted(runtime: &Runtime) -> Ends {
    let (near, far) = runtime.block_on(pair());
    let far_side = FarSide {
        source: Box::new(npipe::source(far)),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(npipe::sink(near)), far_side)
}

fn pipe_connected(runtime: &Runtime) -> Ends {
    let (far, near) = runtime.block_on(pair());
    let far_side = FarSide {
        source: Box::new(npipe::source(far)),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(npipe::sink(near)), far_side)
}

fn process(runtime: &Runtime) -> Ends {
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

fn kill(id: u32) {
    let killed = std::process::Command::new("taskkill")
        .args(["/F", "/PID", &id.to_string()])
        .output()
        .unwrap();
    assert!(killed.status.success(), "{killed:?}");
}

tidegate::law_suite!(over_tcp_connected, over("tcp, connected", SLACK, tcp_connected));
tidegate::law_suite!(over_tcp_accepted, over("tcp, accepted", SLACK, tcp_accepted));
tidegate::law_suite!(over_pipe_accepted, over("npipe, accepted", SLACK, pipe_accepted));
suite_of_a_pipe!(
    over_pipe_connected,
    over_one_end("npipe, connected", SLACK, pipe_connected)
);
tidegate::law_suite!(over_process, over("process", SLACK, process));
