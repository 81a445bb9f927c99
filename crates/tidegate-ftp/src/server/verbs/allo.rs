//! `ALLO` (RFC 959 §4.1.3): space is taken when it is needed, so this is superfluous.

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Reply::new(202, "Not needed here").into()
}
