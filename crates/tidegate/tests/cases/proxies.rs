//! Scenarios of the producer-consumer proxies. Knows nothing of other consumers.

use std::sync::Arc;

use bytes::Bytes;
use tidegate::{Consumer, FinishableConsumer, Marks, Pressure, Refusal, proxy};

use crate::dam::Dam;
use crate::recorder::Recorder;

fn marks(low: usize, high: usize) -> Marks {
    Marks::new(low, high).unwrap()
}

fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'y'; count])
}

fn text(dam: &Dam) -> String {
    String::from_utf8(dam.0.lock().unwrap().out.clone()).unwrap()
}

fn events(dam: &Dam) -> Vec<String> {
    dam.0.lock().unwrap().events.clone()
}

fn dam() -> Arc<Dam> {
    Arc::new(Dam::closed())
}

/// CASES 105, 106: who has unregistered, or finished, hears no more of it.
#[test]
fn a_resume_from_below_reaches_nobody_who_left() {
    let below = dam();
    let between = proxy::buffered(below.clone(), Marks::TWISTED).unwrap();
    let upstream = Recorder::new();
    between.register_producer(upstream.pull()).unwrap();
    assert_eq!(upstream.heard(), "R");
    between.unregister_producer();
    below.open_for(1);
    assert_eq!(upstream.heard(), "");

    let below = dam();
    let between = proxy::buffered(below.clone(), Marks::TWISTED).unwrap();
    between.register_producer(upstream.pull()).unwrap();
    between.unregister_producer();
    between.finish();
    assert_eq!(upstream.heard(), "R");
    below.open_for(1);
    assert_eq!(upstream.heard(), "");
}

/// CASES 108, 109, 111: paused it keeps what comes, resumed it hands on at once. (D60: bytes, not text.)
#[test]
fn a_paused_proxy_keeps_and_a_resumed_one_hands_on() {
    for make in [proxy::basic, proxy::buffered] {
        let below = dam();
        let between = make(below.clone(), Marks::TWISTED).unwrap();
        let _ = between.write(Bytes::from_static(b"buffer this")).unwrap();
        assert_eq!((text(&below), between.held()), (String::new(), 11));
        below.open_for(100);
        assert_eq!((text(&below), between.held()), ("buffer this".to_owned(), 0));
        let _ = between.write(Bytes::from_static(b" yakkity yak")).unwrap();
        assert_eq!(text(&below), "buffer this yakkity yak");
    }
}

/// CASES 112: stopped from below it takes nothing more, and says so.
#[test]
fn a_stopped_proxy_passes_nothing() {
    let below = Arc::new(Dam::open());
    let between = proxy::basic(below.clone(), Marks::TWISTED).unwrap();
    below.die();
    let refused = between.write(Bytes::from_static(b"late")).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::Dead(_)));
    assert_eq!(refused.data, "late");
    assert_eq!(text(&below), "");
}

/// CASES 114, and law 12 instead of D64: data and the end go on; that an upstream producer leaves is no business of the
/// consumer below, for another may follow. Twisted's proxy detaches itself for ever.
#[test]
fn data_and_the_end_are_passed_on_and_upstream_may_change() {
    let below = Arc::new(Dam::open());
    let between = proxy::buffered(below.clone(), Marks::TWISTED).unwrap();
    let _ = between.write(Bytes::from_static(b"data")).unwrap();
    for upstream in [Recorder::new(), Recorder::new()] {
        between.register_producer(upstream.push()).unwrap();
        between.unregister_producer();
    }
    assert_eq!(events(&below), ["data"]);
    between.finish();
    assert_eq!(events(&below), ["data", "unregister", "finished"]);
}

