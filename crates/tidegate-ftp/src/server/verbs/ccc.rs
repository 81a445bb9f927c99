//! `CCC` (RFC 2228 §3): going back to plain is refused, so that nobody can talk a session out of its protection.

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Reply::new(534, "Protection stays on").into()
}
