//! `HASH` (draft-bryan-ftpext-hash) and `XSHA256`: the SHA-256 of a file, of `HASH` also of the part that `RANG` named.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::HashRange;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let range = session.hash_range.take();
    match digest(session, argument, range).await {
        Ok((HashRange { start, end }, hash)) => {
            // As with `RANG`, the second number is the last byte's own.
            let last = end.saturating_sub(1);
            let mut text = format!("SHA-256 {start}-{last} {hash} ").into_bytes();
            text.extend_from_slice(argument);
            Reply::new(213, text).into()
        }
        Err(reply) => reply.into(),
    }
}

/// `XSHA256`.
pub(super) async fn run_x(session: &mut Session, argument: &[u8]) -> Answer {
    match digest(session, argument, None).await {
        Ok((_, hash)) => Reply::new(250, hash).into(),
        Err(reply) => reply.into(),
    }
}

async fn digest(
    session: &Session,
    argument: &[u8],
    range: Option<HashRange>,
) -> Result<(HashRange, String), Reply> {
    let path = session.path(argument)?;
    let refused = |error| failure::refused(argument, &error);
    let opened = session.storage().open_file(&path).await.map_err(refused)?;
    let end = opened.size;
    let range = range.unwrap_or(HashRange { start: 0, end });
    Ok((range, opened.sha256(range).await.map_err(refused)?))
}
