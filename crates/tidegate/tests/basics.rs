//! The shells at work, end to end: a channel, a stage, and stages in a row. The laws have tests of their own.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tidegate::{
    AbortReason, BelowPause, Consumer, FinishableConsumer, HoldReason, Marks, Pressure, Producer,
    PullProducer, PushProducer, Stage, StopReason, channel,
};

#[derive(Default)]
struct Recorder(Mutex<String>);

impl Recorder {
    fn events(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        self.0.lock().unwrap().push('P');
    }
    fn resume_producing(&self) {
        self.0.lock().unwrap().push('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.0.lock().unwrap().push('S');
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.0.lock().unwrap().push('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.0.lock().unwrap().push('S');
    }
}

fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'x'; count])
}

/// A pull producer that writes `left` pieces of one byte, then unregisters.
struct Counter {
    to: Weak<dyn Consumer>,
    left: AtomicUsize,
    depth: AtomicUsize,
}

impl PullProducer for Counter {
    fn resume_producing(&self) {
        let to = self.to.upgrade().unwrap();
        assert_eq!(
            self.depth.fetch_add(1, Ordering::Relaxed),
            0,
            "resume nested in resume"
        );
        if self.left.load(Ordering::Relaxed) == 0 {
            to.unregister_producer();
        } else {
            self.left.fetch_sub(1, Ordering::Relaxed);
            let _ = to.write(Bytes::from_static(b"x")).unwrap();
        }
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
    fn stop_producing(&self, reason: StopReason) {
        panic!("stopped: {reason}");
    }
}

#[test]
fn a_full_channel_pauses_once_and_resumes_once_when_drained() {
    let (sender, mut receiver) = channel(Marks::TWISTED);
    let producer = Arc::new(Recorder::default());
    sender
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    assert_eq!(sender.write(bytes(65_536)).unwrap(), Pressure::Open);
    assert_eq!(sender.write(bytes(1)).unwrap(), Pressure::Full);
    assert_eq!(sender.write(bytes(1)).unwrap(), Pressure::Full);
    assert_eq!(producer.events(), "P");
    for _ in 0..3 {
        assert!(receiver.recv().now_or_never().unwrap().unwrap().is_ok());
    }
    assert_eq!(producer.events(), "PR");
}

#[test]
fn a_channel_ends_after_its_producer_and_its_bytes() {
    let (sender, mut receiver) = channel(Marks::TWISTED);
    let counter = Arc::new(Counter {
        to: Arc::downgrade(&sender.consumer()),
        left: AtomicUsize::new(2),
        depth: AtomicUsize::new(0),
    });
    sender.register_producer(Producer::pull(counter)).unwrap();
    sender.finish();
    assert_eq!(receiver.recv().now_or_never().unwrap().unwrap().unwrap(), "x");
    assert_eq!(receiver.recv().now_or_never().unwrap().unwrap().unwrap(), "x");
    assert!(receiver.recv().now_or_never().unwrap().is_none());
    assert_eq!(sender.outcome().now_or_never().unwrap().unwrap().bytes, 2);
}

#[test]
fn a_dropped_sender_never_looks_finished() {
    let (sender, mut receiver) = channel(Marks::default());
    let _ = sender.write(bytes(3)).unwrap();
    let outcome = sender.outcome();
    drop(sender);
    let cut = receiver.recv().now_or_never().unwrap().unwrap().unwrap_err();
    assert!(matches!(cut.0, AbortReason::Dropped));
    assert!(receiver.recv().now_or_never().unwrap().is_none());
    assert!(matches!(
        outcome.now_or_never().unwrap(),
        Err(StopReason::Aborted(AbortReason::Dropped))
    ));
}

#[test]
fn a_dropped_receiver_stops_the_producer_and_those_who_come_later() {
    let (sender, receiver) = channel(Marks::default());
    let (first, second) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    sender
        .register_producer(Producer::push(Arc::clone(&first)))
        .unwrap();
    drop(receiver);
    sender
        .register_producer(Producer::pull(Arc::clone(&second)))
        .unwrap();
    assert_eq!((first.events().as_str(), second.events().as_str()), ("S", "S"));
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(sender.write(bytes(1)).is_err());
}

#[test]
fn a_hold_pauses_and_its_drop_resumes() {
    let (sender, _receiver) = channel(Marks::default());
    let producer = Arc::new(Recorder::default());
    sender
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    let (one, two) = (sender.hold(HoldReason::User), sender.hold(HoldReason::Shaped));
    drop(one);
    assert_eq!(producer.events(), "P");
    drop(two);
    assert_eq!(producer.events(), "PR");
}

#[test]
fn a_stage_keeps_what_the_consumer_below_does_not_take() {
    for (on_pause, then) in [(BelowPause::Buffer, ""), (BelowPause::Relay, "P")] {
        let (sender, mut receiver) = channel(Marks::new(0, 4).unwrap());
        let stage = Stage::over(Arc::new(sender), Marks::new(0, 8).unwrap(), on_pause).unwrap();
        let producer = Arc::new(Recorder::default());
        stage
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        let _ = stage.write(bytes(5)).unwrap();
        assert_eq!((stage.held(), producer.events().as_str()), (0, then));
        let _ = stage.write(bytes(9)).unwrap();
        assert_eq!((stage.held(), producer.events().as_str()), (9, "P"));
        stage.unregister_producer();
        stage.finish();
        assert_eq!(receiver.recv().now_or_never().unwrap().unwrap().unwrap().len(), 5);
        assert_eq!(receiver.recv().now_or_never().unwrap().unwrap().unwrap().len(), 9);
        assert!(receiver.recv().now_or_never().unwrap().is_none());
        assert_eq!(stage.outcome().now_or_never().unwrap().unwrap().bytes, 14);
    }
}

#[test]
fn an_abort_above_cuts_the_stream_below() {
    let (sender, mut receiver) = channel(Marks::default());
    let stage = Stage::over(Arc::new(sender), Marks::default(), BelowPause::Buffer).unwrap();
    let _ = stage.write(bytes(1)).unwrap();
    drop(stage);
    assert!(receiver.recv().now_or_never().unwrap().unwrap().is_err());
}

#[test]
fn a_death_below_stops_the_producer_above_and_leaks_nothing() {
    let (sender, receiver) = channel(Marks::default());
    let stage = Stage::over(Arc::new(sender), Marks::default(), BelowPause::Buffer).unwrap();
    let producer = Arc::new(Recorder::default());
    stage
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    receiver.fail(Arc::new(std::io::Error::other("unplugged")));
    assert_eq!(producer.events(), "S");
    assert!(matches!(
        stage.outcome().now_or_never().unwrap(),
        Err(StopReason::Failed(_))
    ));
    assert_eq!(Arc::strong_count(&producer), 1);
}

/// Something below that takes all at once and remembers how much.
struct Sinkhole(AtomicUsize);

impl tidegate::Below for Sinkhole {
    fn accept(&self, held: &[Bytes]) -> tidegate::Accepted {
        let bytes = held.iter().map(Bytes::len).sum();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        tidegate::Accepted::Took(bytes)
    }
    fn finish(&self) -> tidegate::Finished {
        tidegate::Finished::Done
    }
    fn abort(&self, reason: AbortReason) {
        panic!("aborted: {reason}");
    }
}

#[test]
fn a_million_pulls_through_a_stage_stay_on_a_flat_stack() {
    let stage = Stage::new(Marks::TWISTED, BelowPause::Buffer, |_| {
        Sinkhole(AtomicUsize::new(0))
    });
    let counter = Arc::new(Counter {
        to: Arc::downgrade(&stage.consumer()),
        left: AtomicUsize::new(1_000_000),
        depth: AtomicUsize::new(0),
    });
    stage.register_producer(Producer::pull(counter)).unwrap();
    stage.finish();
    assert_eq!(stage.below().0.load(Ordering::Relaxed), 1_000_000);
    assert_eq!(stage.outcome().now_or_never().unwrap().unwrap().bytes, 1_000_000);
}
