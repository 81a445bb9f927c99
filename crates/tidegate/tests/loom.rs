//! Signal delivery under every interleaving that matters: up to three threads; every preemption for the channel, two or three
//! for the stage.
//!
//! Run as: `RUSTFLAGS="--cfg loom" cargo test -p tidegate --test loom --release` (with a `CARGO_TARGET_DIR` of its own, or
//! everything is built again and again). Without `--cfg loom` this file is empty.
//!
//! Each model ends with everybody quiet and asserts what the laws say then: no signal lost, none delivered twice, none of
//! one registration at the same time on two threads, stop once and last.
//!
//! That loom would notice is shown by mutants of our own code, switched on by `tidegate::mutants`: each must be caught by
//! the model named beside it.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use tidegate::mutants::{self, Mutant};
use tidegate::{
    AbortReason, Accepted, Below, BelowPause, Consumer, FinishableConsumer, Finished, HoldReason, Marks,
    Producer, PullProducer, PushProducer, Ready, Receiver, Stage, StopReason, channel,
};

/// Writes down what it hears, and panics when two signals run at once on different threads.
struct Recorder {
    heard: Mutex<String>,
    busy: AtomicUsize,
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::new(String::new()),
            busy: AtomicUsize::new(0),
        })
    }

    fn hear(&self, signal: char) {
        let others = self.busy.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two signals of one registration at once");
        let mut heard = self.heard.lock().unwrap();
        assert!(!heard.ends_with('S'), "{signal} after stop");
        heard.push(signal);
        drop(heard);
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    fn events(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

impl PushProducer for Recorder {
    fn pause_producing(&self) {
        self.hear('P');
    }
    fn resume_producing(&self) {
        self.hear('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.hear('S');
    }
}

impl PullProducer for Recorder {
    fn resume_producing(&self) {
        self.hear('R');
    }
    fn stop_producing(&self, _: StopReason) {
        self.hear('S');
    }
}

fn marks() -> Marks {
    Marks::new(0, 1).unwrap()
}

fn two() -> Bytes {
    Bytes::from_static(b"ab")
}

fn drain_all(receiver: &mut Receiver) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(Some(Ok(piece))) = receiver.poll_recv(&mut context) {
        taken += piece.len();
    }
    taken
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_within(None, model);
}

/// Stages take their lock often: all preemptions of three threads would take hours.
fn explore_within(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
    eprintln!("{runs} interleavings");
    assert!(runs > 10, "only {runs} interleavings: the model has no freedom");
}

/// One thread fills, one drains: no lost pause, no lost resume.
fn fill_against_drain(mutant: Mutant, writes: usize) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, mut receiver) = channel(marks());
        let sender = Arc::new(sender);
        let producer = Recorder::new();
        sender
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        let writer = thread::spawn({
            let sender = Arc::clone(&sender);
            move || {
                for _ in 0..writes {
                    let _ = sender.write(two()).unwrap();
                }
            }
        });
        drain_all(&mut receiver);
        writer.join().unwrap();
        let heard = producer.events();
        assert!(
            !heard.contains("PP") && !heard.contains("RR"),
            "{heard} does not alternate"
        );
        assert_eq!(
            heard.ends_with('P'),
            sender.held() > 0,
            "held {}: {heard}",
            sender.held()
        );
        drain_all(&mut receiver);
        assert!(!producer.events().ends_with('P'), "the resume was lost");
    });
}

#[test]
fn no_pause_and_no_resume_is_lost() {
    fill_against_drain(Mutant::None, 1);
    fill_against_drain(Mutant::None, 2);
}

/// Three threads: one fills and drains, one holds and releases, one kills.
#[test]
fn stop_comes_once_and_last() {
    explore(|| {
        let (sender, receiver) = channel(marks());
        let sender = Arc::new(sender);
        let producer = Recorder::new();
        sender
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        let writer = thread::spawn({
            let sender = Arc::clone(&sender);
            move || drop(sender.write(two()))
        });
        let holder = thread::spawn({
            let sender = Arc::clone(&sender);
            move || drop(sender.hold(HoldReason::User))
        });
        drop(receiver);
        writer.join().unwrap();
        holder.join().unwrap();
        let heard = producer.events();
        assert_eq!(heard.matches('S').count(), 1, "{heard}");
        assert!(heard.ends_with('S'), "{heard}");
        assert_eq!(Arc::strong_count(&producer), 1, "kept after stop");
    });
}

