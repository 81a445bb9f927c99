//! `PWD` (RFC 959 §4.1.3).

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &Session) -> Answer {
    Reply::new(257, session.cwd.quoted()).into()
}
