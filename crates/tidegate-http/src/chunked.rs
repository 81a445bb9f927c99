//! Chunk framing as a consumer: what is written comes out below in the chunks of HTTP/1.1. (RFC 9112, section 7.1;
//! Twisted: `_newclient.ChunkedEncoder`.)
//!
//! Knows no connection. The client and the server of this crate leave framing to hyper; this is for those who write
//! HTTP by hand over any consumer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tidegate::{
    AbortReason, Accepted, AlreadyRegistered, Below, BelowPause, Consumer, FinishableConsumer, Finished,
    Marks, Outcome, Pressure, Producer, Refusal, Stage, WriteError,
};

/// Frames what is written as chunks and hands them on. The last chunk follows at `finish`, which ends the consumer
/// below too; an abort, or a drop without `finish`, aborts it without one.
pub struct ChunkedBody {
    stage: Stage<Framed>,
}

impl ChunkedBody {
    /// Registers with `below` as its push producer. `marks` bound what is kept while it is paused.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `below` has a producer.
    pub fn new(below: Arc<dyn FinishableConsumer>, marks: Marks) -> Result<Self, AlreadyRegistered> {
        let registers_with = Arc::clone(&below);
        let stage = Stage::new(marks, BelowPause::Buffer, |_| Framed {
            below,
            ours: AtomicBool::new(true),
        });
        if let Err(refused) = registers_with.register_producer(Producer::push(Arc::new(stage.handle()))) {
            stage.below().ours.store(false, Ordering::Release);
            return Err(refused);
        }
        Ok(Self { stage })
    }

    /// How the stream ends.
    pub fn outcome(&self) -> Outcome {
        self.stage.outcome()
    }

    /// Bytes accepted and not yet taken from below.
    pub fn held(&self) -> usize {
        self.stage.held()
    }
}

impl Consumer for ChunkedBody {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.stage.register_producer(producer)
    }

    fn unregister_producer(&self) {
        self.stage.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.stage.write(data)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.stage.write_list(data)
    }
}

impl FinishableConsumer for ChunkedBody {
    fn finish(&self) {
        self.stage.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.stage.abort(reason);
    }
}

/// The lower half.
struct Framed {
    below: Arc<dyn FinishableConsumer>,
    /// Whether it is ours to end: not when somebody else is registered there.
    ours: AtomicBool,
}

impl Below for Framed {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        // One piece, one chunk: no piece is empty, so no chunk is the last one by mistake (D100).
        let piece = &held[0];
        let chunk = vec![
            Bytes::from(format!("{:x}\r\n", piece.len())),
            piece.clone(),
            Bytes::from_static(b"\r\n"),
        ];
        match self.below.write_list(chunk) {
            Ok(_) => Accepted::Took(piece.len()),
            Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => Accepted::Wait,
            Err(error) => Accepted::Fail(error.refusal.into_stop()),
        }
    }

    fn finish(&self) -> Finished {
        let last = self.below.write(Bytes::from_static(b"0\r\n\r\n"));
        self.below.unregister_producer();
        match last {
            Ok(_) => self.below.finish(),
            // Without its last chunk the body must not look complete.
            Err(error) => self
                .below
                .abort(AbortReason::Stopped(Arc::new(error.refusal.into_stop()))),
        }
        Finished::Done
    }

    fn abort(&self, reason: AbortReason) {
        if self.ours.load(Ordering::Acquire) {
            self.below.unregister_producer();
            self.below.abort(reason);
        }
    }
}

impl fmt::Debug for ChunkedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkedBody")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}
