//! A protocol where a consumer is wanted, and a consumer where a protocol is wanted, with flow control both ways.
//!
//! Knows no transport of its own. (Twisted: `protocol.ProtocolToConsumerAdapter`, `ConsumerToProtocolAdapter`.)

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::connection::{End, Lane};
use crate::forward::{debug_held, forward};
use crate::sync::{Mutex, lock};
use crate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer, Finished,
    HalfClose, Loss, Marks, Outcome, Over, Producer, Protocol, PushProducer, ReadHold, Refusal, Stage,
    StopReason, Transport, WriteError,
};

/// Hands what is written to a protocol as what it receives, and lets it answer into another consumer.
///
/// When the protocol holds reading, the producer registered here is paused (a pull producer is not asked), and what was
/// written waits. `finish` is the peer's end of stream, `abort` cuts the connection.
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// # use bytes::Bytes;
/// # use tidegate::{Consumer as _, FinishableConsumer as _, Loss, Marks, Protocol, ProtocolConsumer, Transport, channel};
/// #[derive(Default)]
/// struct Listener(Mutex<Vec<u8>>);
/// impl Protocol for Listener {
///     fn connection_made(&self, _: Arc<dyn Transport>) {}
///     fn data_received(&self, data: Bytes) {
///         self.0.lock().unwrap().extend_from_slice(&data);
///     }
///     fn connection_lost(&self, _: Loss) {}
/// }
///
/// let listener = Arc::new(Listener::default());
/// let (answers, _receiver) = channel(Marks::default());
/// let consumer = ProtocolConsumer::new(listener.clone(), Arc::new(answers), Marks::default()).unwrap();
/// consumer.write(Bytes::from_static(b"hello")).unwrap();
/// assert_eq!(*listener.0.lock().unwrap(), b"hello");
/// ```
pub struct ProtocolConsumer {
    stage: Stage<Lane>,
    answers: Outcome,
}

impl ProtocolConsumer {
    /// Connects `protocol`; what it writes goes to `answers`. `marks` bound what waits in either direction.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `answers` has a producer; the protocol is not connected then.
    pub fn new(
        protocol: Arc<dyn Protocol>,
        answers: Arc<dyn FinishableConsumer>,
        marks: Marks,
    ) -> Result<Self, AlreadyRegistered> {
        let end = End::new(protocol);
        let out = answering(&end, answers, marks)?;
        let answers = out.outcome();
        let stage = Stage::new(marks, BelowPause::Buffer, |_| Lane::direct(Arc::clone(&end)));
        end.connect(out, stage.handle());
        Ok(Self { stage, answers })
    }

    /// How what is written here ends: `Ok` when the protocol has received it all and been told of its end.
    pub fn outcome(&self) -> Outcome {
        self.stage.outcome()
    }

    /// How what the protocol writes ends: `Ok` when it finished and `answers` accepted it all.
    pub fn answers_outcome(&self) -> Outcome {
        self.answers.clone()
    }

    forward!(stage: hold held);
}

impl Consumer for ProtocolConsumer {
    forward!(stage: register_producer unregister_producer write write_list);
}

impl FinishableConsumer for ProtocolConsumer {
    forward!(stage: finish abort);
}

debug_held!(ProtocolConsumer);

/// The consumer a connected protocol writes to when its answers go to `answers`.
pub(crate) fn answering(
    end: &Arc<End>,
    answers: Arc<dyn FinishableConsumer>,
    marks: Marks,
) -> Result<Arc<Stage<Answers>>, AlreadyRegistered> {
    let below = |_| Answers {
        over: Over::new(Arc::clone(&answers)),
        end: Arc::downgrade(end),
    };
    Ok(Arc::new(Stage::before(
        &answers,
        marks,
        BelowPause::Relay,
        below,
    )?))
}

/// The lower half of what a protocol writes to: tells its end of the connection how it ended.
pub(crate) struct Answers {
    over: Over,
    end: Weak<End>,
}

impl Below for Answers {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        self.over.accept(held)
    }

    fn finish(&self) -> Finished {
        let finished = self.over.finish();
        if let Some(end) = self.end.upgrade() {
            end.output_done();
        }
        finished
    }

    fn abort(&self, reason: AbortReason) {
        self.over.abort(reason.clone());
        if let Some(end) = self.end.upgrade() {
            end.cut(reason);
        }
    }
}

/// Writes what it receives to a consumer, as that consumer's push producer: a pause holds reading, and so the peer.
///
/// The peer's end finishes the consumer, a cut connection aborts it, and a consumer that dies cuts the connection.
/// Writes nothing to the peer.
pub struct ConsumerProtocol {
    tap: Arc<Tap>,
}

/// What the consumer keeps as its producer: no way back to the write end but through the tap's own `Arc`, let go at the
/// end.
struct Tap {
    consumer: Arc<dyn FinishableConsumer>,
    state: Mutex<TapState>,
}

#[derive(Default)]
struct TapState {
    transport: Option<Arc<dyn Transport>>,
    /// Out while the consumer has paused us.
    paused: Option<ReadHold>,
    is_paused: bool,
    /// Refused for the moment, with a hold of their own. They go first.
    refused: VecDeque<Bytes>,
    refused_hold: Option<ReadHold>,
    finishes: bool,
    ended: bool,
}

