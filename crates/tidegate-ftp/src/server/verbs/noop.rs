//! `NOOP` (RFC 959 §4.1.3), and `CLNT`, by which some clients tell their name.

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Reply::new(200, "Done nothing").into()
}
