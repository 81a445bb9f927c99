//! Every law over every shell of the core.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{Channel, Staged};
use tidegate::BelowPause;

tidegate::law_suite!(channel, Channel);
tidegate::law_suite!(stage_that_buffers, Staged(BelowPause::Buffer));
tidegate::law_suite!(stage_that_relays, Staged(BelowPause::Relay));
