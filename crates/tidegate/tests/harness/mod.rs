//! The core's own shells as the law suite wants them: a consumer and the device behind it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{
    AbortReason, Accepted, Below, BelowPause, Delivered, Finished, Marks, Outcome, Ready, Receiver, Stage,
    StageHandle, StopReason, channel,
};

/// A channel, with a device that accepts to the byte.
pub(crate) struct Channel;

/// A stage, in front of something that accepts to the byte.
pub(crate) struct Staged(pub(crate) BelowPause);

pub(crate) struct ChannelDevice {
    receiver: Option<Receiver>,
    outcome: Outcome,
    budget: usize,
    output: Vec<u8>,
    end: FarEnd,
}

impl Harness for Channel {
    fn make(&self, marks: Marks) -> Subject {
        let (sender, receiver) = channel(marks);
        let outcome = sender.outcome();
        let device = ChannelDevice {
            receiver: Some(receiver),
            outcome,
            budget: 0,
            output: Vec::new(),
            end: FarEnd::Open,
        };
        Subject {
            consumer: Arc::new(sender),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn name(&self) -> &'static str {
        "channel"
    }
}

impl Device for ChannelDevice {
    fn allow(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_add(bytes);
    }

    fn turn(&mut self) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        match receiver.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(Ok(Ready::Bytes)) => {
                let mut taken = 0;
                for piece in receiver.pieces() {
                    let part = piece.len().min(self.budget - taken);
                    self.output.extend_from_slice(&piece[..part]);
                    taken += part;
                }
                self.budget -= taken;
                receiver.advance(taken);
            }
            Poll::Ready(Ok(Ready::End)) => {
                self.end = FarEnd::Finished;
                if let Some(receiver) = self.receiver.take() {
                    receiver.complete();
                }
            }
            Poll::Ready(Err(_)) => {
                self.end = FarEnd::Cut;
                self.receiver = None;
            }
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.output.clone()
    }

    fn kill(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            self.end = FarEnd::Cut;
            receiver.fail(Arc::new(io::Error::other("the device was killed")));
        }
    }

    fn end(&mut self) -> FarEnd {
        self.end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

/// What is below the stage under test.
pub(crate) struct Tube(Arc<Mutex<TubeState>>);

struct TubeState {
    budget: usize,
    output: Vec<u8>,
    end: FarEnd,
}

struct TubeDevice {
    state: Arc<Mutex<TubeState>>,
    handle: StageHandle,
    outcome: Outcome,
    granted: VecDeque<usize>,
}

impl Harness for Staged {
    fn make(&self, marks: Marks) -> Subject {
        let state = Arc::new(Mutex::new(TubeState {
            budget: 0,
            output: Vec::new(),
            end: FarEnd::Open,
        }));
        let stage = Stage::new(marks, self.0, |_| Tube(Arc::clone(&state)));
        let device = TubeDevice {
            state,
            handle: stage.handle(),
            outcome: stage.outcome(),
            granted: VecDeque::new(),
        };
        Subject {
            consumer: Arc::new(stage),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Exact
    }

    fn name(&self) -> &'static str {
        "stage"
    }
}

impl Below for Tube {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        let mut state = self.0.lock().unwrap();
        let taken = held[0].len().min(state.budget);
        if taken == 0 {
            return Accepted::Wait;
        }
        state.budget -= taken;
        state.output.extend_from_slice(&held[0][..taken]);
        Accepted::Took(taken)
    }

    fn finish(&self) -> Finished {
        self.0.lock().unwrap().end = FarEnd::Finished;
        Finished::Done
    }

    fn abort(&self, _: AbortReason) {
        self.0.lock().unwrap().end = FarEnd::Cut;
    }
}

impl Device for TubeDevice {
    fn allow(&mut self, bytes: usize) {
        self.granted.push_back(bytes);
    }

    fn turn(&mut self) {
        if let Some(bytes) = self.granted.pop_front() {
            {
                let mut state = self.state.lock().unwrap();
                state.budget = state.budget.saturating_add(bytes);
            }
            self.handle.poke();
        }
    }

    fn output(&mut self) -> Vec<u8> {
        self.state.lock().unwrap().output.clone()
    }

    fn kill(&mut self) {
        self.handle.close(StopReason::Failed(Arc::new(io::Error::other(
            "the device was killed",
        ))));
    }

    fn end(&mut self) -> FarEnd {
        self.state.lock().unwrap().end
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}
