//! A sink as a consumer: a gate in front, one task that drains it, and an outcome.
//!
//! Knows nothing of files and sockets; `file` and `data` make their consumers with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate::{AbortReason, Aborted, Marks, Outcome, Ready, Receiver, Sender, StopReason, channel};
use tidegate_io::{Blame, EndpointError, ErrorKind, Held, Sink};
use tokio::time::{Instant, Sleep};

/// A consumer in front of `sink`, and what drains it: spawn that, or drive it beside other work.
///
/// The consumer's [`Outcome`] is good only when the sink has acknowledged the end. A sink that takes nothing for `stall`
/// while bytes wait, or while it is to finish, is given up.
pub fn consume<K: Sink>(sink: K, marks: Marks, stall: Duration) -> (Sender, Drain<K>) {
    let (sender, receiver) = channel(marks);
    let outcome = sender.outcome();
    let drain = Drain {
        sink,
        receiver: Some(receiver),
        outcome,
        held: Held::default(),
        state: State::Moving,
        stall,
        timer: None,
        moved: Moved::No,
    };
    (sender, drain)
}

/// Drains a consumer into its sink. Ends when the sink has finished, or has let go after an abort.
///
/// # Cancel safety
/// Dropping it stops the producer and aborts the sink.
#[must_use = "a consumer that nobody drains stays full"]
pub struct Drain<K: Sink> {
    sink: K,
    receiver: Option<Receiver>,
    /// Wakes us when the stream is aborted while the sink is busy.
    outcome: Outcome,
    /// Copies (cheap) of what the receiver has; both advance together.
    held: Held,
    state: State,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    moved: Moved,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Moving,
    Finishing,
    Aborting,
    Over,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moved {
    No,
    Yes,
}

enum Step {
    Again,
    Wait,
}

// The sink is never pinned: it is used through `&mut`.
impl<K: Sink> Unpin for Drain<K> {}

impl<K: Sink> Future for Drain<K> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Only for its wakeup: what the end is, the receiver tells.
        let _ = Pin::new(&mut this.outcome).poll(cx);
        loop {
            let step = match this.state {
                State::Moving => this.step(cx),
                State::Finishing => this.finish(cx),
                State::Aborting => match this.sink.poll_aborted(cx) {
                    Poll::Ready(()) => {
                        this.state = State::Over;
                        Step::Again
                    }
                    Poll::Pending => return Poll::Pending,
                },
                State::Over => return Poll::Ready(()),
            };
            if let Step::Wait = step
                && let Step::Wait = this.watch(cx)
            {
                return Poll::Pending;
            }
        }
    }
}

impl<K: Sink> Drain<K> {
    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(receiver) = &mut self.receiver else {
            self.state = State::Over;
            return Step::Again;
        };
        match receiver.poll_ready(cx) {
            Poll::Ready(Ok(Ready::Bytes)) => {
                if self.held.is_empty() {
                    for piece in receiver.pieces() {
                        self.held.push(piece.clone());
                    }
                }
                match self.sink.poll_write(cx, &self.held) {
                    Poll::Ready(Ok(accepted)) => {
                        self.held.advance(accepted);
                        receiver.advance(accepted);
                        self.moved = Moved::Yes;
                        Step::Again
                    }
                    Poll::Ready(Err(error)) => self.fail(error),
                    Poll::Pending => Step::Wait,
                }
            }
            Poll::Ready(Ok(Ready::End)) => {
                self.state = State::Finishing;
                self.moved = Moved::Yes;
                Step::Again
            }
            Poll::Ready(Err(Aborted(reason))) => self.abort(&reason),
            Poll::Pending => self.idle(cx),
        }
    }

    /// Nothing waits: what the sink still buffers goes out, and its death is noticed.
    fn idle(&mut self, cx: &mut Context<'_>) -> Step {
        self.timer = None;
        self.moved = Moved::Yes;
        if let Poll::Ready(Err(error)) = self.sink.poll_flush(cx) {
            return self.fail(error);
        }
        match self.sink.poll_hangup(cx) {
            Poll::Ready(error) => self.fail(error),
            Poll::Pending => Step::Wait,
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Step {
        match self.sink.poll_finish(cx) {
            Poll::Ready(Ok(_)) => {
                if let Some(receiver) = self.receiver.take() {
                    receiver.complete();
                }
                self.state = State::Over;
                Step::Again
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => Step::Wait,
        }
    }

    /// The stall limit. Never while nothing waits.
    fn watch(&mut self, cx: &mut Context<'_>) -> Step {
        let waits = self.state == State::Finishing || !self.held.is_empty();
        if !waits || self.state == State::Aborting {
            return Step::Wait;
        }
        let stall = self.stall;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if self.moved == Moved::Yes || self.sink.is_busy() {
            self.moved = Moved::No;
            timer.as_mut().reset(Instant::now() + stall);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Step::Wait;
        }
        if self.state == State::Finishing && self.sink.finish_unconfirmed().is_some() {
            if let Some(receiver) = self.receiver.take() {
                receiver.complete();
            }
            self.state = State::Over;
            return Step::Again;
        }
        let what = "took nothing for longer than the stall limit";
        self.fail(EndpointError::new(ErrorKind::TimedOut, Blame::Peer, what))
    }

    fn fail(&mut self, error: EndpointError) -> Step {
        let reason = AbortReason::Stopped(Arc::new(StopReason::Failed(Arc::new(error.clone()))));
        if let Some(receiver) = self.receiver.take() {
            receiver.fail(Arc::new(error));
        }
        self.abort(&reason)
    }

    fn abort(&mut self, reason: &AbortReason) -> Step {
        self.receiver = None;
        self.held = Held::default();
        self.sink.abort(reason);
        self.state = State::Aborting;
        Step::Again
    }
}

impl<K: Sink> Drop for Drain<K> {
    fn drop(&mut self) {
        if matches!(self.state, State::Moving | State::Finishing) {
            self.receiver = None;
            self.sink.abort(&AbortReason::Dropped);
        }
    }
}
