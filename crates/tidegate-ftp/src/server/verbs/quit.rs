//! `QUIT` (RFC 959 §4.1.1).

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Answer::Quit(Reply::new(221, "Goodbye"))
}
