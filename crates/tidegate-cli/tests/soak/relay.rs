//! The relay under soak: started as a process, its log lines counted, its descriptors and its memory watched.
//!
//! Knows nothing of what goes through it.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Each connection has exactly one of these lines.
const ENDS: [&str; 4] = [
    "connection ended",
    "connection failed",
    "cannot reach the other side",
    "refused: too many connections",
];

/// More than before by this much is a leak.
const GROWN_KIB_MAX: u64 = 24 * 1024;

/// What a relay has logged.
#[derive(Default)]
struct Lines {
    ends: AtomicU64,
    out_of_descriptors: AtomicU64,
}

pub(crate) struct Relay {
    name: &'static str,
    child: Child,
    at: SocketAddr,
    lines: Arc<Lines>,
    connections: AtomicU64,
    /// Descriptors and resident KiB before the storm.
    base: (usize, u64),
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with `relay` and its arguments; `None` for as many descriptors as there may be.
fn command(args: &[&str], descriptors: Option<u32>) -> Command {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let Some(most) = descriptors else {
        let mut command = Command::new(program);
        command.arg("relay").args(args);
        return command;
    };
    let mut command = Command::new("bash");
    let line = format!("ulimit -Sn {most}; ulimit -Hn {most}; exec \"$0\" relay \"$@\"");
    command.args(["-c", &line, program]).args(args);
    command
}

impl Relay {
    pub(crate) fn start(name: &'static str, args: &[&str], descriptors: Option<u32>) -> Self {
        let mut child = command(args, descriptors)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let lines = Arc::new(Lines::default());
        let counted = Arc::clone(&lines);
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if let Some((_, at)) = line.split_once("-listen://") {
                    let _ = tell.send(at.parse().unwrap());
                }
                let ends = ENDS.iter().any(|end| line.contains(end));
                counted.ends.fetch_add(u64::from(ends), Ordering::Relaxed);
                let poor = line.contains("Too many open files");
                counted
                    .out_of_descriptors
                    .fetch_add(u64::from(poor), Ordering::Relaxed);
            }
        });
        let at = told
            .recv_timeout(Duration::from_secs(20))
            .expect("it does not listen");
        Self {
            name,
            child,
            at,
            lines,
            connections: AtomicU64::new(0),
            base: (0, 0),
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        self.try_connect().await.unwrap()
    }

    /// One that is reset as soon as it is accepted may hear of it here.
    pub(crate) async fn try_connect(&self) -> io::Result<TcpStream> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        TcpStream::connect(self.at).await
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }

    fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }

    /// What a first round of everything needs is the base line, not the empty process.
    pub(crate) async fn settles_at_first(&mut self) {
        self.settle(usize::MAX).await;
        self.base = (self.descriptors(), self.resident_kib());
    }

    /// Descriptors and memory have come back.
    pub(crate) async fn settles_again(&self) {
        self.settle(self.base.0 + 4).await;
        let grown = self.resident_kib().saturating_sub(self.base.1);
        assert!(
            grown < GROWN_KIB_MAX,
            "{}: {grown} KiB more than before",
            self.name
        );
    }

    /// Waits until the descriptors are down to a number, and no longer fall.
    async fn settle(&self, wanted: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = usize::MAX;
        loop {
            let now = self.descriptors();
            if now <= wanted && now == last {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{}: {now} descriptors left, {wanted} expected",
                self.name
            );
            last = now;
            sleep(Duration::from_millis(300)).await;
        }
    }

    pub(crate) fn ran_out_of_descriptors(&self) -> bool {
        self.lines.out_of_descriptors.load(Ordering::Relaxed) > 0
    }

    /// Ends in good order, with a line for each connection there was.
    pub(crate) async fn end(mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        let (name, connections, lines) = (
            self.name,
            self.connections.load(Ordering::Relaxed),
            Arc::clone(&self.lines),
        );
        let ended = tokio::task::spawn_blocking(move || self.child.wait());
        let status = timeout(Duration::from_secs(20), ended).await;
        let code = status.unwrap().unwrap().unwrap().code();
        assert_eq!(code, Some(0), "{name} did not end well");
        // The reader of its lines may still be at it.
        let deadline = Instant::now() + Duration::from_secs(5);
        while lines.ends.load(Ordering::Relaxed) < connections && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            lines.ends.load(Ordering::Relaxed),
            connections,
            "{name}: one line for each connection"
        );
    }
}
