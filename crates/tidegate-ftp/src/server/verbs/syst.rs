//! `SYST` (RFC 959 §4.1.3): by this clients choose how to read a listing, and ours is that of Unix everywhere.

use crate::grammar::Reply;
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    Reply::new(215, "UNIX Type: L8").into()
}
