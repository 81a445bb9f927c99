//! `RANG` (draft-bryan-ftp-range): which bytes the next `HASH` is of, from the first to the last.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};
use crate::storage::HashRange;

pub(super) fn run(session: &mut Session, range: Option<(u64, u64)>) -> Answer {
    session.hash_range = range.map(|(start, last)| HashRange { start, end: last + 1 });
    let text = match range {
        Some((start, last)) => format!("Next HASH is of {start}-{last}"),
        None => "Next HASH is of the whole file".to_owned(),
    };
    Reply::new(350, text).into()
}