/// Who registers while the consumer dies is stopped once, whichever comes first.
fn register_against_death(mutant: Mutant) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, receiver) = channel(marks());
        let sender = Arc::new(sender);
        let killer = thread::spawn(move || drop(receiver));
        let aborter = thread::spawn({
            let sender = Arc::clone(&sender);
            move || sender.abort(AbortReason::Requested)
        });
        let producer = Recorder::new();
        sender
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        killer.join().unwrap();
        aborter.join().unwrap();
        assert_eq!(producer.events(), "S");
    });
}

#[test]
fn a_registration_against_a_death_is_stopped_once() {
    register_against_death(Mutant::None);
}

/// A pull is due when the last hold goes, once, whoever releases.
fn pull_against_hold(mutant: Mutant) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, mut receiver) = channel(marks());
        let sender = Arc::new(sender);
        let producer = Recorder::new();
        sender
            .register_producer(Producer::pull(Arc::clone(&producer)))
            .unwrap();
        let holder = thread::spawn({
            let sender = Arc::clone(&sender);
            move || drop(sender.hold(HoldReason::User))
        });
        let _ = sender.write(two()).unwrap();
        drain_all(&mut receiver);
        holder.join().unwrap();
        assert_eq!(producer.events(), "RR", "one pull for the write, and one more");
    });
}

#[test]
fn a_pull_against_a_hold_is_not_lost() {
    pull_against_hold(Mutant::None);
}

/// Answers each pull with a chunk while it has any, inside the handler: the next pull is decided meanwhile.
struct Puller {
    to: Arc<dyn Consumer>,
    state: Mutex<Pulled>,
}

#[derive(Default)]
struct Pulled {
    chunks: usize,
    calls: usize,
    /// Asked for a chunk that was not written.
    owes: bool,
    stops: usize,
}

impl PullProducer for Puller {
    fn resume_producing(&self) {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        assert!(!state.owes, "asked again for a chunk that was not written yet");
        assert_eq!(state.stops, 0, "asked after stop");
        state.owes = true;
        if state.chunks > 0 {
            state.chunks -= 1;
            state.owes = false;
            drop(state);
            let _ = self.to.write(two());
        }
    }
    fn stop_producing(&self, _: StopReason) {
        self.state.lock().unwrap().stops += 1;
    }
}

/// A puller on a channel with room for all of its `chunks`, not registered yet.
fn puller(chunks: usize) -> (Arc<tidegate::Sender>, Receiver, Arc<Puller>) {
    let (sender, receiver) = channel(Marks::new(16, 16).unwrap());
    let puller = Arc::new(Puller {
        to: sender.consumer(),
        state: Mutex::new(Pulled {
            chunks,
            ..Pulled::default()
        }),
    });
    (Arc::new(sender), receiver, puller)
}

/// A producer that answers inside its handler is asked once for each chunk and once more, whoever holds meanwhile.
fn pulls_ahead_against_hold(mutant: Mutant) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, mut receiver, puller) = puller(2);
        let holder = thread::spawn({
            let sender = Arc::clone(&sender);
            move || drop(sender.hold(HoldReason::User))
        });
        sender
            .register_producer(Producer::pull(Arc::clone(&puller)))
            .unwrap();
        holder.join().unwrap();
        {
            let state = puller.state.lock().unwrap();
            assert_eq!(
                (state.calls, state.owes),
                (3, true),
                "two chunks, and one more call"
            );
        }
        assert_eq!(drain_all(&mut receiver), 4);
        sender.unregister_producer();
    });
}

#[test]
fn pulls_decided_ahead_are_not_lost_to_a_hold() {
    pulls_ahead_against_hold(Mutant::None);
}

