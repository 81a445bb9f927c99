//! The law suite over every consumer this crate ships: a body polled by hand, responses and uploads over HTTP/1.1 and
//! HTTP/2 on loopback.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Method, Response};
use http_body::Body as _;
use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{Consumer as _, Delivered, Marks, Outcome, StopReason, law_suite};
use tidegate_http::{Body, Limits, OutgoingBody, Protocol};
use tidegate_io::{Buffers, Source};
use tokio::runtime::Runtime;

use crate::common::{Up, client_with, inbox, up};

/// A body as hyper sees it, polled by the test.
struct ByHand;

struct Hand {
    body: Option<Body>,
    allowed: usize,
    output: Vec<u8>,
    end: FarEnd,
    outcome: Outcome,
}

impl Harness for ByHand {
    fn make(&self, marks: Marks) -> Subject {
        let (consumer, body) = OutgoingBody::pair(None, marks);
        let outcome = consumer.outcome();
        let hand = Hand {
            body: Some(body),
            allowed: 0,
            output: Vec::new(),
            end: FarEnd::Open,
            outcome,
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(hand),
        }
    }

    /// Frames are taken whole.
    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "a body polled by hand"
    }
}

impl Device for Hand {
    fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes);
    }

    fn turn(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.allowed > 0 && self.end == FarEnd::Open {
            let Some(body) = &mut self.body else { return };
            match Pin::new(body).poll_frame(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = FarEnd::Finished,
                Poll::Ready(Some(Err(_))) => self.end = FarEnd::Cut,
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap();
                    self.allowed = if self.allowed == usize::MAX {
                        usize::MAX
                    } else {
                        self.allowed.saturating_sub(data.len())
                    };
                    self.output.extend_from_slice(&data);
                }
            }
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.output.clone()
    }

    fn kill(&mut self) {
        if self.body.take().is_some() && self.end == FarEnd::Open {
            self.end = FarEnd::Cut;
        }
    }

    fn end(&mut self) -> FarEnd {
        // Cut is seen also by a peer that takes no bytes.
        if self.end == FarEnd::Open && matches!(self.outcome.now(), Some(Err(_))) {
            self.end = FarEnd::Cut;
        }
        self.end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

law_suite!(by_hand, ByHand);

/// Chunk framing over a channel, whose receiver reads the frames as a peer would.
struct Framed;

struct Frames {
    receiver: Option<tidegate::Receiver>,
    opens: bool,
    /// Of `PLUG`.
    plug_left: usize,
    wire: Vec<u8>,
    end: FarEnd,
    outcome: Outcome,
}

/// What the channel below holds already, so that it takes nothing before it is read from.
const PLUG: &[u8] = b"plug";

impl Harness for Framed {
    fn make(&self, marks: Marks) -> Subject {
        let (below, receiver) = tidegate::channel(Marks::new(0, 1).unwrap());
        let _ = below.write(bytes::Bytes::from_static(PLUG)).unwrap();
        let consumer = tidegate_http::ChunkedBody::new(Arc::new(below), marks).unwrap();
        let outcome = consumer.outcome();
        let frames = Frames {
            receiver: Some(receiver),
            opens: false,
            plug_left: PLUG.len(),
            wire: Vec::new(),
            end: FarEnd::Open,
            outcome,
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(frames),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "chunk framing"
    }
}

impl Device for Frames {
    fn allow(&mut self, bytes: usize) {
        self.opens |= bytes > 0;
    }

    fn turn(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.opens && self.end == FarEnd::Open {
            let Some(receiver) = &mut self.receiver else {
                return;
            };
            match receiver.poll_ready(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(tidegate::Ready::Bytes)) => {
                    let piece = receiver.pieces().next().unwrap().clone();
                    receiver.advance(piece.len());
                    let plug = self.plug_left.min(piece.len());
                    self.plug_left -= plug;
                    self.wire.extend_from_slice(&piece[plug..]);
                }
                Poll::Ready(Ok(tidegate::Ready::End)) => {
                    // The last chunk must be there: without it the body is not whole.
                    assert!(self.wire.ends_with(b"0\r\n\r\n"), "an end without the last chunk");
                    self.end = FarEnd::Finished;
                    if let Some(receiver) = self.receiver.take() {
                        receiver.complete();
                    }
                }
                Poll::Ready(Err(_)) => self.end = FarEnd::Cut,
            }
        }
    }

    fn output(&mut self) -> Vec<u8> {
        let (mut rest, mut bytes) = (&self.wire[..], Vec::new());
        while let Some(end) = rest.windows(2).position(|end| end == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            let data = &rest[end + 2..];
            bytes.extend_from_slice(&data[..length.min(data.len())]);
            rest = data.get(length + 2..).unwrap_or_default();
        }
        bytes
    }

    fn kill(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.close(StopReason::Closed);
        }
        if self.end == FarEnd::Open {
            self.end = FarEnd::Cut;
        }
    }

    fn end(&mut self) -> FarEnd {
        if self.end == FarEnd::Open && matches!(self.outcome.now(), Some(Err(_))) {
            self.end = FarEnd::Cut;
        }
        self.end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

law_suite!(chunk_framing, Framed);

#[derive(Clone, Copy)]
enum Way {
    Response,
    Upload,
}

/// A message over loopback.
struct Wire {
    way: Way,
    protocol: Protocol,
}

struct Net {
    runtime: Runtime,
    far: Option<Box<dyn Source + Send>>,
    buffers: Buffers,
    /// The rest of what makes the exchange live.
    keep: VecDeque<Box<dyn std::any::Any>>,
    allowed: usize,
    output: Vec<u8>,
    end: FarEnd,
    outcome: Outcome,
}

/// What a blocked peer swallows: hyper's buffers at both ends, a window, the kernel's.
/// More than 9 bytes below the `max` mark, which the suite goes by.
const SLACK: usize = 7 * 1024 * 1024;

impl Harness for Wire {
    fn make(&self, marks: Marks) -> Subject {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let made = runtime.block_on(async {
            match self.way {
                Way::Response => response(self.protocol, marks).await,
                Way::Upload => upload(self.protocol, marks).await,
            }
        });
        let (consumer, far, keep) = made;
        let net = Net {
            runtime,
            far: Some(far),
            buffers: Buffers::default(),
            keep,
            allowed: 0,
            output: Vec::new(),
            end: FarEnd::Open,
            outcome: consumer.outcome(),
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(net),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn slack(&self) -> usize {
        SLACK
    }

    fn name(&self) -> &'static str {
        match (self.way, self.protocol) {
            (Way::Response, Protocol::Two) => "a response, HTTP/2",
            (Way::Response, _) => "a response, HTTP/1.1",
            (Way::Upload, Protocol::Two) => "an upload, HTTP/2",
            (Way::Upload, _) => "an upload, HTTP/1.1",
        }
    }
}

type Made = (
    OutgoingBody,
    Box<dyn Source + Send>,
    VecDeque<Box<dyn std::any::Any>>,
);

async fn response(protocol: Protocol, marks: Marks) -> Made {
    let (handler, mut requests) = inbox();
    let mut limits = Limits::default();
    limits.marks = marks;
    let server = up(handler, limits).await;
    let client = client_with(|options| {
        options.protocol = protocol;
        options.retries = 0;
    });
    let url = server.url("/");
    let getting = tokio::spawn(async move { client.get(&url, 0).await });
    let (request, answer) = requests.recv().await.unwrap();
    let (consumer, head) = request.responder.stream(Response::new(()), None);
    answer.send(head).unwrap();
    let source = getting.await.unwrap().unwrap();
    (
        consumer,
        Box::new(source),
        VecDeque::from([Box::new(server) as Box<dyn std::any::Any>]),
    )
}

async fn upload(protocol: Protocol, marks: Marks) -> Made {
    let (handler, mut requests) = inbox();
    let server = up(handler, Limits::default()).await;
    let client = client_with(|options| {
        options.protocol = protocol;
        options.marks = marks;
    });
    let (consumer, answering) = client.start(Method::PUT, &server.url("/"), None).unwrap();
    let answering = tokio::spawn(answering);
    let (request, answer) = requests.recv().await.unwrap();
    let keep: [Box<dyn std::any::Any>; 4] = [
        Box::new(server),
        Box::new(answer),
        Box::new(answering),
        Box::new(request.responder),
    ];
    (consumer, Box::new(request.body), VecDeque::from(keep))
}

impl Device for Net {
    fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes);
    }

    fn turn(&mut self) {
        let Self {
            runtime,
            far,
            buffers,
            allowed,
            output,
            end,
            ..
        } = self;
        let mut take = |cx: &mut Context<'_>| {
            while *allowed > 0 && *end == FarEnd::Open {
                let Some(source) = far else { break };
                match source.poll_read(cx, buffers, 1024 * 1024) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Some(bytes))) => {
                        if *allowed != usize::MAX {
                            *allowed = allowed.saturating_sub(bytes.len());
                        }
                        output.extend_from_slice(&bytes);
                    }
                    Poll::Ready(Ok(None)) => *end = FarEnd::Finished,
                    Poll::Ready(Err(_)) => *end = FarEnd::Cut,
                }
            }
            Poll::Ready(())
        };
        runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            for _ in 0..100 {
                std::future::poll_fn(&mut take).await;
                tokio::task::yield_now().await;
            }
        });
    }

    fn output(&mut self) -> Vec<u8> {
        self.output.clone()
    }

    fn kill(&mut self) {
        let runtime = &self.runtime;
        let _inside = runtime.enter();
        self.far = None;
        for kept in self.keep.drain(..) {
            if let Ok(server) = kept.downcast::<Up>() {
                server.abort();
            }
        }
        if self.end == FarEnd::Open {
            self.end = FarEnd::Cut;
        }
    }

    fn end(&mut self) -> FarEnd {
        if self.end == FarEnd::Open && matches!(self.outcome.now(), Some(Err(_))) {
            // Whoever takes no bytes does not see the end of them either: look once with bytes allowed.
            let allowed = std::mem::replace(&mut self.allowed, usize::MAX);
            self.turn();
            self.allowed = allowed;
        }
        self.end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

law_suite!(
    response_http1,
    Wire {
        way: Way::Response,
        protocol: Protocol::One
    }
);
law_suite!(
    response_http2,
    Wire {
        way: Way::Response,
        protocol: Protocol::Two
    }
);
law_suite!(
    upload_http1,
    Wire {
        way: Way::Upload,
        protocol: Protocol::One
    }
);
law_suite!(
    upload_http2,
    Wire {
        way: Way::Upload,
        protocol: Protocol::Two
    }
);
