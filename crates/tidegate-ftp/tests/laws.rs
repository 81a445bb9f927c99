//! The sixteen laws, put to the file consumer and to the data connection as a consumer.
//!
//! The file consumer is a real upload behind a gate that lets through as many bytes as a law allows; the data connection
//! is a real socket, which swallows what its kernel buffers hold.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{AbortReason, Delivered, Marks, Outcome, StopReason};
use tidegate_ftp::data::DataConnection;
use tidegate_ftp::grammar::VirtualPath;
use tidegate_ftp::storage::{Access, Durability, Partial, Storage, StoreAs, Upload};
use tidegate_io::{Blame, Confirmation, EndpointError, ErrorKind, Held, Sink, SinkConsumer};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Lets the runtime run a little.
fn a_little(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    });
}

// ---- the file consumer ----

struct FileHarness;

/// What lets bytes through.
#[derive(Default)]
struct Tap {
    allowed: AtomicUsize,
    accepted: AtomicUsize,
    killed: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Tap {
    fn wait(&self, cx: &Context<'_>) {
        self.wakers.lock().unwrap().push(cx.waker().clone());
    }

    fn wake(&self) {
        for waker in std::mem::take(&mut *self.wakers.lock().unwrap()) {
            waker.wake();
        }
    }

    fn dead(&self) -> Option<EndpointError> {
        let dead = self.killed.load(Ordering::SeqCst);
        dead.then(|| EndpointError::new(ErrorKind::Failed, Blame::System, "the disk died"))
    }
}

struct Tapped {
    upload: Upload,
    tap: Arc<Tap>,
    under_way: Held,
}

impl Sink for Tapped {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        self.tap.wait(cx);
        if let Some(error) = self.tap.dead() {
            return Poll::Ready(Err(error));
        }
        if self.under_way.is_empty() {
            let mut allowed = self.tap.allowed.load(Ordering::SeqCst);
            for piece in held.pieces() {
                let part = piece.slice(..piece.len().min(allowed));
                allowed -= part.len();
                self.under_way.push(part);
            }
            if self.under_way.is_empty() {
                return Poll::Pending;
            }
        }
        let written = std::task::ready!(self.upload.poll_write(cx, &self.under_way))?;
        self.under_way = Held::default();
        self.tap.accepted.fetch_add(written, Ordering::SeqCst);
        let allowed = self.tap.allowed.load(Ordering::SeqCst);
        if allowed != usize::MAX {
            self.tap.allowed.store(allowed - written, Ordering::SeqCst);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        if let Some(error) = self.tap.dead() {
            return Poll::Ready(Err(error));
        }
        self.upload.poll_finish(cx)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.upload.abort(reason);
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.upload.poll_aborted(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.tap.wait(cx);
        self.tap.dead().map_or(Poll::Pending, Poll::Ready)
    }

    fn is_busy(&self) -> bool {
        self.upload.is_busy()
    }

    fn name(&self) -> String {
        self.upload.name()
    }
}

struct FileDevice {
    runtime: Runtime,
    directory: TempDir,
    tap: Arc<Tap>,
    outcome: Outcome,
}

impl Harness for FileHarness {
    fn make(&self, marks: Marks) -> Subject {
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("target"), b"what was there before").unwrap();
        let tap = Arc::new(Tap::default());
        let (sender, drain) = runtime.block_on(async {
            let storage = Storage::open(directory.path(), Access::Writable).unwrap();
            let path = VirtualPath::root().resolve(b"target", 100).unwrap();
            let upload = storage
                .upload(&path, StoreAs::New, Partial::Discard, Durability::Cached)
                .await
                .unwrap();
            let tapped = Tapped {
                upload,
                tap: Arc::clone(&tap),
                under_way: Held::default(),
            };
            SinkConsumer::with_driver(tapped, marks)
        });
        let outcome = sender.outcome();
        runtime.spawn(drain);
        Subject {
            consumer: Arc::new(sender),
            device: Box::new(FileDevice {
                runtime,
                directory,
                tap,
                outcome,
            }),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn name(&self) -> &'static str {
        "file consumer"
    }
}

impl FileDevice {
    /// The target once it was replaced, else what is written beside it.
    fn written(&self) -> (Vec<u8>, FarEnd) {
        let target = std::fs::read(self.directory.path().join("target")).unwrap();
        if target != b"what was there before" {
            return (target, FarEnd::Finished);
        }
        let names = common::names(self.directory.path());
        match names.iter().find(|name| name.starts_with(".target")) {
            Some(beside) => {
                let content = std::fs::read(self.directory.path().join(beside)).unwrap_or_default();
                (content, FarEnd::Open)
            }
            None => (Vec::new(), FarEnd::Cut),
        }
    }
}

impl Device for FileDevice {
    fn allow(&mut self, bytes: usize) {
        let allowed = self.tap.allowed.load(Ordering::SeqCst);
        self.tap
            .allowed
            .store(allowed.saturating_add(bytes), Ordering::SeqCst);
        self.tap.wake();
    }