/// Unregistered, or stopped, while a pull is decided ahead: one that was taken may still come, none comes after stop.
#[test]
fn pulls_decided_ahead_end_with_the_registration() {
    for abort in [AbortReason::Requested, AbortReason::Dropped] {
        explore(move || {
            let (sender, receiver, puller) = puller(2);
            let ender = thread::spawn({
                let (sender, abort) = (Arc::clone(&sender), abort.clone());
                move || match abort {
                    AbortReason::Dropped => sender.unregister_producer(),
                    reason => sender.abort(reason),
                }
            });
            sender
                .register_producer(Producer::pull(Arc::clone(&puller)))
                .unwrap();
            ender.join().unwrap();
            sender.unregister_producer();
            let state = puller.state.lock().unwrap();
            assert!(state.calls <= 3);
            let stops = usize::from(matches!(abort, AbortReason::Requested));
            assert_eq!(state.stops, stops);
            drop(state);
            assert_eq!(Arc::strong_count(&puller), 1, "kept after its registration");
            drop(receiver);
        });
    }
}

/// A producer that unregisters inside its handler after it wrote is not asked again; the next one starts fresh.
fn unregisters_itself(mutant: Mutant) {
    struct Once {
        to: Arc<dyn Consumer>,
        calls: AtomicUsize,
    }
    impl PullProducer for Once {
        fn resume_producing(&self) {
            let calls = self.calls.fetch_add(1, Ordering::SeqCst);
            assert_eq!(calls, 0, "asked after it unregistered itself");
            let _ = self.to.write(two());
            self.to.unregister_producer();
        }
        fn stop_producing(&self, _: StopReason) {}
    }
    explore(move || {
        mutants::choose(mutant);
        let (sender, mut receiver, _) = puller(0);
        let once = Arc::new(Once {
            to: sender.consumer(),
            calls: AtomicUsize::new(0),
        });
        sender.register_producer(Producer::pull(once)).unwrap();
        let drainer = thread::spawn(move || drain_all(&mut receiver));
        drop(sender.hold(HoldReason::User));
        drainer.join().unwrap();
    });
}

#[test]
fn a_producer_that_unregisters_itself_is_not_asked_again() {
    unregisters_itself(Mutant::None);
}

/// Two holders and a writer: once quiet, the producer was last told what is wanted.
fn two_holders(mutant: Mutant) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, receiver) = channel(marks());
        let sender = Arc::new(sender);
        let producer = Recorder::new();
        sender
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        let holders = [HoldReason::User, HoldReason::Shaped].map(|reason| {
            let sender = Arc::clone(&sender);
            thread::spawn(move || drop(sender.hold(reason)))
        });
        for holder in holders {
            holder.join().unwrap();
        }
        let heard = producer.events();
        assert!(heard.is_empty() || heard.ends_with('R'), "left paused: {heard}");
        drop(receiver);
    });
}

#[test]
fn two_holders_leave_the_producer_running() {
    two_holders(Mutant::None);
}

#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// The receiver is woken for what is written while it looks.
fn waiting_receiver(mutant: Mutant) {
    explore(move || {
        mutants::choose(mutant);
        let (sender, mut receiver) = channel(marks());
        let writer = thread::spawn(move || {
            let _ = sender.write(two()).unwrap();
            sender.finish();
        });
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let first = receiver.poll_recv(&mut Context::from_waker(&waker));
        writer.join().unwrap();
        if first.is_pending() {
            assert!(
                flag.0.load(std::sync::atomic::Ordering::SeqCst),
                "left waiting although bytes came"
            );
            assert_eq!(drain_all(&mut receiver), 2);
        }
        assert!(matches!(
            receiver.poll_ready(&mut Context::from_waker(&waker)),
            Poll::Ready(Ok(Ready::End))
        ));
    });
}

#[test]
fn a_waiting_receiver_is_woken() {
    waiting_receiver(Mutant::None);
}

/// Unregistered against a signal under way: the next registration starts fresh, and nothing is told to it that it did not earn.
#[test]
fn a_new_registration_hears_nothing_of_the_old() {
    explore(|| {
        let (sender, mut receiver) = channel(marks());
        let sender = Arc::new(sender);
        let first = Recorder::new();
        sender
            .register_producer(Producer::push(Arc::clone(&first)))
            .unwrap();
        let _ = sender.write(two()).unwrap();
        let changer = thread::spawn({
            let sender = Arc::clone(&sender);
            move || {
                sender.unregister_producer();
                let second = Recorder::new();
                sender
                    .register_producer(Producer::push(Arc::clone(&second)))
                    .unwrap();
                second
            }
        });
        drain_all(&mut receiver);
        let second = changer.join().unwrap();
        assert!(
            matches!(first.events().as_str(), "P" | "PR"),
            "{}",
            first.events()
        );
        assert!(
            matches!(second.events().as_str(), "" | "PR"),
            "{}",
            second.events()
        );
    });
}