impl ConsumerProtocol {
    /// What it is connected to will be written to `consumer`, which must have no producer until then.
    pub fn new(consumer: Arc<dyn FinishableConsumer>) -> Self {
        let state = Mutex::new(TapState::default());
        Self {
            tap: Arc::new(Tap { consumer, state }),
        }
    }
}

impl Protocol for ConsumerProtocol {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        lock(&self.tap.state).transport = Some(Arc::clone(&transport));
        let signals = Arc::new(Signals(Arc::downgrade(&self.tap)));
        if self
            .tap
            .consumer
            .register_producer(Producer::push(signals))
            .is_err()
        {
            // Somebody else writes to it: it is not ours to end.
            lock(&self.tap.state).ended = true;
            transport.abort_connection(AbortReason::Requested);
        }
    }

    fn data_received(&self, data: Bytes) {
        self.tap.write(data);
    }

    fn end_received(&self) -> HalfClose {
        lock(&self.tap.state).finishes = true;
        self.tap.finish_if_due();
        HalfClose::Close
    }

    fn connection_lost(&self, loss: Loss) {
        match loss {
            Loss::Clean => {
                lock(&self.tap.state).finishes = true;
                self.tap.finish_if_due();
            }
            Loss::Cut(reason) => {
                if self.tap.end() {
                    self.tap.consumer.unregister_producer();
                    self.tap.consumer.abort(reason);
                }
            }
        }
        let released = {
            let mut state = lock(&self.tap.state);
            (
                state.transport.take(),
                state.paused.take(),
                state.refused_hold.take(),
            )
        };
        drop(released);
    }
}

impl Tap {
    fn write(&self, data: Bytes) {
        {
            let mut state = lock(&self.state);
            if !state.refused.is_empty() {
                state.refused.push_back(data);
                return;
            }
        }
        if let Err(data) = self.try_write(data) {
            self.keep(data);
        }
    }

    /// Gives back what there is no room for yet.
    fn try_write(&self, data: Bytes) -> Result<(), Bytes> {
        match self.consumer.write(data) {
            Ok(_) => Ok(()),
            Err(WriteError {
                refusal: Refusal::OverMax { .. },
                data,
            }) => Err(data),
            Err(error) => {
                self.cut(error.refusal.into_stop());
                Ok(())
            }
        }
    }

    /// The consumer resumes us when there is room; until then nothing more is read.
    fn keep(&self, data: Bytes) {
        let transport = {
            let mut state = lock(&self.state);
            state.refused.push_front(data);
            state.transport.clone()
        };
        let hold = transport.map(|transport| transport.hold_reading());
        let old = {
            let mut state = lock(&self.state);
            std::mem::replace(&mut state.refused_hold, hold)
        };
        drop(old);
    }

    fn write_refused(&self) {
        loop {
            let front = lock(&self.state).refused.pop_front();
            let Some(data) = front else { break };
            if let Err(data) = self.try_write(data) {
                return self.keep(data);
            }
        }
        let hold = lock(&self.state).refused_hold.take();
        drop(hold);
    }

    fn cut(&self, reason: StopReason) {
        let transport = lock(&self.state).transport.clone();
        match (transport, reason) {
            // The consumer has all it wants.
            (Some(transport), StopReason::Closed) => transport.lose_connection(),
            (Some(transport), reason) => transport.abort_connection(AbortReason::Stopped(Arc::new(reason))),
            (None, _) => {}
        }
    }

    fn pause(&self) {
        let transport = {
            let mut state = lock(&self.state);
            state.is_paused = true;
            state.transport.clone()
        };
        let hold = transport.map(|transport| transport.hold_reading());
        let late = {
            let mut state = lock(&self.state);
            // A resume that came from another thread meanwhile is the later word.
            if state.is_paused {
                std::mem::replace(&mut state.paused, hold)
            } else {
                hold
            }
        };
        drop(late);
    }

    fn resume(&self) {
        let hold = {
            let mut state = lock(&self.state);
            state.is_paused = false;
            state.paused.take()
        };
        self.write_refused();
        drop(hold);
        self.finish_if_due();
    }

    fn finish_if_due(&self) {
        let due = {
            let state = lock(&self.state);
            state.finishes && state.refused.is_empty()
        };
        if due && self.end() {
            self.consumer.unregister_producer();
            self.consumer.finish();
        }
    }

    /// Says whether this is the first end.
    fn end(&self) -> bool {
        let mut state = lock(&self.state);
        !std::mem::replace(&mut state.ended, true)
    }
}

struct Signals(Weak<Tap>);

impl PushProducer for Signals {
    fn pause_producing(&self) {
        if let Some(tap) = self.0.upgrade() {
            tap.pause();
        }
    }

    fn resume_producing(&self) {
        if let Some(tap) = self.0.upgrade() {
            tap.resume();
        }
    }

    fn stop_producing(&self, reason: StopReason) {
        if let Some(tap) = self.0.upgrade()
            && tap.end()
        {
            tap.cut(reason);
        }
    }
}

impl fmt::Debug for ConsumerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsumerProtocol")
    }
}
