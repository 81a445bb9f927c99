//! A relay under an hour's faults in a few minutes: half-closes in each order, resets from each side, peers that do not
//! read or hardly read, bursts of connections. Every byte is checked where it arrives; at the end descriptors and memory
//! must have come back. `TIDEGATE_SOAK_SECONDS` sets how long (CI: 180; 15 by default).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// No single connection may take longer: a hang is a failure.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// What a connection does; the first byte the client sends.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The client ends its direction first; the origin answers with as many bytes, then ends.
    ClientEndsFirst,
    /// The origin ends its direction first; the client goes on, then ends.
    OriginEndsFirst,
    /// Both send, and both end without waiting for the other.
    BothAtOnce,
    /// The client resets midway: the origin must not see an end.
    ClientResets,
    /// The origin resets midway: the client must not see an end.
    OriginResets,
    /// The origin reads nothing while the client fills every buffer, then resets.
    OriginNeverReads,
    /// The origin reads a byte at a time for a while, then all.
    OriginHardlyReads,
}

const FAULTS: [Fault; 7] = [
    Fault::ClientEndsFirst,
    Fault::OriginEndsFirst,
    Fault::BothAtOnce,
    Fault::ClientResets,
    Fault::OriginResets,
    Fault::OriginNeverReads,
    Fault::OriginHardlyReads,
];

/// The same bytes on both sides without sending them twice.
fn byte(seed: u64, at: u64) -> u8 {
    let mixed = (seed ^ (at / 8))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(31)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed.to_le_bytes()[(at % 8) as usize]
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), seed: u64, count: u64) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let len = (count - at).min(64 * 1024);
        let piece: Vec<u8> = (at..at + len).map(|at| byte(seed, at)).collect();
        to.write_all(&piece).await?;
        at += len;
    }
    Ok(())
}

/// Reads to the end and checks every byte; returns how many came, and how it ended.
async fn check(from: &mut (impl AsyncReadExt + Unpin), seed: u64) -> (u64, io::Result<()>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return (at, Ok(())),
            Ok(got) => {
                for (offset, found) in buffer[..got].iter().enumerate() {
                    assert_eq!(
                        *found,
                        byte(seed, at + offset as u64),
                        "byte {} differs",
                        at + offset as u64
                    );
                }
                at += got as u64;
            }
            Err(error) => return (at, Err(error)),
        }
    }
}

fn reset(peer: TcpStream) {
    let peer = peer.into_std().unwrap();
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
}

/// A header of one line: fault, seed, bytes.
struct Errand {
    fault: Fault,
    seed: u64,
    count: u64,
}

impl Errand {
    fn header(&self) -> [u8; 17] {
        let mut header = [0; 17];
        header[0] = self.fault as u8;
        header[1..9].copy_from_slice(&self.seed.to_le_bytes());
        header[9..].copy_from_slice(&self.count.to_le_bytes());
        header
    }

    async fn read(from: &mut TcpStream) -> io::Result<Self> {
        let mut header = [0; 17];
        from.read_exact(&mut header).await?;
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        Ok(Self {
            fault: FAULTS[usize::from(header[0])],
            seed: number(1),
            count: number(9),
        })
    }
}

/// The far side.
async fn origin(mut peer: TcpStream) -> io::Result<()> {
    let Errand { fault, seed, count } = Errand::read(&mut peer).await?;
    match fault {
        Fault::ClientEndsFirst => {
            let (got, end) = check(&mut peer, seed).await;
            assert_eq!((got, end.is_ok()), (count, true), "origin: {fault:?}");
            send(&mut peer, !seed, count).await?;
            peer.shutdown().await?;
        }
        Fault::OriginEndsFirst => {
            send(&mut peer, !seed, count).await?;
            peer.shutdown().await?;
            let (got, end) = check(&mut peer, seed).await;
            assert_eq!((got, end.is_ok()), (count, true), "origin: {fault:?}");
        }
        Fault::BothAtOnce => {
            let (mut from, mut to) = peer.split();
            let (sent, (got, end)) = tokio::join!(
                async {
                    send(&mut to, !seed, count).await?;
                    to.shutdown().await
                },
                check(&mut from, seed)
            );
            sent?;
            assert_eq!((got, end.is_ok()), (count, true), "origin: {fault:?}");
        }
        Fault::ClientResets => {
            let (got, end) = check(&mut peer, seed).await;
            assert!(
                end.is_err(),
                "origin: a reset after {got} bytes looked like an end"
            );
        }
        Fault::OriginResets => {
            send(&mut peer, !seed, count).await?;
            reset(peer);
        }
        Fault::OriginNeverReads => {
            let mut one = [0; 1];
            // Woken by nothing but the reset: it reads only after the client has given up.
            sleep(Duration::from_millis(300)).await;
            while peer.read(&mut one).await? != 0 {}
            panic!("origin: a reset looked like an end");
        }
        Fault::OriginHardlyReads => {
            let mut first = Vec::new();
            for _ in 0..20 {
                first.push(peer.read_u8().await?);
                sleep(Duration::from_millis(5)).await;
            }
            let same = first
                .iter()
                .enumerate()
                .all(|(at, found)| *found == byte(seed, at as u64));
            assert!(same, "origin: the first bytes differ");
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).await?;
            assert_eq!(rest.len() as u64 + 20, count, "origin: {fault:?}");
            let same = rest
                .iter()
                .enumerate()
                .all(|(at, found)| *found == byte(seed, at as u64 + 20));
            assert!(same, "origin: bytes differ");
            peer.shutdown().await?;
        }
    }
    Ok(())
}