/// Takes what its budget allows, all or nothing.
struct Tap {
    budget: Mutex<usize>,
    taken: AtomicUsize,
    ended: Mutex<String>,
}

impl Below for Tap {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        let mut budget = self.budget.lock().unwrap();
        if *budget < held[0].len() {
            return Accepted::Wait;
        }
        *budget -= held[0].len();
        self.taken.fetch_add(held[0].len(), Ordering::SeqCst);
        Accepted::Took(held[0].len())
    }
    fn finish(&self) -> Finished {
        self.ended.lock().unwrap().push('F');
        Finished::Done
    }
    fn abort(&self, _: AbortReason) {
        self.ended.lock().unwrap().push('A');
    }
}

fn stage(budget: usize) -> Arc<Stage<Tap>> {
    Arc::new(Stage::new(marks(), BelowPause::Buffer, |_| Tap {
        budget: Mutex::new(budget),
        taken: AtomicUsize::new(0),
        ended: Mutex::new(String::new()),
    }))
}

/// A stage that was told to wait while it is poked: what is held goes down, the producer is resumed.
fn poke_against_wait(mutant: Mutant) {
    explore_within(Some(3), move || {
        mutants::choose(mutant);
        let stage = stage(0);
        let producer = Recorder::new();
        stage
            .register_producer(Producer::push(Arc::clone(&producer)))
            .unwrap();
        let writer = thread::spawn({
            let stage = Arc::clone(&stage);
            move || {
                let _ = stage.write(two()).unwrap();
            }
        });
        *stage.below().budget.lock().unwrap() = 2;
        stage.handle().poke();
        writer.join().unwrap();
        assert_eq!(stage.below().taken.load(Ordering::SeqCst), 2, "left behind");
        let heard = producer.events();
        assert!(matches!(heard.as_str(), "" | "PR"), "{heard}");
    });
}

#[test]
fn a_poke_against_a_wait_is_not_lost() {
    poke_against_wait(Mutant::None);
}

/// Two writers and the end: everything goes down, by one drainer at a time, and then the end, once.
#[test]
fn a_stage_hands_on_all_and_then_the_end() {
    explore_within(Some(2), || {
        let stage = stage(4);
        let writer = thread::spawn({
            let stage = Arc::clone(&stage);
            move || {
                let _ = stage.write(two()).unwrap();
            }
        });
        let _ = stage.write(two()).unwrap();
        writer.join().unwrap();
        let finisher = thread::spawn({
            let stage = Arc::clone(&stage);
            move || stage.finish()
        });
        stage.abort(AbortReason::Requested);
        finisher.join().unwrap();
        assert_eq!(stage.below().taken.load(Ordering::SeqCst), 4);
        let ended = stage.below().ended.lock().unwrap().clone();
        assert!(ended == "F" || ended == "A", "{ended}");
    });
}

/// Each mutant is caught by the model named beside it.
#[test]
fn mutants_are_caught() {
    let pairs: [(Mutant, fn(Mutant)); 8] = [
        (Mutant::IgnoreBusy, two_holders),
        (Mutant::NoSecondLook, |mutant| fill_against_drain(mutant, 1)),
        (Mutant::WaitBlindly, waiting_receiver),
        (Mutant::RegisterBlindly, register_against_death),
        (Mutant::ReleaseBlindly, pull_against_hold),
        (Mutant::TakeInTwoSteps, pulls_ahead_against_hold),
        (Mutant::NothingIsRevoked, unregisters_itself),
        (Mutant::PokeIsForgotten, poke_against_wait),
    ];
    for (mutant, model) in pairs {
        let caught = catch_unwind(AssertUnwindSafe(|| model(mutant)));
        assert!(caught.is_err(), "{mutant:?} is not caught");
    }
}
