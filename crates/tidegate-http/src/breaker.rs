//! What an abort does to the connection when hyper cannot deliver it by itself.
//!
//! hyper looks at a body only when it has room to send. A blocked HTTP/1 connection is ended by the kill switch in the
//! guard below; a blocked HTTP/2 stream by ending the task that hyper runs for it, which resets that stream alone.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::task::AbortHandle;

use crate::incoming::Slot;
use crate::io_guard::{Ending, KillSwitch};

/// The way to cut one message short.
#[derive(Clone, Debug)]
pub(crate) enum Breaker {
    /// HTTP/1: the connection ends with the message.
    Connection(Arc<KillSwitch>, Ending),
    /// HTTP/2: one stream.
    Stream(Arc<StreamSwitch>),
    /// The body's own error is enough, or there is no connection yet.
    Body,
}

impl Breaker {
    pub(crate) fn break_off(&self) {
        match self {
            Self::Connection(switch, ending) => switch.arm(*ending),
            Self::Stream(switch) => switch.reset(),
            Self::Body => {}
        }
    }

    /// The body that the peer sends in the same exchange.
    pub(crate) fn watch(&self, request: Slot) {
        if let Self::Stream(switch) = self {
            let _ = switch.request.set(request);
        }
    }

    /// The message begins.
    pub(crate) fn begin(&self) {
        if let Self::Connection(switch, Ending::Reset) = self {
            switch.begin_ambiguous();
        }
    }

    /// The message is complete.
    pub(crate) fn complete(&self) {
        if let Self::Connection(switch, Ending::Reset) = self {
            switch.end_ambiguous();
        }
    }
}

/// Ends the task of one HTTP/2 stream.
#[derive(Debug, Default)]
pub(crate) struct StreamSwitch {
    task: OnceLock<AbortHandle>,
    wanted: AtomicBool,
    /// The request's body: as long as somebody keeps it, hyper does not reset the stream.
    request: OnceLock<Slot>,
}

impl StreamSwitch {
    fn reset(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        if let Some(task) = self.task.get() {
            task.abort();
        }
        if let Some(request) = self.request.get() {
            request.cut();
        }
    }

    fn attach(&self, task: AbortHandle) {
        if self.wanted.load(Ordering::SeqCst) {
            task.abort();
        }
        let _ = self.task.set(task);
        if self.wanted.load(Ordering::SeqCst)
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
    }
}

tokio::task_local! {
    static STREAM: Arc<StreamSwitch>;
}

/// Runs hyper's task of each HTTP/2 stream so that a handler inside can find the switch of its own stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamExecutor;

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let switch = Arc::new(StreamSwitch::default());
        let task = tokio::spawn(STREAM.scope(Arc::clone(&switch), stream));
        switch.attach(task.abort_handle());
    }
}

/// The switch of the HTTP/2 stream whose task this is.
pub(crate) fn current_stream() -> Breaker {
    STREAM
        .try_with(|switch| Breaker::Stream(Arc::clone(switch)))
        .unwrap_or(Breaker::Body)
}