/// The near side.
async fn client(relay: std::net::SocketAddr, errand: Errand) {
    let mut peer = TcpStream::connect(relay).await.unwrap();
    peer.write_all(&errand.header()).await.unwrap();
    let Errand { fault, seed, count } = errand;
    match fault {
        Fault::ClientEndsFirst | Fault::OriginHardlyReads => {
            send(&mut peer, seed, count).await.unwrap();
            peer.shutdown().await.unwrap();
            let (got, end) = check(&mut peer, !seed).await;
            let expected = if matches!(fault, Fault::ClientEndsFirst) {
                count
            } else {
                0
            };
            assert_eq!((got, end.is_ok()), (expected, true), "client: {fault:?}");
        }
        Fault::OriginEndsFirst => {
            let (got, end) = check(&mut peer, !seed).await;
            assert_eq!((got, end.is_ok()), (count, true), "client: {fault:?}");
            send(&mut peer, seed, count).await.unwrap();
            peer.shutdown().await.unwrap();
        }
        Fault::BothAtOnce => {
            let (mut from, mut to) = peer.split();
            let (sent, (got, end)) = tokio::join!(
                async {
                    send(&mut to, seed, count).await?;
                    to.shutdown().await
                },
                check(&mut from, !seed)
            );
            sent.unwrap();
            assert_eq!((got, end.is_ok()), (count, true), "client: {fault:?}");
        }
        Fault::ClientResets => {
            send(&mut peer, seed, count).await.unwrap();
            reset(peer);
        }
        Fault::OriginResets => {
            let (got, end) = check(&mut peer, !seed).await;
            assert!(
                end.is_err(),
                "client: a reset after {got} of {count} bytes looked like an end"
            );
        }
        Fault::OriginNeverReads => {
            let filled = timeout(Duration::from_millis(200), send(&mut peer, seed, u64::MAX)).await;
            assert!(filled.is_err(), "client: the relay swallowed everything");
            reset(peer);
        }
    }
}

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Relay {
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))
            .unwrap()
            .count()
    }

    fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }
}

async fn relay(to: std::net::SocketAddr) -> (Relay, std::net::SocketAddr) {
    let at = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([
            "relay",
            "-q",
            &format!("tcp-listen://{at}"),
            &format!("tcp://{to}"),
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let relay = Relay(child);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // A probe that says nothing is a connection like any other: the origin sees an end before a header.
        match TcpStream::connect(at).await {
            Ok(_) => return (relay, at),
            Err(error) => assert!(Instant::now() < deadline, "the relay does not listen: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_survives_every_fault_with_exact_bytes() {
    let seconds = std::env::var("TIDEGATE_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(15);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (relay, at) = relay(listener.local_addr().unwrap()).await;
    let served = Arc::new(AtomicU64::new(0));
    let origins = tokio::spawn(serve(listener, Arc::clone(&served)));

    // What a first round of everything needs is the base line, not the empty process.
    for fault in FAULTS {
        within(client(
            at,
            Errand {
                fault,
                seed: 1,
                count: 100_000,
            },
        ))
        .await;
    }
    settle(&relay, usize::MAX).await;
    let (descriptors, resident) = (relay.descriptors(), relay.resident_kib());

    let rounds = storm(at, Duration::from_secs(seconds)).await;
    assert!(rounds > 0);
    settle(&relay, descriptors + 4).await;
    let grown = relay.resident_kib().saturating_sub(resident);
    assert!(grown < 24 * 1024, "{grown} KiB more than before {rounds} rounds");
    assert!(served.load(Ordering::Relaxed) >= rounds * 7);
    assert!(!origins.is_finished(), "an origin failed");
    let mut relay = relay;
    Command::new("kill")
        .args(["-TERM", &relay.0.id().to_string()])
        .status()
        .unwrap();
    let status = timeout(
        Duration::from_secs(20),
        tokio::task::spawn_blocking(move || relay.0.wait()),
    )
    .await;
    assert_eq!(
        status.unwrap().unwrap().unwrap().code(),
        Some(0),
        "the relay did not end well"
    );
}

/// Accepts for ever; an origin that fails its assertions ends this task.
async fn serve(listener: TcpListener, served: Arc<AtomicU64>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                running.spawn(origin(accepted.unwrap().0));
            }
            Some(ended) = running.join_next() => {
                served.fetch_add(1, Ordering::Relaxed);
                // Errors are what faults look like from here; panics are failed checks.
                let _outcome: io::Result<()> = ended.unwrap();
            }
        }
    }
}

/// Rounds of all faults at once, each with its own bytes, until the time is over.
async fn storm(at: std::net::SocketAddr, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < end {
        let mut clients = JoinSet::new();
        for copy in 0..4_u64 {
            for fault in FAULTS {
                let seed = rounds * 1_000 + copy * 10 + fault as u64 + 2;
                let count = [1, 1_000, 300_000, 3_000_000][copy as usize].max(100);
                clients.spawn(within(client(at, Errand { fault, seed, count })));
            }
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
        rounds += 1;
    }
    rounds
}

async fn within(work: impl Future<Output = ()>) {
    timeout(CONNECTION_LIMIT, work).await.expect("a connection hangs");
}

/// Waits until the relay's descriptors are down to a number, or no longer fall.
async fn settle(relay: &Relay, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut last = usize::MAX;
    loop {
        let now = relay.descriptors();
        if now <= wanted && now == last {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{now} descriptors left, {wanted} expected"
        );
        last = now;
        sleep(Duration::from_millis(300)).await;
    }
}
