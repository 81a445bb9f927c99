//! A hold that is owned: a guard that is one reason to pause, and takes it back when it is dropped.
//!
//! Knows nothing of what it holds.

use std::fmt;
use std::sync::Arc;

use crate::gate::HoldReason;

/// Something that can be held.
pub(crate) trait Holding: Send + Sync {
    fn hold(&self, reason: HoldReason);
    fn release(&self, reason: HoldReason);
}

/// One reason for a producer not to run. Dropping it takes the reason back; the producer runs when none is out.
#[must_use = "a hold ends when it is dropped"]
pub struct Hold {
    on: Arc<dyn Holding>,
    reason: HoldReason,
}

impl Hold {
    pub(crate) fn new(on: Arc<dyn Holding>, reason: HoldReason) -> Self {
        on.hold(reason);
        Self { on, reason }
    }

    /// The reason.
    pub fn reason(&self) -> HoldReason {
        self.reason
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.on.release(self.reason);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.reason).finish()
    }
}
