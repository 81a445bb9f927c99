//! `RANG` (draft-bryan-ftpext-hash): which bytes the next `HASH` is of, from the first to the one behind the last.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};
use crate::storage::HashRange;

pub(super) fn run(session: &mut Session, range: Option<(u64, u64)>) -> Answer {
    session.hash_range = range.map(|(start, end)| HashRange { start, end });
    let text = match range {
        Some((start, end)) => format!("Next HASH is of {start}-{end}"),
        None => "Next HASH is of the whole file".to_owned(),
    };
    Reply::new(350, text).into()
}
