//! The laws over a disk that can be stopped and broken, and the scenarios of group K.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{
    AbortReason, Consumer, Delivered, FinishableConsumer as _, Outcome, Producer, PullProducer, PushProducer,
    StopReason,
};
use tidegate_io::{Held, Sink as _};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::*;
use crate::delivery::MessageFile;
use crate::sink::sink_on;

/// A disk whose writes wait until they are let through.
#[derive(Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    open: bool,
    broken: bool,
    output: Vec<u8>,
}

impl Disk {
    fn change(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

struct DiskFile {
    disk: Arc<Disk>,
    file: File,
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.disk.state.lock().unwrap();
        let mut state = self
            .disk
            .changed
            .wait_while(state, |state| !state.open && !state.broken)
            .unwrap();
        if state.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(bytes)?;
        state.output.extend(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MessageFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        let broken = self.disk.state.lock().unwrap().broken;
        if broken {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

struct Messages;

struct MessageDevice {
    runtime: Runtime,
    disk: Arc<Disk>,
    directory: TempDir,
    delivery: JoinHandle<Result<PathBuf, DriveError>>,
    outcome: Outcome,
}

impl Harness for Messages {
    fn make(&self, marks: Marks) -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let on = Arc::clone(&disk);
        let wrap = move |file| -> Box<dyn MessageFile> {
            Box::new(DiskFile {
                disk: Arc::clone(&on),
                file,
            })
        };
        let sink = sink_on(directory.path().to_owned(), Options::default(), Arc::new(wrap));
        let (sender, delivery) = append_to(sink, marks);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let delivery = runtime.spawn(delivery);
        let outcome = sender.outcome();
        let device = MessageDevice {
            runtime,
            disk,
            directory,
            delivery,
            outcome,
        };
        Subject {
            consumer: Arc::new(sender),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "maildir"
    }
}

impl Device for MessageDevice {
    fn allow(&mut self, bytes: usize) {
        self.disk.change(|state| state.open = bytes > 0);
    }

    /// The disk is worked by another thread, so a turn gives it a moment.
    fn turn(&mut self) {
        let moment = Duration::from_micros(200);
        self.runtime.block_on(async { tokio::time::sleep(moment).await });
    }

    fn output(&mut self) -> Vec<u8> {
        self.disk.state.lock().unwrap().output.clone()
    }

    /// A disk says nothing until it is written to; the task that drives it may die at any time.
    fn kill(&mut self) {
        self.disk.change(|state| state.broken = true);
        self.delivery.abort();
    }

    fn end(&mut self) -> FarEnd {
        let delivered = names(self.directory.path().join("new"));
        match (self.delivery.is_finished(), &delivered[..]) {
            (_, [_]) => FarEnd::Finished,
            (true, _) => FarEnd::Cut,
            (false, _) => FarEnd::Open,
        }
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

impl Drop for MessageDevice {
    fn drop(&mut self) {
        // A write that still waits would keep the blocking pool from ending.
        self.disk.change(|state| state.broken = true);
    }
}

tidegate::law_suite!(maildir_laws, Messages);

fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A pull producer over pieces, which unregisters and finishes when they are out.
struct Pieces {
    to: Arc<SinkConsumer>,
    pieces: Mutex<Vec<Bytes>>,
    events: Mutex<String>,
    pulls: AtomicUsize,
}

impl Pieces {
    fn start(to: SinkConsumer, pieces: impl IntoIterator<Item = Bytes>) -> Arc<Self> {
        let mut pieces: Vec<_> = pieces.into_iter().collect();
        pieces.reverse();
        let to = Arc::new(to);
        let this = Arc::new(Self {
            to,
            pieces: Mutex::new(pieces),
            events: Mutex::default(),
            pulls: AtomicUsize::new(0),
        });
        this.to
            .register_producer(Producer::pull(Arc::clone(&this)))
            .unwrap();
        this
    }
}

impl PullProducer for Pieces {
    fn resume_producing(&self) {
        self.pulls.fetch_add(1, Ordering::SeqCst);
        self.events.lock().unwrap().push('R');
        let piece = self.pieces.lock().unwrap().pop();
        match piece {
            Some(piece) => drop(self.to.write(piece)),
            None => {
                self.to.unregister_producer();
                self.to.finish();
            }
        }
    }

    fn stop_producing(&self, _reason: StopReason) {
        self.events.lock().unwrap().push('S');
    }
}

/// CASES 153, 154: messages of 1 to 10 bytes, written at once and pulled from a source, are listed in order.
#[tokio::test]
async fn cases_153_154_ten_messages_are_listed_in_order() {
    for pulled in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        for length in 1..=10u8 {
            let (message, delivery) = append(directory.path(), Options::default(), Marks::default());
            let content = Bytes::from(vec![b'x'; length.into()]);
            let source = pulled.then_some(content.clone());
            let delivery = tokio::spawn(delivery);
            if source.is_some() {
                Pieces::start(message, source);
            } else {
                let _ = message.write(content).unwrap();
                message.finish();
            }
            delivery.await.unwrap().unwrap();
        }
        let new = directory.path().join("new");
        let sizes: Vec<u64> = names(&new)
            .iter()
            .map(|name| fs::metadata(new.join(name)).unwrap().len())
            .collect();
        assert_eq!(sizes, (1..=10).collect::<Vec<u64>>());
    }
}

/// CASES 156: 25,000 bytes in chunks of 16,384: three pulls in all, one file in new, none in tmp, content equal.
#[tokio::test]
async fn cases_156_three_pulls_and_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let content = Bytes::from((0..25_000u32).map(|number| number as u8).collect::<Vec<_>>());
    let (message, delivery) = append(directory.path(), Options::default(), Marks::TWISTED);
    let chunks = [content.slice(..16_384), content.slice(16_384..)];
    let source = Pieces::start(message, chunks);
    let path = delivery.await.unwrap();
    assert_eq!(*source.events.lock().unwrap(), "RRR");
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(names(directory.path().join("new")).len(), 1);
    assert!(names(directory.path().join("tmp")).is_empty());
}

struct Push(Mutex<String>);

impl PushProducer for Push {
    fn pause_producing(&self) {
        self.0.lock().unwrap().push('P');
    }
    fn resume_producing(&self) {
        self.0.lock().unwrap().push('R');
    }
    fn stop_producing(&self, _reason: StopReason) {
        self.0.lock().unwrap().push('S');
    }
}

/// CASES 157: Twisted prods a pull producer at every turn and lets a second registration replace it. By laws 4 and 6 it
/// is asked once for one chunk, and the second is refused.
#[tokio::test]
async fn cases_157_a_second_registration_is_refused() {
    struct Silent(Mutex<String>);
    impl PullProducer for Silent {
        fn resume_producing(&self) {
            self.0.lock().unwrap().push('R');
        }
        fn stop_producing(&self, _reason: StopReason) {
            self.0.lock().unwrap().push('S');
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (message, delivery) = append(directory.path(), Options::default(), Marks::default());
    let delivery = tokio::spawn(delivery);
    let pull = Arc::new(Silent(Mutex::default()));
    message
        .register_producer(Producer::pull(Arc::clone(&pull)))
        .unwrap();
    tokio::task::yield_now().await;
    let push = Arc::new(Push(Mutex::default()));
    assert!(
        message
            .register_producer(Producer::push(Arc::clone(&push)))
            .is_err()
    );
    assert_eq!(
        (&pull.0.lock().unwrap()[..], &push.0.lock().unwrap()[..]),
        ("R", "")
    );
    message.abort(AbortReason::Requested);
    assert!(delivery.await.unwrap().is_err());
    assert_eq!(*pull.0.lock().unwrap(), "RS");
}

/// CASES B55, D93, D94: the disk fails: one failure, tmp removed, the source stopped once.
#[tokio::test]
async fn b55_a_write_error_fails_once_and_stops_the_source() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    disk.change(|state| state.broken = true);
    let wrap = move |file| -> Box<dyn MessageFile> {
        Box::new(DiskFile {
            disk: Arc::clone(&disk),
            file,
        })
    };
    let sink = sink_on(directory.path().to_owned(), Options::default(), Arc::new(wrap));
    let (message, delivery) = append_to(sink, Marks::default());
    let outcome = message.outcome();
    let source = Pieces::start(message, (0..10).map(|_| Bytes::from(vec![b'x'; 50_000])));
    let error = delivery.await.unwrap_err();
    assert!(error.to_string().contains("cannot store the message"), "{error}");
    assert!(matches!(outcome.await, Err(StopReason::Failed(_))));
    assert_eq!(source.events.lock().unwrap().matches('S').count(), 1);
    for part in ["tmp", "new", "cur"] {
        assert!(names(directory.path().join(part)).is_empty(), "{part}");
    }
}

/// An abort, and a task dropped in the middle, leave nothing.
/// A disk that takes its time is no peer that has gone: no deadline runs for it.
#[tokio::test]
async fn a_sink_whose_disk_is_at_work_is_busy() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let on = Arc::clone(&disk);
    let wrap = move |file| -> Box<dyn MessageFile> {
        Box::new(DiskFile {
            disk: Arc::clone(&on),
            file,
        })
    };
    let mut sink = sink_on(directory.path().to_owned(), Options::default(), Arc::new(wrap));
    assert!(!sink.is_busy());
    let mut held = Held::default();
    held.push(Bytes::from_static(b"a message\n"));
    let mut looked = false;
    let written = std::future::poll_fn(|cx| {
        let written = sink.poll_write(cx, &held);
        if written.is_pending() {
            looked = true;
            assert!(sink.is_busy());
            // What is written now waits for this, whether it has begun or not.
            disk.change(|state| state.open = true);
        }
        written
    });
    assert_eq!(written.await.unwrap(), 10);
    assert!(looked && !sink.is_busy());
    let finished = std::future::poll_fn(|cx| {
        let finished = sink.poll_finish(cx);
        assert_eq!(finished.is_pending(), sink.is_busy());
        finished
    });
    finished.await.unwrap();
}

#[tokio::test]
async fn what_is_cut_short_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for dropped in [false, true] {
        let (message, delivery) = append(directory.path(), Options::default(), Marks::default());
        let delivery = tokio::spawn(delivery);
        let _ = message.write(Bytes::from_static(b"half a mess")).unwrap();
        while message.held() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(names(directory.path().join("tmp")).len(), 1);
        if dropped {
            delivery.abort();
            assert!(delivery.await.unwrap_err().is_cancelled());
        } else {
            message.abort(AbortReason::Requested);
            delivery.await.unwrap().unwrap_err();
        }
        while !names(directory.path().join("tmp")).is_empty() {
            tokio::task::yield_now().await;
        }
    }
    assert!(names(directory.path().join("new")).is_empty());
}
