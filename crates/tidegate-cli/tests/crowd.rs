//! 9,900 connections open at once through `tidegate relay`, within a hard limit of 20,000 descriptors, with a trickle on
//! each: every byte is checked where it arrives and accounted for in the log, and what the connections took comes back.
//!
//! A test binary of its own, because the far ends of all those connections need descriptors too.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// As many connections as the issue asks for, and what the program may have open for them.
const CONNECTIONS: usize = 9_900;
const DESCRIPTORS_MAX: u64 = 20_000;

/// Both ends of every connection are ours, beside the relay's.
const DESCRIPTORS_OURS: u64 = 2 * CONNECTIONS as u64 + 100;

/// Times that every connection says something each way, all of them between two gatherings.
const ROUNDS: u64 = 5;

/// Bytes of one trickle; no multiple of anything.
const TRICKLE_BYTES: u64 = 37;

/// Connections being made at once, fewer than any listener's queue.
const DIALLING: usize = 128;

/// Source addresses, so that nobody runs out of ports.
const NEAR_ADDRESSES: usize = 4;

/// No step may take longer: a hang is a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// Descriptors the program may keep beyond those it had before: a pipe or two of the pool.
const DESCRIPTORS_SLACK: usize = 8;

/// What a connection may take of memory. It takes 2 KiB at most, and this is no exact measure.
const RESIDENT_EACH_MAX_BYTES: u64 = 2560;

/// The share of the memory the crowd took that may stay: fragments.
const RESIDENT_KEPT_MAX: u64 = 4;

#[test]
fn nine_thousand_nine_hundred_connections_lose_nothing_and_leave_nothing() {
    let needed = DESCRIPTORS_OURS.max(DESCRIPTORS_MAX);
    if raise_limit() < needed {
        eprintln!(
            "SKIPPED: nine_thousand_nine_hundred_connections_lose_nothing_and_leave_nothing: \
             the hard limit of descriptors is below {needed}"
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(crowd());
}

async fn crowd() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut relay = Relay::start(origin.local_addr().unwrap());
    // What a few connections need is the base line, not the empty process.
    pass(&relay, &origin, 64, |_| ()).await;
    let (descriptors, resident) = (relay.settled(usize::MAX).await, relay.resident_kib());

    let mut full = (0, 0);
    pass(&relay, &origin, CONNECTIONS, |relay| {
        full = (relay.descriptors(), relay.resident_kib());
    })
    .await;
    assert!(
        full.0 >= 2 * CONNECTIONS,
        "the relay had only {} descriptors open",
        full.0
    );
    let each_bytes = (full.1 - resident) * 1024 / CONNECTIONS as u64;
    assert!(
        each_bytes <= RESIDENT_EACH_MAX_BYTES,
        "{each_bytes} bytes for each connection"
    );
    relay.settled(descriptors + DESCRIPTORS_SLACK).await;
    let kept_kib = (full.1 - resident) / RESIDENT_KEPT_MAX;
    let left = relay.settled_resident(resident + kept_kib).await;
    println!(
        "{CONNECTIONS} connections: {} descriptors, {} KiB ({} before, {left} after)",
        full.0, full.1, resident
    );
    relay.ends_with((CONNECTIONS + 64) as u64);
}

/// Raises our own limit as far as it goes, and says how far that is.
fn raise_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    hard.unwrap_or(u64::MAX)
}

/// Opens so many connections, lets each speak `ROUNDS` times each way, looks at the relay while all are open, and closes
/// them: a third from the near side, a third from the far side, a third from both at once.
async fn pass(relay: &Relay, origin: &TcpListener, count: usize, at_full: impl FnOnce(&Relay)) {
    // All tasks and this one gather before the first trickle, after the last, and before anybody closes.
    let gathered = Arc::new(Barrier::new(2 * count + 1));
    let dialling = Arc::new(Semaphore::new(DIALLING));
    let mut ends = JoinSet::new();
    let mut near_ends = JoinSet::new();
    for index in 0..count {
        let (gathered, dialling, at) = (Arc::clone(&gathered), Arc::clone(&dialling), relay.at);
        near_ends.spawn(near(index, at, gathered, dialling));
    }
    for _ in 0..count {
        let (stream, _) = within("a connection reaches the origin", origin.accept())
            .await
            .unwrap();
        ends.spawn(far(stream, Arc::clone(&gathered)));
    }
    within("everybody is connected", gathered.wait()).await;
    within("everybody has spoken", gathered.wait()).await;
    at_full(relay);
    within("all are looked at", gathered.wait()).await;
    for tasks in [near_ends, ends] {
        let all = within("everything ends", tasks.join_all()).await;
        assert_eq!(all.len(), count);
    }
}

/// Who ends a connection first.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Near,
    Far,
    Both,
}

impl First {
    fn of(index: u64) -> Self {
        [Self::Near, Self::Far, Self::Both][(index % 3) as usize]
    }
}

async fn near(index: usize, relay: SocketAddr, gathered: Arc<Barrier>, dialling: Arc<Semaphore>) {
    let dials = dialling.acquire().await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let from = Ipv4Addr::new(127, 0, 0, 2 + (index % NEAR_ADDRESSES) as u8);
    socket.bind((from, 0).into()).unwrap();
    let mut stream = within("a connection is made", socket.connect(relay))
        .await
        .unwrap();
    let index = index as u64;
    stream.write_all(&index.to_le_bytes()).await.unwrap();
    // The next may dial once this one has come through to the origin.
    assert_eq!(stream.read_u64_le().await.unwrap(), !index);
    drop(dials);
    gathered.wait().await;
    talk(&mut stream, index, !index).await;
    gathered.wait().await;
    gathered.wait().await;
    close(stream, First::of(index), First::Near).await;
}

