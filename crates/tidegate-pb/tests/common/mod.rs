//! What the tests share: a connected pair, and finding the Python that has Twisted.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_pb::{Broker, Call, Options, PbError, Referenceable, client, server};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An object made of a closure.
pub struct Object<F>(pub F);

impl<F: Fn(Call) + Send + Sync> Referenceable for Object<F> {
    fn call(&self, call: Call) {
        (self.0)(call);
    }
}

pub fn object(call: impl Fn(Call) + Send + Sync + 'static) -> Arc<dyn Referenceable> {
    Arc::new(Object(call))
}

pub fn with_root(root: Arc<dyn Referenceable>) -> Options {
    Options {
        root: Some(root),
        ..Options::default()
    }
}

/// Two connected sockets.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// One end of a pair, with the task that drives it.
pub struct End {
    pub broker: Broker,
    pub driver: JoinHandle<PbError>,
}

/// A client and a server of ours on one connection.
pub async fn pair(near: Options, far: Options) -> (End, End) {
    let (one, other) = sockets().await;
    let (broker, driver) = client(one, near);
    let near = End {
        broker,
        driver: tokio::spawn(driver),
    };
    let (broker, driver) = server(other, far);
    let far = End {
        broker,
        driver: tokio::spawn(driver),
    };
    (near, far)
}

/// Bytes that repeat only after a long while.
pub fn pattern(length: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The Python with Twisted, or a word about its absence.
pub fn python(test: &str) -> Option<PathBuf> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let path = std::env::var_os("TIDEGATE_PYTHON").map_or(workspace, PathBuf::from);
    let works = std::process::Command::new(&path)
        .args(["-c", "import twisted.spread.pb"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if works {
        return Some(path);
    }
    assert!(
        std::env::var("TIDEGATE_REQUIRE_PEERS").as_deref() != Ok("1"),
        "{test} needs Twisted"
    );
    eprintln!("SKIPPED-PEER: twisted: {test}");
    None
}

/// A Twisted process that reports on its standard output, line by line.
pub struct Twisted {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Twisted {
    /// Starts `tests/twisted/peer.py` with these arguments, or nothing where there is no Twisted.
    pub fn start(test: &str, args: &[&str]) -> Option<Self> {
        let python = python(test)?;
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/twisted/peer.py");
        let mut child = Command::new(python)
            .arg("-u")
            .arg(script)
            .args(args)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, lines })
    }

    /// The next line.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("the peer says nothing")
            .unwrap()
            .expect("the peer is gone")
    }

    /// The next line, without the word it must start with.
    pub async fn after(&mut self, word: &str) -> String {
        let line = self.line().await;
        let rest = line.strip_prefix(word);
        rest.unwrap_or_else(|| panic!("{word:?} expected, not {line:?}"))
            .trim()
            .to_owned()
    }

    /// Connects to the port it says it listens on.
    pub async fn connect(&mut self, options: Options) -> End {
        let port: u16 = self.after("port").await.parse().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (broker, driver) = client(stream, options);
        End {
            broker,
            driver: tokio::spawn(driver),
        }
    }
}
