//! `MODE` and `STRU` (RFC 959 §4.1.2): stream and file; the parser takes nothing else.

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Reply::new(200, "As it is").into()
}