async fn far(mut stream: TcpStream, gathered: Arc<Barrier>) {
    let index = stream.read_u64_le().await.unwrap();
    stream.write_all(&(!index).to_le_bytes()).await.unwrap();
    gathered.wait().await;
    talk(&mut stream, !index, index).await;
    gathered.wait().await;
    gathered.wait().await;
    close(stream, First::of(index), First::Far).await;
}

/// A few bytes each way, then again; each side waits for the other's before it goes on.
async fn talk(stream: &mut TcpStream, ours: u64, theirs: u64) {
    for round in 0..ROUNDS {
        let said: Vec<u8> = trickle(ours, round).collect();
        stream.write_all(&said).await.unwrap();
        let mut heard = [0; TRICKLE_BYTES as usize];
        within("a trickle arrives", stream.read_exact(&mut heard))
            .await
            .unwrap();
        assert!(
            trickle(theirs, round).eq(heard),
            "other bytes arrived in round {round}"
        );
    }
}

fn trickle(seed: u64, round: u64) -> impl Iterator<Item = u8> {
    (0..TRICKLE_BYTES).map(move |at| {
        let mixed = (seed ^ (round << 32) ^ (at << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 29)).to_be_bytes()[0]
    })
}

/// Ends the connection in its order; nothing may come after what was said.
async fn close(mut stream: TcpStream, first: First, here: First) {
    if first != here && first != First::Both {
        assert_eq!(within("the other end", stream.read(&mut [0])).await.unwrap(), 0);
    }
    stream.shutdown().await.unwrap();
    if first == here || first == First::Both {
        assert_eq!(within("the other end", stream.read(&mut [0])).await.unwrap(), 0);
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

struct Relay {
    child: Child,
    at: SocketAddr,
    /// What the log says of the connections that have ended.
    ended: Arc<Mutex<Ended>>,
    is_over: mpsc::Receiver<()>,
}

#[derive(Debug, Default, PartialEq)]
struct Ended {
    cleanly: u64,
    there_bytes: u64,
    back_bytes: u64,
    others: Vec<String>,
}

impl Relay {
    /// With the soft limit many systems have; the program raises it by itself.
    fn start(to: SocketAddr) -> Self {
        let line = format!(
            "ulimit -Sn 1024; ulimit -Hn {DESCRIPTORS_MAX}; exec {} relay --log-format json tcp-listen://127.0.0.1:0 tcp://{to}",
            env!("CARGO_BIN_EXE_tidegate")
        );
        let mut child = Command::new("sh")
            .args(["-c", &line])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let at = first.split("tcp-listen://").nth(1).expect(&first);
        let at = at.split('"').next().unwrap().parse().expect(&first);
        let ended = Arc::new(Mutex::new(Ended::default()));
        let kept = Arc::clone(&ended);
        let (over, is_over) = mpsc::channel();
        std::thread::spawn(move || {
            account(lines, &kept);
            drop(over);
        });
        Self {
            child,
            at,
            ended,
            is_over,
        }
    }

    fn descriptors(&self) -> usize {
        let listed = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        listed.unwrap().count()
    }

    fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until so few descriptors are left, and says how many.
    async fn settled(&self, most: usize) -> usize {
        until(|| self.descriptors(), |left| *left <= most, "descriptors").await
    }

    async fn settled_resident(&self, most_kib: u64) -> u64 {
        until(|| self.resident_kib(), |left| *left <= most_kib, "KiB").await
    }

    /// Ends the program, which must have logged every connection, each with all of its bytes.
    fn ends_with(&mut self, connections: u64) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert_eq!(
            self.child.wait().unwrap().code(),
            Some(0),
            "the relay did not end well"
        );
        let over = self.is_over.recv_timeout(LIMIT);
        assert_eq!(
            over,
            Err(mpsc::RecvTimeoutError::Disconnected),
            "the log has no end"
        );
        let each = ROUNDS * TRICKLE_BYTES + 8;
        let expected = Ended {
            cleanly: connections,
            there_bytes: connections * each,
            back_bytes: connections * each,
            others: Vec::new(),
        };
        let mut ended = std::mem::take(&mut *self.ended.lock().unwrap());
        // Some say enough.
        ended.others.truncate(5);
        assert_eq!(ended, expected);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums up what the log says.
fn account(lines: BufReader<ChildStderr>, ended: &Mutex<Ended>) {
    for line in lines.lines().map_while(Result::ok) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = &event["fields"];
        let mut ended = ended.lock().unwrap();
        match event["message"].as_str() {
            Some("connection ended") => {
                ended.cleanly += 1;
                ended.there_bytes += fields["bytes_there"].as_u64().unwrap();
                ended.back_bytes += fields["bytes_back"].as_u64().unwrap();
            }
            _ => ended.others.push(line),
        }
    }
}

/// Waits until a number is as wanted. Nothing announces it.
async fn until<T: std::fmt::Display>(look: impl Fn() -> T, is_fine: impl Fn(&T) -> bool, what: &str) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = look();
        if is_fine(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{now} {what} are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
