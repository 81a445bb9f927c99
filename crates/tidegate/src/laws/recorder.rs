//! A producer that writes down what it hears, and reacts as a law wants it to.
//!
//! Knows no law.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;

use super::run::Run;
use crate::{FinishableConsumer, Pressure, Producer, PullProducer, PushProducer, StopReason};

/// Runs on a thread of its own; the receiver hears when it ended.
#[allow(clippy::disallowed_methods, reason = "law 8 is about threads")]
pub(super) fn spawn(run: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        run();
        let _ = done.send(());
    });
    ended
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a recorder does when it is signalled.
#[derive(Clone, Copy, Default)]
pub(super) enum Reaction {
    #[default]
    Nothing,
    /// At each resume, writes one piece (pull) or until paused (push).
    Write {
        pieces: usize,
        bytes: usize,
    },
    UnregisterAtPause,
    /// Has another thread write, and waits for it.
    WriteElsewhere,
    Panic,
}

/// A producer that writes down what it hears.
#[derive(Default)]
pub(super) struct Recorder {
    heard: Mutex<String>,
    reason: Mutex<Option<StopReason>>,
    to: Option<Weak<dyn FinishableConsumer>>,
    reaction: Reaction,
    pieces: AtomicUsize,
    depth: AtomicUsize,
    depth_max: AtomicUsize,
}

impl Recorder {
    pub(super) fn with(run: &Run<'_>, reaction: Reaction) -> Arc<Self> {
        Arc::new(Self {
            to: Some(Arc::downgrade(&run.consumer())),
            reaction,
            ..Self::default()
        })
    }

    /// A push recorder that is registered.
    pub(super) fn push(run: &Run<'_>) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        assert!(
            run.register(Producer::push(Arc::clone(&recorder))),
            "law 6: a first registration was refused"
        );
        recorder
    }

    /// A pull recorder that is registered.
    pub(super) fn pull(run: &Run<'_>) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        assert!(
            run.register(Producer::pull(Arc::clone(&recorder))),
            "law 6: a first registration was refused"
        );
        recorder
    }

    pub(super) fn events(&self) -> String {
        lock(&self.heard).clone()
    }

    pub(super) fn count(&self, event: char) -> usize {
        lock(&self.heard).chars().filter(|heard| *heard == event).count()
    }

    pub(super) fn stops(&self) -> usize {
        self.count('S')
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        lock(&self.reason).clone()
    }

    pub(super) fn depth_max(&self) -> usize {
        self.depth_max.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_written(&self) -> usize {
        match self.reaction {
            Reaction::Write { bytes, .. } => self.pieces.load(Ordering::Relaxed) * bytes,
            _ => 0,
        }
    }

    pub(super) fn consumer(&self) -> Option<Arc<dyn FinishableConsumer>> {
        self.to.as_ref()?.upgrade()
    }

    pub(super) fn is_paused(&self) -> bool {
        lock(&self.heard).ends_with(['P', 'S'])
    }

    pub(super) fn write_piece(&self) -> Option<Pressure> {
        let Reaction::Write { pieces, bytes } = self.reaction else {
            return None;
        };
        if self.pieces.load(Ordering::Relaxed) == pieces {
            return None;
        }
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.consumer()?.write(Bytes::from(vec![b'r'; bytes])).ok()
    }

    pub(super) fn write_until_paused(&self) {
        while !self.is_paused() && self.write_piece() == Some(Pressure::Open) {}
    }

    pub(super) fn write_elsewhere(&self) {
        let Some(consumer) = self.consumer() else { return };
        let ended = spawn(move || {
            let _ = consumer.write(Bytes::from_static(b"elsewhere"));
        });
        if ended.recv_timeout(Duration::from_secs(5)).is_err() {
            lock(&self.heard).push('!');
        }
    }

    pub(super) fn resumed(&self, react: impl FnOnce()) {
        lock(&self.heard).push('R');
        let depth = self.depth.fetch_add(1, Ordering::Relaxed) + 1;
        self.depth_max.fetch_max(depth, Ordering::Relaxed);
        match self.reaction {
            Reaction::WriteElsewhere => self.write_elsewhere(),
            Reaction::Panic => panic!("law 14 asks for this panic"),
            Reaction::Write { .. } => react(),
            Reaction::Nothing | Reaction::UnregisterAtPause => {}
        }
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self, reason: StopReason) {
        lock(&self.heard).push('S');
        *lock(&self.reason) = Some(reason);
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        lock(&self.heard).push('P');
        if let (Reaction::UnregisterAtPause, Some(consumer)) = (self.reaction, self.consumer()) {
            consumer.unregister_producer();
        }
    }

    fn resume_producing(&self) {
        self.resumed(|| self.write_until_paused());
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.resumed(|| {
            let _ = self.write_piece();
        });
    }

    fn stop_producing(&self, reason: StopReason) {
        self.stopped(reason);
    }
}
