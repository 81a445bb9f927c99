//! A thread beside the runtime for calls that can wait: one question, one answer, then the next.
//!
//! Knows nothing of what is asked. The thread is not joined: a runtime that ends does not wait for a key to be pressed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

/// One thread that answers one question at a time.
#[derive(Debug)]
pub(crate) struct Worker<Q, A> {
    ask: mpsc::Sender<(Q, oneshot::Sender<A>)>,
    pub(super) answer: Option<oneshot::Receiver<A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Worker<Q, A> {
    pub(crate) fn spawn(mut work: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel::<(Q, oneshot::Sender<A>)>();
        std::thread::Builder::new()
            .name("tidegate-io".into())
            .spawn(move || {
                while let Ok((question, answer)) = asked.recv() {
                    // Nobody listens any more: the endpoint was dropped.
                    drop(answer.send(work(question)));
                }
            })?;
        Ok(Self { ask, answer: None })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, question: impl FnOnce() -> Q) -> Poll<A>
    where
        A: FromDeadThread,
    {
        if self.answer.is_none() {
            let (answer, answered) = oneshot::channel();
            if self.ask.send((question(), answer)).is_err() {
                return Poll::Ready(A::dead());
            }
            self.answer = Some(answered);
        }
        match &mut self.answer {
            Some(answered) => {
                let result = ready!(Pin::new(answered).poll(cx));
                self.answer = None;
                Poll::Ready(result.unwrap_or_else(|_| A::dead()))
            }
            None => Poll::Pending,
        }
    }
}

/// What is answered when the thread is gone: it can only have panicked.
pub(crate) trait FromDeadThread {
    fn dead() -> Self;
}

impl<T> FromDeadThread for io::Result<T> {
    fn dead() -> Self {
        Err(io::Error::other("the thread of this endpoint has died"))
    }
}
