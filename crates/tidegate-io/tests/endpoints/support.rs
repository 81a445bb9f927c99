//! What the endpoint tests share: memory ends, temporary places, peers, hashes of what was moved.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidegate::AbortReason;
use tidegate_io::{Buffers, Confirmation, EndpointError, Held, Sink, Source};

/// Longer than anything here takes, so that a hang is a failure and not a hang.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Fails instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("took too long")
}

/// Bytes that no shift, loss or doubling leaves equal.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Waits for a condition that nothing announces.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A source of known bytes, in pieces of at most `piece`.
pub(crate) struct MemorySource {
    bytes: Bytes,
    piece: usize,
}

impl MemorySource {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            piece: 64 * 1024,
        }
    }
}

impl Source for MemorySource {
    fn poll_read(
        &mut self,
        _cx: &mut Context<'_>,
        _buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let length = self.bytes.len().min(max).min(self.piece);
        Poll::Ready(Ok(Some(self.bytes.split_to(length))))
    }

    fn name(&self) -> String {
        "memory".into()
    }
}

/// What a [`MemorySink`] has seen.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<SeenState>>);

#[derive(Default)]
struct SeenState {
    bytes: Vec<u8>,
    finished: bool,
    aborted: Option<AbortReason>,
}

impl Seen {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().bytes.len()
    }
    pub(crate) fn is_finished(&self) -> bool {
        self.0.lock().unwrap().finished
    }
    pub(crate) fn aborted(&self) -> Option<AbortReason> {
        self.0.lock().unwrap().aborted.clone()
    }
}

/// A sink that keeps everything.
#[derive(Default)]
pub(crate) struct MemorySink {
    seen: Seen,
}

impl MemorySink {
    pub(crate) fn new() -> (Self, Seen) {
        let seen = Seen::default();
        (Self { seen: seen.clone() }, seen)
    }
}

impl Sink for MemorySink {
    fn poll_write(&mut self, _cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let mut seen = self.seen.0.lock().unwrap();
        for piece in held.pieces() {
            seen.bytes.extend_from_slice(piece);
        }
        Poll::Ready(Ok(held.len()))
    }
    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.seen.0.lock().unwrap().finished = true;
        Poll::Ready(Ok(Confirmation::Confirmed))
    }
    fn abort(&mut self, reason: &AbortReason) {
        self.seen.0.lock().unwrap().aborted = Some(reason.clone());
    }
    fn name(&self) -> String {
        "memory".into()
    }
}

/// Reads a source to its end.
pub(crate) async fn read_all(source: &mut dyn Source) -> Result<Vec<u8>, EndpointError> {
    let mut all = Vec::new();
    while let Some(bytes) = read_some(source).await? {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// One read.
pub(crate) async fn read_some(source: &mut dyn Source) -> Result<Option<Bytes>, EndpointError> {
    let mut buffers = Buffers::default();
    within(std::future::poll_fn(|cx| {
        source.poll_read(cx, &mut buffers, 64 * 1024)
    }))
    .await
}

/// Writes everything.
pub(crate) async fn write_all(sink: &mut dyn Sink, bytes: impl Into<Bytes>) -> Result<(), EndpointError> {
    let mut held = Held::default();
    held.push(bytes.into());
    while !held.is_empty() {
        let taken = within(std::future::poll_fn(|cx| sink.poll_write(cx, &held))).await?;
        held.advance(taken);
    }
    within(std::future::poll_fn(|cx| sink.poll_flush(cx))).await
}

/// Finishes.
pub(crate) async fn finish(sink: &mut dyn Sink) -> Result<Confirmation, EndpointError> {
    within(std::future::poll_fn(|cx| sink.poll_finish(cx))).await
}

/// Aborts, and waits until that has taken effect.
pub(crate) async fn abort(sink: &mut dyn Sink) {
    sink.abort(&AbortReason::Requested);
    within(std::future::poll_fn(|cx| sink.poll_aborted(cx))).await;
}

/// A foreign program, or `None` with a line saying that the test was skipped.
pub(crate) fn peer(program: &str, test: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        skipped(program, test);
    }
    found
}

/// A Python that has Twisted.
pub(crate) fn twisted(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let python = std::env::var_os("TIDEGATE_PYTHON").map_or(root, PathBuf::from);
    let works = Command::new(&python)
        .args(["-c", "import twisted.internet, OpenSSL, service_identity"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !works {
        skipped("python with twisted", test);
    }
    works.then_some(python)
}

fn skipped(program: &str, test: &str) {
    assert!(
        std::env::var_os("TIDEGATE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "{program} is required and missing: {test}"
    );
    eprintln!("SKIPPED-PEER: {program}: {test}");
}
