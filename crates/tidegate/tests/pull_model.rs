//! Random pull producers that do things inside their handlers, compared after each step with a model too naive to be wrong.
//!
//! What a producer does inside a handler may make its next pull due, or undo that again; from outside it must look as if
//! everything were asked anew once the handler has returned.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;
use tidegate::{
    AbortReason, Consumer, FinishableConsumer, Hold, HoldReason, Marks, Producer, PullProducer, Ready,
    Receiver, Sender, StopReason, channel,
};

/// What is done from outside, or by a handler.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Hold,
    Release,
    Unregister,
    Abort,
}

#[derive(Clone, Debug)]
enum Op {
    /// A new producer, which does one of these lists at each pull and then nothing more.
    Register(VecDeque<Vec<Step>>),
    Step(Step),
    /// The device takes all that waits.
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_usize..6).prop_map(Step::Write),
        2 => Just(Step::Hold),
        3 => Just(Step::Release),
        1 => Just(Step::Unregister),
    ]
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let handler = prop::collection::vec(step(), 0..4);
    let script = prop::collection::vec_deque(handler, 0..8);
    let op = prop_oneof![
        4 => script.prop_map(Op::Register),
        6 => step().prop_map(Op::Step),
        6 => Just(Op::Drain),
        1 => Just(Op::Step(Step::Abort)),
    ];
    prop::collection::vec(op, 1..40)
}

/// What producers and outsiders share: the stream, and the holds that are out.
struct Real {
    sender: Sender,
    holds: Mutex<Vec<Hold>>,
}

impl Real {
    fn play(&self, step: &Step) {
        match step {
            Step::Write(bytes) => drop(self.sender.write(Bytes::from(vec![b'w'; *bytes]))),
            Step::Hold => {
                let hold = self.sender.hold(HoldReason::User);
                self.holds.lock().unwrap().push(hold);
            }
            Step::Release => {
                let hold = self.holds.lock().unwrap().pop();
                drop(hold);
            }
            Step::Unregister => self.sender.unregister_producer(),
            Step::Abort => self.sender.abort(AbortReason::Requested),
        }
    }
}

struct Scripted {
    real: Arc<Real>,
    script: Mutex<VecDeque<Vec<Step>>>,
    heard: Mutex<String>,
}

impl PullProducer for Scripted {
    fn resume_producing(&self) {
        self.heard.lock().unwrap().push('R');
        let steps = self.script.lock().unwrap().pop_front().unwrap_or_default();
        for step in &steps {
            self.real.play(step);
        }
    }
    fn stop_producing(&self, _: StopReason) {
        self.heard.lock().unwrap().push('S');
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Told {
    #[default]
    Never,
    Asked,
    Answered,
}

#[derive(Default)]
struct Model {
    held: usize,
    full: bool,
    holds: usize,
    dead: bool,
    registered: bool,
    told: Told,
    script: VecDeque<Vec<Step>>,
    heard: String,
}

impl Model {
    fn play(&mut self, step: &Step, marks: Marks) {
        match step {
            Step::Write(bytes) if !self.dead && *bytes > 0 => {
                self.held += bytes;
                self.full |= self.held > marks.high();
                if self.told == Told::Asked {
                    self.told = Told::Answered;
                }
            }
            Step::Write(_) => {}
            Step::Hold => self.holds += 1,
            Step::Release => self.holds = self.holds.saturating_sub(1),
            Step::Unregister => self.registered = false,
            Step::Abort => {
                self.dead = true;
                self.held = 0;
            }
        }
    }

    fn register(&mut self, script: VecDeque<Vec<Step>>) {
        self.registered = true;
        self.told = Told::Never;
        self.script = script;
        self.heard.clear();
    }

    fn drain(&mut self) {
        self.held = 0;
        self.full = false;
    }

    /// Makes every call that is due, one after the other.
    fn settle(&mut self, marks: Marks) {
        while self.registered {
            if self.dead {
                self.registered = false;
                self.heard.push('S');
                return;
            }
            let wanted = match self.told {
                Told::Never => true,
                Told::Asked => false,
                Told::Answered => !self.full && self.held <= marks.low(),
            };
            if !wanted || self.holds > 0 {
                return;
            }
            self.told = Told::Asked;
            self.heard.push('R');
            for step in self.script.pop_front().unwrap_or_default() {
                self.play(&step, marks);
            }
        }
    }
}

fn drain(receiver: &mut Receiver) {
    if let Poll::Ready(Ok(Ready::Bytes)) = receiver.poll_ready(&mut Context::from_waker(Waker::noop())) {
        let all = receiver.pieces().map(Bytes::len).sum();
        receiver.advance(all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_puller_is_asked_as_the_model_says(ops in operations(), low in 0_usize..12, above in 1_usize..8) {
        let marks = Marks::new(low, low + above).unwrap();
        let (sender, mut receiver) = channel(marks);
        let real = Arc::new(Real { sender, holds: Mutex::default() });
        let mut model = Model::default();
        let mut producer = None;
        for op in ops {
            match op {
                Op::Register(script) => {
                    let fresh = Arc::new(Scripted {
                        real: Arc::clone(&real),
                        script: Mutex::new(script.clone()),
                        heard: Mutex::default(),
                    });
                    let taken = real.sender.register_producer(Producer::pull(Arc::clone(&fresh))).is_ok();
                    prop_assert_eq!(taken, !model.registered);
                    if taken {
                        producer = Some(fresh);
                        model.register(script);
                    }
                }
                Op::Step(step) => {
                    real.play(&step);
                    model.play(&step, marks);
                }
                Op::Drain => {
                    drain(&mut receiver);
                    model.drain();
                }
            }
            model.settle(marks);
            let heard = producer.as_ref().map_or(String::new(), |one: &Arc<Scripted>| one.heard.lock().unwrap().clone());
            prop_assert_eq!(&heard, &model.heard);
            prop_assert_eq!(real.sender.held(), model.held);
        }
        real.sender.unregister_producer();
        real.holds.lock().unwrap().clear();
    }
}
