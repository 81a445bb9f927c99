//! Two thousand downloads at once, half of them stalled: memory stays within connections times marks, and the other half
//! ends as if it were alone.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::common::{noise, up_dir, within};

/// Downloads of each kind.
const HALF: usize = 1000;

/// What a stalled client asks for: more than the kernel takes in for it.
const STALLED_BYTES: usize = 8 << 20;

/// What the kernel may receive ahead for a client. Without a limit a thousand of them take more than all the memory it has
/// for TCP, and then it resets what it likes.
const RECEIVED_AHEAD_BYTES: u32 = 64 << 10;

/// What a client that reads asks for: also more than is ever under way.
const READ_BYTES: usize = 2 << 20;

/// What one stalled download may hold: what hyper takes, 256 KiB; of the file `low` and two chunks, 144 KiB; the rest is
/// for the connection itself and the allocator.
const STALLED_BYTES_HELD_MAX: usize = 512 << 10;

/// Set where the test runs by itself.
const ALONE: &str = "TIDEGATE_TEST_ALONE";

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Both ends of every connection are here. Raises the limit of open files; says whether that was allowed.
fn enough_descriptors() -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = 5 * HALF as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).is_ok()
}

/// Asks for a path, with little room for the answer.
async fn start(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVED_AHEAD_BYTES).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Clients whose answers have begun, and who read no further.
async fn stall(address: SocketAddr) -> Vec<TcpStream> {
    let mut stalled = Vec::new();
    for _ in 0..HALF {
        let mut stream = start(address, "/stalled").await;
        within(stream.read_exact(&mut [0; 16])).await.unwrap();
        stalled.push(stream);
    }
    stalled
}

/// Clients that read all of `bytes`.
async fn read(address: SocketAddr, bytes: &Bytes) -> JoinSet<usize> {
    let mut reading = JoinSet::new();
    for _ in 0..HALF {
        reading.spawn(read_on(start(address, "/read").await, bytes.clone()));
    }
    reading
}

/// Reads to the end, which is that of `bytes`. How much came, head and all.
async fn read_on(mut stream: TcpStream, bytes: Bytes) -> usize {
    let mut space = vec![0; 16 * 1024];
    let mut last = Vec::new();
    let mut total = 0;
    loop {
        match stream.read(&mut space).await.unwrap() {
            0 => break,
            got => {
                total += got;
                last.clear();
                last.extend_from_slice(&space[..got]);
            }
        }
    }
    assert!(bytes.ends_with(&last), "the tail is another");
    total
}

/// The test below, in a process where no other runs: resident memory is the whole process's.
async fn run_alone() {
    let mut alone = tokio::process::Command::new(std::env::current_exe().unwrap());
    alone
        .args(["--exact", "crowd::half_of_many_downloads_may_stall"])
        .env(ALONE, "1");
    assert!(alone.status().await.unwrap().success(), "see above");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_many_downloads_may_stall() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone().await;
    }
    assert!(
        enough_descriptors(),
        "the limit of open files is below {}",
        5 * HALF
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("stalled"), noise(STALLED_BYTES)).unwrap();
    let bytes = noise(READ_BYTES);
    fs::write(dir.path().join("read"), &bytes).unwrap();
    let server = up_dir(dir.path()).await;
    let before = resident_bytes();
    let stalled = stall(server.address).await;
    let mut reading = read(server.address, &bytes).await;
    let mut peak = 0;
    while let Some(total) = within(reading.join_next()).await {
        assert!(total.unwrap() > READ_BYTES, "a reader was cut short");
        peak = peak.max(resident_bytes());
    }
    // While both halves were under way: a reader of the test's holds its 16 KiB besides.
    let grown = peak.saturating_sub(before);
    assert!(
        grown < HALF * (2 * STALLED_BYTES_HELD_MAX + (16 << 10)),
        "{grown} bytes for {} downloads",
        2 * HALF
    );
    let left = resident_bytes().saturating_sub(before);
    println!("{} KiB a stalled download", left / HALF / 1024);
    assert!(
        left < HALF * STALLED_BYTES_HELD_MAX + (64 << 20),
        "{left} bytes for {} stalled clients",
        stalled.len()
    );
    drop(stalled);
    server.stop().await;
}
