//! The load for `cargo xtask bench`, and tokio's own copy loops as contestants. Uses nothing of Tidegate.
//!
//! ```text
//! bench_load echo PORT                          echo server
//! bench_load echo-load PORT CONNS RATE SECONDS  prints p50 and p99 in microseconds
//! bench_load hold PORT CONNS                    opens, moves one byte each, flags readiness, holds
//! bench_load open PORT CONNS                    prints the seconds to open all and get one byte back on each
//! bench_load run-ahead PORT VIA RATE SECONDS    a reader of that rate on PORT and a fast sender through VIA; prints mean and most of
//!                                               what was sent and not read, over the later half of the time
//! bench_load phases ADDRESS RATE SLOW SKIP SECONDS  reads at that rate for SLOW seconds, skips SKIP at full speed, then measures;
//!                                               prints the bytes a second of the slow phase and of the last
//! bench_load blast ADDRESS                      sends until nobody reads
//! bench_load tokio-relay ADDRESS TO             copy_bidirectional
//! bench_load tokio-file FILE PORT               tokio::io::copy from tokio::fs
//! ```
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may stop")]

use std::env::args;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

#[tokio::main]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let port = |at: usize| words[at].parse::<u16>().unwrap();
    match words[0].as_str() {
        "echo" => echo(listen(port(1))).await,
        "echo-load" => echo_load(port(1), number(2), number(3), number(4)).await,
        "hold" => hold(port(1), number(2)).await,
        "open" => {
            let start = Instant::now();
            let held = open(port(1), number(2)).await;
            println!("{:.3}", start.elapsed().as_secs_f64());
            drop(held);
        }
        "run-ahead" => run_ahead(listen(port(1)), port(2), number(3), number(4)).await,
        "phases" => {
            let reader = listen_at(words[1].parse().unwrap());
            phases(reader, number(2), [number(3), number(4), number(5)]).await;
        }
        "blast" => blast(&words[1], &AtomicU64::new(0)).await,
        "tokio-relay" => tokio_relay(listen_at(words[1].parse().unwrap()), &words[2]).await,
        "tokio-file" => {
            let mut file = tokio::fs::File::open(&words[1]).await.unwrap();
            let mut to = dial(port(2)).await;
            copy(&mut file, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
            let _ = to.read(&mut [0; 1]).await;
        }
        other => panic!("unknown load {other}"),
    }
}

fn listen(port: u16) -> TcpListener {
    listen_at(([127, 0, 0, 1], port).into())
}

fn listen_at(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(10_000).unwrap()
}

async fn dial(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

async fn echo(listener: TcpListener) {
    loop {
        let (mut peer, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut small = [0; 256];
            while let Ok(got) = peer.read(&mut small).await {
                if got == 0 || peer.write_all(&small[..got]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Opens connections, 200 at a time, and moves one byte there and back on each.
async fn open(port: u16, count: u64) -> Vec<TcpStream> {
    let gate = Arc::new(Semaphore::new(200));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&gate).acquire_owned().await.unwrap();
        opening.spawn(async move {
            let mut peer = dial(port).await;
            peer.write_all(b"x").await.unwrap();
            peer.read_exact(&mut [0; 1]).await.unwrap();
            drop(permit);
            peer
        });
    }
    opening.join_all().await
}

async fn hold(port: u16, count: u64) {
    let held = open(port, count).await;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    std::fs::write(format!("{target}/bench/held-{}", std::process::id()), "").unwrap();
    sleep(Duration::from_secs(60)).await;
    drop(held);
}

async fn echo_load(port: u16, count: u64, rate: u64, seconds: u64) {
    let peers = open(port, count).await;
    let mut tasks = JoinSet::new();
    let period = Duration::from_micros(1_000_000 * count / rate);
    for (at, mut peer) in peers.into_iter().enumerate() {
        tasks.spawn(async move {
            sleep(period * u32::try_from(at).unwrap() / u32::try_from(count).unwrap()).await;
            let mut times = Vec::new();
            let mut ticks = interval(period);
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut message = [7; 64];
            while Instant::now() < end {
                ticks.tick().await;
                let start = Instant::now();
                peer.write_all(&message).await.unwrap();
                peer.read_exact(&mut message).await.unwrap();
                times.push(start.elapsed().as_micros());
            }
            times
        });
    }
    let mut times: Vec<u128> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    println!("{} {}", times[times.len() / 2], times[times.len() * 99 / 100]);
}

/// Reads for so long, at most at a rate if there is one, and says how many bytes a second that were.
async fn read_for(peer: &mut TcpStream, rate: Option<u64>, seconds: u64, total: &AtomicU64) -> f64 {
    let start = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let mut got = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        if rate.is_some_and(|rate| got as f64 > start.elapsed().as_secs_f64() * rate as f64) {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        let count = peer.read(&mut buffer).await.unwrap() as u64;
        got += count;
        total.fetch_add(count, Relaxed);
    }
    got as f64 / start.elapsed().as_secs_f64()
}

async fn phases(listener: TcpListener, rate: u64, [slow, skip, seconds]: [u64; 3]) {
    let (mut peer, _) = listener.accept().await.unwrap();
    let total = AtomicU64::new(0);
    let slow = read_for(&mut peer, Some(rate), slow, &total).await;
    read_for(&mut peer, None, skip, &total).await;
    let fast = read_for(&mut peer, None, seconds, &total).await;
    println!("{slow:.0} {fast:.0}");
}

async fn blast(to: &str, sent: &AtomicU64) {
    let mut peer = TcpStream::connect(to).await.unwrap();
    let buffer = vec![0; 64 * 1024];
    while let Ok(taken) = peer.write(&buffer).await {
        sent.fetch_add(taken as u64, Relaxed);
    }
}

/// Both ends in one process, so that what was sent and what was read are looked at in the same moment. A sender's queue fills
/// and empties by a third of itself: one look would tell little.
async fn run_ahead(listener: TcpListener, via: u16, rate: u64, seconds: u64) {
    let (sent, read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    tokio::spawn({
        let sent = Arc::clone(&sent);
        async move { blast(&format!("127.0.0.1:{via}"), &sent).await }
    });
    tokio::spawn({
        let read = Arc::clone(&read);
        async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            read_for(&mut peer, Some(rate), seconds + 10, &read).await;
        }
    });
    sleep(Duration::from_secs(seconds) / 2).await;
    let end = Instant::now() + Duration::from_secs(seconds) / 2;
    let mut ahead = Vec::new();
    while Instant::now() < end {
        // The reader's count first: what is read in between is then no lead.
        let was_read = read.load(Relaxed);
        ahead.push(sent.load(Relaxed).saturating_sub(was_read));
        sleep(Duration::from_millis(5)).await;
    }
    let mean = ahead.iter().sum::<u64>() / ahead.len() as u64;
    println!("{mean} {}", ahead.iter().max().unwrap());
}

async fn tokio_relay(listener: TcpListener, to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut far = TcpStream::connect(to).await.unwrap();
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}