    fn turn(&mut self) {
        a_little(&self.runtime);
    }

    fn output(&mut self) -> Vec<u8> {
        let mut written = self.written().0;
        // What a thread has put into the file counts once the sink has said so.
        written.truncate(self.tap.accepted.load(Ordering::SeqCst));
        written
    }

    fn kill(&mut self) {
        self.tap.killed.store(true, Ordering::SeqCst);
        self.tap.wake();
    }

    fn end(&mut self) -> FarEnd {
        self.written().1
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

tidegate::law_suite!(file_consumer, FileHarness);

// ---- the data connection ----

struct DataHarness;

struct DataDevice {
    runtime: Runtime,
    peer: Option<std::net::TcpStream>,
    allowed: usize,
    seen: Vec<u8>,
    end: FarEnd,
    outcome: Outcome,
    _drain: JoinHandle<()>,
}

impl Harness for DataHarness {
    fn make(&self, marks: Marks) -> Subject {
        let runtime = runtime();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // A small window on both sides, or the kernel swallows megabytes.
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (served, _) = listener.accept().unwrap();
        socket2::SockRef::from(&served)
            .set_send_buffer_size(4096)
            .unwrap();
        served.set_nonblocking(true).unwrap();
        let peer: std::net::TcpStream = client.into();
        peer.set_nonblocking(true).unwrap();
        let (sender, drain) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(served).unwrap();
            DataConnection::plain(stream).unwrap().into_consumer(marks)
        });
        let outcome = sender.outcome();
        let drain = runtime.spawn(async move {
            let _ = drain.await;
        });
        Subject {
            consumer: Arc::new(sender),
            device: Box::new(DataDevice {
                runtime,
                peer: Some(peer),
                allowed: 0,
                seen: Vec::new(),
                end: FarEnd::Open,
                outcome,
                _drain: drain,
            }),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn slack(&self) -> usize {
        256 * 1024
    }

    fn name(&self) -> &'static str {
        "data connection"
    }
}

impl DataDevice {
    fn read(&mut self) {
        let mut space = [0; 65_536];
        while self.allowed > 0 && self.end == FarEnd::Open {
            let Some(peer) = &mut self.peer else { return };
            let want = space.len().min(self.allowed);
            match peer.read(&mut space[..want]) {
                Ok(0) => {
                    self.end = FarEnd::Finished;
                    // As clients do: the other direction is closed too.
                    let _ = peer.shutdown(std::net::Shutdown::Write);
                }
                Ok(count) => {
                    self.seen.extend_from_slice(&space[..count]);
                    if self.allowed != usize::MAX {
                        self.allowed -= count;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.end = FarEnd::Cut,
            }
        }
    }
}

impl Device for DataDevice {
    fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes);
    }

    fn turn(&mut self) {
        self.read();
        a_little(&self.runtime);
        self.read();
    }

    fn output(&mut self) -> Vec<u8> {
        self.seen.clone()
    }

    fn kill(&mut self) {
        if let Some(peer) = self.peer.take() {
            socket2::SockRef::from(&peer)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }

    fn end(&mut self) -> FarEnd {
        self.end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

tidegate::law_suite!(data_connection, DataHarness);
