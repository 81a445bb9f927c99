//! No allocation a chunk in steady state, from a push and from a pull producer, nor through a stage.
//!
//! The chunks are clones of one `Bytes`; what is counted is what the core itself does with them. One test, so that no other
//! thread allocates meanwhile.
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidegate::{
    AbortReason, Accepted, Below, BelowPause, Consumer, Finished, Marks, Pressure, Producer, PullProducer,
    Receiver, Stage, StopReason, channel,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHUNKS: usize = 10_000;

#[test]
fn no_allocation_a_chunk() {
    let marks = Marks::default();
    let chunk = Bytes::from(vec![7; 1024]);

    let (sender, mut receiver) = channel(marks);
    let round = |receiver: &mut Receiver| {
        while sender.write(chunk.clone()).unwrap() == Pressure::Open {}
        take_all(receiver)
    };
    let count = count(|| (0..CHUNKS / 60).map(|_| round(&mut receiver)).sum());
    assert_eq!(count, 0, "allocations from a push writer");

    let (sender, mut receiver) = channel(marks);
    let puller = puller(Arc::downgrade(&sender.consumer()), &chunk);
    sender.register_producer(Producer::pull(puller)).unwrap();
    let count = self::count(|| (0..CHUNKS / 17).map(|_| take_all(&mut receiver)).sum());
    assert_eq!(count, 0, "allocations from a pull producer");

    let stage = Stage::new(marks, BelowPause::Buffer, |_| Sinkhole);
    let count = self::count(|| {
        (0..CHUNKS)
            .map(|_| usize::from(stage.write(chunk.clone()).is_ok()))
            .sum()
    });
    assert_eq!(count, 0, "allocations from a writer through a stage");
}

/// Runs once to warm up and once to count.
fn count(mut steps: impl FnMut() -> usize) -> usize {
    assert!(steps() > 0);
    let region = Region::new(ALLOCATOR);
    assert!(steps() > 0);
    let change = region.change();
    change.allocations + change.reallocations
}

fn take_all(receiver: &mut Receiver) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut chunks = 0;
    // A pull producer answers from inside `poll_recv`: as many as are held now are enough.
    for _ in 0..64 {
        let Poll::Ready(Some(Ok(_))) = receiver.poll_recv(&mut context) else {
            break;
        };
        chunks += 1;
    }
    chunks
}

struct Puller {
    to: Weak<dyn Consumer>,
    chunk: Bytes,
    pulls: AtomicUsize,
}

fn puller(to: Weak<dyn Consumer>, chunk: &Bytes) -> Arc<Puller> {
    Arc::new(Puller {
        to,
        chunk: chunk.clone(),
        pulls: AtomicUsize::new(0),
    })
}

impl PullProducer for Puller {
    fn resume_producing(&self) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let _ = self.to.upgrade().unwrap().write(self.chunk.clone()).unwrap();
    }
    fn stop_producing(&self, _: StopReason) {}
}

struct Sinkhole;

impl Below for Sinkhole {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        Accepted::Took(held.iter().map(Bytes::len).sum())
    }
    fn finish(&self) -> Finished {
        Finished::Done
    }
    fn abort(&self, _: AbortReason) {}
}
