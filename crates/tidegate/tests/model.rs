//! Long random runs of operations on a channel, compared after each with a model too naive to be wrong.
//!
//! The model knows what a producer obeys, so it says what the producer must have been told last, what is held, what comes
//! out and how the stream ends.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;
use tidegate::{
    AbortReason, Consumer, FinishableConsumer, Hold, HoldReason, Marks, Producer, PushProducer, Ready,
    Receiver, StopReason, channel,
};

#[derive(Clone, Debug)]
enum Op {
    Register,
    Unregister,
    Write(usize),
    WriteList(Vec<usize>),
    /// Takes at most so many bytes.
    Take(usize),
    Hold,
    Release,
    Finish,
    Abort,
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => Just(Op::Register),
        2 => Just(Op::Unregister),
        10 => (0_usize..12).prop_map(Op::Write),
        3 => prop::collection::vec(0_usize..6, 0..4).prop_map(Op::WriteList),
        12 => (0_usize..15).prop_map(Op::Take),
        3 => Just(Op::Hold),
        3 => Just(Op::Release),
        1 => Just(Op::Finish),
        1 => Just(Op::Abort),
    ];
    prop::collection::vec(op, 1..120)
}

#[derive(Default)]
struct Recorder(Mutex<String>);

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

#[derive(Default)]
struct Model {
    queue: Vec<u8>,
    /// What the device has taken.
    taken: Vec<u8>,
    next: u8,
    full: bool,
    /// A write was refused for `max`: its producer waits until nothing is held.
    refused: bool,
    holds: usize,
    registered: bool,
    events: String,
    finished: bool,
    dead: bool,
    ended: bool,
}

impl Model {
    fn piece(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes)
            .map(|_| {
                self.next = self.next.wrapping_add(1);
                self.next
            })
            .collect()
    }

    fn accepts(&self, bytes: usize, marks: Marks) -> bool {
        let open = !self.dead && !self.ended && (!self.finished || self.registered);
        open && (bytes == 0 || self.queue.is_empty() || self.queue.len() + bytes <= marks.max())
    }

    /// Neither bytes nor an end is there for the reader.
    fn has_nothing_to_tell(&self) -> bool {
        self.queue.is_empty() && !self.dead && (!self.finished || self.registered)
    }

    /// What the producer hears until it was told what is wanted.
    fn settle(&mut self, marks: Marks) {
        self.full |= self.queue.len() > marks.high();
        self.full &= self.queue.len() > marks.low();
        self.refused &= !self.queue.is_empty() && self.registered;
        if !self.registered {
            return;
        }
        let paused = self.events.ends_with('P');
        if self.dead {
            self.events.push('S');
            self.registered = false;
        } else if (self.full || self.holds > 0 || self.refused) != paused {
            self.events.push(if paused { 'R' } else { 'P' });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_channel_does_what_the_model_says(ops in operations(), low in 0_usize..6, above in 1_usize..8, room in 0_usize..12) {
        let marks = Marks::new(low, low + above).unwrap().with_max(low + above + room).unwrap();
        let (sender, mut receiver) = channel(marks);
        let mut model = Model::default();
        let mut producer = Arc::new(Recorder::default());
        let mut holds: Vec<Hold> = Vec::new();
        let mut came = Vec::new();
        for op in ops {
            match op {
                Op::Register => {
                    let fresh = Arc::new(Recorder::default());
                    let taken = sender.register_producer(Producer::push(Arc::clone(&fresh))).is_ok();
                    prop_assert_eq!(taken, !model.registered);
                    if taken {
                        producer = fresh;
                        let over = model.finished || model.dead;
                        model.events = String::from(if over { "S" } else { "" });
                        model.registered = !over;
                    }
                }
                Op::Unregister => {
                    sender.unregister_producer();
                    model.registered = false;
                }
                Op::Write(bytes) => {
                    let accepts = model.accepts(bytes, marks);
                    let piece = model.piece(bytes);
                    let result = sender.write(Bytes::from(piece.clone()));
                    prop_assert_eq!(result.is_ok(), accepts);
                    model.wrote(piece, accepts, result.err().map(|error| error.data.to_vec()));
                }
                Op::WriteList(sizes) => {
                    let accepts = model.accepts(sizes.iter().sum(), marks);
                    let list: Vec<Vec<u8>> = sizes.into_iter().map(|bytes| model.piece(bytes)).collect();
                    let result = sender.write_list(list.iter().cloned().map(Bytes::from).collect());
                    prop_assert_eq!(result.is_ok(), accepts);
                    model.wrote(list.concat(), accepts, result.err().map(|error| error.data.concat()));
                }
                Op::Take(most) => {
                    came.extend(take(&mut receiver, &mut model, most)?);
                }
                Op::Hold => {
                    holds.push(sender.hold(HoldReason::User));
                    model.holds += 1;
                }
                Op::Release => model.holds -= usize::from(holds.pop().is_some()),
                Op::Finish => {
                    sender.finish();
                    model.finished |= !model.dead;
                }
                Op::Abort => {
                    sender.abort(AbortReason::Requested);
                    if !model.ended {
                        model.dead = true;
                        model.queue.clear();
                    }
                }
            }
            model.settle(marks);
            prop_assert_eq!(&*producer.0.lock().unwrap(), &model.events);
            prop_assert_eq!(sender.held(), model.queue.len());
            prop_assert_eq!(&came, &model.taken);
        }
    }
}

/// The device takes up to `most` of what waits; gives back what came, and notes in the model what should have.
fn take(receiver: &mut Receiver, model: &mut Model, most: usize) -> Result<Vec<u8>, TestCaseError> {
    let mut came = Vec::new();
    match receiver.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(Ready::Bytes)) => {
            prop_assert!(!model.dead);
            came.extend(receiver.pieces().flat_map(|piece| piece.to_vec()));
            came.truncate(most);
            model.taken.extend(model.queue.drain(..came.len()));
            receiver.advance(came.len());
        }
        Poll::Ready(Ok(Ready::End)) => {
            prop_assert!(model.finished && !model.dead && !model.registered && model.queue.is_empty());
            model.ended = true;
        }
        Poll::Ready(Err(_)) => prop_assert!(model.dead),
        Poll::Pending => prop_assert!(model.has_nothing_to_tell()),
    }
    Ok(came)
}

impl Model {
    fn wrote(&mut self, piece: Vec<u8>, accepted: bool, given_back: Option<Vec<u8>>) {
        if accepted {
            self.refused &= piece.is_empty();
            self.queue.extend(piece);
        } else {
            assert_eq!(given_back, Some(piece), "the refused data was not given back");
            self.refused |= self.registered && !self.dead && !self.ended;
        }
    }
}
