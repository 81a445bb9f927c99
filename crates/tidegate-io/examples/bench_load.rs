//! The load for `cargo xtask bench`, and tokio's own copy loops as contestants. Uses nothing of Tidegate.
//!
//! ```text
//! bench_load echo PORT                          echo server
//! bench_load echo-load PORT CONNS RATE SECONDS  prints p50 and p99 in microseconds
//! bench_load hold PORT CONNS                    opens, moves one byte each, flags readiness, holds
//! bench_load open PORT CONNS                    prints the seconds to open all and get one byte back on each
//! bench_load slow-reader PORT RATE SECONDS      prints the bytes it read
//! bench_load fast-sender PORT SECONDS           prints the bytes it got rid of
//! bench_load tokio-relay PORT TO                copy_bidirectional
//! bench_load tokio-file FILE PORT               tokio::io::copy from tokio::fs
//! ```
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may stop")]

use std::env::args;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

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
        "slow-reader" => slow_reader(listen(port(1)), number(2), number(3)).await,
        "fast-sender" => fast_sender(port(1), number(2)).await,
        "tokio-relay" => tokio_relay(listen(port(1)), port(2)).await,
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
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
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

async fn slow_reader(listener: TcpListener, rate: u64, seconds: u64) {
    let (mut peer, _) = listener.accept().await.unwrap();
    let start = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let mut got = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        if got as f64 > start.elapsed().as_secs_f64() * rate as f64 {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        got += peer.read(&mut buffer).await.unwrap() as u64;
    }
    println!("{got}");
}

async fn fast_sender(port: u16, seconds: u64) {
    let mut peer = dial(port).await;
    let start = Instant::now();
    let buffer = vec![0; 64 * 1024];
    let mut sent = 0;
    while let Some(left) = Duration::from_secs(seconds).checked_sub(start.elapsed()) {
        match timeout(left, peer.write(&buffer)).await {
            Ok(Ok(taken)) => sent += taken as u64,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    println!("{sent}");
}

async fn tokio_relay(listener: TcpListener, to: u16) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut far = dial(to).await;
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}
