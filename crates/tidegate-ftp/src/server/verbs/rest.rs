//! `REST` (RFC 3659 §5): where the next transfer begins.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &mut Session, offset: u64) -> Answer {
    session.restart = offset;
    Reply::new(350, format!("Next transfer begins at {offset}")).into()
}
