//! Relays under an hour's faults in a few minutes: over TCP half-closes in each order, resets from each side, peers that do
//! not read or hardly read; over TLS the same ends, a missing close_notify, bad certificates; children that fail, are killed
//! or deaf; names nobody knows; no descriptor left. Every byte is checked where it arrives, every connection has its line in
//! the log; at the end descriptors and memory must have come back. `TIDEGATE_SOAK_SECONDS` sets how long (CI: 180; 15 by
//! default).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod children;
mod refused;
mod relay;
mod talk;
mod tcp;
mod tls;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::relay::Relay;
use crate::talk::Errand;

/// No single connection may take longer: a hang is a failure.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

const LISTEN: &str = "tcp-listen://127.0.0.1:0";

fn soak_time() -> Duration {
    let seconds = std::env::var("TIDEGATE_SOAK_SECONDS");
    Duration::from_secs(seconds.ok().and_then(|text| text.parse().ok()).unwrap_or(15))
}

/// Something at the far end that takes connections for ever, and fails the test with the first that fails its checks.
struct Origin {
    port: u16,
    served: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        running.spawn(serve(accepted.unwrap().0));
                    }
                    Some(ended) = running.join_next() => {
                        count.fetch_add(1, Ordering::Relaxed);
                        // Errors are what faults look like from here; panics are failed checks.
                        let _outcome: io::Result<()> = ended.unwrap();
                    }
                }
            }
        });
        Self { port, served, task }
    }

    /// As many connections came through, and the last of them are over soon.
    async fn served_all(&self, least: u64) {
        let deadline = Instant::now() + CONNECTION_LIMIT;
        loop {
            assert!(!self.task.is_finished(), "an origin failed");
            let served = self.served.load(Ordering::Relaxed);
            if served >= least {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{served} connections of {least} came through"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Rounds until the time is over, each with the number of its own; says how many there were.
async fn rounds(time: Duration, mut round: impl AsyncFnMut(u64)) -> u64 {
    let end = Instant::now() + time;
    let mut number = 0;
    while Instant::now() < end {
        round(number).await;
        number += 1;
    }
    number
}

async fn within(work: impl Future<Output = ()>) {
    timeout(CONNECTION_LIMIT, work).await.expect("a connection hangs");
}

/// All of a round at once.
async fn all(mut clients: JoinSet<()>) {
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

/// A first round, the storm, and the account. Every relay's storm goes through here.
async fn soak(mut relay: Relay, storm: impl AsyncFn(Arc<Relay>, u64)) -> u64 {
    let shared = Arc::new(relay);
    storm(Arc::clone(&shared), 0).await;
    relay = owned(shared).await;
    relay.settles_at_first().await;
    let shared = Arc::new(relay);
    let count = rounds(soak_time(), async |number| {
        storm(Arc::clone(&shared), number + 1).await
    })
    .await;
    relay = owned(shared).await;
    relay.settles_again().await;
    relay.end().await;
    count + 1
}

async fn owned(shared: Arc<Relay>) -> Relay {
    match Arc::try_unwrap(shared) {
        Ok(relay) => relay,
        Err(_) => panic!("a client still has the relay"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_survive_every_fault_with_exact_bytes() {
    tokio::join!(
        faults_of_tcp(),
        faults_of_tls(),
        faults_of_children(),
        nobody_to_reach(),
        no_descriptor_left(),
    );
}

async fn faults_of_tcp() {
    let origin = Origin::start(tcp::origin).await;
    let relay = Relay::start(
        "tcp",
        &[LISTEN, &format!("tcp://127.0.0.1:{}", origin.port)],
        None,
    );
    let rounds = soak(relay, async |relay, number| {
        let mut clients = JoinSet::new();
        for (copy, count) in [100, 1_000, 300_000, 3_000_000].into_iter().enumerate() {
            for fault in tcp::FAULTS {
                let seed = number * 1_000 + copy as u64 * 10 + fault as u64 + 2;
                let relay = Arc::clone(&relay);
                clients.spawn(within(
                    async move { tcp::client(&relay, fault, seed, count).await },
                ));
            }
        }
        all(clients).await;
    })
    .await;
    origin.served_all(rounds * 4 * tcp::FAULTS.len() as u64).await;
}

async fn faults_of_tls() {
    let (papers, other) = (tls::Papers::new(), tls::Papers::new());
    let acceptor = papers.acceptor();
    let origin = Origin::start(move |plain| tls::origin(acceptor.clone(), plain)).await;
    let (cert, key) = (papers.path("cert.pem"), papers.path("key.pem"));
    let listen = format!("tls-listen://127.0.0.1:0,cert={cert},key={key}");
    let to = format!("tls://localhost:{},ca={cert}", origin.port);
    let relay = Relay::start("tls", &[&listen, &to], None);
    let (trust, distrust) = (papers.connector(), other.connector());
    let rounds = soak(relay, async |relay, number| {
        let mut clients = JoinSet::new();
        for (copy, count) in [100, 50_000, 700_000].into_iter().enumerate() {
            for fault in tls::FAULTS {
                let errand = Errand {
                    fault: fault as u8,
                    seed: number * 1_000 + copy as u64 * 10 + fault as u64 + 2,
                    count,
                };
                let (relay, trust, distrust) = (Arc::clone(&relay), trust.clone(), distrust.clone());
                clients.spawn(within(async move {
                    tls::client(&relay, &trust, &distrust, errand).await;
                }));
            }
        }
        all(clients).await;
    })
    .await;
    // One fault in each does not get as far as the origin.
    origin
        .served_all(rounds * 3 * (tls::FAULTS.len() as u64 - 1))
        .await;
}

async fn faults_of_children() {
    let relay = Relay::start("children", &[LISTEN, children::ADDRESS], None);
    soak(relay, async |relay, number| {
        let mut clients = JoinSet::new();
        for fault in children::FAULTS {
            for copy in 0..2_u64 {
                let (seed, count) = (number * 100 + copy * 10 + fault as u64, 1_000 + copy * 999_000);
                let relay = Arc::clone(&relay);
                clients.spawn(within(async move {
                    children::client(&relay, fault, seed, count).await
                }));
            }
        }
        all(clients).await;
    })
    .await;
}

async fn nobody_to_reach() {
    let (papers, other) = (tls::Papers::new(), tls::Papers::new());
    let acceptor = other.acceptor();
    let origin = Origin::start(move |plain| tls::origin(acceptor.clone(), plain)).await;
    let distrusted = format!("tls://localhost:{},ca={}", origin.port, papers.path("cert.pem"));
    let soaks = ["tcp://no-such-host.invalid:1", &distrusted].map(|to| {
        let relay = Relay::start("unreachable", &[LISTEN, to], None);
        soak(relay, async |relay, _| {
            let mut clients = JoinSet::new();
            for _ in 0..10 {
                let relay = Arc::clone(&relay);
                clients.spawn(within(async move { refused::client(&relay).await }));
            }
            all(clients).await;
        })
    });
    let [unknown, distrusting] = soaks;
    tokio::join!(unknown, distrusting);
    assert!(!origin.task.is_finished(), "an origin failed");
}

async fn no_descriptor_left() {
    let origin = Origin::start(tcp::origin).await;
    let to = format!("tcp://127.0.0.1:{}", origin.port);
    let args = ["--max-connections", "1000", LISTEN, &to];
    let relay = Relay::start("few descriptors", &args, Some(refused::FEW));
    let served = AtomicU64::new(0);
    soak(relay, async |relay, number| {
        within(async {
            served.fetch_add(refused::crowd(&relay, number * 1_000).await, Ordering::Relaxed);
        })
        .await;
        assert!(relay.ran_out_of_descriptors(), "there were enough of them");
    })
    .await;
    origin.served_all(served.load(Ordering::Relaxed)).await;
}
