//! The consumers of bodies, without a connection: chunk framing, announced lengths, registration, trailers.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use tidegate::{
    AbortReason, Consumer, FinishableConsumer, Marks, Pressure, Producer, PullProducer, PushProducer,
    Refusal, StopReason, channel,
};
use tidegate_http::{Body, BodyError, ChunkedBody, OutgoingBody};

#[derive(Default)]
struct Heard(Mutex<String>);

impl Heard {
    fn new() -> Arc<Self> {
        Arc::default()
    }
    fn all(&self) -> String {
        self.0.lock().unwrap().clone()
    }
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push_str(what);
    }
}

impl PushProducer for Heard {
    fn pause_producing(&self) {
        self.note("P");
    }
    fn resume_producing(&self) {
        self.note("R");
    }
    fn stop_producing(&self, _: StopReason) {
        self.note("S");
    }
}

impl PullProducer for Heard {
    fn resume_producing(&self) {
        self.note("R");
    }
    fn stop_producing(&self, _: StopReason) {
        self.note("S");
    }
}

fn poll(body: &mut Body) -> Poll<Option<Result<Bytes, BodyError>>> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(body)
        .poll_frame(&mut cx)
        .map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
}

fn take(body: &mut Body) -> Bytes {
    match poll(body) {
        Poll::Ready(Some(Ok(bytes))) => bytes,
        other => panic!("{other:?}"),
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn chunked() -> (ChunkedBody, tidegate::Receiver) {
    let (sender, receiver) = channel(Marks::TWISTED);
    (
        ChunkedBody::new(Arc::new(sender), Marks::TWISTED).unwrap(),
        receiver,
    )
}

async fn all(receiver: &mut tidegate::Receiver) -> Result<String, tidegate::Aborted> {
    let mut output = String::new();
    while let Some(piece) = receiver.recv().await {
        output.push_str(std::str::from_utf8(&piece?).unwrap());
    }
    Ok(output)
}

#[tokio::test]
async fn chunks_are_framed_and_the_last_one_comes_at_finish() {
    // CASES 165 (restated: the end is `finish`), 166, B59, D100.
    let (body, mut receiver) = chunked();
    let producer = Heard::new();
    body.register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    let _ = body.write(text("xxx")).unwrap();
    let _ = body.write(Bytes::new()).unwrap();
    let _ = body
        .write_list(vec![Bytes::new(), text("yyyyyyyyyyyyyyy")])
        .unwrap();
    body.unregister_producer();
    let first: String = [
        receiver.recv().await,
        receiver.recv().await,
        receiver.recv().await,
    ]
    .into_iter()
    .map(|piece| String::from_utf8(piece.unwrap().unwrap().to_vec()).unwrap())
    .collect();
    assert_eq!(
        first, "3\r\nxxx\r\n",
        "neither an empty write nor an unregister ends the body"
    );
    body.finish();
    assert_eq!(
        all(&mut receiver).await.unwrap(),
        "f\r\nyyyyyyyyyyyyyyy\r\n0\r\n\r\n"
    );
    assert_eq!(producer.all(), "");
    // CASES 172: nothing is written after the end.
    let refused = body.write(text("more")).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::Finished), "{refused}");
    assert_eq!(refused.data, "more");
}

#[tokio::test]
async fn a_chunked_body_cut_short_has_no_last_chunk() {
    for drop_it in [false, true] {
        let (body, mut receiver) = chunked();
        let _ = body.write(text("abc")).unwrap();
        if drop_it {
            drop(body);
        } else {
            body.abort(AbortReason::Requested);
        }
        assert!(all(&mut receiver).await.is_err());
    }
}

#[test]
fn an_exact_length_lets_just_that_through() {
    // CASES 168, 175.
    let (consumer, mut body) = OutgoingBody::pair(Some(6), Marks::TWISTED);
    let _ = consumer.write(text("abc")).unwrap();
    assert_eq!(take(&mut body), "abc");
    let _ = consumer.write(text("def")).unwrap();
    assert!(
        poll(&mut body).is_pending(),
        "all bytes, but not yet the end of the stream"
    );
    assert!(!body.is_end_stream());
    consumer.finish();
    assert_eq!(take(&mut body), "def");
    assert!(body.is_end_stream());
    assert_eq!(consumer.outcome().now().unwrap().unwrap().bytes, 6);
}

#[test]
fn too_few_bytes_fail_the_body() {
    // CASES 169, 171.
    let (consumer, mut body) = OutgoingBody::pair(Some(3), Marks::TWISTED);
    let _ = consumer.write(text("ab")).unwrap();
    consumer.finish();
    assert_eq!(take(&mut body), "ab");
    assert!(matches!(
        poll(&mut body),
        Poll::Ready(Some(Err(BodyError::TooShort { length: 3, sent: 2 })))
    ));
    assert!(consumer.outcome().now().unwrap().is_err());
    assert!(
        consumer.write(text("cd")).is_err(),
        "and what comes later is refused"
    );
}

