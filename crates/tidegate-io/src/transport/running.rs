//! The one task of a connection: reads, writes, calls the protocol, and tells it once how the connection was lost.
//!
//! Knows nothing of how TLS is put below; it asks for it to go on.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate::{AbortReason, Cause, FinishableConsumer, HalfClose, Loss, Protocol};
use tokio::time::Sleep;

use super::connection::{Connection, Link};
use super::{Opened, Settings};
use crate::{Buffers, DriveError, EndpointError, ErrorKind, Sink, SinkDriver, Source};

/// Deliveries in one turn before other tasks get theirs.
const TURN_STEPS: usize = 32;

impl Opened {
    /// Runs the connection for `protocol`.
    pub fn run(self, protocol: Arc<dyn Protocol>) -> Running {
        Running {
            connection: self.connection,
            protocol: Some(protocol),
            is_made: false,
            source: Some(self.source),
            driver: self.driver,
            buffers: Buffers::default(),
            settings: self.settings,
            is_read: false,
            is_written: false,
            linger: None,
            panic: None,
            #[cfg(feature = "tls")]
            upgrade: None,
        }
    }
}

/// A running connection: a future that ends once, with how the connection was lost, after the protocol was told.
///
/// A panic of the protocol cuts the connection and goes on from here. Dropping it cuts the connection, and tells the
/// protocol.
#[must_use = "a connection does nothing until it is polled"]
pub struct Running {
    pub(super) connection: Arc<Connection>,
    /// Given up when the connection is lost.
    protocol: Option<Arc<dyn Protocol>>,
    is_made: bool,
    pub(super) source: Option<Box<dyn Source + Send>>,
    pub(super) driver: SinkDriver<Box<dyn Sink + Send>>,
    buffers: Buffers,
    settings: Settings,
    is_read: bool,
    is_written: bool,
    linger: Option<Pin<Box<Sleep>>>,
    panic: Option<Box<dyn Any + Send>>,
    #[cfg(feature = "tls")]
    pub(super) upgrade: Option<super::upgrade::Upgrade>,
}

impl Future for Running {
    type Output = Loss;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Loss> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.is_made, true) {
            let transport = Arc::new(Link(Arc::clone(&this.connection)));
            this.call(|protocol| protocol.connection_made(transport));
        }
        for _ in 0..TURN_STEPS {
            this.connection.listen(cx.waker());
            // Once more after the write, which may have brought out the last that goes before an upgrade.
            let mut moved = this.upgrade_is_on(cx) | this.write(cx);
            moved |= this.upgrade_is_on(cx) | this.read(cx);
            if let Some(loss) = this.loss(cx) {
                this.lose(loss.clone());
                if let Some(panic) = this.panic.take() {
                    resume_unwind(panic);
                }
                return Poll::Ready(loss);
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Running {
    /// Calls the protocol. A panic cuts the connection.
    fn call<T>(&mut self, call: impl FnOnce(&dyn Protocol) -> T) -> Option<T> {
        let protocol = self.protocol.clone()?;
        match catch_unwind(AssertUnwindSafe(|| call(&*protocol))) {
            Ok(result) => Some(result),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| "a protocol panicked".into());
                self.connection.abort(AbortReason::Panicked(text.into()));
                self.panic.get_or_insert(panic);
                None
            }
        }
    }

    /// Says whether anything happened. (So do the next two.)
    #[cfg(feature = "tls")]
    fn upgrade_is_on(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_upgrade(cx)
    }

    #[cfg(not(feature = "tls"))]
    fn upgrade_is_on(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    fn is_upgrading(&self) -> bool {
        self.upgrade.is_some()
    }

    #[cfg(not(feature = "tls"))]
    fn is_upgrading(&self) -> bool {
        false
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_written || self.is_shaking_hands() {
            return false;
        }
        let Poll::Ready(driven) = Pin::new(&mut self.driver).poll(cx) else {
            return false;
        };
        self.is_written = true;
        match driven {
            Ok(_) => {}
            Err(DriveError::Aborted(reason)) => self.cut(reason),
            Err(DriveError::Failed(error)) => self.fail(error),
        }
        true
    }

    #[cfg(feature = "tls")]
    fn is_shaking_hands(&self) -> bool {
        matches!(self.upgrade, Some(super::upgrade::Upgrade::Shaking { .. }))
    }

    #[cfg(not(feature = "tls"))]
    fn is_shaking_hands(&self) -> bool {
        false
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_read || self.is_upgrading() {
            return false;
        }
        let (held, discards) = {
            let shared = self.connection.lock();
            (shared.read_holds > 0 && !shared.discards, shared.discards)
        };
        let Some(source) = &mut self.source else {
            return false;
        };
        if held {
            // A pause is not blind.
            let Poll::Ready(error) = source.poll_hangup(cx) else {
                return false;
            };
            self.fail(error);
            return true;
        }
        let Poll::Ready(read) = source.poll_read(cx, &mut self.buffers, self.settings.chunk) else {
            return false;
        };
        match read {
            Ok(Some(_)) if discards => {}
            Ok(Some(data)) => {
                self.call(|protocol| protocol.data_received(data));
            }
            Ok(None) => {
                self.is_read = true;
                if !discards && self.call(|protocol| protocol.end_received()) == Some(HalfClose::Close) {
                    self.connection.finish();
                }
            }
            Err(error) => self.fail(error),
        }
        true
    }

    pub(super) fn fail(&mut self, error: EndpointError) {
        let truncated = error.kind == ErrorKind::Truncated;
        let cause: Cause = Arc::new(error);
        self.cut(match truncated {
            true => AbortReason::Truncated(cause),
            false => AbortReason::Failed(cause),
        });
    }

    fn cut(&mut self, reason: AbortReason) {
        self.is_read = true;
        self.connection.abort(reason);
    }

    /// How the connection was lost, once it is.
    fn loss(&mut self, cx: &mut Context<'_>) -> Option<Loss> {
        let (cut, discards) = {
            let shared = self.connection.lock();
            (shared.cut.clone(), shared.discards)
        };
        if let Some(reason) = cut {
            // The sink is told first, and has its time to take the stream back.
            if !self.is_written && !self.is_shaking_hands() {
                self.write(cx);
            }
            let is_stopped = match &mut self.source {
                Some(source) => source.poll_stop(cx).is_ready(),
                None => true,
            };
            let is_over = is_stopped && (self.is_written || self.is_shaking_hands());
            return is_over.then_some(Loss::Cut(reason));
        }
        if self.is_written && !self.is_read && discards {
            let linger = self.settings.linger;
            let timer = self
                .linger
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(linger)));
            // Both sides have had all they wanted, and the peer was given its time.
            self.is_read = timer.as_mut().poll(cx).is_ready();
        }
        (self.is_written && self.is_read).then_some(Loss::Clean)
    }

    fn lose(&mut self, loss: Loss) {
        #[cfg(feature = "tls")]
        drop(self.upgrade.take());
        self.call(|protocol| protocol.connection_lost(loss));
        let (protocol, source) = (self.protocol.take(), self.source.take());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop((protocol, source)))) {
            self.panic.get_or_insert(panic);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_made && self.protocol.is_some() {
            self.connection.abort(AbortReason::Dropped);
            self.lose(Loss::Cut(AbortReason::Dropped));
        }
    }
}
