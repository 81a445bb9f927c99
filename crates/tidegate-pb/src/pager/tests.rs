//! The laws and the scenarios of paging, on a connection whose socket is played by the test.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{
    Consumer as _, Delivered, FinishableConsumer as _, Outcome, Producer, PullProducer, PushProducer,
};

use super::*;
use crate::Broker;
use crate::banana::{Decoder, Dialect, Expr, Limits};
use crate::broker::Shared;
use crate::jelly::{Luid, Value, unjelly};
use crate::message::{self, AnswerWanted, Message};

/// A connection without a socket: what would be written is decoded here.
struct Wire {
    shared: Arc<Shared>,
    receiver: Option<Receiver>,
    decoder: Decoder,
    ended: bool,
    cut: bool,
    pages: Vec<Bytes>,
}

impl Wire {
    fn new() -> Self {
        let marks = Marks::new(0, 65_536).unwrap();
        let (out, receiver) = channel(marks);
        let shared = Shared::new(out, marks, Limits::default(), 1024, None);
        shared.open(Dialect::None).unwrap();
        let mut wire = Self {
            shared,
            receiver: Some(receiver),
            decoder: Decoder::default(),
            ended: false,
            cut: false,
            pages: Vec::new(),
        };
        // The version goes out at once: the connection is idle when a test begins.
        assert_eq!(wire.drain().len(), 1);
        wire
    }

    fn collector(&self) -> Reference {
        self.object(1)
    }

    fn object(&self, number: i64) -> Reference {
        let broker = Broker {
            shared: Arc::clone(&self.shared),
        };
        Reference::uncounted(&broker, Luid::Number(number))
    }

    /// The socket accepts everything that waits; gives the messages that are whole now.
    fn drain(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Some(receiver) = &mut self.receiver {
            match receiver.poll_ready(&mut cx) {
                Poll::Ready(Ok(Ready::Bytes)) => {
                    let pieces: Vec<Bytes> = receiver.pieces().cloned().collect();
                    let bytes = pieces.iter().map(Bytes::len).sum();
                    receiver.advance(bytes);
                    pieces
                        .iter()
                        .for_each(|piece| self.decoder.space().extend_from_slice(piece));
                }
                Poll::Ready(Ok(Ready::End)) | Poll::Pending => break,
                Poll::Ready(Err(aborted)) => {
                    self.cut = true;
                    self.receiver = None;
                    self.shared.lose(&PbError::Aborted(aborted.0));
                }
            }
        }
        while let Some(expr) = self.decoder.next_expr().unwrap() {
            messages.push(Message::read(expr).unwrap());
        }
        messages
    }

    /// Plays the collector of the peer, which answers the end notice.
    fn collect(&mut self) {
        for message in self.drain() {
            let Message::Call {
                request,
                object,
                method,
                answer,
                args,
                ..
            } = message
            else {
                continue;
            };
            let ours = object == Luid::Number(1);
            match &method[..] {
                "gotPage" if ours => self.pages.push(page_of(&args)),
                "gotPage" => {}
                "endedPaging" => {
                    assert_eq!(answer, AnswerWanted::Yes);
                    self.ended |= ours;
                    let answered = self.shared.handle(message::answer(request, &Value::None));
                    assert!(answered.is_ok() || self.cut);
                }
                other => panic!("{other}"),
            }
        }
    }

    /// Drains until nothing comes any more.
    fn settle(&mut self) {
        loop {
            let before = (self.pages.len(), self.ended);
            self.collect();
            if (self.pages.len(), self.ended) == before {
                return;
            }
        }
    }

    fn lose(&mut self) {
        self.shared.lose(&PbError::Closed);
        self.receiver = None;
        self.cut = !self.ended;
    }
}

fn page_of(args: &Expr) -> Bytes {
    let Value::Tuple(args) = unjelly(args).unwrap() else {
        panic!("a tuple")
    };
    let Value::Bytes(page) = &args[0] else {
        panic!("a page")
    };
    page.clone()
}

struct FilePagers;

const PAGE: usize = 16;

struct PagerDevice {
    wire: Wire,
    allowed: usize,
    outcome: Outcome,
    _paging: Paging,
}

