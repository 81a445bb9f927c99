//! `MDTM` (RFC 3659 §3): when a file was last changed.

use crate::grammar::time::format_timestamp;
use crate::grammar::{Facts, Kind, Reply};
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::StorageError;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().facts(&path).await {
        Ok(Facts {
            kind: Kind::File,
            modify: Some(modify),
            ..
        }) => Reply::new(213, format_timestamp(modify)).into(),
        Ok(_) => failure::refused(argument, &StorageError::NotAFile).into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