/// CASES 115, 117: a pull proxy answers a pull with what it holds, else with the next write.
#[test]
fn a_pull_proxy_holds_until_pulled_and_answers_late() {
    let below = dam();
    let between = proxy::pull(below.clone(), Marks::TWISTED).unwrap();
    below.open_for(1);
    let _ = between.write(Bytes::from_static(b"data")).unwrap();
    assert_eq!(text(&below), "data"); // the first pull, from the registration
    let _ = between.write(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(text(&below), "data");
    below.open_for(1);
    assert_eq!(text(&below), "datahello");
    below.open_for(1);
    let _ = between.write(Bytes::from_static(b"!")).unwrap();
    assert_eq!(text(&below), "datahello!");
}

/// CASES 118: a pull upstream is asked at once, whatever the one below does (D65: and never paused).
#[test]
fn a_buffered_proxy_asks_a_pull_producer_at_once() {
    let between = proxy::buffered(dam(), marks(0, 100)).unwrap();
    let upstream = Recorder::new();
    between.register_producer(upstream.pull()).unwrap();
    assert_eq!(upstream.heard(), "R");
    assert_eq!(between.write(bytes(500)).unwrap(), Pressure::Full);
    assert_eq!(upstream.heard(), "");
}

/// CASES 120, 121: upstream is paused above the mark (D67: not at it), once (D66), and resumed once all went on (D68).
#[test]
fn a_buffered_proxy_pauses_by_its_own_marks() {
    let below = dam();
    let between = proxy::buffered(below.clone(), marks(0, 100)).unwrap();
    let upstream = Recorder::new();
    between.register_producer(upstream.push()).unwrap();
    assert_eq!(between.write(bytes(51)).unwrap(), Pressure::Open);
    assert_eq!(between.write(bytes(49)).unwrap(), Pressure::Open);
    assert_eq!(upstream.heard(), "");
    assert_eq!(between.write(bytes(2)).unwrap(), Pressure::Full);
    assert_eq!(between.write(bytes(1)).unwrap(), Pressure::Full);
    assert_eq!(upstream.heard(), "P");
    below.open_for(103);
    assert_eq!(upstream.heard(), "R");
    assert_eq!(text(&below).len(), 103);
    below.open_for(1);
    assert_eq!(upstream.heard(), "");
}

/// CASES 123: a pull is answered with at most a chunk; the rest stays, in order.
#[test]
fn a_pull_is_answered_with_one_chunk() {
    let below = dam();
    let between = proxy::pull(below.clone(), Marks::TWISTED.with_chunk(100).unwrap()).unwrap();
    let all = [vec![b'a'; 60], vec![b'b'; 45]].concat();
    let _ = between.write(Bytes::from(all.clone())).unwrap();
    below.open_for(1);
    assert_eq!((text(&below).len(), between.held()), (100, 5));
    below.open_for(1);
    assert_eq!(text(&below).into_bytes(), all);
}

/// CASES 124, B44 (D62): the tail goes first, then the registration below ends, then the stream.
#[test]
fn a_finish_waits_for_what_is_held() {
    for make in [proxy::basic, proxy::buffered] {
        let below = dam();
        let between = make(below.clone(), Marks::TWISTED).unwrap();
        let _ = between.write(Bytes::from_static(b"tail")).unwrap();
        between.finish();
        assert!(events(&below).is_empty());
        below.open_for(4);
        assert_eq!(events(&below), ["tail", "unregister", "finished"]);
    }
}

/// CASES B43 (D61): paused again while it takes what was held, the one below loses nothing and resumes nobody.
#[test]
fn a_pause_inside_a_resume_holds() {
    let below = dam();
    let between = proxy::basic(below.clone(), Marks::TWISTED).unwrap();
    let upstream = Recorder::new();
    between.register_producer(upstream.push()).unwrap();
    assert_eq!(upstream.heard(), "P");
    let _ = between.write(Bytes::from_static(b"one")).unwrap();
    below.open_for(3);
    assert_eq!(
        (text(&below), upstream.heard()),
        ("one".to_owned(), String::new())
    );
    let _ = between.write(Bytes::from_static(b"two")).unwrap();
    assert_eq!(text(&below), "one");
    below.open_for(100);
    assert_eq!(
        (text(&below), upstream.heard()),
        ("onetwo".to_owned(), "R".to_owned())
    );
}

/// Law 6: two proxies in front of one consumer is an error, which ends nothing.
#[test]
fn a_second_proxy_is_refused_and_disturbs_nothing() {
    let below = Arc::new(Dam::open());
    let first = proxy::buffered(below.clone(), Marks::TWISTED).unwrap();
    assert!(proxy::buffered(below.clone(), Marks::TWISTED).is_err());
    assert!(proxy::pull(below.clone(), Marks::TWISTED).is_err());
    let _ = first.write(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(events(&below), ["still here"]);
}
