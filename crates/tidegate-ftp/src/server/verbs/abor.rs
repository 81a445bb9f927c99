//! `ABOR` (RFC 959 §4.1.3) when nothing is under way; during a transfer `transfer.rs` hears it.

use crate::grammar::Reply;
use crate::server::opening::Plan;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &mut Session) -> Answer {
    session.plan = Plan::None;
    Reply::new(226, "Nothing to abort").into()
}
