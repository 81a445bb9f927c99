//! What the tests share: a server on loopback, raw exchanges, foreign programs, random bytes.
#![allow(dead_code)]

pub(crate) mod endless;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate_http::{
    Answer, Client, ClientOptions, Durability, Handler, Limits, Proxies, Request, Served, Server,
    StaticFiles, StaticOptions, Uploads,
};
use tidegate_io::{Buffers, EndpointError, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Nothing here may take longer.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("in time")
}

/// A server that runs, and its end.
pub(crate) struct Up {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Served>,
}

impl Up {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn stop(mut self) -> Served {
        drop(self.stop.take());
        within(&mut self.task).await.unwrap()
    }

    /// Ends at once, connections and all.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(mut self) -> Served {
        within(&mut self.task).await.unwrap()
    }
}

pub(crate) async fn up(handler: impl Handler, limits: Limits) -> Up {
    up_with(handler, limits, |server| server).await
}

pub(crate) async fn up_with(
    handler: impl Handler,
    limits: Limits,
    with: impl FnOnce(Server) -> Server,
) -> Up {
    let server = with(Server::bind("127.0.0.1:0").await.unwrap().limits(limits));
    let address = server.local_addr().unwrap();
    let (stop, asked) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(Arc::new(handler), async {
        let _ = asked.await;
    }));
    Up {
        address,
        stop: Some(stop),
        task,
    }
}

/// A directory served, with uploads.
pub(crate) async fn up_dir(dir: &Path) -> Up {
    let mut options = StaticOptions::default();
    options.uploads = Uploads::Taken(Durability::Renamed);
    up(StaticFiles::new(dir, options).unwrap(), Limits::default()).await
}

/// Uploads that are on their way into a directory.
pub(crate) fn partials(dir: &Path) -> usize {
    std::fs::read_dir(dir)
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".tidegate-part-")
        })
        .count()
}

/// A handler from a closure.
pub(crate) struct Run<F>(pub(crate) F);

impl<F, A> Handler for Run<F>
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send,
{
    async fn answer(&self, request: Request) -> Answer {
        (self.0)(request).await
    }
}

/// Hands each request to the test, which answers when it likes.
pub(crate) struct Inbox(Mutex<tokio::sync::mpsc::UnboundedSender<(Request, oneshot::Sender<Answer>)>>);

pub(crate) type Requests = tokio::sync::mpsc::UnboundedReceiver<(Request, oneshot::Sender<Answer>)>;

pub(crate) fn inbox() -> (Inbox, Requests) {
    let (to, from) = tokio::sync::mpsc::unbounded_channel();
    (Inbox(Mutex::new(to)), from)
}

impl Handler for Inbox {
    async fn answer(&self, request: Request) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap().send((request, answer)).ok();
        answered
            .await
            .unwrap_or_else(|_| tidegate_http::plain(http::StatusCode::INTERNAL_SERVER_ERROR, "no answer"))
    }
}

/// A client that knows no proxies and does not wait long.
pub(crate) fn client() -> Client {
    client_with(|_| {})
}

pub(crate) fn client_with(with: impl FnOnce(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions::default();
    options.proxies = Proxies::None;
    options.retry_wait = Duration::from_millis(5);
    options.answer_timeout = Duration::from_secs(10);
    with(&mut options);
    Client::new(options)
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    answer
}

/// The same as text, asking the server to close.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    String::from_utf8_lossy(&raw(address, request.as_bytes()).await).into_owned()
}

pub(crate) async fn read_all(source: &mut (impl Source + ?Sized)) -> Result<Vec<u8>, EndpointError> {
    let mut buffers = Buffers::default();
    let mut all = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| source.poll_read(cx, &mut buffers, 1024 * 1024)).await?
    {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// Bytes that compress badly and repeat never: a plain linear congruential generator.
pub(crate) fn noise(bytes: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        all.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    all.truncate(bytes);
    all.into()
}

/// A foreign program on the search path; without it the test is skipped, or fails where peers are required.
pub(crate) fn peer(program: &str, test: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    found.or_else(|| missing(program, test))
}

/// A Python that has Twisted.
pub(crate) fn twisted(test: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let python = std::env::var_os("TIDEGATE_PYTHON").map_or(here, PathBuf::from);
    if python.is_file() {
        Some(python)
    } else {
        missing("twisted", test)
    }
}

fn missing(program: &str, test: &str) -> Option<PathBuf> {
    assert!(
        std::env::var("TIDEGATE_REQUIRE_PEERS").as_deref() != Ok("1"),
        "the peer {program} is missing: {test}"
    );
    eprintln!("SKIPPED-PEER: {program}: {test}");
    None
}

/// Runs a program to its end; its output and whether it succeeded.
pub(crate) async fn run(program: &Path, words: &[&str], input: &[u8]) -> (Vec<u8>, bool) {
    let mut child = tokio::process::Command::new(program)
        .args(words)
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env_remove("all_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = tokio::spawn(async move {
        let _ = stdin.write_all(&input).await;
    });
    let output = within(child.wait_with_output()).await.unwrap();
    feed.await.unwrap();
    (output.stdout, output.status.success())
}

#[path = "../../../../tidegate-io/tests/common/free_port.rs"]
mod port;
pub(crate) use port::free_port;

/// Waits until somebody listens.
pub(crate) async fn listening(port: u16) {
    within(async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
