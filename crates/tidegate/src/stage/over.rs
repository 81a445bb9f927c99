//! The plainest [`Below`]: hands what is held on to a consumer, all of it or a part.
//!
//! Knows nothing of why there should be a limit: the pull side of a proxy and the shaper each have their own.

use std::sync::Arc;

use bytes::Bytes;

use super::{Accepted, Below, BelowPause, Finished, Stage};
use crate::{AbortReason, AlreadyRegistered, FinishableConsumer, Marks, Refusal};

/// Hands on to a consumer, unchanged.
pub struct Over {
    consumer: Arc<dyn FinishableConsumer>,
}

impl Over {
    /// In front of `consumer`. To be registered with it: see [`Stage::over`] and [`Stage::before`].
    pub fn new(consumer: Arc<dyn FinishableConsumer>) -> Self {
        Self { consumer }
    }

    /// Offers up to `bytes_max` (at least 1) from the front of `held`, as one write.
    pub(crate) fn pass(&self, held: &[Bytes], bytes_max: usize) -> Accepted {
        let first = held[0].slice(..held[0].len().min(bytes_max));
        if held.len() > 1 && first.len() < bytes_max {
            let pieces = cut(held, bytes_max);
            let bytes = total(&pieces);
            match self.consumer.write_list(pieces) {
                Ok(_) => return Accepted::Took(bytes),
                // Too much at once; perhaps the first piece alone is not.
                Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => {}
                Err(error) => return Accepted::Fail(error.refusal.into_stop()),
            }
        }
        let bytes = first.len();
        match self.consumer.write(first) {
            Ok(_) => Accepted::Took(bytes),
            Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => Accepted::Wait,
            Err(error) => Accepted::Fail(error.refusal.into_stop()),
        }
    }

    /// Ends the registration below, and nothing else.
    pub(crate) fn unregister(&self) {
        self.consumer.unregister_producer();
    }
}

impl Stage<Over> {
    /// A stage in front of `consumer`, registered with it as its push producer.
    ///
    /// # Errors
    /// [`AlreadyRegistered`] when `consumer` has a producer; nothing is ended then.
    pub fn over(
        consumer: Arc<dyn FinishableConsumer>,
        marks: Marks,
        on_pause: BelowPause,
    ) -> Result<Self, AlreadyRegistered> {
        Self::before(&consumer, marks, on_pause, |_| Over::new(Arc::clone(&consumer)))
    }
}

impl Below for Over {
    fn accept(&self, held: &[Bytes]) -> Accepted {
        self.pass(held, usize::MAX)
    }

    fn finish(&self) -> Finished {
        self.unregister();
        self.consumer.finish();
        Finished::Done
    }

    fn abort(&self, reason: AbortReason) {
        self.unregister();
        self.consumer.abort(reason);
    }
}

/// Bytes in all of `held`.
pub(crate) fn total(held: &[Bytes]) -> usize {
    held.iter().map(Bytes::len).sum()
}

/// The front of `held`, `bytes_max` at most, without an empty piece.
pub(crate) fn cut(held: &[Bytes], bytes_max: usize) -> Vec<Bytes> {
    let mut left = bytes_max;
    let mut pieces = Vec::with_capacity(held.len());
    for piece in held {
        if left == 0 {
            break;
        }
        let bytes = piece.len().min(left);
        pieces.push(piece.slice(..bytes));
        left -= bytes;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_takes_the_front_in_order_and_nothing_empty() {
        let held = ["ab", "cd", "ef"].map(|text| Bytes::from_static(text.as_bytes()));
        let cut = |bytes_max| cut(&held, bytes_max).concat();
        assert_eq!(
            (cut(2), cut(3), cut(100)),
            (b"ab".to_vec(), b"abc".to_vec(), b"abcdef".to_vec())
        );
        assert_eq!(super::cut(&held, 4).len(), 2);
        assert_eq!(total(&held), 6);
    }
}
