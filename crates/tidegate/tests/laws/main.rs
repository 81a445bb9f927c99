//! Every law over every consumer of the core: shells, combinators, adapters, transports. `coverage.rs` sees to *every*.
#![allow(clippy::unwrap_used)]

mod coverage;
#[path = "../cases/dam.rs"]
mod dam;
mod driven;
#[path = "../harness/mod.rs"]
mod harness;
mod lengths;
mod over_dam;
mod protocols;
mod relaying;
mod shaped;

use harness::{Channel, Staged};
use tidegate::BelowPause;

tidegate::law_suite!(channel, Channel);
tidegate::law_suite!(stage_that_buffers, Staged(BelowPause::Buffer));
tidegate::law_suite!(stage_that_relays, Staged(BelowPause::Relay));
