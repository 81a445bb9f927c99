//! The sixteen laws over a file as a consumer, on every system: a file under its name is a finished stream, and one that was
//! cut short leaves nothing.
//!
//! A file takes whatever it is given, so a tap in front of the real sink lets through what a law allows, and plays the disk
//! that dies.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{AbortReason, Delivered, Marks, Outcome, StopReason};
use tidegate_io::endpoint::file::{Durability, FileSink, Overwrite};
use tidegate_io::{Blame, Confirmation, EndpointError, ErrorKind, Held, Sink, SinkConsumer};
use tokio::runtime::Runtime;

/// What goes through, and whether anything ever will again.
#[derive(Default)]
struct Tap {
    allowed: usize,
    /// Bytes the file has taken.
    accepted: usize,
    is_dead: bool,
    waker: Option<Waker>,
}

impl Tap {
    /// How much may go through now; whoever asks is told of a change.
    fn look(&mut self, cx: &Context<'_>) -> Result<usize, EndpointError> {
        self.waker = Some(cx.waker().clone());
        match self.is_dead {
            true => Err(EndpointError::new(
                ErrorKind::Failed,
                Blame::System,
                "the disk died",
            )),
            false => Ok(self.allowed),
        }
    }

    fn change(tap: &Mutex<Self>, change: impl FnOnce(&mut Self)) {
        let mut tap = tap.lock().unwrap();
        change(&mut tap);
        let waker = tap.waker.take();
        drop(tap);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Tapped {
    sink: FileSink,
    tap: Arc<Mutex<Tap>>,
    /// What a thread is writing.
    under_way: Held,
}

impl Sink for Tapped {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let mut room = self.tap.lock().unwrap().look(cx)?;
        if self.under_way.is_empty() {
            for piece in held.pieces().filter(|piece| !piece.is_empty()) {
                let part = piece.slice(..piece.len().min(room));
                room -= part.len();
                self.under_way.push(part);
            }
            if self.under_way.is_empty() {
                return Poll::Pending;
            }
        }
        let written = ready!(self.sink.poll_write(cx, &self.under_way))?;
        self.under_way = Held::default();
        let mut tap = self.tap.lock().unwrap();
        tap.accepted += written;
        tap.allowed = tap.allowed.saturating_sub(written);
        Poll::Ready(Ok(written))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.tap.lock().unwrap().look(cx)?;
        self.sink.poll_finish(cx)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.sink.abort(reason);
    }

    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sink.poll_aborted(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        match self.tap.lock().unwrap().look(cx) {
            Ok(_) => Poll::Pending,
            Err(died) => Poll::Ready(died),
        }
    }

    fn is_busy(&self) -> bool {
        self.sink.is_busy()
    }

    fn name(&self) -> String {
        self.sink.name()
    }
}

struct Files;

impl Harness for Files {
    fn make(&self, marks: Marks) -> Subject {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let tap = Arc::new(Mutex::new(Tap::default()));
        let entered = runtime.enter();
        let sink = runtime
            .block_on(FileSink::create(&target, Overwrite::Refuse))
            .unwrap();
        let tapped = Tapped {
            // What the disk does later is not looked at here, and would only take time.
            sink: sink.durability(Durability::Cached),
            tap: Arc::clone(&tap),
            under_way: Held::default(),
        };
        let consumer = SinkConsumer::spawn(tapped, marks);
        drop(entered);
        let device = Disk {
            outcome: consumer.outcome(),
            tap,
            target,
            runtime,
            folder,
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn name(&self) -> &'static str {
        "file"
    }
}

struct Disk {
    outcome: Outcome,
    tap: Arc<Mutex<Tap>>,
    target: PathBuf,
    runtime: Runtime,
    /// Last, so that nobody writes in it any more.
    folder: tempfile::TempDir,
}

impl Disk {
    /// What is there: the file under its name, else what is written beside it.
    fn found(&self) -> (FarEnd, Option<PathBuf>) {
        if self.target.exists() {
            return (FarEnd::Finished, Some(self.target.clone()));
        }
        let mut beside = std::fs::read_dir(self.folder.path()).unwrap();
        match beside.next() {
            Some(entry) => (FarEnd::Open, Some(entry.unwrap().path())),
            // It may have been renamed in between.
            None if self.target.exists() => (FarEnd::Finished, Some(self.target.clone())),
            None => (FarEnd::Cut, None),
        }
    }
}

impl Device for Disk {
    fn allow(&mut self, bytes: usize) {
        Tap::change(&self.tap, |tap| tap.allowed = tap.allowed.saturating_add(bytes));
    }

    fn turn(&mut self) {
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        });
    }

    fn output(&mut self) -> Vec<u8> {
        let path = self.found().1;
        let mut written = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        // What a thread has put there counts once the sink has said so.
        written.truncate(self.tap.lock().unwrap().accepted);
        written
    }

    fn kill(&mut self) {
        Tap::change(&self.tap, |tap| tap.is_dead = true);
    }

    fn end(&mut self) -> FarEnd {
        self.found().0
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

tidegate::law_suite!(over_a_file, Files);