#[test]
fn too_many_bytes_fail_the_body_and_stop_the_producer() {
    // CASES 177, 178, 180 (a handler that panics is law 14), D101.
    let (consumer, mut body) = OutgoingBody::pair(Some(10), Marks::TWISTED);
    let producer = Heard::new();
    consumer
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    let _ = consumer.write(text("0123456789")).unwrap();
    assert_eq!(producer.all(), "");
    let refused = consumer.write(text("!")).unwrap_err();
    assert!(
        matches!(refused.refusal, Refusal::PastEnd { length: 10 }),
        "{refused}"
    );
    assert_eq!(refused.data, "!");
    assert_eq!(producer.all(), "S");
    assert!(
        matches!(poll(&mut body), Poll::Ready(Some(Err(BodyError::Aborted(_))))),
        "never complete"
    );
}

#[test]
fn an_abort_after_the_last_byte_still_shows() {
    let (consumer, mut body) = OutgoingBody::pair(Some(3), Marks::TWISTED);
    let _ = consumer.write(text("abc")).unwrap();
    assert!(poll(&mut body).is_pending());
    drop(consumer);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
}

#[test]
fn registration_is_the_same_everywhere() {
    // CASES 213, 214, 217, 238, B14, D48, D49.
    let (consumer, mut body) = OutgoingBody::pair(None, Marks::TWISTED);
    consumer.unregister_producer();
    let (first, second) = (Heard::new(), Heard::new());
    consumer
        .register_producer(Producer::push(Arc::clone(&first)))
        .unwrap();
    assert!(
        consumer
            .register_producer(Producer::push(Arc::clone(&second)))
            .is_err()
    );
    assert_eq!((first.all(), second.all()), (String::new(), String::new()));
    consumer.unregister_producer();
    consumer
        .register_producer(Producer::pull(Arc::clone(&second)))
        .unwrap();
    assert_eq!(second.all(), "R");
    consumer.unregister_producer();
    consumer.finish();
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
    assert!(consumer.write(text("x")).is_err());
}

#[test]
fn finish_waits_for_the_producer_that_is_still_there() {
    // CASES 216 (restated by law 9: the end waits, nothing is an error).
    let (consumer, mut body) = OutgoingBody::pair(None, Marks::TWISTED);
    consumer.register_producer(Producer::push(Heard::new())).unwrap();
    consumer.finish();
    let _ = consumer.write(text("tail")).unwrap();
    assert_eq!(take(&mut body), "tail");
    assert!(poll(&mut body).is_pending());
    consumer.unregister_producer();
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

#[test]
fn a_body_that_goes_away_stops_the_producer_once() {
    // CASES 174, B34, B35, B37, D46, D47, D51, D58.
    let (consumer, body) = OutgoingBody::pair(None, Marks::TWISTED);
    let producer = Heard::new();
    consumer
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    drop(body);
    assert_eq!(producer.all(), "S");
    consumer.unregister_producer();
    let late = Heard::new();
    consumer
        .register_producer(Producer::push(Arc::clone(&late)))
        .unwrap();
    assert_eq!(late.all(), "S");
    assert!(matches!(
        consumer.write(text("x")).unwrap_err().refusal,
        Refusal::Dead(_)
    ));
}

#[test]
fn a_newcomer_at_a_full_body_is_paused_at_once() {
    // B32, D44, D57; D45: two writes in one pull are taken.
    let (consumer, mut body) = OutgoingBody::pair(None, Marks::TWISTED);
    assert_eq!(
        consumer.write(Bytes::from(vec![0; 70_000])).unwrap(),
        Pressure::Full
    );
    let producer = Heard::new();
    consumer
        .register_producer(Producer::push(Arc::clone(&producer)))
        .unwrap();
    assert_eq!(producer.all(), "P");
    while let Poll::Ready(Some(Ok(frame))) = poll(&mut body) {
        assert!(frame.len() <= tidegate_http::FRAME_BYTES_MAX);
    }
    assert_eq!(producer.all(), "PR");
    consumer.unregister_producer();
    let pull = Heard::new();
    consumer
        .register_producer(Producer::pull(Arc::clone(&pull)))
        .unwrap();
    let _ = consumer.write(Bytes::from(vec![0; 60_000])).unwrap();
    let _ = consumer.write(Bytes::from(vec![0; 60_000])).unwrap();
    while let Poll::Ready(Some(Ok(_))) = poll(&mut body) {}
    assert_eq!(pull.all(), "RR");
}

#[test]
fn trailers_follow_the_last_byte() {
    let (consumer, mut body) = OutgoingBody::pair(None, Marks::TWISTED);
    let _ = consumer.write(text("abc")).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-digest", "1".parse().unwrap());
    consumer.finish_with(trailers);
    assert_eq!(take(&mut body), "abc");
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
        panic!("no trailers")
    };
    assert_eq!(frame.into_trailers().unwrap()["x-digest"], "1");
    assert!(body.is_end_stream());
}

#[test]
fn small_pieces_travel_together_and_in_order() {
    // CASES 226 (restated: ten pulls, the digits in order; chunks are hyper's).
    let (consumer, mut body) = OutgoingBody::pair(None, Marks::TWISTED);
    for digit in b'0'..=b'9' {
        let _ = consumer.write(Bytes::copy_from_slice(&[digit])).unwrap();
    }
    let _ = consumer.write(Bytes::from(vec![b'x'; 5000])).unwrap();
    assert_eq!(take(&mut body), "0123456789");
    assert_eq!(take(&mut body).len(), 5000);
}
