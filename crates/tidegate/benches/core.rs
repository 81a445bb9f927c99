//! What a 1 KiB chunk costs from a producer to a reader, beside tokio's bounded mpsc, futures' mpsc and `duplex`.
//!
//! All run on one thread in one runtime, with 64 KiB between the two sides. Chunks are clones of one `Bytes`, except
//! through `duplex`, which copies. The targets: push at most a third of tokio's mpsc, pull at most half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{SinkExt as _, StreamExt as _};
use tidegate::{
    Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer, PushProducer, Ready, Sender,
    StopReason, channel,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const CHUNK_BYTES: usize = 1024;
const CHUNKS: usize = 10_000;
const WINDOW: usize = 64;

/// Writes chunks until paused, and on when resumed.
struct Source {
    /// Held strongly: the circle is open again once the producer has unregistered.
    to: Arc<dyn Consumer>,
    chunk: Bytes,
    left: AtomicUsize,
    paused: AtomicBool,
}

impl Source {
    fn new(sender: &Sender, chunk: &Bytes) -> Arc<Self> {
        Arc::new(Self {
            to: sender.consumer(),
            chunk: chunk.clone(),
            left: AtomicUsize::new(CHUNKS),
            paused: AtomicBool::new(false),
        })
    }

    /// Says whether there was one.
    fn write(&self) -> Option<Pressure> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            self.to.unregister_producer();
            return None;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.to.write(self.chunk.clone()).ok()
    }

    fn run(&self) {
        while !self.paused.load(Ordering::Relaxed) {
            if self.write().is_none() {
                return;
            }
        }
    }
}

impl PushProducer for Source {
    fn pause_producing(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }
    fn resume_producing(&self) {
        self.paused.store(false, Ordering::Relaxed);
        self.run();
    }
    fn stop_producing(&self, _: StopReason) {}
}

impl PullProducer for Source {
    fn resume_producing(&self) {
        let _ = self.write();
    }
    fn stop_producing(&self, _: StopReason) {}
}

/// A reader as a driver is one: takes over what is there, and gives it back as accepted.
async fn drain(mut receiver: tidegate::Receiver) -> usize {
    let mut bytes = 0;
    while let Ok(Ready::Bytes) = receiver.ready().await {
        let batch: usize = receiver.pieces().map(Bytes::len).sum();
        receiver.advance(batch);
        bytes += batch;
    }
    receiver.complete();
    bytes
}

async fn push(chunk: &Bytes) -> usize {
    let (sender, receiver) = channel(Marks::default());
    let source = Source::new(&sender, chunk);
    let _ = sender.register_producer(Producer::push(Arc::clone(&source)));
    sender.finish();
    source.run();
    drain(receiver).await
}

async fn pull(chunk: &Bytes) -> usize {
    let (sender, receiver) = channel(Marks::default());
    let source = Source::new(&sender, chunk);
    let _ = sender.register_producer(Producer::pull(source));
    sender.finish();
    drain(receiver).await
}

async fn paced(chunk: &Bytes) -> usize {
    let (sender, receiver) = channel(Marks::default());
    let Ok(mut paced) = sender.into_paced() else {
        return 0;
    };
    let write = async move {
        for _ in 0..CHUNKS {
            if paced.feed(chunk.clone()).await.is_err() {
                return;
            }
        }
        let _ = futures_util::SinkExt::<Bytes>::close(&mut paced).await;
    };
    tokio::join!(write, drain(receiver)).1
}

async fn tokio_mpsc(chunk: &Bytes) -> usize {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(WINDOW);
    let write = async move {
        for _ in 0..CHUNKS {
            let _ = sender.send(chunk.clone()).await;
        }
    };
    let read = async move {
        let mut bytes = 0;
        while let Some(piece) = receiver.recv().await {
            bytes += piece.len();
        }
        bytes
    };
    tokio::join!(write, read).1
}

async fn futures_mpsc(chunk: &Bytes) -> usize {
    let (mut sender, mut receiver) = futures_channel::mpsc::channel::<Bytes>(WINDOW);
    let write = async move {
        for _ in 0..CHUNKS {
            let _ = sender.feed(chunk.clone()).await;
        }
    };
    let read = async move {
        let mut bytes = 0;
        while let Some(piece) = receiver.next().await {
            bytes += piece.len();
        }
        bytes
    };
    tokio::join!(write, read).1
}

async fn duplex(chunk: &Bytes) -> usize {
    let (mut near, mut far) = tokio::io::duplex(WINDOW * CHUNK_BYTES);
    let write = async move {
        for _ in 0..CHUNKS {
            let _ = near.write_all(chunk).await;
        }
    };
    let read = async move {
        let mut buffer = vec![0; WINDOW * CHUNK_BYTES];
        let mut bytes = 0;
        while let Ok(count @ 1..) = far.read(&mut buffer).await {
            bytes += count;
        }
        bytes
    };
    tokio::join!(write, read).1
}

fn chunks(criterion: &mut Criterion) {
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let chunk = Bytes::from_static(&[7; CHUNK_BYTES]);
    let mut group = criterion.benchmark_group("1_kib_chunks");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500));
    macro_rules! bench {
        ($($name:ident),*) => {
            $(group.bench_function(stringify!($name), |bencher| {
                bencher.iter(|| {
                    let bytes = runtime.block_on(tokio::task::unconstrained($name(&chunk)));
                    assert_eq!(bytes, CHUNKS * CHUNK_BYTES);
                });
            });)*
        };
    }
    bench!(push, pull, paced, tokio_mpsc, futures_mpsc, duplex);
    group.finish();
}

criterion_group!(benches, chunks);
criterion_main!(benches);
