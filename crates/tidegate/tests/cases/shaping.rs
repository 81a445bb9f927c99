//! Scenarios of the shaper and the throttle. Time is what the test says it is.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{
    Consumer, FinishableConsumer, Limiter, Marks, Pressure, Rate, Shaper, Throttle, Throttled, ThrottledError,
};

use crate::dam::Dam;
use crate::recorder::Recorder;

fn rate(per_second: u64, burst: u64) -> Rate {
    let bytes = |n| NonZeroU64::new(n).unwrap();
    Rate::per_second(bytes(per_second)).with_burst(bytes(burst))
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'y'; count])
}

fn sent(dam: &Dam) -> usize {
    dam.0.lock().unwrap().out.len()
}

/// A shaper whose credit is spent.
fn spent(rate: Rate, marks: Marks) -> (Arc<Dam>, Shaper) {
    let limiter = Limiter::new(rate, Duration::ZERO);
    limiter.spend(rate.burst_bytes.get(), Duration::ZERO);
    let below = Arc::new(Dam::open());
    let shaper = Shaper::new(below.clone(), marks, limiter, Duration::ZERO).unwrap();
    (below, shaper)
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// CASES 130: rate 2, nothing left, ten seconds: of a hundred bytes exactly twenty pass.
#[test]
fn ten_seconds_let_twenty_bytes_through() {
    let (below, shaper) = spent(rate(2, 100), Marks::TWISTED);
    let _ = shaper.write(bytes(100)).unwrap();
    assert_eq!(sent(&below), 0);
    let next = shaper.tick(seconds(10), Waker::noop());
    assert_eq!(sent(&below), 20);
    assert!(next.unwrap() > seconds(10));
}

/// CASES B46 (D69): without a token nothing, and nothing empty, reaches the one below; the time to come back is told,
/// the waker that was left is woken, and then the bytes pass without anybody's poke.
#[test]
fn held_bytes_pass_when_tokens_return() {
    let (below, shaper) = spent(rate(1, 8), Marks::TWISTED);
    let woken = Arc::new(Woken::default());
    assert_eq!(shaper.tick(Duration::ZERO, &Waker::from(woken.clone())), None);
    let _ = shaper.write(bytes(5)).unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let mut now = Duration::ZERO;
    while let Some(next) = shaper.tick(now, Waker::noop()) {
        assert!(next > now, "time does not stand still");
        now = next;
    }
    assert_eq!((now, sent(&below)), (seconds(5), 5));
}

/// CASES B47 (D70): a pull source above a spent shaper is asked as its marks allow, however often the one below asks.
#[test]
fn a_pull_source_above_a_spent_shaper_is_bounded() {
    let (below, shaper) = spent(rate(1, 8), Marks::TWISTED);
    let upstream = Recorder::new();
    shaper.register_producer(upstream.pull()).unwrap();
    for _ in 0..20 {
        below.open_for(usize::MAX);
        let _ = shaper.write(bytes(10));
    }
    assert_eq!(upstream.heard(), "R");
    assert_eq!(shaper.held(), 200);
    shaper.abort(tidegate::AbortReason::Requested);
    assert_eq!(upstream.heard(), "S");
}

/// The shaper's own law: an hour of idling lets one burst through and no more.
#[test]
fn idle_time_lets_one_burst_through() {
    let (below, shaper) = spent(rate(1_000, 64), Marks::TWISTED);
    let _ = shaper.tick(seconds(3_600), Waker::noop());
    let _ = shaper.write(bytes(1_000)).unwrap();
    assert_eq!((sent(&below), shaper.held()), (64, 936));
    shaper.set_rate(rate(1_000_000, 2_000), seconds(3_600));
    let _ = shaper.tick(seconds(3_601), Waker::noop());
    assert_eq!(shaper.held(), 0);
}

/// A throttled stream over an open dam.
fn throttled(group: &Throttle) -> (Arc<Dam>, Throttled) {
    let below = Arc::new(Dam::open());
    let stream = Throttled::new(below.clone(), Marks::TWISTED, group).unwrap();
    (below, stream)
}

/// CASES 132: bytes that were written are never delayed, and all of them count.
#[test]
fn a_list_passes_in_one_go_and_counts_whole() {
    let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
    let (below, stream) = throttled(&group);
    let _ = stream.write_list(vec![bytes(5); 4]).unwrap();
    assert_eq!((sent(&below), group.counted()), (20, 20));
    assert_eq!(below.0.lock().unwrap().events.len(), 1);
}

/// CASES 133, where the law is stronger: a token bucket shapes, so the producer is paused at the write that overdraws,
/// not at the next sample. Twisted counts for a second and pauses then.
#[test]
fn a_write_beyond_the_rate_pauses_until_time_has_paid() {
    let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
    let (_below, stream) = throttled(&group);
    let producer = Recorder::new();
    stream.register_producer(producer.push()).unwrap();
    assert_eq!(stream.write(bytes(10)).unwrap(), Pressure::Open);
    assert_eq!(producer.heard(), "");
    assert_eq!(stream.write(bytes(10)).unwrap(), Pressure::Full);
    assert_eq!(producer.heard(), "P");
    assert_eq!(
        group.tick(Duration::from_millis(999), Waker::noop()),
        Some(seconds(1))
    );
    assert_eq!(producer.heard(), "");
    assert_eq!(group.tick(seconds(1), Waker::noop()), None);
    assert_eq!(producer.heard(), "R");
}

/// CASES 135: two seats; the third is refused and nothing of it remains, and a seat that was left is free.
#[test]
fn a_group_has_so_many_seats() {
    let group = Throttle::new(rate(10, 10), NonZeroUsize::new(2), Duration::ZERO);
    let (_first_below, first) = throttled(&group);
    let (_second_below, _second) = throttled(&group);
    let below = Arc::new(Dam::open());
    let third = Throttled::new(below.clone(), Marks::TWISTED, &group);
    assert!(matches!(third, Err(ThrottledError::NoSeat)));
    assert_eq!(below.0.lock().unwrap().end, "open");
    drop(first);
    assert_eq!(group.members(), 1);
    assert!(Throttled::new(below, Marks::TWISTED, &group).is_ok());
}

/// CASES B50 (D76, D77, D78): with nobody registered there is no error; a pull source is delayed, not paused.
#[test]
fn a_throttle_needs_no_producer_and_delays_a_pull_source() {
    let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
    let (_below, stream) = throttled(&group);
    let _ = stream.write(bytes(30)).unwrap();
    stream.unregister_producer();
    let source = Recorder::new();
    stream.register_producer(source.pull()).unwrap();
    assert_eq!(source.heard(), "");
    let _ = group.tick(seconds(2), Waker::noop());
    assert_eq!(source.heard(), "R");
}

/// D79, D82: who comes while the group stands still is paused at once; the throttle's end resumes nobody whom somebody
/// else has paused.
#[test]
fn a_newcomer_is_paused_and_other_holds_stay() {
    let group = Throttle::new(rate(10, 10), None, Duration::ZERO);
    let (_first_below, first) = throttled(&group);
    let _ = first.write(bytes(20)).unwrap();
    let (_below, stream) = throttled(&group);
    let producer = Recorder::new();
    stream.register_producer(producer.push()).unwrap();
    assert_eq!(producer.heard(), "P");
    let user = stream.hold(tidegate::HoldReason::User);
    let _ = group.tick(seconds(1), Waker::noop());
    assert_eq!(producer.heard(), "");
    drop(user);
    assert_eq!(producer.heard(), "R");
}

/// CASES B52 (D80): two throttles on one gate, until 5 s and until 7 s: one pause, one resume, at 7 s.
#[test]
fn overlapping_throttles_are_two_holds() {
    let groups = [5, 7].map(|_| Throttle::new(rate(1, 1), None, Duration::ZERO));
    let (_below, stream) = throttled(&groups[0]);
    let stream = Arc::new(stream);
    let also = Arc::downgrade(&stream);
    let hold = move || Some(also.upgrade()?.hold(tidegate::HoldReason::Shaped));
    let member = groups[1].join(hold).unwrap();
    let producer = Recorder::new();
    stream.register_producer(producer.push()).unwrap();
    let _ = stream.write(bytes(6)).unwrap(); // one of credit, five owed
    member.passed(8);
    let mut heard = Vec::new();
    for now in 1..=8 {
        for group in &groups {
            let _ = group.tick(seconds(now), Waker::noop());
        }
        heard.push((now, producer.heard()));
    }
    heard.retain(|(_, signals)| !signals.is_empty());
    assert_eq!(heard, [(1, "P".to_owned()), (7, "R".to_owned())]);
}

/// A group whose member cannot be held any more goes on with the others.
#[test]
fn a_member_with_nothing_left_to_hold_is_passed_over() {
    let group = Throttle::new(rate(1, 1), None, Duration::ZERO);
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let member = group.join(move || {
        *count.lock().unwrap() += 1;
        None::<()>
    });
    let member = member.unwrap();
    member.passed(10);
    member.passed(10);
    assert_eq!(*asked.lock().unwrap(), 1);
    drop(member);
    assert_eq!(group.members(), 0);
}