impl Harness for FilePagers {
    fn make(&self, marks: Marks) -> Subject {
        let wire = Wire::new();
        // Another pager is under way: else the connection would take the first page of a device that accepts nothing.
        drop(page_string(&wire.object(2), Bytes::from_static(b"ff"), 1));
        let (sender, paging) = page_file(&wire.collector(), marks, PAGE);
        let outcome = sender.outcome();
        let device = PagerDevice {
            wire,
            allowed: 0,
            outcome,
            _paging: paging,
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
        "file pager"
    }
}

impl Device for PagerDevice {
    fn allow(&mut self, bytes: usize) {
        self.allowed = bytes;
    }

    fn turn(&mut self) {
        if self.allowed > 0 {
            self.wire.collect();
        } else {
            // Even a blocked socket notices that its connection was cut.
            let aborted = self.wire.receiver.as_mut().is_some_and(|receiver| {
                let ready = receiver.poll_ready(&mut Context::from_waker(Waker::noop()));
                matches!(ready, Poll::Ready(Err(_)))
            });
            if aborted {
                self.wire.collect();
            }
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.wire.pages.concat()
    }

    fn kill(&mut self) {
        self.wire.lose();
    }

    fn end(&mut self) -> FarEnd {
        match (self.wire.ended, self.wire.cut) {
            (true, _) => FarEnd::Finished,
            (false, true) => FarEnd::Cut,
            (false, false) => FarEnd::Open,
        }
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

tidegate::law_suite!(file_pager_laws, FilePagers);

/// CASES 163: on an idle transport the first page is sent inside construction, then the others, then the end notice,
/// and the broker is no longer registered.
#[test]
fn cases_163_a_string_on_an_idle_connection() {
    let mut wire = Wire::new();
    let mut paging = page_string(&wire.collector(), Bytes::from_static(b"abcdefgh"), 3);
    wire.collect();
    assert_eq!(wire.pages[0], "abc");
    wire.settle();
    assert_eq!(wire.pages, ["abc", "def", "gh"]);
    assert!(wire.ended);
    assert!(matches!(poll(&mut paging), Poll::Ready(Ok(PagingEnd::Confirmed))));
    // Nobody is registered: a finish has nobody to wait for.
    Broker {
        shared: Arc::clone(&wire.shared),
    }
    .close();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(
        wire.receiver.as_mut().unwrap().poll_ready(&mut cx),
        Poll::Ready(Ok(Ready::End))
    ));
}

fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// CASES 160: an empty file and an empty string are an end notice and no page.
#[test]
fn cases_160_nothing_at_all() {
    let mut wire = Wire::new();
    let (sender, mut paging) = page_file(&wire.collector(), Marks::default(), 100);
    sender.finish();
    wire.settle();
    let mut empty = page_string(&wire.collector(), Bytes::new(), 100);
    wire.settle();
    assert!(wire.pages.is_empty() && wire.ended);
    assert!(matches!(poll(&mut paging), Poll::Ready(Ok(_))));
    assert!(matches!(poll(&mut empty), Poll::Ready(Ok(_))));
}

/// A pull producer over a list of pieces.
struct Pieces {
    to: Arc<dyn tidegate::Consumer>,
    pieces: Mutex<Vec<Bytes>>,
    pulls: AtomicUsize,
    stops: AtomicUsize,
}

impl Pieces {
    fn new(to: Arc<dyn tidegate::Consumer>, count: usize) -> Arc<Self> {
        let pieces = (0..count)
            .map(|number| Bytes::from(vec![number as u8; 500]))
            .collect();
        Arc::new(Self {
            to,
            pieces: Mutex::new(pieces),
            pulls: AtomicUsize::new(0),
            stops: AtomicUsize::new(0),
        })
    }
}

impl PullProducer for Pieces {
    fn resume_producing(&self) {
        self.pulls.fetch_add(1, Ordering::SeqCst);
        let piece = lock(&self.pieces).pop();
        match piece {
            Some(piece) => drop(self.to.write(piece)),
            None => self.to.unregister_producer(),
        }
    }

    fn stop_producing(&self, _reason: StopReason) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
}

/// CASES 162, B56, D96: a file on an idle connection starts by itself; no page is kept.
#[test]
fn cases_162_b56_d96_a_file_on_an_idle_connection() {
    let mut wire = Wire::new();
    let (sender, mut paging) = page_file(&wire.collector(), Marks::default(), 400);
    let pieces = Pieces::new(sender.consumer(), 1);
    sender
        .register_producer(Producer::pull(Arc::clone(&pieces) as Arc<Pieces>))
        .unwrap();
    sender.finish();
    wire.settle();
    assert_eq!(wire.pages.iter().map(Bytes::len).collect::<Vec<_>>(), [400, 100]);
    assert_eq!(sender.held(), 0);
    assert!(wire.ended && matches!(poll(&mut paging), Poll::Ready(Ok(PagingEnd::Confirmed))));
}

struct Push {
    events: Mutex<Vec<char>>,
}

impl PushProducer for Push {
    fn pause_producing(&self) {
        lock(&self.events).push('P');
    }
    fn resume_producing(&self) {
        lock(&self.events).push('R');
    }
    fn stop_producing(&self, _reason: StopReason) {
        lock(&self.events).push('S');
    }
}

/// D97: a push producer is paused when the peer is slow, resumed when it is not; unregistering with pages left sends
/// them all.
#[test]
fn d97_a_push_producer_is_paused_and_its_tail_is_sent() {
    let mut wire = Wire::new();
    let (sender, _paging) = page_file(&wire.collector(), Marks::new(0, 1000).unwrap(), 500);
    let push = Arc::new(Push {
        events: Mutex::default(),
    });
    sender
        .register_producer(Producer::push(Arc::clone(&push)))
        .unwrap();
    for _ in 0..4 {
        let _ = sender.write(Bytes::from(vec![7; 500])).unwrap();
    }
    // One page is with the connection, three wait.
    assert_eq!(*lock(&push.events), ['P']);
    sender.unregister_producer();
    sender.finish();
    wire.settle();
    assert_eq!(wire.pages.len(), 4);
    assert!(wire.ended);
    assert_eq!(*lock(&push.events), ['P']);
}

/// CASES B58, D98: the connection goes: the file source gets its stop once, and the paging fails.
#[test]
fn b58_d98_a_lost_connection_stops_the_source() {
    let mut wire = Wire::new();
    let (sender, mut paging) = page_file(&wire.collector(), Marks::new(0, 1000).unwrap(), 500);
    let pieces = Pieces::new(sender.consumer(), 100);
    sender
        .register_producer(Producer::pull(Arc::clone(&pieces) as Arc<Pieces>))
        .unwrap();
    // One page is with the connection, the next two wait, and the source has many more.
    wire.lose();
    assert_eq!(pieces.stops.load(Ordering::SeqCst), 1);
    assert!(matches!(poll(&mut paging), Poll::Ready(Err(PbError::Closed))));
    assert!(matches!(sender.outcome().now(), Some(Err(StopReason::Failed(_)))));
    // And who comes later is told at once.
    let (late, mut paging) = page_file(&wire.collector(), Marks::default(), 500);
    assert!(late.write(Bytes::from_static(b"x")).is_err());
    assert!(matches!(poll(&mut paging), Poll::Ready(Err(_))));
}

/// D99: an aborted source is a cut connection, without an end notice.
#[test]
fn d99_an_aborted_source_cuts_the_connection() {
    let mut wire = Wire::new();
    let (sender, mut paging) = page_file(&wire.collector(), Marks::default(), 500);
    let _ = sender.write(Bytes::from_static(b"half")).unwrap();
    wire.settle();
    sender.abort(AbortReason::Requested);
    wire.settle();
    assert!(wire.cut && !wire.ended);
    assert!(matches!(poll(&mut paging), Poll::Ready(Err(PbError::Aborted(_)))));
}

/// Calls and pages share the gate: a call that finds the connection full takes its turn among the pages.
#[test]
fn a_call_waits_for_its_turn_when_the_connection_is_full() {
    let mut wire = Wire::new();
    let (sender, _paging) = page_file(&wire.collector(), Marks::new(0, 1 << 20).unwrap(), 200_000);
    for _ in 0..3 {
        let _ = sender.write(Bytes::from(vec![1; 200_000])).unwrap();
    }
    let collector = wire.collector();
    let mut notify = Box::pin(collector.notify("hello", vec![]));
    assert!(poll(&mut notify).is_pending());
    let methods: Vec<String> = std::iter::repeat_with(|| wire.drain())
        .take(6)
        .flatten()
        .filter_map(|message| match message {
            Message::Call { method, .. } => Some(method),
            _ => None,
        })
        .collect();
    assert_eq!(methods, ["gotPage", "gotPage", "hello", "gotPage"]);
    assert!(poll(&mut notify).is_ready());
}
