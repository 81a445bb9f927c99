//! `REIN` (RFC 959 §4.1.1): back to the greeting. TLS stays on.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &mut Session) -> Answer {
    session.forget_user();
    Reply::new(220, "Ready for the next user").into()
}
